"""The withdrawal of a push waits among what an account owes that has taken it."""

from __future__ import annotations

import pytest

from heliograph.domain.deliveries import Leg
from tests.domain.builders import a_push


@pytest.mark.parametrize(
    ("present", "legs", "account"),
    [
        ("a", None, "a"),
        (None, None, None),
        ("b", (Leg("pushy", "a", "1"),), "a"),
        ("b", (Leg("builtin", None, "1"),), "b"),
        ("b", (Leg("pushy", "a", None),), "b"),
        (None, (Leg("pushy", "a", "1"),), "a"),
        ("c", (Leg("pushy", "a", "1"), Leg("webpush", "b", "2")), "b"),
        ("c", (Leg("pushy", "a", "1"), Leg("builtin", None, "2")), "a"),
    ],
)
def test_a_withdrawal_waits_among_what_its_account_owes(
    present: str | None, legs: tuple[Leg, ...] | None, account: str | None
) -> None:
    assert a_push(account_id=present, legs=legs).withdrawn_through == account
