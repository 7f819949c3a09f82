"""Ids sort in the order of minting, and tell nothing else."""

import os
from collections.abc import Iterator
from itertools import pairwise

import pytest

from heliograph.domain.ids import IdMinter, id_seconds, is_id


class Clock:
    """Stands still unless it is moved."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock(1_700_000_000.25)


def test_an_id_is_one_and_begins_with_the_second(clock: Clock) -> None:
    minted = IdMinter(clock, os.urandom)()
    assert is_id(minted)
    assert minted == minted.lower()
    assert id_seconds(minted) == 1_700_000_000


def test_ids_sort_in_the_order_of_minting_whatever_the_clock_does(clock: Clock) -> None:
    mint = IdMinter(clock, os.urandom)

    def ids() -> Iterator[str]:
        for step in (0, 0.000001, -5, 0, 2, -2, 60):
            clock.now += step
            yield from (mint() for _ in range(50))

    assert all(one < other for one, other in pairwise(ids()))


def test_a_second_that_is_full_borrows_from_the_next(clock: Clock) -> None:
    clock.now = 1_700_000_000.999999
    mint = IdMinter(clock, os.urandom)
    first, second = mint(), mint()
    assert (id_seconds(first), id_seconds(second)) == (1_700_000_000, 1_700_000_001)
    assert first < second


def test_a_restart_begins_behind_what_was_minted_before(clock: Clock) -> None:
    before = IdMinter(clock, lambda n: b"\xff" * n)()
    assert IdMinter(clock, lambda n: b"\x00" * n, not_before=clock.now)() > before


def test_what_others_mint_in_between_leaves_no_trace(clock: Clock) -> None:
    """With the same clock and the same dice, an id is the same however busy the minter was before it."""

    def next_after(busy: int) -> str:
        clock.now = 1_700_000_000.0
        mint = IdMinter(clock, lambda n: b"\x55" * n)
        for _ in range(busy):
            mint()
        clock.now += 0.5
        return mint()

    assert next_after(0) == next_after(1) == next_after(1000)
