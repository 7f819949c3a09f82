"""Reading untrusted objects field by field, so that every offending field is named (contract decision 8).

`Fields` reads members of one object and collects `FieldError`s in a list that is shared with nested readers. Values
never appear in a reason, so nothing secret is echoed. Lengths count Unicode code points.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any

from heliograph.domain.errors import FieldError, InvalidInput

MAX_TEXT = 256
MAX_LIST = 1_000
MAX_UNKNOWN = 20  # members that are named
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # lone surrogates and NUL: neither store takes them

_compiled = cache(re.compile)  # quicker than the cache of `re`


class Fields:
    """A reader over one JSON object; see the module."""

    def __init__(self, raw: Mapping[str, Any], path: str = "", errors: list[FieldError] | None = None) -> None:
        self.raw = raw
        self.path = path
        self.errors: list[FieldError] = [] if errors is None else errors

    def where(self, name: str) -> str:
        """The full path of a member."""
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, name: str, reason: str) -> None:
        """Record that a member cannot be accepted."""
        self.errors.append(FieldError(self.where(name), reason))

    def raise_if_wrong(self) -> None:
        """Raise `InvalidInput` with all that was found."""
        if self.errors:
            raise InvalidInput(self.errors)

    def has(self, name: str) -> bool:
        """Whether the member is there and not null."""
        return self.raw.get(name) is not None

    def _get(self, name: str, required: bool) -> Any:
        value = self.raw.get(name)
        if value is None and required:
            self.wrong(name, "is required")
        return value

    def text(
        self,
        name: str,
        *,
        required: bool = False,
        max_length: int = MAX_TEXT,
        choices: Collection[str] | None = None,
        pattern: str | None = None,
        meaning: str = "",
        empty: bool = True,
    ) -> str | None:
        """A string member; `meaning` says what `pattern` asks for."""
        value = self.raw.get(name)
        if value is None and not required:
            return None
        reason = _text_fault(value, max_length, choices, pattern, meaning, empty)
        if reason is not None:
            self.wrong(name, "is required" if value is None else reason)
            return None
        return str(value)

    def texts(
        self,
        name: str,
        *,
        required: bool = False,
        max_length: int = MAX_TEXT,
        choices: Collection[str] | None = None,
        pattern: str | None = None,
        meaning: str = "",
        at_least: int = 0,
    ) -> list[str]:
        """A list of strings; an empty list when absent."""
        value = self._get(name, required)
        if value is None:
            return []
        if not isinstance(value, list) or not at_least <= len(value) <= MAX_LIST:
            self.wrong(name, f"must be a list of {at_least} to {MAX_LIST} strings")
            return []
        for index, item in enumerate(value):
            reason = _text_fault(item, max_length, choices, pattern, meaning, False)
            if reason:
                self.wrong(f"{name}[{index}]", reason)
        return [item for item in value if isinstance(item, str)]

    def obj(self, name: str, *, required: bool = False) -> "Fields | None":
        """A nested object, read with the same list of errors."""
        value = self._object(name, required)
        return None if value is None else Fields(value, self.where(name), self.errors)

    def json_object(self, name: str) -> dict[str, Any] | None:
        """A free object, taken as it is."""
        value = self._object(name, False)
        return None if value is None else dict(value)

    def _object(self, name: str, required: bool) -> dict[str, Any] | None:
        value = self.raw.get(name)
        if isinstance(value, dict):
            return value
        if value is not None or required:
            self.wrong(name, "is required" if value is None else "must be an object")
        return None

    def number(self, name: str, *, minimum: float = 0, maximum: float = math.inf) -> float | None:
        """A finite number within bounds; a boolean is none."""
        value = self._get(name, False)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong(name, "must be a number")
            return None
        try:
            as_float = float(value)
        except OverflowError:
            as_float = math.inf
        if not math.isfinite(as_float) or not minimum <= as_float <= maximum:
            upper = "" if maximum == math.inf else f" and at most {maximum:.15g}"
            self.wrong(name, f"must be a finite number of at least {minimum:.15g}{upper}")
            return None
        return as_float

    def boolean(self, name: str) -> bool | None:
        """True or false."""
        value = self._get(name, False)
        if value is not None and not isinstance(value, bool):
            self.wrong(name, "must be true or false")
            return None
        return value

    def only(self, names: Iterable[str]) -> None:
        """Refuse members that are not named (our own extensions are strict)."""
        known = set(names)
        unknown = [name for name in self.raw if name not in known]
        for name in unknown[:MAX_UNKNOWN]:
            self.wrong(name[:MAX_TEXT], "is not known here")
        if len(unknown) > MAX_UNKNOWN:  # the answer would be larger than the request
            reason = f"and {len(unknown) - MAX_UNKNOWN} more are not known here"
            self.errors.append(FieldError(self.path, reason))


def _text_fault(
    value: object, max_length: int, choices: Collection[str] | None, pattern: str | None, meaning: str, empty: bool
) -> str | None:
    """The first reason why a value is no such text. Asked several times in every request."""
    if not isinstance(value, str):
        return "must be a string"
    if ("\0" in value or not value.isascii()) and _UNSTORABLE.search(value):
        return "must be valid Unicode text"
    if not empty and not value:
        return "must not be empty"
    if len(value) > max_length:
        return f"must have at most {max_length} characters"
    if choices is not None and value not in choices:
        return f"must be one of {', '.join(choices)}"
    if pattern is not None and _compiled(pattern).fullmatch(value) is None:
        return meaning or f"must match {pattern}"
    return None
