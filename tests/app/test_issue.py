"""Issuing an Android command: once, whatever the network does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from heliograph.app.cancel_command import cancel_command
from heliograph.domain.ladder import Issue, Rung
from heliograph.ports.channel import CancelRefused, CancelTaken, NotTaken, Refused, Uncertain, Unreachable
from tests.app.conftest import Desk


async def test_an_accepted_command_is_bound_to_its_operation_and_watched(desk: Desk) -> None:
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    issued = await desk.now(command)
    assert (issued.rung, issued.issue) == (Rung.ISSUED, Issue.BOUND)
    desk.google.finish(issued.receipt or "")
    desk.clock.advance(1)
    assert await desk.pay() == ["look_up"]
    assert (await desk.now(command)).rung is Rung.SUCCEEDED


async def test_a_refusal_for_now_is_tried_again_and_can_be_cancelled_with_proof(desk: Desk) -> None:
    desk.google.answers = [NotTaken("quota", after_s=60.0)]
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    assert (await desk.now(command)).issue is Issue.IDLE
    after = await cancel_command(desk.services, desk.work, command.id, desk.android.id, "key:x", "over")
    assert after.rung is Rung.CANCELLED
    desk.clock.advance(120)
    assert await desk.pay() == []
    assert len(desk.google.issued) == 1


async def test_retry_after_is_honoured(desk: Desk) -> None:
    desk.google.answers = [NotTaken("quota", after_s=60.0)]
    await desk.command({"type": "LOCK"})
    await desk.pay()
    desk.clock.advance(44)
    assert await desk.pay() == []
    desk.clock.advance(2)  # but nothing is stopped for hours by one header
    assert await desk.pay() == ["issue"]


async def test_a_final_refusal_fails_the_command_and_a_missing_device_makes_it_undeliverable(desk: Desk) -> None:
    desk.google.answers = [Refused("INVALID_ARGUMENT", "no"), Refused("NOT_FOUND", "gone", gone=True)]
    first, second = await desk.command({"type": "LOCK"}), await desk.command({"type": "REBOOT"})
    await desk.pay()
    assert (await desk.now(first)).rung is Rung.FAILED
    assert (await desk.now(second)).rung is Rung.UNDELIVERABLE


async def test_an_operation_of_a_shape_that_nobody_knows_keeps_no_results_from_us(desk: Desk) -> None:
    odd = await desk.command({"type": "CLEAR_APP_DATA", "clearAppsDataParams": {"packageNames": ["a.b"]}})
    plain = await desk.command({"type": "LOCK"})
    await desk.pay()
    metadata = {"type": "CLEAR_APP_DATA", "clearAppsDataStatus": {"results": ["not", "an", "object"]}}
    desk.google.finish((await desk.now(odd)).receipt or "", metadata=metadata)
    desk.google.finish((await desk.now(plain)).receipt or "")
    desk.clock.advance(1)
    await desk.pay()
    assert (await desk.now(plain)).rung is Rung.SUCCEEDED
    assert (await desk.now(odd)).rung is Rung.ISSUED


async def test_an_attempt_without_an_answer_is_found_and_never_repeated(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    operation = desk.google.accept("LOCK")
    desk.clock.advance(1.5)
    await desk.pay()
    found = await desk.now(command)
    assert (found.rung, found.receipt) == (Rung.ISSUED, operation["name"])
    assert len(desk.google.issued) == 1


async def test_operations_of_other_commands_are_no_candidates(desk: Desk) -> None:
    bound = await desk.command({"type": "LOCK"})
    await desk.pay()
    desk.google.answers = [Uncertain("cut")]
    lost = await desk.command({"type": "LOCK"})
    await desk.pay()
    desk.google.accept("REBOOT")
    desk.clock.advance(1.5)
    await desk.pay()
    assert (await desk.now(bound)).issue is Issue.BOUND
    assert (await desk.now(lost)).issue is Issue.OPEN


async def test_two_candidates_stay_uncertain_and_end_as_unknown(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    command = await desk.command({"type": "LOCK", "duration": "60s"})
    await desk.pay()
    desk.google.accept("LOCK")
    desk.google.accept("LOCK")
    desk.clock.advance(30)
    await desk.pay()
    assert (await desk.now(command)).issue is Issue.OPEN
    desk.clock.advance(60)
    await desk.pay()
    ended = await desk.now(command)
    assert ended.rung is Rung.FAILED
    assert ended.reason is not None
    assert ended.reason.code == "outcome_unknown"
    assert len(desk.google.issued) == 1


async def test_only_a_lasting_absence_leads_to_another_attempt(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    await look_for(desk, 5)
    assert len(desk.google.issued) == 1
    await look_for(desk, absence_s(desk))
    assert len(desk.google.issued) == 2
    assert (await desk.now(command)).rung is Rung.ISSUED


async def test_an_unreachable_list_proves_nothing(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    desk.google.unreachable = True
    await desk.command({"type": "LOCK"})
    await desk.pay()
    for _ in range(5):
        desk.clock.advance(60)
        await desk.pay(times=3)
    assert len(desk.google.issued) == 1


async def test_an_uncertain_command_cannot_be_cancelled_on_hope(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    desk.google.cancel_answer = CancelTaken()
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    waiting = await cancel_command(desk.services, desk.work, command.id, desk.android.id, "key:x", "over")
    assert waiting.rung is Rung.QUEUED
    operation = desk.google.accept("LOCK")
    desk.clock.advance(1.5)
    await desk.pay(times=2)
    desk.google.finish(operation["name"], error={"code": 1, "message": "cancelled"})
    desk.clock.advance(1.5)
    await desk.pay()
    assert (await desk.now(command)).rung is Rung.CANCELLED
    assert operation["name"] in desk.google.cancels


async def test_an_uncertain_command_that_stays_absent_is_cancelled_when_asked(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    await cancel_command(desk.services, desk.work, command.id, desk.android.id, "key:x", "over")
    await look_for(desk, 5)
    waiting = await desk.now(command)
    assert waiting.rung is Rung.QUEUED
    await look_for(desk, absence_s(desk))
    ended = await desk.now(command)
    assert ended.rung is Rung.CANCELLED
    assert ended.cancel_requested_at == waiting.cancel_requested_at  # not when it was proven
    assert len(desk.google.issued) == 1


async def test_a_clock_that_is_set_forward_makes_no_absence(desk: Desk) -> None:
    """Neither while the attempt is under way nor between two looks."""

    async def set_forward() -> None:
        desk.google.while_issuing = None
        desk.clock.jump(3600)
        assert "issue" in await desk.pay(times=3)  # the lease seems to be over: another process looks

    desk.google.while_issuing = set_forward
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    assert len(desk.google.issued) == 1
    assert (await desk.now(command)).rung is Rung.ISSUED


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


async def test_an_operation_that_was_there_before_the_attempt_is_another_s(desk: Desk) -> None:
    foreign = desk.google.accept("REBOOT")
    desk.clock.advance(5)
    desk.google.answers = [Uncertain("cut")]
    command = await desk.command({"type": "REBOOT", "duration": "600s"})
    await look_for(desk, 10)
    assert (await desk.now(command)).issue is Issue.OPEN
    await look_for(desk, absence_s(desk))
    issued = await desk.now(command)
    assert issued.rung is Rung.ISSUED
    assert issued.receipt != foreign["name"]


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


async def test_an_attempt_whose_credentials_are_gone_ends_in_the_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.google.answers = [Uncertain("cut")]
    command = await desk.command({"type": "LOCK", "duration": "60s"})
    await desk.pay()

    async def none(*_: str) -> None:
        return None

    monkeypatch.setattr(desk.services.channels, "channel", none)
    for _ in range(4):
        desk.clock.advance(8 * 3600)
        await desk.pay(times=3)
    ended = await desk.now(command)
    assert ended.rung is Rung.FAILED
    assert ended.reason is not None
    assert ended.reason.code == "outcome_unknown"


def absence_s(desk: Desk) -> float:
    """For how long an attempt must be absent to count as not accepted."""
    return desk.services.limits.issue_timeout_s + desk.services.limits.uncertainty_window_s + 2


async def look_for(desk: Desk, seconds: float, until: int = 0) -> None:
    """Let time go by, looking each second; ends early once `until` commands were issued."""
    for _ in range(int(seconds)):
        desk.clock.advance(1)
        await desk.pay(times=5)
        if until and len(desk.google.issued) >= until:
            return


async def until_issued(desk: Desk, count: int) -> None:
    async with asyncio.timeout(10):
        await desk.google.issues[count].wait()


class TestCancelUpstream:
    async def test_unreachable_is_tried_again(self, desk: Desk) -> None:
        desk.google.cancel_answer = Unreachable("down")
        command = await desk.command({"type": "LOCK"})
        await desk.pay()
        await cancel_command(desk.services, desk.work, command.id, desk.android.id, "key:x", "over")
        await desk.pay(times=1)
        desk.clock.advance(60)
        await desk.pay(times=3)
        assert len(desk.google.cancels) >= 2
        assert (await desk.now(command)).rung is Rung.ISSUED

    async def test_a_refusal_is_kept_as_evidence_and_not_repeated(self, desk: Desk) -> None:
        desk.google.cancel_answer = CancelRefused(501, "not here")
        command = await desk.command({"type": "LOCK"})
        await desk.pay()
        await cancel_command(desk.services, desk.work, command.id, desk.android.id, "key:x", "over")
        await desk.pay()
        desk.clock.advance(60)
        await desk.pay(times=3)
        assert len(desk.google.cancels) == 1
        evidence = [entry.evidence for entry in await desk.history(command)]
        assert {"cancel": "refused", "status": 501, "message": "not here"} in evidence


async def test_a_secret_goes_to_google_and_leaves_our_database(desk: Desk) -> None:
    command = await desk.command({"type": "RESET_PASSWORD", "newPassword": "canary"})
    await desk.pay()
    assert desk.google.issued[0][1]["newPassword"] == "canary"
    assert (await desk.now(command)).secret is None


async def test_a_vanished_operation_is_unknown_only_once_its_time_is_over(desk: Desk) -> None:
    command = await desk.command({"type": "LOCK", "duration": "60s"})
    await desk.pay()
    desk.google.operations_now.clear()
    desk.clock.advance(30)
    await desk.pay(times=2)
    assert (await desk.now(command)).rung is Rung.ISSUED
    desk.clock.advance(60)
    await desk.pay(times=2)
    assert (await desk.now(command)).rung is Rung.ISSUED  # one answer decides nothing, then neither
    desk.clock.advance(desk.services.limits.absence_window_s + 1)
    await desk.pay(times=2)
    assert (await desk.now(command)).rung is Rung.FAILED


async def test_one_wrong_answer_that_an_operation_is_gone_ends_nothing(desk: Desk) -> None:
    command = await desk.command({"type": "LOCK", "duration": "60s"})
    await desk.pay()
    desk.clock.advance(90)
    desk.google.gone = True
    await desk.pay()
    desk.google.gone = False
    desk.clock.advance(60)
    await desk.pay()
    desk.google.gone = True  # a new first time
    desk.clock.advance(60)
    await desk.pay()
    assert (await desk.now(command)).rung is Rung.ISSUED


async def test_one_wrong_answer_that_a_device_is_gone_ends_no_search(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    await look_for(desk, absence_s(desk) - 3)
    desk.google.gone = True
    desk.clock.advance(3)
    await desk.pay(times=1)
    desk.google.gone = False
    assert (await desk.now(command)).rung is Rung.QUEUED
    await look_for(desk, 3)
    assert (await desk.now(command)).rung is Rung.ISSUED


async def test_two_wrong_answers_with_silence_between_end_no_search(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    desk.google.gone = True
    await look_for(desk, 1)
    desk.google.unreachable = True
    await look_for(desk, absence_s(desk))
    desk.google.unreachable = False
    desk.clock.advance(30)
    await desk.pay(times=1)
    assert (await desk.now(command)).rung is Rung.QUEUED


async def test_a_device_that_is_gone_ends_the_search_once_that_has_lasted(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    desk.google.gone = True
    await look_for(desk, 5)
    assert (await desk.now(command)).rung is Rung.QUEUED
    await look_for(desk, absence_s(desk))
    ended = await desk.now(command)
    assert ended.reason is not None
    assert (ended.rung, ended.reason.code) == (Rung.FAILED, "outcome_unknown")


async def test_a_list_that_was_old_when_it_was_read_proves_no_absence_until_then(desk: Desk) -> None:
    """The process stands still between the answer and its reading; the operation appears meanwhile."""
    desk.google.answers = [Uncertain("cut")]
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    await look_for(desk, 2)

    async def stand_still() -> None:
        desk.google.while_listing = None
        desk.clock.advance(absence_s(desk))

    desk.google.while_listing = stand_still
    desk.clock.advance(1)
    await desk.pay(times=1)
    operation = desk.google.accept("LOCK")
    await look_for(desk, 3)
    assert (await desk.now(command)).receipt == operation["name"]
    assert len(desk.google.issued) == 1
