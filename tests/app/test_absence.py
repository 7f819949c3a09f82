"""WIPE and RELINQUISH_OWNERSHIP take Google's record of the device with them; ours stays, and says what is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliograph.app.cancel_command import cancel_command
from heliograph.domain.ladder import MAX_ENTRIES, Command, Noted, Reason, Rung
from heliograph.ports.changes import ChangeSet
from heliograph.ports.channel import CancelRefused, CancelTaken, Unreachable
from tests.app.conftest import Desk
from tests.app.looking import Theirs
from tests.app.telling import told

KINDS = ("WIPE", "RELINQUISH_OWNERSHIP")
DAY_S = 24 * 3600
DROPPED_WITHIN_S = 601  # later the device was not erased, and may be commanded


async def open_command(desk: Desk, kind: str) -> Command:
    company = replace(desk.android, management_mode="PROFILE_OWNER", ownership="COMPANY_OWNED")
    await desk.work.setup.save_device(company)
    command = await desk.command({"type": kind}, company)
    await desk.pay("issue", times=1)
    return command


async def look(desk: Desk, seconds: float) -> None:
    desk.clock.advance(seconds)
    await desk.pay()


async def delete(desk: Desk) -> None:
    """The report comes in that the device was deleted."""
    device = await desk.work.devices.find("android", desk.android.id)
    assert device is not None
    await desk.work.setup.save_device(replace(device, state="DELETED", updated_at=desk.clock.now()))


async def state(desk: Desk, command: Command) -> tuple[Rung, Reason | None]:
    found = await desk.now(command)
    return found.rung, found.reason


@pytest.mark.parametrize("kind", KINDS)
async def test_done_is_the_best_evidence(desk: Desk, kind: str) -> None:
    command = await open_command(desk, kind)
    desk.google.finish(str((await desk.now(command)).receipt))
    await look(desk, 1)
    desk.google.gone = True
    await look(desk, 60)
    found = await desk.now(command)
    assert found.rung is Rung.SUCCEEDED
    assert found.operation is not None
    assert found.operation["done"] is True


@pytest.mark.parametrize("kind", KINDS)
async def test_a_lasting_absence_of_operation_and_device_is_success(desk: Desk, kind: str) -> None:
    command = await open_command(desk, kind)
    desk.google.gone = True
    await look(desk, 1)
    assert await state(desk, command) == (Rung.ISSUED, None)  # one look decides nothing
    await look(desk, desk.services.limits.absence_window_s + 1)
    assert await state(desk, command) == (Rung.SUCCEEDED, None)
    evidence = [entry.evidence for entry in await desk.history(command)][-2:]
    assert evidence == [
        {"deviceGone": True, "message": "device"},
        {"deviceGone": True, "operation": "not found", "device": "not found"},
    ]


async def ask_to_cancel(desk: Desk, command: Command, answer: CancelTaken | CancelRefused | Unreachable) -> None:
    """Somebody asks for the cancel, and Google answers so."""
    desk.google.cancel_answer = answer
    work = desk.work
    await cancel_command(desk.services, work, command.id, desk.android.id, "key:test", "over")
    await desk.pay("cancel", times=1)


@pytest.mark.parametrize("is_reported", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_after_a_cancel_that_google_took_an_absence_proves_nothing(
    desk: Desk, kind: str, is_reported: bool
) -> None:
    """It may have been cancelled, and the device deleted by other means."""
    command = await open_command(desk, kind)
    await ask_to_cancel(desk, command, CancelTaken())
    if is_reported:
        await delete(desk)
    desk.google.gone = True
    await look(desk, 1)
    await look(desk, desk.services.limits.absence_window_s + 1)
    why = "the device is gone, by this command or after its cancel, which Google had taken"
    assert await state(desk, command) == (Rung.FAILED, Reason("outcome_unknown", why))
    assert (await desk.history(command))[-1].evidence == {"deviceGone": True, "cancel": "requested"}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_operation_s_own_word_counts_whatever_was_asked_for(desk: Desk, kind: str) -> None:
    for outcome, rung in (({}, Rung.SUCCEEDED), ({"error": {"code": 1}}, Rung.CANCELLED)):
        command = await open_command(desk, kind)
        await ask_to_cancel(desk, command, CancelTaken())
        desk.google.finish(str((await desk.now(command)).receipt), **outcome)
        await look(desk, 1)
        assert await state(desk, command) == (rung, None)
        desk.clock.advance(DROPPED_WITHIN_S)


async def test_the_device_s_word_that_comes_after_its_absence_is_kept(desk: Desk) -> None:
    command = await open_command(desk, "WIPE")
    await ask_to_cancel(desk, command, CancelTaken())
    desk.google.gone = True
    await look(desk, 1)
    await look(desk, 30)
    assert (await desk.now(command)).is_unknown
    await told(desk, "COMMAND", {"name": str((await desk.now(command)).receipt), "done": True})
    found = await desk.now(command)
    assert (found.rung, found.contradicted) == (Rung.FAILED, ("succeeded",))


@pytest.mark.parametrize("status", [404, 400, 501])
async def test_a_cancel_that_google_refused_changes_nothing_about_an_absence(desk: Desk, status: int) -> None:
    command = await open_command(desk, "WIPE")
    desk.google.gone = True
    await look(desk, 1)
    await ask_to_cancel(desk, command, CancelRefused(status, "no"))
    await look(desk, desk.services.limits.absence_window_s + 1)
    assert await state(desk, command) == (Rung.SUCCEEDED, None)


async def test_an_absence_decides_nothing_while_nobody_knows_whether_google_has_taken_the_cancel(desk: Desk) -> None:
    command = await open_command(desk, "WIPE")
    await ask_to_cancel(desk, command, Unreachable("cut"))
    desk.google.gone = True
    for _ in range(3):
        await look(desk, 30)
    assert await state(desk, command) == (Rung.ISSUED, None)
    desk.google.cancel_answer = CancelRefused(404, "gone")
    await look(desk, 60)
    await look(desk, 60)
    assert await state(desk, command) == (Rung.SUCCEEDED, None)


@pytest.mark.parametrize("how", ["cut", "killed"])
async def test_a_refusal_says_nothing_of_a_request_before_it_whose_answer_nobody_has(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """That one may have won, and the device have been deleted in the hours in which Google could not be reached."""
    command = await open_command(desk, "WIPE")
    if how == "cut":
        await ask_to_cancel(desk, command, Unreachable("cut", is_unsure=True))
    else:

        async def killed(_: str) -> None:
            raise RuntimeError("killed")

        with monkeypatch.context() as patch:
            patch.setattr(desk.google, "cancel", killed)
            with pytest.raises(RuntimeError, match="killed"):
                await ask_to_cancel(desk, command, CancelTaken())
    desk.google.gone = True
    desk.google.cancel_answer = CancelRefused(404, "gone")
    for _ in range(3):
        await look(desk, 3600)
    why = "the device is gone, by this command or after its cancel, which Google may have taken"
    assert await state(desk, command) == (Rung.FAILED, Reason("outcome_unknown", why))
    assert (await desk.history(command))[-1].evidence == {"deviceGone": True, "cancel": "unanswered"}


async def test_what_was_never_sent_leaves_no_doubt_and_no_line(desk: Desk) -> None:
    command = await open_command(desk, "WIPE")
    await ask_to_cancel(desk, command, Unreachable("no connection"))
    told = (await desk.now(command)).entries
    for _ in range(3):
        await look(desk, 60)
    assert (await desk.now(command)).entries == told
    await ask_to_cancel(desk, command, CancelRefused(404, "gone"))
    desk.google.gone = True
    for _ in range(3):
        await look(desk, 60)
    assert await state(desk, command) == (Rung.SUCCEEDED, None)


async def test_nor_does_it_wait_for_that_longer_than_the_command_lives(desk: Desk) -> None:
    command = await open_command(desk, "WIPE")
    await ask_to_cancel(desk, command, Unreachable("cut"))
    desk.google.gone = True
    for seconds in (1, 366 * 24 * 3600, 60):
        await look(desk, seconds)
    why = "the device is gone, by this command or after its cancel, to which Google never answered"
    assert await state(desk, command) == (Rung.FAILED, Reason("outcome_unknown", why))


async def short(desk: Desk) -> Command:
    """A WIPE that lives for a minute, at Google."""
    command = await desk.command({"type": "WIPE", "duration": "60s"})
    await desk.pay("issue", times=1)
    assert await state(desk, command) == (Rung.ISSUED, None)
    return command


@pytest.mark.parametrize("looked_at_s", [61, 70, DAY_S])
@pytest.mark.parametrize("is_reported", [False, True])
async def test_an_absence_that_is_found_only_after_its_time_proves_nothing(
    desk: Desk, looked_at_s: float, is_reported: bool
) -> None:
    """It may have ended with its time, and somebody have deleted the device at Google before anybody looked."""
    command = await short(desk)
    desk.clock.advance(looked_at_s)
    if is_reported:
        await delete(desk)
    desk.google.gone = True
    for _ in range(3):
        await look(desk, 10)
    why = "the device is gone, by this command or after its time was over"
    assert await state(desk, command) == (Rung.FAILED, Reason("outcome_unknown", why))
    assert (await desk.history(command))[-1].evidence == {"deviceGone": True, "isLate": True}


@pytest.mark.parametrize("is_reported", [False, True])
async def test_nor_does_one_that_google_s_clock_finds_late(desk: Desk, is_reported: bool) -> None:
    """Ours may have lost time: it goes on from where it was after a restart."""
    desk.google.clock = theirs = Theirs(desk.clock)
    command = await short(desk)
    theirs.advance(DAY_S)
    if is_reported:
        await delete(desk)
    desk.google.gone = True
    for _ in range(3):
        await look(desk, 10)
    why = "the device is gone, by this command or after its time was over"
    assert await state(desk, command) == (Rung.FAILED, Reason("outcome_unknown", why))


@pytest.mark.parametrize("confirmed_s", [20, DAY_S])
@pytest.mark.parametrize("is_reported", [False, True])
async def test_one_that_was_known_before_is_success_whenever_it_is_confirmed(
    desk: Desk, confirmed_s: float, is_reported: bool
) -> None:
    command = await short(desk)
    desk.google.gone = True
    desk.clock.advance(50)
    if is_reported:
        await delete(desk)
    else:
        await look(desk, 1)
    await look(desk, confirmed_s)
    assert await state(desk, command) == (Rung.SUCCEEDED, None)


async def test_an_absence_that_was_taken_back_tells_no_time(desk: Desk) -> None:
    command = await short(desk)
    for gone, seconds in ((True, 30), (False, 10), (True, 30), (True, 10)):
        desk.google.gone = gone
        await look(desk, seconds)
    assert (await desk.now(command)).is_unknown


async def test_an_absence_that_does_not_last_is_taken_back(desk: Desk) -> None:
    command = await open_command(desk, "WIPE")
    desk.google.gone = True
    await look(desk, 1)
    desk.google.gone = False
    await look(desk, 30)
    desk.google.gone = True
    await look(desk, 30)  # a new first look
    assert await state(desk, command) == (Rung.ISSUED, None)
    marks = [e.evidence["deviceGone"] for e in await desk.history(command) if "deviceGone" in e.evidence]
    assert marks == [True, False, True]


async def test_a_device_that_is_there_is_not_gone_whatever_its_list_says(desk: Desk) -> None:
    command = await open_command(desk, "WIPE")
    desk.google.gone, desk.google.device_stays = True, True
    for _ in range(4):
        await look(desk, 30)
    assert await state(desk, command) == (Rung.ISSUED, None)


async def test_an_operation_alone_that_is_gone_proves_nothing(desk: Desk) -> None:
    command = await open_command(desk, "WIPE")
    desk.google.operations_now.clear()
    for _ in range(4):
        await look(desk, 30)
    assert await state(desk, command) == (Rung.ISSUED, None)
    await look(desk, 366 * 24 * 3600)
    await look(desk, 10)
    rung, reason = await state(desk, command)
    assert reason is not None
    assert (rung, reason.code) == (Rung.FAILED, "outcome_unknown")


async def fill_history(desk: Desk, command: Command) -> None:
    """Nothing that is noted of it is kept any more."""
    for n in range(MAX_ENTRIES):
        changes = ChangeSet(desk.organization.id)
        changes.move(await desk.now(command), Noted(source="amapi", evidence={"uncertain": str(n)}), desk.clock.now())
        if changes:
            await desk.work.commit(changes)
    assert (await desk.now(command)).entries == MAX_ENTRIES


@pytest.mark.parametrize("kind", KINDS)
async def test_a_full_history_keeps_nothing_undecided(desk: Desk, kind: str) -> None:
    command = await open_command(desk, kind)
    await fill_history(desk, command)
    for gone in (True, False, True):  # what is taken back counts too
        desk.google.gone = gone
        await look(desk, 3600)
        assert await state(desk, command) == (Rung.ISSUED, None)
    await look(desk, desk.services.limits.absence_window_s + 1)
    assert await state(desk, command) == (Rung.SUCCEEDED, None)


@pytest.mark.parametrize(
    ("answer", "rung"), [(CancelTaken(), Rung.FAILED), (CancelRefused(404, "gone"), Rung.SUCCEEDED)]
)
async def test_nor_does_it_hide_how_a_cancel_was_answered(
    desk: Desk, answer: CancelTaken | CancelRefused, rung: Rung
) -> None:
    command = await open_command(desk, "WIPE")
    await fill_history(desk, command)
    await ask_to_cancel(desk, command, answer)
    desk.google.gone = True
    await look(desk, 1)
    await look(desk, desk.services.limits.absence_window_s + 1)
    assert (await desk.now(command)).rung is rung


async def test_other_types_on_an_erased_device_did_not_succeed(desk: Desk) -> None:
    wipe = await open_command(desk, "WIPE")
    lock = await desk.command({"type": "LOCK", "duration": "3600s"})
    await desk.pay()
    desk.google.gone = True
    for seconds in (1, 10, 3600, 30, 10):
        await look(desk, seconds)
    assert await state(desk, wipe) == (Rung.SUCCEEDED, None)
    rung, reason = await state(desk, lock)
    assert reason is not None
    assert (rung, reason.code) == (Rung.FAILED, "outcome_unknown")


async def test_after_the_report_of_its_deletion_one_look_is_enough(desk: Desk) -> None:
    command = await open_command(desk, "WIPE")
    await delete(desk)
    desk.google.gone = True
    await look(desk, 1)
    assert await state(desk, command) == (Rung.SUCCEEDED, None)


async def test_a_device_that_enrolled_again_under_a_new_name_was_erased_before(desk: Desk) -> None:
    command = await open_command(desk, "WIPE")
    device = await desk.work.devices.find("android", desk.android.id)
    assert device is not None
    await desk.work.setup.save_device(replace(device, external_name="enterprises/LC0test/devices/d2"))
    desk.google.operations_now.clear()
    desk.google.only_device = "enterprises/LC0test/devices/d2"
    await look(desk, 1)
    assert await state(desk, command) == (Rung.ISSUED, None)
    await look(desk, 30)
    assert await state(desk, command) == (Rung.SUCCEEDED, None)


async def test_only_a_missed_device_of_such_a_command_is_looked_at_soon(desk: Desk) -> None:
    window_s = desk.services.limits.absence_window_s
    await desk.command({"type": "LOCK"})
    await desk.pay()
    desk.google.gone = True
    await look(desk, 3600)
    desk.clock.advance(window_s + 1)
    assert await desk.pay() == []
    await open_command(desk, "WIPE")
    await look(desk, 3600)
    desk.clock.advance(window_s + 1)
    assert await desk.pay() == ["look_up"]
