"""Who sends: a key of the account's own, by which push services know it (VAPID, RFC 8292)."""

from collections import OrderedDict

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.utils import base64url_encode

from heliograph.guard import origin_of
from heliograph.outbound.keys import load_key
from heliograph.ports.clock import Clock
from heliograph.providers.webpush.subscription import bytes_of

TOKEN_LIFE_S = 12 * 3600  # RFC 8292, 2: at most 24 hours, seen from a clock that may be wrong
TOKEN_RENEWED_S = TOKEN_LIFE_S // 2
_MOST_TOKENS = 1000
_SECOND = 1_000_000


class Vapid:
    """The account's key at every push service: one token for each service, signed anew every few hours (RFC 8292)."""

    def __init__(self, private_key: str, subject: str, clock: Clock) -> None:
        self._key = private_key_of(private_key)
        self._subject, self._clock = subject, clock
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.public_key = base64url_encode(point).decode()
        self._tokens: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def authorization(self, url: str) -> str:
        """The value of the Authorization header for a service. `url` has an origin."""
        audience, now_s = _audience(url), self._clock.now() // _SECOND
        token, signed_s = self._tokens.get(audience, ("", 0))
        if not token or not signed_s <= now_s < signed_s + TOKEN_RENEWED_S:
            claims = {"aud": audience, "exp": now_s + TOKEN_LIFE_S, "sub": self._subject}
            token = jwt.encode(claims, self._key, algorithm="ES256")
            self._tokens[audience] = (token, now_s)
        self._tokens.move_to_end(audience)
        if len(self._tokens) > _MOST_TOKENS:  # devices name the services
            self._tokens.popitem(last=False)
        return f"vapid t={token}, k={self.public_key}"


def _audience(url: str) -> str:
    scheme, host, port = origin_of(url) or ("", "", 0)
    shown = f"[{host}]" if ":" in host else host
    usual = (scheme, port) in (("https", 443), ("http", 80))
    return f"{scheme}://{shown}" if usual else f"{scheme}://{shown}:{port}"


def private_key_of(text: str) -> ec.EllipticCurvePrivateKey:
    """A key of P-256, from PEM or from the 32 bytes as base64url. Raises ValueError."""
    if text.lstrip().startswith("-----"):
        try:
            key = load_key(text.encode())
        except (TypeError, UnsupportedAlgorithm) as error:  # it wants a password; a curve from elsewhere
            raise ValueError(type(error).__name__) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError
        return key
    number = bytes_of(text.strip())
    if len(number) != 32:
        raise ValueError
    return ec.derive_private_key(int.from_bytes(number), ec.SECP256R1())
