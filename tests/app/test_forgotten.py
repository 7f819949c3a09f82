"""An operation that Google no longer knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heliograph.app.services import Absences
from heliograph.domain.ladder import Command, Rung
from heliograph.ports.channel import Unreachable
from tests.app.conftest import Desk

DAY_S = 24 * 3600


async def lock(desk: Desk, kind: str = "LOCK") -> Command:
    """An issued command that lasts for ten years."""
    command = await desk.command({"type": kind, "duration": "315360000s"})
    await desk.pay("issue", times=1)
    return await desk.now(command)


async def look(desk: Desk, seconds: float) -> None:
    desk.clock.advance(seconds)
    await desk.pay()


@pytest.mark.parametrize("with_its_device", [False, True])
async def test_it_is_given_up_after_a_week_and_not_after_one_answer(desk: Desk, with_its_device: bool) -> None:
    command = await lock(desk)
    desk.google.operations_now.clear()
    desk.google.gone = with_its_device
    await look(desk, 8 * DAY_S)
    for _ in range(6):
        assert (await desk.now(command)).rung is Rung.ISSUED
        await look(desk, DAY_S)
    assert (await desk.now(command)).rung is Rung.ISSUED
    await look(desk, 2 * DAY_S)
    found = await desk.now(command)
    assert found.reason is not None
    assert (found.rung, found.reason.code) == (Rung.FAILED, "outcome_unknown")
    marks = [e.evidence["operationGone"] for e in await desk.history(command) if "operationGone" in e.evidence]
    assert marks == [True]


async def test_one_that_is_there_again_begins_anew(desk: Desk) -> None:
    command = await lock(desk)
    kept = dict(desk.google.operations_now)
    for known in ({}, kept, {}):
        desk.google.operations_now = dict(known)
        await look(desk, 6 * DAY_S)
    assert (await desk.now(command)).rung is Rung.ISSUED
    desk.google.operations_now = kept
    desk.google.finish(str(command.receipt))
    await look(desk, DAY_S)
    assert (await desk.now(command)).rung is Rung.SUCCEEDED


@pytest.mark.parametrize(("status", "asks"), [(429, 1), (401, 1), (403, 1), (500, 2), (None, 2)])
async def test_who_cannot_be_asked_has_forgotten_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, status: int | None, asks: int
) -> None:
    commands = [await lock(desk, kind) for kind in ("LOCK", "REBOOT", "STOP_LOST_MODE")]
    receipts = [str(command.receipt) for command in commands]
    for name in receipts[:2]:
        del desk.google.operations_now[name]
    desk.google.finish(receipts[2])
    asked: list[str] = []

    async def refuse(name: str) -> Unreachable:
        asked.append(name)
        return Unreachable("refused", status=status)

    monkeypatch.setattr(desk.google, "operation", refuse)
    await look(desk, 10 * DAY_S)
    assert asked == receipts[:asks]  # the oldest first, and nothing more after a refusal
    rungs = [(await desk.now(command)).rung for command in commands]
    assert rungs == [Rung.ISSUED, Rung.ISSUED, Rung.SUCCEEDED]  # what the list says counts all the same
    assert (await desk.now(commands[0])).entries == commands[0].entries


async def test_one_commands_fault_never_keeps_the_results_of_the_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = [await lock(desk, kind) for kind in ("LOCK", "REBOOT")]
    desk.google.finish(str(commands[0].receipt), error={"code": 5, "message": "\ud800"})  # nothing can store that
    desk.google.finish(str(commands[1].receipt))
    await look(desk, 1)
    assert [(await desk.now(c)).rung for c in commands] == [Rung.ISSUED, Rung.SUCCEEDED]


async def test_googles_count_of_a_duration_begins_with_the_attempt(desk: Desk) -> None:
    """Until that is over, too, the operation may be there after all."""
    command = await desk.command({"type": "WIPE", "duration": "100s"})
    await desk.pay("issue", times=1)
    desk.google.operations_now.clear()
    for _ in range(11):
        await look(desk, 10)
        assert (await desk.now(command)).rung is Rung.ISSUED
    for _ in range(2):
        await look(desk, 40)
    assert (await desk.now(command)).rung is Rung.FAILED


async def test_a_device_that_is_there_after_all_is_said_once(desk: Desk) -> None:
    command = await desk.command({"type": "WIPE", "duration": "100s"})
    await desk.pay("issue", times=1)
    desk.google.gone = True
    await look(desk, 111)
    desk.google.device_stays = True
    for _ in range(3):
        await look(desk, 10)
    marks = [dict(entry.evidence) for entry in await desk.history(command)][-3:-1]
    assert marks == [{"deviceGone": True, "message": "device"}, {"deviceGone": False, "operationGone": True}]
    assert (await desk.now(command)).rung is Rung.FAILED


async def test_what_another_process_has_seen_meanwhile_was_not_absent_all_the_time(desk: Desk) -> None:
    command = await desk.command({"type": "LOCK", "duration": "60s"})
    await desk.pay("issue", times=1)
    kept, here = dict(desk.google.operations_now), desk.services
    there = replace(here, absences=Absences())
    desk.clock.advance(90)
    for services, known in ((here, {}), (there, kept), (here, {})):
        desk.services, desk.google.operations_now = services, dict(known)
        await look(desk, 40)
    assert (await desk.now(command)).rung is Rung.ISSUED
    await look(desk, 40)
    assert (await desk.now(command)).rung is Rung.FAILED


UNREADABLE = {"done": True, "metadata": {"clearAppsDataStatus": {"results": ["odd"]}}}


@pytest.mark.parametrize("shown", [{}, UNREADABLE])
async def test_one_that_has_no_end_long_after_its_time_is_given_up(desk: Desk, shown: dict[str, Any]) -> None:
    """Google does not say that it ends what has expired. Else the command would be pending, and looked at, for ever."""
    body = {"type": "CLEAR_APP_DATA", "clearAppsDataParams": {"packageNames": ["a.b"]}, "duration": "60s"}
    command = await desk.command(body)
    await desk.pay("issue", times=1)
    [name] = desk.google.operations_now
    desk.google.operations_now[name] |= shown
    desk.clock.advance(30 * DAY_S)  # whoever has set the clock forward has not waited for a week
    for _ in range(7):
        await look(desk, 1)
        assert (await desk.now(command)).rung is Rung.ISSUED
        desk.clock.advance(DAY_S)
    await look(desk, 1)
    found = await desk.now(command)
    assert found.reason is not None
    assert (found.rung, found.reason.code) == (Rung.FAILED, "outcome_unknown")
    desk.clock.advance(DAY_S)
    assert await desk.pay() == []


async def test_so_is_one_that_can_be_read_neither_in_the_list_nor_by_itself(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = await desk.command({"type": "LOCK", "duration": "60s"})
    await desk.pay("issue", times=1)
    desk.google.operations_now.clear()
    desk.google.is_whole = False

    async def operation(_: str) -> Unreachable:
        return Unreachable("the answer is not this operation")

    monkeypatch.setattr(desk.google, "operation", operation)
    desk.clock.advance(30 * DAY_S)
    for _ in range(7):
        await look(desk, 1)
        assert (await desk.now(command)).rung is Rung.ISSUED
        desk.clock.advance(DAY_S)
    desk.google.is_whole = True  # it is not there, and could not be asked for
    await look(desk, 1)
    assert (await desk.now(command)).rung is Rung.ISSUED
    desk.google.is_whole = False
    await look(desk, 60)
    found = await desk.now(command)
    assert found.reason is not None
    assert (found.rung, found.reason.code) == (Rung.FAILED, "outcome_unknown")


async def test_one_that_ends_late_has_its_result(desk: Desk) -> None:
    command = await desk.command({"type": "LOCK", "duration": "60s"})
    await desk.pay("issue", times=1)
    for _ in range(5):
        await look(desk, DAY_S)
    told = (await desk.now(command)).entries
    desk.google.finish(str((await desk.now(command)).receipt))
    await look(desk, DAY_S)
    found = await desk.now(command)
    assert (found.rung, found.entries) == (Rung.SUCCEEDED, told + 1)
