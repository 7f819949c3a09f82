"""Google's notifications as they come through Pub/Sub. Pure; sources: research/amapi.md 2, "Pub/Sub".

A message is `{"data", "attributes": {"notificationType"}, "messageId", "publishTime"}`, pulled or pushed; `data` is
base64 of the resource as JSON. Nothing here raises for a message from outside: what cannot be understood is
a notification with a `fault`, to be acknowledged and logged, or it would come again for days.
"""

import base64
import binascii
import re
from typing import Any

import msgspec

from heliograph.channels.amapi_answers import cleaned, usable_operation
from heliograph.domain.times import time_of
from heliograph.ports.channel import Notification

DEVICE_KINDS = ("STATUS_REPORT", "ENROLLMENT")
MAX_DATA = 1024 * 1024  # characters of base64; Google's own resources are far below
_KIND = re.compile(r"[A-Z_]{1,64}")


def read_notification(message: Any) -> Notification:
    """A message of Pub/Sub as a notification."""
    if not isinstance(message, dict):
        return Notification("", "", fault="not a message")
    identifier = str(message.get("messageId") or message.get("message_id") or "")[:128]
    published = time_of(message.get("publishTime") or message.get("publish_time"))
    attributes = message.get("attributes")
    kind = attributes.get("notificationType") if isinstance(attributes, dict) else None
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        return Notification(identifier, "", published, fault="names no type")
    if kind != "COMMAND" and kind not in DEVICE_KINDS:
        return Notification(identifier, kind, published)
    resource = _resource(message.get("data"))
    if isinstance(resource, str):
        return Notification(identifier, kind, published, fault=resource)
    if kind == "COMMAND":
        operation = usable_operation(resource)
        fault = None if operation else "the data is no operation"
        return Notification(identifier, kind, published, operation=operation, fault=fault)
    device = cleaned(resource) if isinstance(resource.get("name"), str) else None
    return Notification(identifier, kind, published, device=device, fault=None if device else "the data is no device")


def _resource(data: Any) -> dict[str, Any] | str:
    """The resource in a message's data, or what is wrong with it."""
    if not isinstance(data, str) or not data:
        return "has no data"
    if len(data) > MAX_DATA:
        return "the data is too large"
    try:
        found = msgspec.json.decode(base64.b64decode(data, validate=True))
    except (binascii.Error, msgspec.MsgspecError, ValueError, RecursionError):
        return "the data is not base64 of JSON"
    return found if isinstance(found, dict) else "the data is no object"
