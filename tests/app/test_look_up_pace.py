"""How often is asked for what stays open: soon while it is new, then at the cap, and never beyond the budget."""

from __future__ import annotations

import pytest

from heliograph.app.effects.upstream import next_look_up_s
from tests.app.conftest import Desk

DAY_S = 86_400


@pytest.mark.parametrize(("age_s", "pause_s"), [(0, 0.25), (10, 5), (60, 30), (3600, 30), (300 * DAY_S, 30)])
async def test_the_pause_grows_to_the_cap_and_stays_there(desk: Desk, age_s: float, pause_s: float) -> None:
    issued_at = desk.clock.now()
    desk.clock.advance(age_s)
    assert next_look_up_s(desk.services, issued_at, 1, 30) == pytest.approx(pause_s, abs=0.5)


@pytest.mark.parametrize("devices", [1, 60, 61, 1_000, 100_000])
async def test_many_devices_cost_no_more_than_the_budget(desk: Desk, devices: int) -> None:
    limits = desk.services.limits
    pause_s = next_look_up_s(desk.services, desk.clock.now() - 300 * DAY_S * 1_000_000, devices, limits.look_up_cap_s)
    assert devices * 60 / pause_s <= limits.look_ups_per_minute
    assert pause_s >= limits.look_up_cap_s


async def test_a_wipe_that_waits_for_months_is_one_look_at_a_time(desk: Desk) -> None:
    for kind in ("WIPE", "LOCK", "RELINQUISH_OWNERSHIP"):
        await desk.command({"type": kind, "duration": f"{365 * DAY_S}s"})
    await desk.pay()
    desk.clock.advance(200 * DAY_S)
    assert (await desk.pay()).count("look_up") == 1  # one list for all that is open for the device
    desk.clock.advance(desk.services.limits.look_up_cap_s - 1)
    assert "look_up" not in await desk.pay()
    desk.clock.advance(2)
    assert "look_up" in await desk.pay()
