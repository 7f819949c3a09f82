"""Who may push: provider tokens (JWT, ES256) and the keys that sign them, and client certificates.

https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns
"""

import time
from typing import Any

import jwt
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from heliograph_lab.apns.errors import ApnsError
from heliograph_lab.apns.model import Key
from heliograph_lab.apns.settings import ApnsSettings
from heliograph_lab.http2 import Peer
from heliograph_lab.kernel import Kernel

_NAMESPACE = "apns.keys"
_MOST_KNOWN = 10_000
_CLOCKS_APART = 60  # seconds that a sender's clock may be ahead
_ES256 = ec.SECP256R1
# Suffixes of the topics that a certificate's own topic includes.
_SUFFIXES = (".voip", ".complication", ".voip-ptt", ".location-query", ".pushkit.fileprovider", ".push-type.")


class Claims(msgspec.Struct, frozen=True):
    """What a provider token says."""

    key_id: str
    team_id: str
    issued: int


class ProviderTokens:
    """Each token is verified once; its age is looked at with each request. Token times are real ones.

    While no key has been put, a token's form is all that is checked.
    """

    def __init__(self, kernel: Kernel, settings: ApnsSettings) -> None:
        self._state = kernel.state
        self._settings = settings
        stored = kernel.state.all(_NAMESPACE).values()
        self._keys = {key.key_id: key for key in (msgspec.convert(value, Key) for value in stored)}
        self._known: dict[str, Claims] = {}
        self._newest: dict[tuple[str, str], str] = {}  # team and key -> the token in use
        self.seen = 0  # different ones

    @property
    def keys(self) -> list[Key]:
        """The keys that may sign."""
        return list(self._keys.values())

    async def put_keys(self, keys: list[Key]) -> None:
        """Make these the keys; a private key's public half is kept. ValueError for what is no P-256 key."""
        wanted = {key.key_id: msgspec.structs.replace(key, public_key=_public(key.public_key)) for key in keys}
        gone = [(_NAMESPACE, key_id) for key_id in self._keys if key_id not in wanted]
        await self._state.put_many([(_NAMESPACE, key_id, key) for key_id, key in wanted.items()], gone)
        self._keys = wanted
        self._known.clear()

    def check(self, authorization: str) -> Key | None:
        """The key that signed, None while none is known. ApnsError when the token does not let its bearer in."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ApnsError("MissingProviderToken")
        claims = self._known.get(token)
        if claims is None:
            claims = self._verified(token)
        age = time.time() - claims.issued
        if age > self._settings.token_seconds:
            raise ApnsError("ExpiredProviderToken")
        if age < -_CLOCKS_APART:
            raise ApnsError("InvalidProviderToken")
        self._limit_renewal(token, claims)
        return self._keys.get(claims.key_id)

    def _verified(self, token: str) -> Claims:
        claims = self._decoded(token)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[token] = claims
        self.seen += 1
        return claims

    def _decoded(self, token: str) -> Claims:
        try:
            header = jwt.get_unverified_header(token)
            key_id = header.get("kid")
            key = self._keys.get(str(key_id))
            if header.get("alg") != "ES256" or not isinstance(key_id, str) or (self._keys and key is None):
                raise ApnsError("InvalidProviderToken")
            # Signature aside, nothing is left to PyJWT: Apple's rules for the times are its own.
            claims: dict[str, Any] = jwt.decode(
                token,
                key.public_key if key is not None else "",
                algorithms=["ES256"],
                options={"verify_signature": key is not None, "verify_iat": False, "verify_aud": False},
            )
        except jwt.PyJWTError:
            raise ApnsError("InvalidProviderToken") from None
        team, issued = claims.get("iss"), claims.get("iat")
        if not isinstance(team, str) or not isinstance(issued, int) or (key is not None and key.team_id != team):
            raise ApnsError("InvalidProviderToken")
        return Claims(key_id, team, issued)

    def _limit_renewal(self, token: str, claims: Claims) -> None:
        name = (claims.team_id, claims.key_id)
        newest = self._newest.get(name)
        if newest == token:
            return
        before = self._known.get(newest) if newest is not None else None
        apart = self._settings.token_renewal_seconds
        if apart and before is not None and abs(claims.issued - before.issued) < apart:
            raise ApnsError("TooManyProviderTokenUpdates")
        self._newest[name] = token


def certificate_topic(peer: Peer) -> str | None:
    """The topic of the client's certificate (its subject's UID), None without one. ApnsError if it has none."""
    if peer.certificate is None:
        return None
    if "apns.topic" not in peer.notes:
        subject = x509.load_der_x509_certificate(peer.certificate).subject
        peer.notes["apns.topic"] = next(iter(subject.get_attributes_for_oid(NameOID.USER_ID)), None)
    uid = peer.notes["apns.topic"]
    if uid is None:
        raise ApnsError("BadCertificate")
    return str(uid.value)


def require_topic(topic: str, certificate: str | None, key: Key | None) -> None:
    """ApnsError unless the certificate, or else the key, is for this topic."""
    if certificate is not None:
        rest = topic.removeprefix(certificate)
        allowed = topic == certificate or (rest != topic and rest.startswith(_SUFFIXES))
    else:
        allowed = key is None or not key.topics or topic in key.topics
    if not allowed:
        raise ApnsError("TopicDisallowed")


def _public(pem: str) -> str:
    text = pem.encode()
    try:
        if b"PRIVATE KEY" in text:
            loaded: Any = serialization.load_pem_private_key(text, None)
            public: Any = loaded.public_key()
        else:
            public = serialization.load_pem_public_key(text)
    except (ValueError, TypeError):
        raise ValueError("publicKey: must be a PEM key") from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, _ES256):
        raise ValueError("publicKey: must be a P-256 key")  # noqa: TRY004 - the control API's caller is told
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.PEM, form).decode()
