"""Reading untrusted objects: what is wrong is named, and the answer stays smaller than what was asked."""

from __future__ import annotations

from heliograph.domain.errors import FieldError
from heliograph.domain.fields import MAX_UNKNOWN, Fields


def test_of_many_unknown_members_a_few_are_named_and_the_rest_counted() -> None:
    fields = Fields({"a": 1, **{f"u{n}": n for n in range(100_000)}}, "settings")
    fields.only(["a"])
    named = [FieldError(f"settings.u{n}", "is not known here") for n in range(MAX_UNKNOWN)]
    assert fields.errors == [*named, FieldError("settings", f"and {100_000 - MAX_UNKNOWN} more are not known here")]


def test_a_few_unknown_members_are_all_named() -> None:
    fields = Fields({f"u{n}": n for n in range(MAX_UNKNOWN)})
    fields.only([])
    assert [error.path for error in fields.errors] == [f"u{n}" for n in range(MAX_UNKNOWN)]
