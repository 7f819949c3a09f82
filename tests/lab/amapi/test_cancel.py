"""Cancels and their races: what was reported cancelled never runs, and what ran is never reported cancelled."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.lab.amapi.rig import ENTERPRISE, Rig


async def test_a_cancel_wins_over_an_offline_device(rig: Rig) -> None:
    await rig.set(online=False)
    name = (await rig.issue())["name"]
    assert await rig.cancel(name) == {}
    operation = await rig.done(name)
    assert operation["error"] == {"code": 1, "message": "The operation was cancelled."}
    assert "errorCode" not in operation["metadata"]
    await rig.set(online=True)
    await rig.quiet()
    assert rig.executed() == []


async def test_the_outcome_comes_after_the_answer(rig: Rig) -> None:
    rig.settings.cancel_delay = 3600
    await rig.set(online=False)
    name = (await rig.issue(body={"type": "LOCK", "duration": "9000s"}))["name"]
    await rig.cancel(name)
    await rig.quiet()
    assert "done" not in await rig.get(name)
    await rig.kernel.clock.advance(3600)
    assert (await rig.done(name))["error"]["code"] == 1


async def test_a_device_that_comes_back_before_the_outcome_executes(rig: Rig) -> None:
    rig.settings.cancel_delay = 3600
    await rig.set(online=False)
    name = (await rig.issue(body={"type": "LOCK", "duration": "9000s"}))["name"]
    await rig.cancel(name)
    await rig.set(online=True)
    assert "error" not in await rig.done(name)
    await rig.kernel.clock.advance(3601)
    await rig.quiet()
    assert "error" not in await rig.get(name)
    assert rig.executed() == [name]


async def test_a_cancel_that_loses_lets_an_online_device_execute(rig: Rig) -> None:
    await rig.set(latencyMs=3_600_000, outcome={"cancel": "loses"})
    name = (await rig.issue())["name"]
    await rig.cancel(name)
    assert "error" not in await rig.done(name)
    assert rig.executed() == [name]


async def test_a_cancel_that_loses_waits_for_an_offline_device(rig: Rig) -> None:
    await rig.set(online=False, outcome={"cancel": "loses"})
    first, second = (await rig.issue())["name"], (await rig.issue())["name"]
    await rig.cancel(second)
    slot = rig.emulator.book.find(second)
    assert slot is not None
    await rig.until(lambda: slot.race_lost)
    await rig.set(outcome={"cancel": "wins"})
    assert await rig.cancel(second) == {}  # too late: the device has it
    await rig.kernel.clock.advance(60)
    await rig.quiet()
    assert "done" not in await rig.get(second)
    await rig.set(online=True)
    await rig.done(first)
    assert "error" not in await rig.done(second)
    assert sorted(map(str, rig.executed())) == [first, second]


async def test_a_cancel_that_loses_executes_even_where_the_device_is_mute(rig: Rig) -> None:
    await rig.set(outcome={"result": "never", "cancel": "loses"})
    name = (await rig.issue())["name"]
    await rig.cancel(name)
    await rig.done(name)
    assert rig.executed() == [name]


async def test_a_lost_cancel_changes_nothing_until_it_is_repeated(rig: Rig) -> None:
    await rig.set(online=False, outcome={"cancel": "lost"})
    name = (await rig.issue())["name"]
    assert await rig.cancel(name) == {}
    await rig.kernel.clock.advance(60)
    await rig.quiet()
    assert "done" not in await rig.get(name)
    await rig.set(outcome={"cancel": "wins"})
    await rig.cancel(name)
    assert (await rig.done(name))["error"]["code"] == 1


@pytest.mark.parametrize(("fate", "rpc"), [("501", "UNIMPLEMENTED"), ("400", "INVALID_ARGUMENT"), ("404", "NOT_FOUND")])
async def test_a_refused_cancel(rig: Rig, fate: str, rpc: str) -> None:
    await rig.set(online=False, outcome={"cancel": fate})
    name = (await rig.issue())["name"]
    error = (await rig.cancel(name, status=int(fate)))["error"]
    assert error["status"] in {rpc, "FAILED_PRECONDITION"}
    await rig.set(online=True)
    assert "error" not in await rig.done(name)


KINDS = ("cancelFinished", "cancelExpired", "cancelUnknown", "cancelForeign")


@pytest.mark.parametrize("asked", KINDS)
@pytest.mark.parametrize("answer", ["ok", "400", "403", "404", "501"])
async def test_cancelling_what_has_ended_or_never_was(rig: Rig, asked: str, answer: str) -> None:
    other = "501" if answer == "ok" else "ok"
    await rig.kernel.settings.change({"amapi": {kind: answer if kind == asked else other for kind in KINDS}})
    statuses = {kind: int((answer if kind == asked else other).replace("ok", "200")) for kind in KINDS}
    finished = await rig.done((await rig.issue())["name"])
    await rig.cancel(finished["name"], status=statuses["cancelFinished"])
    await rig.set(online=False)
    expired = (await rig.issue(body={"type": "LOCK", "duration": "1s"}))["name"]
    await rig.kernel.clock.advance(2)
    before = await rig.done(expired)
    await rig.cancel(expired, status=statuses["cancelExpired"])
    await rig.quiet()
    assert await rig.get(expired) == before
    assert await rig.get(finished["name"]) == finished
    await rig.cancel(finished["name"].rpartition("/")[0] + "/1", status=statuses["cancelUnknown"])
    await rig.cancel(f"{ENTERPRISE}/devices/none/operations/1", status=statuses["cancelUnknown"])
    await rig.cancel("enterprises/other/devices/d1/operations/1", status=statuses["cancelForeign"])


async def test_defaults_for_what_has_ended_or_never_was(rig: Rig) -> None:
    finished = await rig.done((await rig.issue())["name"])
    assert await rig.cancel(finished["name"]) == {}
    unknown = await rig.cancel(finished["name"].rpartition("/")[0] + "/1", status=404)
    assert unknown["error"]["status"] == "NOT_FOUND"
    foreign = await rig.cancel("enterprises/other/devices/d1/operations/1", status=403)
    assert foreign["error"]["message"] == "Caller is not authorized to manage enterprise."


async def test_a_race_has_exactly_one_winner(rig: Rig) -> None:
    rig.settings.cancel_delay = 0
    chance = random.Random(20261104)
    await rig.set(online=False)
    names = [(await rig.issue())["name"] for _ in range(300)]

    async def cancel(name: str) -> None:
        for _ in range(chance.randrange(200)):
            await asyncio.sleep(0)
        await rig.cancel(name)

    await asyncio.gather(rig.set(online=True), *(cancel(name) for name in names))
    operations = [await rig.done(name) for name in names]
    await rig.quiet()
    cancelled = {item["name"] for item in operations if item.get("error", {}).get("code") == 1}
    executed = rig.executed()
    assert len(executed) == len(set(executed))
    assert cancelled.isdisjoint(map(str, executed))
    stored = rig.kernel.state.all("amapi.operations")
    assert cancelled == {name for name, record in stored.items() if record.get("error", {}).get("code") == 1}
    assert cancelled.union(map(str, executed)) == set(names)
    assert cancelled, "the race was never won by a cancel, so this test shows nothing"
    assert executed, "the race was never won by the device, so this test shows nothing"
