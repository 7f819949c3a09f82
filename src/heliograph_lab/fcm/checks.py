"""What FCM demands of a message. Both of JSON's spellings of a member are taken, as Google's front end does."""

import re
from typing import Any, NamedTuple

import msgspec

from heliograph_lab.fcm import model
from heliograph_lab.fcm.errors import bad_request, plain, too_large, usual
from heliograph_lab.fcm.model import Kind

_TOKEN = re.compile(r"[A-Za-z0-9_-]{22}:APA91b[A-Za-z0-9_-]{100,200}")
_FID = re.compile(r"[cdef][A-Za-z0-9_-]{21}")
_DURATION = re.compile(r"(\d{1,10})(\.\d{1,9})?s")
_RESERVED = re.compile(r"from|message_type|google\..*|gcm\..*|gcm|google")
_MESSAGE = {
    *("name", "data", "notification", "android", "webpush", "apns", "fcm_options"),
    *("token", "fid", "topic", "condition"),
}
_ANDROID = {
    *("collapse_key", "priority", "ttl", "restricted_package_name", "data", "notification", "fcm_options"),
    *("direct_boot_ok", "bandwidth_constrained_ok", "restricted_satellite_ok"),
}


class Wanted(NamedTuple):
    """A request, read."""

    kind: Kind
    address: str
    data: dict[str, str]
    notification: dict[str, Any] | None
    high: bool
    collapse_key: str | None
    life: float  # seconds
    validate_only: bool


def read(body: bytes) -> Wanted:
    """The request in a body. FcmError when it is wrong."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_request("", "Invalid JSON payload received.") from None
    request = _members(decoded, "", {"message", "validate_only"})
    message = _members(request.get("message"), "message", _MESSAGE)
    android = _members(message.get("android", {}), "message.android", _ANDROID)
    kind, address = _target(message)
    data = {**_strings(message, "message"), **_strings(android, "message.android")}
    notification = _object(message, "notification", "message") or _object(android, "notification", "message.android")
    if _size(data) + (len(msgspec.json.encode(notification)) if notification else 0) > model.MOST_BYTES:
        raise too_large(model.MOST_BYTES)
    _object(message, "apns", "message")
    _object(message, "webpush", "message")
    return Wanted(
        kind,
        address,
        data,
        notification,
        _is_high(android),
        _text(android, "collapse_key", "message.android"),
        _life(android.get("ttl")),
        request.get("validate_only") is True,
    )


def see_that_it_is_one(kind: Kind, address: str) -> None:
    """FcmError for what cannot be a token, or an installation id: the other meaning of 400."""
    if not (_TOKEN if kind == "token" else _FID).fullmatch(address):
        raise usual(400)


def _members(value: Any, where: str, known: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad_request(where, "must be an object")
    found: dict[str, Any] = {}
    for given, member in value.items():
        name = re.sub(r"[A-Z]", lambda letter: "_" + letter[0].lower(), given)
        if name not in known:
            raise bad_request(where, f"Unknown name '{given}': Cannot find field.")
        if member is not None:
            found[name] = member
    return found


def _target(message: dict[str, Any]) -> tuple[Kind, str]:
    targets = [name for name in ("token", "fid", "topic", "condition") if name in message]
    if len(targets) != 1:
        raise bad_request("message", "exactly one of token, fid, topic and condition must be set")
    if targets[0] in {"topic", "condition"}:
        raise plain(501, "UNIMPLEMENTED", "The lab does not model topics.")
    kind: Kind = "token" if targets[0] == "token" else "fid"
    return kind, _text(message, kind, "message") or ""


def _strings(holder: dict[str, Any], where: str) -> dict[str, str]:
    data = _object(holder, "data", where) or {}
    for key, value in data.items():
        if not isinstance(value, str):
            raise bad_request(f"{where}.data[{key}]", "must be a string")
        if _RESERVED.fullmatch(key):
            raise bad_request(f"{where}.data", f"Invalid data payload key: {key}")
    return data


def _object(holder: dict[str, Any], name: str, where: str) -> dict[str, Any] | None:
    value = holder.get(name)
    if value is not None and not isinstance(value, dict):
        raise bad_request(f"{where}.{name}", "must be an object")
    return value


def _text(holder: dict[str, Any], name: str, where: str) -> str | None:
    value = holder.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_request(f"{where}.{name}", "must be a string")
    return value


def _is_high(android: dict[str, Any]) -> bool:
    priority = (_text(android, "priority", "message.android") or "normal").lower()
    if priority not in {"normal", "high"}:
        raise bad_request("message.android.priority", "must be NORMAL or HIGH")
    return priority == "high"


def _life(ttl: Any) -> float:
    if ttl is None:
        return model.LONGEST_LIFE
    found = _DURATION.fullmatch(ttl) if isinstance(ttl, str) else None
    if found is None or float(ttl[:-1]) > model.LONGEST_LIFE:
        raise bad_request("message.android.ttl", f"must be a duration of at most {model.LONGEST_LIFE}s, such as 3600s")
    return float(ttl[:-1])


def _size(data: dict[str, str]) -> int:
    return sum(len(key.encode()) + len(value.encode()) for key, value in data.items())
