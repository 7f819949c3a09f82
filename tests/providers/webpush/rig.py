"""Pushes to a subscription, and what its app reads of them."""

from __future__ import annotations

import http_ece  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.utils import base64url_decode

from heliograph.ports.push import Outcome, PushMessage
from heliograph.providers.webpush import WebPush
from tests.providers.samples import WAKE, target
from tests.providers.test_webpush import AUTH, PRIVATE, SECRET_PATH, subscription
from tests.support.wire import Wire


async def send(app: WebPush, wire: Wire, message: PushMessage = WAKE) -> Outcome:
    return await app.send(message, target("webpush", subscription(f"{wire.url}/{SECRET_PATH}?up=1")))


def decrypted(body: bytes, private: str = PRIVATE, auth: str = AUTH) -> bytes:
    key = ec.derive_private_key(int.from_bytes(base64url_decode(private)), ec.SECP256R1())
    text: bytes = http_ece.decrypt(body, private_key=key, auth_secret=base64url_decode(auth), version="aes128gcm")
    return text
