"""An attempt to issue that got no answer: found, or tried again, and never twice."""

from __future__ import annotations

import pytest

from heliograph.app.cancel_command import cancel_command
from heliograph.domain.ladder import Issue, Rung
from heliograph.ports.channel import CancelTaken, Uncertain
from tests.app.conftest import Desk
from tests.app.looking import Theirs, absence_s, look_for


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


async def test_time_that_our_clock_has_not_counted_hides_no_operation(desk: Desk) -> None:
    """The process was killed, and another goes on: one whose clock is behind, or the next one where the wall clock was
    ahead and was put right. Its time goes on from where the last one's was.
    """
    desk.google.clock = theirs = Theirs(desk.clock)
    desk.google.answers = [Uncertain("cut")]
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    operation = desk.google.accept("LOCK")
    theirs.advance(20)
    await look_for(desk, 2 * absence_s(desk))
    assert (await desk.now(command)).receipt == operation["name"]
    assert len(desk.google.issued) == 1


@pytest.mark.parametrize("tells_time", [True, False])
async def test_an_operation_that_was_there_before_the_attempt_is_another_s(desk: Desk, tells_time: bool) -> None:
    desk.google.tells_time = tells_time
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
