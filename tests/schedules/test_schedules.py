"""Seeded random schedules: whatever happens in whatever order, no record says otherwise than the device's journal.

A failure names its seed; `python -m tests.schedules SEED` plays it again and tells what happened.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.schedules.run import Stage

FIRST = int(os.environ.get("HELIOGRAPH_TEST_SEED") or 0)
SHORT, LONG, PART = 2_000, 100_000, 500
ENOUGH = 5  # failures that are told before it ends


def lies(seeds: Iterable[int]) -> list[str]:
    """What was found in the schedules of these seeds."""
    stage = Stage()
    found: list[str] = []
    for seed in seeds:
        ending = stage.play(seed)
        if ending.lies:
            found.append(f"seed {seed}: {'; '.join(ending.lies)} (python -m tests.schedules {seed})")
        if len(found) == ENOUGH:
            break
    return found


@pytest.mark.parametrize("part", range(SHORT // PART))
def test_records_and_journals_agree(part: int) -> None:
    first = FIRST + part * PART
    assert lies(range(first, first + PART)) == []


@pytest.mark.soak
def test_records_and_journals_agree_in_100_000_schedules() -> None:
    parts = [range(first, first + PART) for first in range(FIRST, FIRST + LONG, PART)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as processes:
        found = [line for part in processes.map(lies, parts) for line in part]
    assert not found, "\n".join(found)


def test_a_seed_says_all_that_happens() -> None:
    """Also after other schedules, and on another stage."""
    again, stage = Stage(), Stage()
    for seed in range(20):
        first = stage.play(seed, traced=True)
        assert first.log
        assert again.play(seed, traced=True) == first
