"""Time as the server knows it: it follows the wall clock forward and never back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph import system
from heliograph.domain.ids import IdMinter, id_seconds
from heliograph.system import SystemClock

SECOND = 1_000_000
HOUR = 3600 * SECOND
NOON = 1_800_000_000 * SECOND


class Clocks:
    """The two clocks of a machine (microseconds): the wall clock, which anybody may set, and the monotonic one."""

    def __init__(self) -> None:
        self.wall, self.steady = NOON, 5 * HOUR

    def time_ns(self) -> int:
        return self.wall * 1000

    def monotonic_ns(self) -> int:
        return self.steady * 1000

    def pass_by(self, duration: int) -> None:
        self.wall += duration
        self.steady += duration


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(system, "time", made)
    return made


def test_a_wall_clock_that_jumps_back_changes_nothing(clocks: Clocks) -> None:
    clock = SystemClock()
    clocks.pass_by(SECOND)
    clocks.wall -= HOUR
    assert clock.now() == NOON + SECOND
    clocks.pass_by(30 * SECOND)
    assert clock.now() == NOON + 31 * SECOND  # durations keep their length
    clocks.wall -= HOUR
    assert clock.now() == NOON + 31 * SECOND


def test_it_follows_the_wall_clock_forward_and_waits_for_it_after_a_mistake(clocks: Clocks) -> None:
    clock = SystemClock()
    clocks.wall += HOUR
    assert clock.now() == NOON + HOUR
    clocks.wall -= HOUR
    clocks.pass_by(SECOND)
    assert clock.now() == NOON + HOUR + SECOND
    clocks.wall += 2 * HOUR
    assert clock.now() == NOON + 2 * HOUR + SECOND


def test_a_start_behind_what_was_written_goes_on_from_there(clocks: Clocks) -> None:
    clock = SystemClock(NOON + HOUR)
    assert clock.now() == NOON + HOUR
    clocks.pass_by(SECOND)
    assert clock.now() == NOON + HOUR + SECOND
    clocks.pass_by(HOUR)
    assert clock.now() == NOON + 2 * HOUR + SECOND


@given(st.lists(st.tuples(st.integers(0, HOUR), st.integers(-2 * HOUR, 2 * HOUR)), max_size=20))
def test_whatever_is_done_to_the_wall_clock_time_passes_at_least_as_fast_as_it_does(
    events: Sequence[tuple[int, int]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clocks = Clocks()
        patch.setattr(system, "time", clocks)
        clock = SystemClock()
        last = clock.now()
        for passed, jump in events:
            clocks.pass_by(passed)
            clocks.wall += jump
            now = clock.now()
            assert now >= max(last + passed, clocks.wall)
            last = now


@given(st.lists(st.floats(0, 4_000_000_000), min_size=1, max_size=50), st.integers(0, 4_000_000_000))
def test_ids_sort_as_they_were_minted_whatever_the_clock_says(readings: list[float], not_before: int) -> None:
    said = iter(readings)
    mint = IdMinter(lambda: next(said), bytes, not_before=not_before)
    ids = [mint() for _ in readings]
    assert all(one < other for one, other in itertools.pairwise(ids))
    assert id_seconds(ids[0]) >= not_before
