"""A device's address for Web Push, and what is encrypted for it (RFC 8291)."""

import re

import http_ece  # type: ignore[import-untyped]
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.utils import base64url_decode

from heliograph.guard import url_fault

MAX_ENDPOINT = 1000  # UnifiedPush; browsers' are shorter


class _Keys(msgspec.Struct, frozen=True):
    p256dh: str
    auth: str


class _Subscription(msgspec.Struct, frozen=True):
    """What `PushSubscription.toJSON()` gives, https://www.w3.org/TR/push-api/. Other members are ignored."""

    endpoint: str
    keys: _Keys


class Subscription(msgspec.Struct, frozen=True):
    """One device's address. `point`: its public key, as an uncompressed point of P-256; `auth`: its 16 bytes."""

    endpoint: str
    point: bytes
    auth: bytes


def read_subscription(token: str) -> Subscription | str:
    """The subscription in an address; a text says what is wrong with it."""
    try:
        said = msgspec.json.decode(token, type=_Subscription)
        point, auth = bytes_of(said.keys.p256dh), bytes_of(said.keys.auth)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return 'is no subscription: {"endpoint", "keys": {"p256dh", "auth"}}, with keys as base64url'
    fault = url_fault(said.endpoint, MAX_ENDPOINT)
    if fault:
        return f"has an endpoint that {fault}"
    if len(auth) != 16:
        return "has an auth secret that is not 16 bytes"
    if not _is_point(point):
        return "has a p256dh that is no uncompressed point of P-256"
    return Subscription(said.endpoint, point, auth)


def _is_point(encoded: bytes) -> bool:
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), encoded)
    except ValueError:
        return False
    return len(encoded) == 65


def encrypt(text: bytes, subscription: Subscription) -> bytes:
    """A push message for this device (RFC 8291), in one record, with a key pair of its own."""
    once = ec.generate_private_key(ec.SECP256R1())
    body: bytes = http_ece.encrypt(
        text, private_key=once, dh=subscription.point, auth_secret=subscription.auth, version="aes128gcm"
    )
    return body


def bytes_of(text: str) -> bytes:
    """What a text of base64url says. Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}={0,2}", text):
        raise ValueError
    return base64url_decode(text.rstrip("="))
