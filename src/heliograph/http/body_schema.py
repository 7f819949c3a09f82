"""A JSON schema of what a function reads: it is run on a reader that writes down what it is asked for.

So limits, choices and required members are stated once, where they are checked (domain/fields.py and its callers).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from heliograph.domain.fields import MAX_LIST, MAX_TEXT, Fields

Json = dict[str, Any]
_DEPTHS = 4  # of objects within each other: more than any body has


def schema_read_by(read: Callable[[Fields], Any]) -> Json:
    """The schema of an object that `read` takes.

    What is read may depend on which members there are. So it is run with all of them there, with none, and with those
    of the outer levels only; required is what every run that reads an object requires of it.
    """
    return _merged([_recorded(read, depth).schema() for depth in range(_DEPTHS)])


def _recorded(read: Callable[[Fields], Any], depth: int) -> "_Recorder":
    recorder = _Recorder(depth)
    read(recorder)
    return recorder


class _Recorder(Fields):
    """Notes what is read. Members are there down to `depth` levels below; each has a value that fits."""

    def __init__(self, depth: int) -> None:
        super().__init__({})
        self._depth = depth
        self._members: dict[str, Json | _Recorder] = {}
        self._required: list[str] = []
        self._is_closed = False

    def schema(self) -> Json:
        """What was noted."""
        members = {n: m.schema() if isinstance(m, _Recorder) else m for n, m in self._members.items()}
        noted: Json = {"type": "object"}
        if members:
            noted["properties"] = members
        if self._required:
            noted["required"] = self._required
        if self._is_closed:
            noted["additionalProperties"] = False
        return noted

    def _note(self, name: str, required: bool, member: "Json | _Recorder") -> None:
        self._members[name] = member
        if required:
            self._required.append(name)

    def has(self, name: str) -> bool:  # noqa: ARG002 - whichever
        """As far down as this run says."""
        return self._depth > 0

    def wrong(self, name: str, reason: str) -> None:
        """Nothing is, here."""

    def text(
        self,
        name: str,
        *,
        required: bool = False,
        max_length: int = MAX_TEXT,
        choices: Iterable[str] | None = None,
        pattern: str | None = None,
        meaning: str = "",
        empty: bool = True,
    ) -> str | None:
        """A string member."""
        allowed = None if choices is None else list(choices)
        self._note(name, required, _text(max_length, allowed, pattern, meaning, 0 if empty else 1))
        return allowed[0] if allowed else "x"

    def texts(
        self,
        name: str,
        *,
        required: bool = False,
        max_length: int = MAX_TEXT,
        choices: Iterable[str] | None = None,
        pattern: str | None = None,
        meaning: str = "",
        at_least: int = 0,
    ) -> list[str]:
        """A list of strings."""
        allowed = None if choices is None else list(choices)
        items = _text(max_length, allowed, pattern, meaning, 1)
        member = {"type": "array", "items": items, "maxItems": MAX_LIST} | ({"minItems": at_least} if at_least else {})
        self._note(name, required, member)
        return [allowed[0] if allowed else "x"]

    def obj(self, name: str, *, required: bool = False) -> "Fields | None":
        """A nested object."""
        inner = _Recorder(self._depth - 1)
        self._note(name, required, inner)
        return inner

    def json_object(self, name: str) -> Json | None:
        """A free object."""
        self._note(name, False, {"type": "object"})
        return {}

    def number(self, name: str, *, minimum: float = 0, maximum: float = math.inf) -> float | None:
        """A number."""
        limits = {"minimum": minimum} | ({} if maximum == math.inf else {"maximum": maximum})
        self._note(name, False, {"type": "number", **limits})
        return minimum

    def boolean(self, name: str) -> bool | None:
        """True or false."""
        self._note(name, False, {"type": "boolean"})
        return True

    def only(self, names: Iterable[str]) -> None:  # noqa: ARG002 - they are read one by one
        """No other members."""
        self._is_closed = True


def _text(max_length: int, choices: list[str] | None, pattern: str | None, meaning: str, min_length: int) -> Json:
    if choices is not None:
        return {"type": "string", "enum": choices}
    shape: Json = {"type": "string", "maxLength": max_length}
    if min_length:
        shape["minLength"] = min_length
    if pattern is not None:
        shape["pattern"] = f"^(?:{pattern})$"
    if meaning:
        shape["description"] = meaning
    return shape


def _merged(schemas: list[Json]) -> Json:
    if any(schema["type"] != "object" for schema in schemas):
        return schemas[0]
    found: dict[str, list[Json]] = {}
    for schema in schemas:
        for name, member in schema.get("properties", {}).items():
            found.setdefault(name, []).append(member)
    merged = {name: value for name, value in schemas[0].items() if name not in ("properties", "required")}
    if found:
        merged["properties"] = {name: _merged(members) for name, members in found.items()}
    required = [name for name in found if all(name in schema.get("required", ()) for schema in schemas)]
    return merged | ({"required": required} if required else {})
