"""What APNs demands of a request's headers and body."""

import re
import time
import uuid
from typing import Any, get_args

import msgspec

from heliograph_lab.apns import model
from heliograph_lab.apns.errors import ApnsError
from heliograph_lab.apns.model import Notification, PushType
from heliograph_lab.http2 import Request

_PATH = re.compile(r"/3/device/(?P<token>[^/?]*)")
_TOKEN = re.compile(r"([0-9a-fA-F]{2}){32,100}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TOPIC = re.compile(r"[A-Za-z0-9.\-]{1,255}")
_PRIORITIES = {"1", "5", "10"}
_PUSH_TYPES = frozenset(get_args(PushType))
_SINGLE = ("apns-id", "apns-topic", "apns-push-type", "apns-priority", "apns-expiration", "apns-collapse-id")


def device_token(request: Request) -> str:
    """The device token in the path, lower case. ApnsError for another path or method, or none that could be one."""
    found = _PATH.fullmatch(request.path)
    if found is None:
        raise ApnsError("BadPath")
    if request.method != "POST":
        raise ApnsError("MethodNotAllowed")
    token = found["token"]
    if not token:
        raise ApnsError("MissingDeviceToken")
    if not _TOKEN.fullmatch(token):
        raise ApnsError("BadDeviceToken")
    return token.lower()


def message_id(request: Request) -> str:
    """The `apns-id`, as sent, or a new one."""
    given = request.headers.get("apns-id")
    if given is None:
        return str(uuid.uuid4())
    if not _UUID.fullmatch(given):
        raise ApnsError("BadMessageId")
    return given


def topic(request: Request, default: str | None) -> str:
    """The `apns-topic`, or the one that the certificate is for."""
    wanted = request.headers.get("apns-topic", default)
    if wanted is None:
        raise ApnsError("MissingTopic")
    if not _TOPIC.fullmatch(wanted):
        raise ApnsError("BadTopic")
    return wanted


def notification(
    request: Request, message: str, token: str, its_topic: str, now: float, *, store: bool
) -> Notification:
    """The push. `now` is the lab's time; `store`: whether one without expiration is to be stored."""
    headers = request.headers
    if any(", " in headers.get(name, "") for name in _SINGLE):
        raise ApnsError("DuplicateHeaders")
    push_type = headers.get("apns-push-type")
    if push_type is not None and push_type not in _PUSH_TYPES:
        raise ApnsError("InvalidPushType")
    priority = headers.get("apns-priority", "5" if push_type == "background" else "10")
    if priority not in _PRIORITIES or (push_type == "background" and priority == "10"):
        raise ApnsError("BadPriority")
    collapse_id = headers.get("apns-collapse-id")
    if collapse_id is not None and not 1 <= len(collapse_id.encode("latin-1")) <= model.MOST_COLLAPSE_BYTES:
        raise ApnsError("BadCollapseId")
    return Notification(
        id=message,
        token=token,
        topic=its_topic,
        push_type=push_type,
        priority=int(priority),
        payload=_payload(request.body, push_type),
        collapse_id=collapse_id,
        expiration=_expiration(headers.get("apns-expiration"), now, store=store),
    )


def _expiration(given: str | None, now: float, *, store: bool) -> float | None:
    """The sender's clock is the real one: what counts is how long it wants the push kept."""
    if given is None:
        return now + model.LONGEST_STORED if store else None
    if not given.isascii() or not given.isdigit() or len(given) > 12:
        raise ApnsError("BadExpirationDate")
    left = min(int(given) - time.time(), model.LONGEST_STORED)
    return now + left if left > 0 else None


def _payload(body: bytes, push_type: str | None) -> dict[str, Any]:
    if len(body) > (model.MOST_VOIP_BYTES if push_type == "voip" else model.MOST_BYTES):
        raise ApnsError("PayloadTooLarge")
    if not body.strip():
        raise ApnsError("PayloadEmpty")
    try:
        payload = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ApnsError("LabBadPayload") from None
    if not isinstance(payload, dict):
        raise ApnsError("LabBadPayload")
    if not payload:
        raise ApnsError("PayloadEmpty")
    if push_type == "mdm" and not (payload.keys() == {"mdm"} and isinstance(payload["mdm"], str)):
        raise ApnsError("LabBadPayload")
    if push_type == "background" and not _is_background(payload.get("aps")):
        raise ApnsError("LabBadPayload")
    return payload


def _is_background(aps: Any) -> bool:
    if not isinstance(aps, dict) or aps.get("content-available") != 1:
        return False
    return not {"alert", "badge", "sound"}.intersection(aps)
