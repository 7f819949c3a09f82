"""Cancel against execution: whoever wins, the record says what the device's own journal says."""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.e2e.race import Race
from tests.support.crash import Rig
from tests.support.truth import Findings

SEED = int(os.environ.get("HELIOGRAPH_TEST_SEED") or random.randrange(1_000_000))
# Which devices, how many, and the delays of the cancels and of the devices at first.
FLEETS = {
    "android": ([("android", "builtin", 40)], 0.4, (200, 500)),
    "aosp": ([("aosp", "builtin", 15), ("aosp", "pushy", 5)], 0.12, (0, 60)),
}


async def race(rig: Rig, platform: str, runs: int, least: float) -> Findings:
    """`least` = the share of the runs that each outcome must have, or the race has proved nothing."""
    fleet, span_s, latency_ms = FLEETS[platform]
    units = [unit for kind, provider, count in fleet for unit in await rig.add(kind, count, provider)]
    began = time.monotonic()
    async with rig.client() as client, rig.lab_client() as lab:
        running = Race(client, lab, units, runs, SEED, span_s, latency_ms)
        found = await running.run()
    print(
        f"\n{platform} on {rig.store}, seed {SEED}: {runs} runs in {time.monotonic() - began:.0f} s: {found};"
        f" answers {dict(running.answers)}, last span {running.span_s:.3f} s"
    )
    assert found.lies == []
    assert found.counts.total() == runs
    for outcome in ("cancelled", "done"):
        assert found.counts[outcome] >= runs * least, f"{outcome} is too rare to prove anything: {found}"
    return found


@pytest.mark.parametrize("platform", FLEETS)
async def test_no_cancel_race_makes_a_lie(rig: Rig, platform: str) -> None:
    # The delays are steered towards an even race, which takes more runs than these on a busy machine.
    await race(rig, platform, 300, 1 / 25)


@pytest.mark.soak
@pytest.mark.parametrize("platform", FLEETS)
async def test_ten_thousand_cancel_races_make_no_lie(rig: Rig, platform: str) -> None:
    found = await race(rig, platform, 10_000, 1 / 5)
    assert found.counts["expired"] > 0
