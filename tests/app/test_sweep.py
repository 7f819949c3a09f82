"""What the sweeper drops by itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count

import pytest

from heliograph.app.setup import add_account
from heliograph.app.sweep import forget_addresses, sweep_forever, sweep_once
from heliograph.domain.devices import APPS, PushTarget
from heliograph.domain.ladder import Command, Event, Rung
from heliograph.ports.changes import ChangeSet
from tests.app.conftest import Desk

DAY_S = 24 * 3600
PUSHY = {app: f"{app}/pushy" for app in APPS}


async def addresses(desk: Desk) -> set[str]:
    return {f"{t.app}/{t.provider}" for t in await desk.work.devices.targets(desk.aosp.id)}


async def register(desk: Desk, app: str) -> PushTarget:
    """An app that our own line reaches, and Pushy; answers Pushy's address."""
    now = desk.clock.now()
    line = PushTarget(desk.aosp.id, app, "builtin", None, "", now, "line")
    pushy = PushTarget(desk.aosp.id, app, "pushy", None, f"token{app}", now)
    await desk.work.devices.register(desk.aosp.id, app, [line, pushy], now)
    return pushy


async def give_up(desk: Desk, target: PushTarget) -> None:
    await desk.work.devices.quarantine(target, "gone", desk.clock.now(), desk.clock.now())


async def test_addresses_long_unused_or_long_dead_are_dropped_and_our_own_line_stays(desk: Desk) -> None:
    unused, dead, recent, used = APPS
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    await register(desk, unused)
    desk.clock.advance(263 * DAY_S)
    await give_up(desk, await register(desk, dead))
    short = await register(desk, recent)
    await register(desk, used)
    desk.clock.advance(1 * DAY_S)
    await give_up(desk, short)
    lines = {f"{app}/builtin" for app in APPS}
    desk.clock.advance(6 * DAY_S - 60)
    await forget_addresses(desk.services)
    assert await addresses(desk) == lines | {PUSHY[app] for app in APPS}
    desk.clock.advance(120)  # 270 days after the one was registered, 7 after the other was given up
    await forget_addresses(desk.services)
    assert await addresses(desk) == lines | {PUSHY[recent], PUSHY[used]}
    desk.clock.advance(10 * 365 * DAY_S)
    await forget_addresses(desk.services)
    assert await addresses(desk) == lines


async def test_the_sweeper_looks_for_them_again_and_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: asyncio.Queue[int] = asyncio.Queue()
    forget = desk.services.store.system.forget_targets

    async def seen(**before: int) -> int:
        dropped = await forget(**before)
        looks.put_nowait(dropped)
        return dropped

    monkeypatch.setattr(desk.services.store.system, "forget_targets", seen)
    services = replace(desk.services, limits=replace(desk.services.limits, sweep_pause_s=0.01))

    await register(desk, "mdmAgent")
    sweeper = asyncio.create_task(sweep_forever(services))
    try:
        async with asyncio.timeout(30):
            assert await looks.get() == 0
            desk.clock.advance(271 * DAY_S)
            assert await looks.get() == 1
    finally:
        sweeper.cancel()
    assert await addresses(desk) == {"mdmAgent/builtin"}


async def test_a_record_that_cannot_be_ended_holds_up_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, sound = [await desk.command({"command": "LOCK", "duration": 60}) for _ in range(2)]
    move = ChangeSet.move

    def fails_for_one(self: ChangeSet, command: Command, event: Event, now: int) -> Command:
        if command.id == broken.id:
            raise ValueError("nobody has thought of this")
        return move(self, command, event, now)

    monkeypatch.setattr(ChangeSet, "move", fails_for_one)
    desk.clock.advance(61)
    await sweep_once(desk.services)
    assert [(await desk.now(c)).rung for c in (broken, sound)] == [Rung.QUEUED, Rung.EXPIRED_UNDELIVERED]
    monkeypatch.undo()
    await sweep_once(desk.services)
    assert (await desk.now(broken)).rung is Rung.EXPIRED_UNDELIVERED


async def test_the_sweeper_outlives_a_look_that_fails(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    command = await desk.command({"command": "LOCK", "duration": 60})
    find, looks, third = desk.services.store.system.expired_commands, count(1), asyncio.Event()

    async def fails_at_first(now: int, limit: int) -> list[Command]:
        look = next(looks)
        if look == 1:
            raise ValueError("a row that nobody can read")
        if look == 3:  # the one before is over
            third.set()
        return await find(now, limit)

    monkeypatch.setattr(desk.services.store.system, "expired_commands", fails_at_first)
    services = replace(desk.services, limits=replace(desk.services.limits, sweep_pause_s=0.01))
    desk.clock.advance(61)
    sweeper, told = asyncio.create_task(sweep_forever(services)), asyncio.create_task(third.wait())
    await asyncio.wait({sweeper, told}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    sweeper.cancel()
    told.cancel()
    assert (await desk.now(command)).rung is Rung.EXPIRED_UNDELIVERED
