"""Issuing an Android command: once, whatever the network does."""

from __future__ import annotations

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
    desk.clock.advance(59)
    assert await desk.pay() == []
    desk.clock.advance(2)
    assert await desk.pay() == ["issue"]


async def test_a_final_refusal_fails_the_command_and_a_missing_device_makes_it_undeliverable(desk: Desk) -> None:
    desk.google.answers = [Refused("INVALID_ARGUMENT", "no"), Refused("NOT_FOUND", "gone", gone=True)]
    first, second = await desk.command({"type": "LOCK"}), await desk.command({"type": "REBOOT"})
    await desk.pay()
    assert (await desk.now(first)).rung is Rung.FAILED
    assert (await desk.now(second)).rung is Rung.UNDELIVERABLE


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
    desk.clock.advance(5)
    await desk.pay(times=3)
    assert len(desk.google.issued) == 1
    desk.clock.advance(desk.services.limits.uncertainty_window_s)
    await desk.pay()
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
    desk.clock.advance(desk.services.limits.uncertainty_window_s + 1)
    await desk.pay()
    assert (await desk.now(command)).rung is Rung.CANCELLED
    assert len(desk.google.issued) == 1


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
    assert (await desk.now(command)).rung is Rung.FAILED
