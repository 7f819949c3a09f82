"""What makes a message one that a service, or the device behind it, can do something with."""

import re
import struct
import time

import http_ece  # type: ignore[import-untyped]
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.utils import base64url_decode

from heliograph_lab.webpush import model
from heliograph_lab.webpush.model import Subscription, WebPushError

_VAPID = re.compile(
    r"vapid\s+(?:t=(?P<t>[^,\s]+),\s*k=(?P<k>[^,\s]+)|k=(?P<k2>[^,\s]+),\s*t=(?P<t2>[^,\s]+))", re.IGNORECASE
)
_LONGEST_TOKEN = 24 * 3600  # RFC 8292, 2
_UNREACHABLE = re.compile(r"[<>\s]|@localhost$")  # Apple's
_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,32}")


def check_sender(subscription: Subscription, authorization: str | None, audience: str) -> None:
    """Who sends (RFC 8292). Without a key in the subscription a sender may stay unknown; what it says must be right.

    A token's times are real ones, whatever the lab's clock says.
    """
    if authorization is None:
        if subscription.vapid_key:
            raise WebPushError(401, "MissingAuthorization", "This subscription takes messages of one sender only.")
        return
    found = _VAPID.fullmatch(authorization.strip())
    if found is None:
        raise WebPushError(401, "BadAuthorization", "Authorization must be: vapid t=…, k=…")
    token, key = found["t"] or found["t2"], (found["k"] or found["k2"]).rstrip("=")
    if subscription.vapid_key and key != subscription.vapid_key.rstrip("="):
        raise WebPushError(403, "VapidKeyMismatch", "The subscription was made with another key.")
    _check_token(token, key, audience)


def _check_token(token: str, key: str, audience: str) -> None:
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), base64url_decode(key))
        claims = jwt.decode(
            token, public, algorithms=["ES256"], audience=audience, options={"require": ["aud", "exp", "sub"]}
        )
    except (jwt.PyJWTError, ValueError) as error:
        raise WebPushError(403, "BadJwtToken", f"The token is refused: {type(error).__name__}.") from None
    if claims["exp"] > time.time() + _LONGEST_TOKEN:
        raise WebPushError(403, "BadJwtToken", "The token lives longer than 24 hours.")
    if not re.match(r"mailto:|https:", str(claims["sub"])) or _UNREACHABLE.search(str(claims["sub"])):
        raise WebPushError(403, "BadJwtToken", "The token's sub is no mailto: or https: address to reach anybody at.")


def life_s(text: str | None) -> int:
    """The TTL header, in seconds."""
    if text is None or not re.fullmatch(r"[0-9]{1,10}", text.strip()):
        raise WebPushError(400, "BadTtl", "TTL is missing, or no number of seconds.")
    return int(text)


def topic_of(text: str | None) -> str | None:
    """The Topic header."""
    # Apple's decodes it, and no base64url has one character more than a multiple of four.
    if text is not None and (not _TOPIC.fullmatch(text) or len(text) % 4 == 1):
        raise WebPushError(400, "BadTopic", "Topic must have 1 to 32 characters of base64url.")
    return text


def urgency_of(text: str | None) -> str:
    """The Urgency header."""
    if text is not None and text not in model.URGENCIES:
        raise WebPushError(400, "BadUrgency", f"Urgency must be one of {', '.join(model.URGENCIES)}.")
    return text or "normal"


def check_body(body: bytes, encoding: str | None, subscription: Subscription) -> None:
    """Its size; and that the device will be able to read it, which a real service cannot know."""
    if len(body) > model.MOST_BYTES:
        raise WebPushError(413, "PayloadTooLarge", f"At most {model.MOST_BYTES} bytes.")
    if encoding != "aes128gcm":
        raise WebPushError(415, "BadEncoding", "Content-Encoding must be aes128gcm.")
    if decrypted(body, subscription) is None:
        raise WebPushError(400, "Undecryptable", "The device will not be able to read this (RFC 8291).")


def decrypted(body: bytes, subscription: Subscription) -> bytes | None:
    """What the device reads; None where it cannot (RFC 8291: one record, with the sender's point as key id)."""
    if len(body) < 86 or body[20] != 65 or len(body) - 86 > int.from_bytes(body[16:20]):
        return None
    auth = base64url_decode(subscription.auth)
    try:
        text: bytes = http_ece.decrypt(body, private_key=subscription.key(), auth_secret=auth, version="aes128gcm")
    except (http_ece.ECEException, ValueError, struct.error):
        return None
    return text
