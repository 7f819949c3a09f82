"""Request bodies against the model, with the leniency of proto3 JSON and Google's error texts."""

import base64
import binascii
from datetime import timedelta
from typing import Any, TypeVar, get_args

import msgspec

from heliograph_lab.amapi.errors import ApiError, Violations
from heliograph_lab.amapi.wire import parse_duration
from heliograph_lab.pubsub.model import NOT_MODELLED, Wire

T = TypeVar("T", bound=Wire)


def parse(kind: type[T], body: Any, at: str = "") -> T:
    """The message; ApiError 400 for what it cannot be, 501 for what the lab does not model."""
    found = Violations()
    named = _named(kind, body, found, at)
    found.raise_if_any()
    try:
        parsed = msgspec.convert(named, kind, strict=False)
    except msgspec.ValidationError as error:
        found.add(at, f"Invalid value at '{at or 'body'}', {error}")
        found.raise_if_any()
        raise
    _refuse_unmodelled(parsed)
    return parsed


def seconds(text: str, name: str, least: float, most: float) -> timedelta:
    """A duration between two bounds, in seconds; ApiError 400 otherwise."""
    duration = parse_duration(text)
    if duration is None or not least <= duration.total_seconds() <= most:
        raise ApiError(400, f"Invalid value for {name}: must be a duration of {least:g}s to {most:g}s.")
    return duration


def decoded(data: str) -> bytes:
    """The bytes of a message; ApiError 400 when it is not base64 (either alphabet, padding optional)."""
    try:
        return base64.b64decode(data.replace("-", "+").replace("_", "/") + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, "Invalid value at 'messages[].data' (TYPE_BYTES), Base64 decoding failed.") from None


def _named(kind: type[Wire], body: Any, found: Violations, at: str) -> Any:
    """The body with JSON names and without nulls, nested messages included."""
    if not isinstance(body, dict):
        return body
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    spellings = {field.name: field.encode_name for field in fields.values()}
    named: dict[str, Any] = {}
    for given, value in body.items():
        name = given if given in fields else spellings.get(given)
        if name is None:
            found.unknown(given, at)
        elif value is not None:
            inner = _message_of(fields[name].type)
            below = f"{at}.{name}" if at else name
            if inner is None:
                named[name] = value
            elif isinstance(value, list):
                named[name] = [_named(inner, item, found, f"{below}[{index}]") for index, item in enumerate(value)]
            else:
                named[name] = _named(inner, value, found, below)
    return named


def _message_of(annotation: Any) -> type[Wire] | None:
    if isinstance(annotation, type) and issubclass(annotation, Wire):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := _message_of(part)) is not None), None)


def _refuse_unmodelled(message: Wire) -> None:
    for name in NOT_MODELLED.get(type(message), ()):
        if getattr(message, name):
            raise ApiError(501, f"The lab's Pub/Sub does not model {type(message).__name__}.{name}.")
    for field in msgspec.structs.fields(message):
        value = getattr(message, field.name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Wire):
                _refuse_unmodelled(item)
