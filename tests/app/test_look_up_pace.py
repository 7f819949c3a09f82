"""How often is asked for what stays open: soon while it is new, then at the cap, and never beyond the budget."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.app.effects.upstream import next_look_up_s
from heliograph.domain.devices import Device
from heliograph.domain.ladder import Command, Rung
from heliograph.ports.channel import Toll, Unreachable
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


async def many(desk: Desk, number: int) -> list[Command]:
    """So many commands of one device at Google."""
    body = {"type": "CLEAR_APP_DATA", "duration": f"{3650 * DAY_S}s"}
    apps = [{"clearAppsDataParams": {"packageNames": [f"org.example.p{n}"]}} for n in range(number)]
    commands = [await desk.command(body | app) for app in apps]
    await desk.pay("issue", times=10 * number)
    return commands


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_device_whose_list_lacks_what_is_open_costs_no_more_than_the_budget(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    """Each is asked for by itself, in turn."""
    commands = await many(desk, 60)
    receipts = {(await desk.now(command)).receipt for command in commands}
    desk.google.operations_now.clear()
    desk.google.gone = is_gone
    asked: list[str] = []
    operation, operations = desk.google.operation, desk.google.operations

    async def one(name: str) -> Any:
        asked.append(name)
        return await operation(name)

    async def all_of(*args: Any) -> Any:
        asked.append("list")
        return await operations(*args)

    monkeypatch.setattr(desk.google, "operation", one)
    monkeypatch.setattr(desk.google, "operations", all_of)
    minutes = 10
    for _ in range(minutes * 60):
        desk.clock.advance(1)
        await desk.pay()
    assert len(asked) <= minutes * desk.services.limits.look_ups_per_minute
    assert asked.count("list") >= minutes
    assert receipts == set(asked) - {"list"}


async def test_a_list_that_fails_at_its_last_page_costs_no_more_than_the_budget(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await many(desk, 1)
    pages: list[int] = []

    async def a_long_list(device: Device, toll: Toll) -> Unreachable:
        for page in range(100):
            assert await toll() is None
            pages.append(page)
        return Unreachable("the list of operations does not end")

    monkeypatch.setattr(desk.google, "operations", a_long_list)
    minutes = 10
    for _ in range(minutes * 60):
        desk.clock.advance(1)
        await desk.pay()
    budget = minutes * desk.services.limits.look_ups_per_minute
    assert budget / 2 <= len(pages) <= budget + 100


async def test_what_may_have_erased_the_device_is_asked_for_every_time(desk: Desk) -> None:
    await many(desk, 60)
    wipe = await desk.command({"type": "WIPE"})
    await desk.pay()
    desk.google.gone = True
    for _ in range(2):
        desk.clock.advance(60)
        await desk.pay()
    assert (await desk.now(wipe)).rung is Rung.SUCCEEDED


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
