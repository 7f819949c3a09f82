"""Records: dataclasses that the type checker holds frozen. See ADR 0044."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def record(cls: type[T], /) -> type[T]: ...
@overload
def record(*, kw_only: bool) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T] | None = None, /, *, kw_only: bool = False) -> type[T] | Callable[[type[T]], type[T]]:
    """A dataclass with slots that nobody changes: equal and hashed by its fields.

    Nothing stops a change when it runs: a frozen dataclass fills each field through `object.__setattr__`, and takes
    six times as long to make. For what is made with every request, command and push.
    """
    made = dataclass(slots=True, unsafe_hash=True, kw_only=kw_only)
    return made if cls is None else made(cls)


def changed(record: T, **changes: Any) -> T:
    """A record with other values in some fields; raises KeyError for one that it does not have.

    `dataclasses.replace` in half its time, unchecked by the type checker; for records that are made by position.
    """
    cls: Any = type(record)
    values_of, places = _layout(cls)
    values = list(values_of(record))
    for name, value in changes.items():
        values[places[name]] = value
    made: T = cls(*values)
    return made


@cache
def _layout(cls: Hashable) -> tuple[Callable[[Any], tuple[Any, ...]], Mapping[str, int]]:
    """What gives all values of a record (two at the least), and the place of each by its name."""
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    return attrgetter(*names), {name: place for place, name in enumerate(names)}
