"""Attempts that were held up, overtaken or came late: no second operation runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from heliograph.app.cancel_command import cancel_command
from heliograph.domain.ladder import Issue, Rung
from heliograph.ports.channel import CancelTaken, NotTaken, Uncertain, Unreachable
from tests.app.conftest import Desk
from tests.app.looking import Theirs, absence_s, look_for, until_issued


async def test_a_process_that_was_held_up_sends_nothing_any_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    command = await desk.command({"type": "REBOOT", "duration": "600s"})
    commit = desk.services.store.commit  # type: ignore[attr-defined]

    async def held_up(prepared: Any) -> None:
        await commit(prepared)
        monkeypatch.undo()
        desk.clock.advance(12)

    monkeypatch.setattr(desk.services.store, "commit", held_up)
    await desk.pay(times=1)
    assert desk.google.issued == []
    desk.clock.advance(5)
    await desk.pay()
    assert len(desk.google.issued) == 1
    assert (await desk.now(command)).rung is Rung.ISSUED


async def test_an_outcome_of_an_attempt_that_was_overtaken_says_nothing_of_the_next(desk: Desk) -> None:
    """The first process is slow to say that nothing was taken; meanwhile a second attempt is under way."""
    first = asyncio.Event()

    async def slow() -> None:
        desk.google.while_issuing = None
        await first.wait()

    desk.google.while_issuing = slow
    desk.google.answers = [Uncertain("cut"), NotTaken("503")]
    command = await desk.command({"type": "REMOVE_ESIM", "removeEsimParams": {"iccId": "8901"}, "duration": "600s"})
    stalled = asyncio.create_task(desk.pay(times=1))
    await until_issued(desk, 1)
    desk.clock.advance(16)  # its lease is over
    await look_for(desk, absence_s(desk), until=2)
    assert (await desk.now(command)).issue is Issue.OPEN  # the second attempt: uncertain
    first.set()
    await stalled
    await cancel_command(desk.services, desk.work, command.id, desk.android.id, "key:x", "over")
    assert (await desk.now(command)).rung is Rung.QUEUED


async def test_what_comes_through_after_all_is_cancelled_at_google(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    desk.google.cancel_answer = CancelTaken()
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    await cancel_command(desk.services, desk.work, command.id, desk.android.id, "key:x", "over")
    await look_for(desk, absence_s(desk))
    late = desk.google.accept("LOCK")
    await look_for(desk, 12)
    assert desk.google.cancels == [late["name"]]
    assert late["name"] in [entry.evidence.get("stray") for entry in await desk.history(command)]


async def test_it_is_watched_for_after_the_decision_however_old_the_attempt_was(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    desk.google.cancel_answer = CancelTaken()
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    await cancel_command(desk.services, desk.work, command.id, desk.android.id, "key:x", "over")
    desk.google.unreachable = True
    for _ in range(10):
        desk.clock.advance(40)
        await desk.pay(times=3)
    desk.google.unreachable = False
    await look_for(desk, 45 + absence_s(desk))
    assert (await desk.now(command)).rung is Rung.CANCELLED
    late = desk.google.accept("LOCK")
    await look_for(desk, 12)
    assert desk.google.cancels == [late["name"]]


@pytest.mark.parametrize("is_reachable", [False, True])
async def test_nor_does_it_end_unseen_because_nobody_could_look(desk: Desk, is_reachable: bool) -> None:
    """Google could not be reached, or no process of ours was running."""
    desk.google.answers = [Uncertain("cut")]
    desk.google.cancel_answer = CancelTaken()
    command = await desk.command({"type": "LOCK", "duration": "864000s"})
    await desk.pay()
    await cancel_command(desk.services, desk.work, command.id, desk.android.id, "key:x", "over")
    await look_for(desk, absence_s(desk))
    late = desk.google.accept("LOCK")
    desk.google.unreachable = not is_reachable
    for _ in range(1 if is_reachable else 10):
        desk.clock.advance(600)
        await desk.pay(times=3)
    desk.google.unreachable = False
    desk.clock.advance(40)
    await desk.pay()
    assert desk.google.cancels == [late["name"]]
    desk.clock.advance(60)
    assert await desk.pay() == []  # and it ends


async def test_one_that_google_showed_late_is_seen_although_the_command_was_issued_again(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    desk.google.cancel_answer = CancelTaken()
    command = await desk.command({"type": "REBOOT", "duration": "600s"})
    await desk.pay()
    hidden = desk.google.accept("REBOOT")
    del desk.google.operations_now[hidden["name"]]
    await look_for(desk, absence_s(desk), until=2)
    desk.google.operations_now[hidden["name"]] = hidden
    await look_for(desk, 12)
    assert desk.google.cancels == [hidden["name"]]
    assert (await desk.now(command)).receipt != hidden["name"]


async def test_nor_does_time_that_our_clock_has_not_counted_hide_it(desk: Desk) -> None:
    """A process that was killed, and the next one, whose time goes on from where that was."""
    desk.google.clock = theirs = Theirs(desk.clock)
    desk.google.answers = [Uncertain("cut")]
    desk.google.cancel_answer = CancelTaken()
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    hidden = desk.google.accept("LOCK")
    del desk.google.operations_now[hidden["name"]]
    await cancel_command(desk.services, desk.work, command.id, desk.android.id, "key:x", "over")
    await look_for(desk, absence_s(desk))
    assert (await desk.now(command)).rung is Rung.CANCELLED
    theirs.advance(60)
    desk.google.operations_now[hidden["name"]] = hidden
    await look_for(desk, 12)
    assert desk.google.cancels == [hidden["name"]]


async def test_a_watch_ends_with_what_could_still_run(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    command = await desk.command({"type": "LOCK", "duration": "600s"})
    await desk.pay()
    await cancel_command(desk.services, desk.work, command.id, desk.android.id, "key:x", "over")
    await look_for(desk, absence_s(desk))
    desk.google.unreachable = True
    desk.clock.advance(600)
    assert await desk.pay(times=3) == ["watch"]
    desk.clock.advance(200)
    assert await desk.pay() == ["watch"]
    desk.clock.advance(3600)
    assert await desk.pay() == []


async def test_it_is_cancelled_however_long_google_cannot_be_reached(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    desk.google.cancel_answer = Unreachable("down")
    command = await desk.command({"type": "WIPE", "duration": "864000s"})
    await desk.pay()
    await cancel_command(desk.services, desk.work, command.id, desk.android.id, "key:x", "over")
    await look_for(desk, absence_s(desk))
    late = desk.google.accept("WIPE")
    await look_for(desk, 12)
    for _ in range(120):
        desk.clock.advance(40)
        await desk.pay(times=3)
    desk.google.cancels.clear()
    desk.google.cancel_answer = CancelTaken()
    desk.clock.advance(40)
    await desk.pay()
    assert desk.google.cancels == [late["name"]]
    assert await desk.services.store.system.dead_letters(10) == []


async def test_a_late_answer_of_a_command_that_was_issued_again_leaves_no_second_operation(desk: Desk) -> None:
    held = asyncio.Event()

    async def slow() -> None:
        desk.google.while_issuing = None
        await held.wait()

    desk.google.while_issuing = slow
    desk.google.cancel_answer = CancelTaken()
    command = await desk.command({"type": "LOCK"})
    stalled = asyncio.create_task(desk.pay(times=1))
    await until_issued(desk, 1)
    desk.clock.advance(16)
    await look_for(desk, absence_s(desk), until=2)
    bound = await desk.now(command)
    assert bound.issue is Issue.BOUND
    held.set()
    await stalled
    await desk.pay()
    [stray] = [name for name in desk.google.operations_now if name != bound.receipt]
    assert desk.google.cancels == [stray]
    assert (await desk.now(command)).receipt == bound.receipt


async def test_what_is_over_before_it_was_handed_over_is_never_issued(desk: Desk) -> None:
    command = await desk.command({"type": "REBOOT", "duration": "600s"})
    desk.clock.advance(3600)
    await desk.pay()
    assert desk.google.issued == []
    assert (await desk.now(command)).rung is Rung.EXPIRED_UNDELIVERED


async def test_what_is_handed_over_late_lives_no_longer_for_it(desk: Desk) -> None:
    await desk.command({"type": "LOCK", "duration": "600s"})
    await desk.command({"type": "REBOOT", "duration": "600s"})
    await desk.command({"type": "STOP_LOST_MODE", "duration": "600s"})
    await desk.pay(times=1)
    for seconds in (3, 397):
        desk.clock.advance(seconds)
        await desk.pay(times=1)
    assert [params["duration"] for _, params in desk.google.issued] == ["600s", "596s", "199s"]
