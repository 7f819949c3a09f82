"""Records are values: equal by their fields, with slots, made by position or by name."""

from __future__ import annotations

from dataclasses import field, replace

import pytest

from heliograph.domain.record import changed, record


@record
class Point:
    """A record with a default."""

    x: int
    y: int = 0


@record(kw_only=True)
class Named:
    """A record whose fields are named."""

    name: str
    notes: list[str] = field(default_factory=list)


def test_they_are_equal_and_hashed_by_their_fields() -> None:
    assert Point(1) == Point(1, 0)
    assert Point(1) != Point(2)
    assert len({Point(1), Point(1, 0), replace(Point(1), y=2)}) == 2


def test_a_change_makes_another() -> None:
    point = Point(1)
    assert (changed(point, y=2), changed(point), point) == (Point(1, 2), Point(1), Point(1))
    assert changed(point) is not point
    with pytest.raises(KeyError):
        changed(point, z=3)


def test_they_have_their_fields_and_nothing_else() -> None:
    with pytest.raises(AttributeError):
        setattr(Point(1), "z", 3)  # noqa: B010 - the type checker refuses it
    assert not hasattr(Point(1), "__dict__")


def test_those_with_named_fields_take_no_others_and_share_no_default() -> None:
    assert repr(Named(name="a")) == "Named(name='a', notes=[])"
    assert Named(name="a").notes is not Named(name="a").notes
    with pytest.raises(TypeError):
        Named("a")  # type: ignore[call-arg]


def test_the_type_checker_holds_them_frozen() -> None:
    """An assignment needs an ignore, and mypy complains of an ignore that is not needed."""
    point = Point(1)
    point.x = 2  # type: ignore[misc]
    assert point == Point(2)
