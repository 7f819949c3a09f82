"""The keys that sign pushes, as Google's OIDC issuer has them: RS256, published as a JWKS, rotated on demand."""

import base64
import secrets
import time
from typing import Any, Literal

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from heliograph_lab.kernel import Kernel

ISSUER = "https://accounts.google.com"
LIFE = 3600  # seconds; what Google gives a token
MOST_KEYS = 3
TokenFault = Literal[
    "none", "garbage", "expired", "audience", "issuer", "email", "unverified", "signature", "unknownKey", "algNone"
]
_NAMESPACE = "pubsub.keys"


class SigningKeys:
    """Made at the first use and kept on disk. The newest signs; older ones stay in the JWKS until they are dropped."""

    def __init__(self, kernel: Kernel) -> None:
        self._state = kernel.state
        self._keys = [(key[5:], _loaded(pem)) for key, pem in kernel.state.all(_NAMESPACE).items()]

    async def start(self) -> None:
        """See that there is a key."""
        if not self._keys:
            await self.rotate(keep_old=False)

    async def rotate(self, *, keep_old: bool) -> str:
        """Sign with a new key from now on; returns its id. Without `keep_old` nobody can check older tokens."""
        key, kid = _new_key(), secrets.token_hex(20)
        # The row's key carries the order: ids are random, as Google's are.
        order = max((int(row[:4]) for row in self._state.all(_NAMESPACE)), default=0) + 1
        kept = self._keys[1 - MOST_KEYS :] if keep_old else []
        kids = {kid for kid, _ in kept}
        gone = [(_NAMESPACE, row) for row in self._state.all(_NAMESPACE) if row[5:] not in kids]
        await self._state.put_many([(_NAMESPACE, f"{order:04d}-{kid}", _dumped(key))], gone)
        self._keys = [*kept, (kid, key)]
        return kid

    def jwks(self) -> dict[str, Any]:
        """What `/certs` answers."""
        return {"keys": [_public(kid, key) for kid, key in self._keys]}

    def authorization(self, email: str, audience: str, fault: TokenFault | None = None) -> dict[str, str]:
        """The header that proves a push to be Google's; none at all, or garbage, when that was asked for."""
        if fault == "none":
            return {}
        return {"authorization": "Bearer " + (fault if fault == "garbage" else self.token(email, audience, fault))}

    def token(self, email: str, audience: str, fault: TokenFault | None = None) -> str:
        """A token as Google attaches to a push, or one that is wrong in the way that was asked for.

        Its times are real ones: whoever checks it does not follow the lab's clock.
        """
        now = int(time.time())
        issued = now - 2 * LIFE if fault == "expired" else now
        claims = {
            "iss": "https://issuer.example" if fault == "issuer" else ISSUER,
            "aud": "https://somebody.else.example/push" if fault == "audience" else audience,
            "sub": "110000000000000000001",
            "azp": "110000000000000000001",
            "email": "stranger@other-project.iam.gserviceaccount.com" if fault == "email" else email,
            "email_verified": fault != "unverified",
            "iat": issued,
            "exp": issued + LIFE,
        }
        kid, key = self._keys[-1]
        if fault == "unknownKey":
            kid, key = secrets.token_hex(20), _new_key()
        if fault == "algNone":
            return f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(claims)}."
        signed = f"{_part({'alg': 'RS256', 'kid': kid, 'typ': 'JWT'})}.{_part(claims)}"
        text = signed[:-1] if fault == "signature" else signed
        return f"{signed}.{_b64(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _loaded(pem: str) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("the lab signs with RSA keys only")
    return key


def _dumped(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _public(kid: str, key: rsa.RSAPrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": _number(numbers.n), "e": _number(numbers.e)}


def _number(value: int) -> str:
    return _b64(value.to_bytes(-(-value.bit_length() // 8)))


def _part(value: dict[str, Any]) -> str:
    return _b64(msgspec.json.encode(value))


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
