"""Request bodies and query parameters against the schemas, with the leniency of proto3 JSON and Google's error texts.

Stricter than Google in one point: a single value is not taken for a list of one. Looser in none that is known.
"""

import base64
import re
from typing import Any

from heliograph_lab.amapi.discovery import COMMON_PARAMETERS, SCHEMAS, Method, Parameter, Schema, field_names, snake
from heliograph_lab.amapi.errors import TYPE_URL, Violations
from heliograph_lab.amapi.wire import is_timestamp, parse_duration

_PACKAGE = "google.android.devicemanagement.v1."
# The document gives enums without their names; these are the ones that clients meet.
_ENUM_NAMES = {
    ("Command", "type"): "Command.CommandType",
    ("Command", "errorCode"): "Command.CommandErrorCode",
    ("Command", "resetPasswordFlags"): "Command.ResetPasswordFlag",
    ("WipeParams", "wipeDataFlags"): "WipeDataFlag",
    ("Device", "state"): "Device.DeviceState",
    ("Device", "appliedState"): "Device.DeviceState",
}
_KINDS = {"string": "TYPE_STRING", "boolean": "TYPE_BOOL", "number": "TYPE_DOUBLE", "integer": "TYPE_INT32"}
_FORMAT_KINDS = {
    "google-datetime": f"{TYPE_URL}google.protobuf.Timestamp",
    "google-duration": f"{TYPE_URL}google.protobuf.Duration",
    "google-fieldmask": f"{TYPE_URL}google.protobuf.FieldMask",
    "int64": "TYPE_INT64",
    "uint64": "TYPE_UINT64",
    "uint32": "TYPE_UINT32",
    "float": "TYPE_FLOAT",
    "byte": "TYPE_BYTES",
}
_RANGES = {"int64": (-(2**63), 2**63 - 1), "uint64": (0, 2**64 - 1), "uint32": (0, 2**32 - 1)}
_SECRET = {"newPassword", "activationCode"}  # fields whose values no message may repeat


def parse_message(schema: str, body: Any, found: Violations, at: str = "") -> dict[str, Any]:
    """The message with JSON names, without nulls; what is wrong goes to `found`."""
    if not isinstance(body, dict):
        found.invalid(at, f"{TYPE_URL}{_PACKAGE}{schema}", _shown(body))
        return {}
    names = field_names(schema)
    fields = SCHEMAS[schema].properties
    message: dict[str, Any] = {}
    for given, value in body.items():
        name = names.get(given)
        if name is None:
            found.unknown(given, at)
        elif value is not None:
            reader = _Reader(schema, name, found)
            message[name] = reader.read(fields[name], value, f"{at}.{snake(name)}" if at else snake(name))
    return message


def parse_query(method: Method, given: list[tuple[str, str]], found: Violations) -> dict[str, Any]:
    """The method's own query parameters by JSON name; those that every method has are checked and left out."""
    known = {name: parameter for name, parameter in method.parameters.items() if parameter.location == "query"}
    spellings = {snake(name): name for name in known} | {name: name for name in known}
    values: dict[str, Any] = {}
    for name, text in given:
        if name.removeprefix("$") in COMMON_PARAMETERS or name in COMMON_PARAMETERS:
            continue
        if name not in spellings:
            why = f"Cannot bind query parameter. Field '{name}' could not be found in request message."
            found.unknown(name, "", why)
            continue
        parameter = known[spellings[name]]
        value = _query_value(snake(name), parameter, text, found)
        if parameter.repeated:
            values.setdefault(spellings[name], []).append(value)
        else:
            values[spellings[name]] = value
    return values


def without_defaults(schema: str, message: dict[str, Any]) -> dict[str, Any]:
    """As proto3 JSON writes it: no empty strings, zeros, first enum values, empty lists or empty maps."""
    kept: dict[str, Any] = {}
    for name, value in message.items():
        field = SCHEMAS[schema].properties[name]
        if field.ref is not None:
            kept[name] = without_defaults(field.ref, value)  # a message that is set stays, empty or not
        elif value and not (field.enum and value == field.enum[0]):
            kept[name] = value
    return kept


def output_only(schema: str, name: str) -> bool:
    """Whether the document marks this field as written by the server only."""
    return SCHEMAS[schema].properties[name].read_only


class _Reader:
    """Reads one field; knows whose it is for the sake of the messages."""

    def __init__(self, schema: str, name: str, found: Violations) -> None:
        self._schema = schema
        self._name = name
        self._found = found

    def read(self, field: Schema, value: Any, at: str) -> Any:
        if field.ref is not None:
            return parse_message(field.ref, value, self._found, at)
        if field.type == "any":
            return value
        if field.type == "array":
            return self._list(field, value, at)
        if field.type == "object":
            return self._map(field, value, at)
        if isinstance(value, list):
            self._found.unknown(self._name, at.rpartition(".")[0], "Proto field is not repeating, cannot start list.")
            return None
        return self._scalar(field, value, at)

    def _list(self, field: Schema, value: Any, at: str) -> list[Any]:
        if not isinstance(value, list):
            self._found.invalid(at, self._kind(field.items or field), _shown(value))
            return []
        item = field.items or Schema(type="any")
        return [self.read(item, element, f"{at}[{index}]") for index, element in enumerate(value)]

    def _map(self, field: Schema, value: Any, at: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._found.invalid(at, "Map", _shown(value))
            return {}
        item = field.additional_properties or Schema(type="any")
        return {key: self.read(item, element, f"{at}[{key}]") for key, element in value.items()}

    def _scalar(self, field: Schema, value: Any, at: str) -> Any:
        if isinstance(value, dict):
            self._found.invalid(at, self._kind(field), "Starting an object on a scalar field")
            return None
        if field.enum:
            good, parsed = _enum(field.enum, value)
        elif field.type == "boolean":
            good, parsed = isinstance(value, bool), value
        elif field.type in {"integer", "number"} or field.format in _RANGES:
            good, parsed = _number(field, value)
        else:
            good, parsed = isinstance(value, str), value
        if good and field.format in _CHECKS:
            why = _CHECKS[field.format](parsed, at)
            if why:
                self._found.invalid(at, self._kind(field), why)
        elif not good:
            shown = "value not shown" if self._name in _SECRET else _shown(value)
            self._found.invalid(at, self._kind(field), shown)
        return parsed

    def _kind(self, field: Schema) -> str:
        if field.ref is not None:
            return f"{TYPE_URL}{_PACKAGE}{field.ref}"
        if field.enum:
            fallback = f"{self._schema}.{self._name[0].upper()}{self._name[1:]}"
            return f"{TYPE_URL}{_PACKAGE}{_ENUM_NAMES.get((self._schema, self._name), fallback)}"
        return _FORMAT_KINDS.get(field.format or "", _KINDS.get(field.type, "TYPE_MESSAGE"))


def _enum(names: tuple[str, ...], value: Any) -> tuple[bool, Any]:
    # The document gives no numbers; its order is taken for them, which clients should not rely on.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return True, names[value]
    return isinstance(value, str) and value in names, value


def _number(field: Schema, value: Any) -> tuple[bool, Any]:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False, value
    try:
        number = float(value) if field.type == "number" else _whole(value)
    except ValueError:
        return False, value
    low, high = _RANGES.get(field.format or "", (-(2**31), 2**31 - 1))
    if field.type == "number":
        return True, number
    good = low <= number <= high
    return good, str(number) if field.type == "string" else number


def _whole(value: float | str) -> int:
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(value)
        return int(value)
    if isinstance(value, str) and not re.fullmatch(r"-?\d+", value, re.ASCII):
        raise ValueError(value)  # int() alone would take "1_0" and " 5"
    return int(value)


def _query_value(name: str, parameter: Parameter, text: str, found: Violations) -> Any:
    schema = Schema(type=parameter.type, format=parameter.format, enum=parameter.enum)
    value: Any = text
    if parameter.type == "boolean":
        value = {"true": True, "false": False}.get(text, text)
    return _Reader("", name, found).read(schema, value, name)


def _duration_fault(text: str, at: str) -> str:
    if not text.endswith("s"):
        return f"Field '{at}', Illegal duration format; duration must end with 's'"
    return "" if parse_duration(text) is not None else f"Field '{at}', Duration is not in range or malformed"


def _timestamp_fault(text: str, at: str) -> str:
    return "" if is_timestamp(text) else f"Field '{at}', Invalid time format"


def _bytes_fault(text: str, at: str) -> str:
    bare = text.translate(_STANDARD_ALPHABET).rstrip("=")  # both alphabets, padded or not
    try:
        base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except ValueError:
        return f"Field '{at}', Base64 decoding failed"
    return ""


_STANDARD_ALPHABET = str.maketrans("-_", "+/")
_CHECKS = {"byte": _bytes_fault, "google-duration": _duration_fault, "google-datetime": _timestamp_fault}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict | list):
        return "Starting a list or an object where there can be none"
    return "null" if value is None else str(value)
