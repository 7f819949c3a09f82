"""Provider tokens of APNs: one ES256 JWT per key, shared by all who send with it.

Apple accepts a token for 60 minutes, and answers 429 TooManyProviderTokenUpdates where a newer one comes within 20
(https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns).
"""

from collections import OrderedDict
from dataclasses import dataclass, field

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from heliograph.outbound.keys import load_key
from heliograph.ports.clock import Clock

RENEW_US = 40 * 60 * 1_000_000
FORCED_US = 20 * 60 * 1_000_000
MOST_KEYS = 1000


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An APNs authentication key, parsed once: signing from the PEM each time costs more than twice as much.

    `public` is its public half (DER), by which two keys differ: whoever only names the ids of another's key must not
    get tokens that the other's key has signed.
    """

    team_id: str
    key_id: str
    public: bytes = field(repr=False)
    private: EllipticCurvePrivateKey = field(repr=False, compare=False)


def read_key(team_id: str, key_id: str, pem: bytes) -> SigningKey:
    """A key from the .p8 file of Apple's developer site. Raises ValueError for anything else than a P-256 key."""
    try:
        private = load_key(pem)
    except UnsupportedAlgorithm as error:  # of a curve from elsewhere
        raise ValueError("is not a P-256 key") from error
    except (ValueError, TypeError) as error:
        raise ValueError("is not a private key in PEM form") from error
    match private:
        case EllipticCurvePrivateKey(curve=SECP256R1()):
            public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return SigningKey(team_id, key_id, public, private)
    raise ValueError("is not a P-256 key")


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    made_at: int  # of `Clock.now`: Apple counts from `iat`, also while this machine sleeps


class ProviderTokens:
    """The current token of each key. Made without waiting, so two who ask at once get the same one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens: OrderedDict[SigningKey, _Token] = OrderedDict()
        self._last: tuple[SigningKey, _Token] | None = None  # the newest of them: found without hashing a key

    def __len__(self) -> int:
        return len(self._tokens)

    def token(self, key: SigningKey) -> str:
        """The token to send: the same for 40 minutes."""
        now, last = self._clock.now(), self._last
        if last is not None and last[0] is key and now - last[1].made_at < RENEW_US:
            return last[1].text
        token = self._tokens.get(key)
        if token is None or now - token.made_at >= RENEW_US:
            token = self._renew(key)
        self._tokens.move_to_end(key)
        self._last = key, token
        if len(self._tokens) > MOST_KEYS:  # accounts may be given ever new keys
            self._tokens.popitem(last=False)
        return token.text

    def expired(self, key: SigningKey, refused: str) -> bool:
        """APNs called this token expired: have a new one made, unless the current one is another or is too young.

        False means that trying again now would send the same token again.
        """
        token = self._tokens.get(key)
        if token is None or token.text != refused:
            return True
        if self._clock.now() - token.made_at < FORCED_US:
            return False
        self._renew(key)
        return True

    def _renew(self, key: SigningKey) -> _Token:
        now = self._clock.now()
        claims = {"iss": key.team_id, "iat": now // 1_000_000}
        self._last = None
        text = jwt.encode(claims, key.private, algorithm="ES256", headers={"kid": key.key_id})
        token = self._tokens[key] = _Token(text, now)
        return token
