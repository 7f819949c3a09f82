"""Issuing an Android command: what Google accepts, refuses, and is asked to cancel."""

from __future__ import annotations

from heliograph.app.cancel_command import cancel_command
from heliograph.domain.ladder import Issue, Rung
from heliograph.ports.channel import CancelRefused, NotTaken, Refused, Uncertain, Unreachable
from tests.app.conftest import Desk
from tests.app.looking import absence_s, look_for


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


async def test_a_list_with_an_operation_that_cannot_be_read_shows_the_others_results(desk: Desk) -> None:
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    desk.google.finish((await desk.now(command)).receipt or "")
    desk.google.is_whole = False
    desk.clock.advance(1)
    await desk.pay()
    assert (await desk.now(command)).rung is Rung.SUCCEEDED


async def test_nor_does_it_prove_an_absence(desk: Desk) -> None:
    desk.google.answers = [Uncertain("cut")]
    desk.google.is_whole = False
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    await look_for(desk, 2 * absence_s(desk))
    assert (await desk.now(command)).issue is Issue.OPEN
    assert len(desk.google.issued) == 1
    desk.google.is_whole = True
    operation = desk.google.accept("LOCK")
    await look_for(desk, 35)
    assert (await desk.now(command)).receipt == operation["name"]


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
