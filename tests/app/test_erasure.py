"""One WIPE or RELINQUISH_OWNERSHIP at a time: were two open when the device goes, nobody could tell which it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heliograph.app.cancel_command import cancel_command
from heliograph.app.effects import EFFECTS, fitness, issue
from heliograph.app.effects.strays import owe_stray_cancel
from heliograph.app.effects.upstream import ERASING
from heliograph.app.quota import Quota
from heliograph.app.turns import turn_of
from heliograph.domain.devices import Device
from heliograph.domain.ladder import Command, Failed, Issue, Issued, Reason, Rung
from heliograph.ports.changes import ChangeSet
from heliograph.ports.channel import CancelRefused, CancelTaken, Uncertain
from heliograph.store.commands import ERASES
from tests.app.conftest import DEVICE_NAME, Clock, Desk
from tests.app.test_absence import DAY_S, KINDS, ask_to_cancel, look, open_command, state

_DROPPED_S = 601
OUTCOMES: list[dict[str, Any]] = [{"error": {"code": 1}}, {"metadata": {"type": "WIPE", "errorCode": "UNKNOWN"}}]


async def finish(desk: Desk, command: Command) -> None:
    desk.google.finish(str((await desk.now(command)).receipt))
    await look(desk, 1)
    assert await state(desk, command) == (Rung.SUCCEEDED, None)


async def both(desk: Desk, kinds: tuple[str, str] = KINDS) -> tuple[Command, Command]:
    """Two that may erase the device: the first at Google, the second waiting for it."""
    first, second = await open_command(desk, kinds[0]), await open_command(desk, kinds[1])
    assert [name for name, _ in desk.google.issued] == [first.id]
    return first, second


async def enrol_again(desk: Desk) -> Device:
    """The device comes back under another name at Google."""
    device = await desk.work.devices.find("android", desk.android.id)
    assert device is not None
    renamed = replace(device, external_name=f"{DEVICE_NAME}-again")
    await desk.work.setup.save_device(renamed)
    return renamed


async def failure(desk: Desk, command: Command) -> str:
    """The code with which a command has failed."""
    rung, reason = await state(desk, command)
    assert rung is Rung.FAILED
    assert reason is not None
    return reason.code


async def evidence(desk: Desk, command: Command) -> list[dict[str, Any]]:
    return [dict(entry.evidence) for entry in await desk.history(command)]


@pytest.mark.parametrize("kinds", [KINDS, KINDS[::-1], ("WIPE", "WIPE")])
async def test_the_second_waits_and_says_for_which(desk: Desk, kinds: tuple[str, str]) -> None:
    first, second = await both(desk, kinds)
    for _ in range(5):
        await look(desk, 6)
    found = await desk.now(second)
    assert (found.rung, found.issue) == (Rung.QUEUED, Issue.IDLE)
    assert [e for e in await evidence(desk, second) if "waitsFor" in e] == [{"waitsFor": first.id}]
    assert len(desk.google.issued) == 1


async def test_other_types_do_not_wait(desk: Desk) -> None:
    await open_command(desk, "WIPE")
    lock = await open_command(desk, "LOCK")
    assert await state(desk, lock) == (Rung.ISSUED, None)


async def test_it_is_never_issued_once_the_first_has_erased_the_device(desk: Desk) -> None:
    first, second = await both(desk)
    await finish(desk, first)
    await look(desk, 6)
    assert await state(desk, second) == (Rung.QUEUED, None)  # Google has yet to drop the device
    desk.google.gone = True
    await look(desk, 6)
    assert await state(desk, second) == (Rung.QUEUED, None)  # one "not found" decides nothing
    await look(desk, 6)
    reason = Reason("DEVICE_GONE", "WIPE had ended the management of the device before")
    assert await state(desk, second) == (Rung.FAILED, reason)
    assert (await evidence(desk, second))[-1] == {"issued": False, "by": first.id}
    assert len(desk.google.issued) == 1


async def test_the_report_of_the_deletion_is_enough(desk: Desk) -> None:
    first, second = await both(desk)
    device = await desk.work.devices.find("android", desk.android.id)
    assert device is not None
    await desk.work.setup.save_device(replace(device, state="DELETED"))
    await finish(desk, first)
    await look(desk, 6)
    assert await failure(desk, second) == "DEVICE_GONE"


async def test_one_that_is_asked_for_after_the_device_was_erased_is_not_issued_either(desk: Desk) -> None:
    """Google takes commands until it has dropped the record, and would then forget what became of them."""
    first = await open_command(desk, "WIPE")
    await finish(desk, first)
    second = await open_command(desk, "WIPE")
    assert len(desk.google.issued) == 1
    desk.google.gone = True
    await look(desk, 6)
    await look(desk, 6)
    assert await failure(desk, second) == "DEVICE_GONE"


async def test_a_not_found_that_does_not_last_is_taken_back(desk: Desk) -> None:
    first, second = await both(desk)
    await finish(desk, first)
    for gone in (True, False, True):
        desk.google.gone = gone
        await look(desk, 6)
    assert await state(desk, second) == (Rung.QUEUED, None)


async def test_a_device_that_is_there_long_after_is_erased_once_more(desk: Desk) -> None:
    first, second = await both(desk)
    await finish(desk, first)
    await look(desk, _DROPPED_S)
    assert await state(desk, second) == (Rung.ISSUED, None)


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("is_finished", [True, False])
async def test_a_device_that_enrolled_again_is_not_the_one_that_was_meant(
    desk: Desk, outcome: dict[str, Any], is_finished: bool
) -> None:
    """However the first one ends, and also where the second was asked for after it."""
    first, second = await both(desk)
    if is_finished:
        desk.google.finish(str((await desk.now(first)).receipt), **outcome)
    await enrol_again(desk)
    await look(desk, _DROPPED_S)
    assert await failure(desk, second) == "DEVICE_GONE"
    assert (await evidence(desk, second))[-1] == {"issued": False, "meant": DEVICE_NAME}
    assert len(desk.google.issued) == 1


async def test_what_is_meant_for_the_new_device_waits_for_nothing_of_the_old_one(desk: Desk) -> None:
    await open_command(desk, "WIPE")
    again = await desk.command({"type": "WIPE"}, await enrol_again(desk))
    await look(desk, 6)
    assert (await desk.now(again)).issue is Issue.BOUND


async def test_one_that_waited_for_a_device_that_was_to_go_is_not_sent_to_its_successor(desk: Desk) -> None:
    first = await open_command(desk, "WIPE")
    await finish(desk, first)
    second = await desk.command({"type": "WIPE"}, await desk.work.devices.find("android", desk.android.id))
    await enrol_again(desk)
    await look(desk, _DROPPED_S)
    assert await failure(desk, second) == "DEVICE_GONE"
    assert len(desk.google.issued) == 1


async def test_an_attempt_without_an_answer_is_looked_for_where_it_went(desk: Desk) -> None:
    """Not in the list of the device that has enrolled again since, where it is absent: it would be sent once more."""
    desk.google.answers = [Uncertain("no answer")]
    command = await open_command(desk, "LOCK")
    operation = desk.google.accept("LOCK")
    await enrol_again(desk)
    desk.google.while_listing = None
    listed: list[str | None] = []
    really = desk.google.operations

    async def operations(device: Device, toll: Any = None) -> Any:
        listed.append(device.external_name)
        return await really(device, toll)

    desk.google.operations = operations  # type: ignore[method-assign]
    await look(desk, 2)
    assert set(listed) == {DEVICE_NAME}
    assert (await desk.now(command)).receipt == operation["name"]


async def test_many_later_commands_hide_nothing(desk: Desk) -> None:
    first, second = await both(desk)
    for _ in range(201):
        await desk.command({"type": "LOCK"})
    await desk.pay(times=300)  # else they may stand before the look-up
    await finish(desk, first)
    await look(desk, 6)
    assert await state(desk, second) == (Rung.QUEUED, None)


async def test_one_of_a_device_that_is_there_ends_with_its_time(desk: Desk) -> None:
    """Google has forgotten the operation, and the device has another name: nobody will learn any more."""
    command = await open_command(desk, "WIPE")
    desk.google.operations_now.clear()
    await enrol_again(desk)
    for seconds in (1, 30, 366 * 24 * 3600, 10, 10):
        await look(desk, seconds)
    assert await failure(desk, command) == "outcome_unknown"


async def test_of_two_that_are_open_after_all_nobody_can_tell_which_it_was(desk: Desk) -> None:
    """Another program, or an earlier one of ours, may have issued the second."""
    first, second = await both(desk)
    changes = ChangeSet(desk.organization.id)
    operation = desk.google.accept(second.type)
    issued = Issued(source="amapi", receipt=operation["name"], operation=operation)
    changes.move(await desk.now(second), issued, desk.clock.now())
    await desk.work.commit(changes)
    desk.google.gone = True
    await look(desk, 1)
    await look(desk, 30)
    for command in (first, second):
        assert await failure(desk, command) == "outcome_unknown"


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_it_goes_once_the_first_is_over_and_the_device_is_still_there(
    desk: Desk, outcome: dict[str, Any]
) -> None:
    first, second = await both(desk)
    desk.google.finish(str((await desk.now(first)).receipt), **outcome)
    await look(desk, 6)
    await look(desk, 6)
    assert (await desk.now(first)).is_over
    assert await state(desk, second) == (Rung.ISSUED, None)


@pytest.mark.parametrize("kind", KINDS)
async def test_one_that_google_has_forgotten_holds_up_the_next_for_a_week(desk: Desk, kind: str) -> None:
    first, second = await both(desk, (kind, "WIPE"))
    desk.google.operations_now.clear()
    await look(desk, 1)
    for _ in range(6):
        await look(desk, DAY_S)
    assert await state(desk, first) == (Rung.ISSUED, None)
    for _ in range(2):
        await look(desk, DAY_S)
    reason = Reason("outcome_unknown", "Google no longer knows the operation")
    assert await state(desk, first) == (Rung.FAILED, reason)
    assert await state(desk, second) == (Rung.ISSUED, None)


async def test_one_that_is_forgotten_and_whose_cancel_was_asked_for_holds_up_the_next_no_longer(desk: Desk) -> None:
    """Google says in answer to the cancel and in two looks that it knows none, and the device is there."""
    first, second = await both(desk)
    desk.google.operations_now.clear()
    await ask_to_cancel(desk, first, CancelRefused(404, "Requested entity was not found."))
    await look(desk, 30)
    assert await state(desk, first) == (Rung.ISSUED, None)  # one look decides nothing
    await look(desk, desk.services.limits.absence_window_s + 1)
    why = "Google no longer knows the operation, so it cannot be cancelled: the device may still carry it out"
    assert await state(desk, first) == (Rung.FAILED, Reason("outcome_unknown", why))
    assert (await evidence(desk, first))[-1] == {"operationGone": True, "cancel": "refused"}
    await look(desk, 60)
    assert await state(desk, second) == (Rung.ISSUED, None)


@pytest.mark.parametrize("answer", [CancelTaken(), CancelRefused(501, "no"), CancelRefused(404, "not found")])
async def test_one_of_which_google_does_not_say_all_that_holds_up_the_next(
    desk: Desk, answer: CancelTaken | CancelRefused
) -> None:
    """Its cancel may yet win, or Google still knows it."""
    first, second = await both(desk)
    await ask_to_cancel(desk, first, answer)
    known = dict(desk.google.operations_now)
    is_known = isinstance(answer, CancelRefused) and answer.status == 404
    for n in range(8):
        desk.google.operations_now = known if is_known and n % 2 else {}
        await look(desk, 30)
    assert await state(desk, first) == (Rung.ISSUED, None)
    assert await state(desk, second) == (Rung.QUEUED, None)


async def test_one_whose_cancel_google_has_taken_after_all_is_waited_for(desk: Desk) -> None:
    """It was there when the second request came, and may yet be cancelled."""
    first, _ = await both(desk)
    await ask_to_cancel(desk, first, CancelRefused(404, "Requested entity was not found."))
    await ask_to_cancel(desk, first, CancelTaken())
    known = dict(desk.google.operations_now)
    desk.google.operations_now.clear()
    for _ in range(3):
        await look(desk, 30)
    assert await state(desk, first) == (Rung.ISSUED, None)
    desk.google.operations_now = known
    desk.google.finish(str((await desk.now(first)).receipt), error={"code": 1})
    await look(desk, 30)
    assert await state(desk, first) == (Rung.CANCELLED, None)


async def test_after_one_that_was_forgotten_nobody_can_tell_which_it_was_while_its_time_lasts(desk: Desk) -> None:
    first = await open_command(desk, "WIPE")
    desk.google.operations_now.clear()
    for _ in range(9):
        await look(desk, DAY_S)
    assert await failure(desk, first) == "outcome_unknown"
    second = await open_command(desk, "WIPE")
    desk.google.gone = True
    await look(desk, 1)
    await look(desk, 30)
    why = "the device is gone, by this command or by another"
    assert await state(desk, second) == (Rung.FAILED, Reason("outcome_unknown", why))


async def test_its_cancel_is_proven_at_once(desk: Desk) -> None:
    _, second = await both(desk)
    cancelled = await cancel_command(desk.services, desk.work, second.id, desk.android.id, "key:x", "over")
    assert cancelled.rung is Rung.CANCELLED


async def test_a_device_that_cannot_be_asked_for_keeps_it_waiting_no_longer(desk: Desk) -> None:
    first, second = await both(desk)
    await finish(desk, first)
    desk.google.unreachable = True
    await look(desk, 60)
    assert await state(desk, second) == (Rung.QUEUED, None)
    await look(desk, _DROPPED_S)
    assert (await desk.now(second)).issue is Issue.BOUND


async def test_one_that_goes_after_all_may_be_the_one_that_erased_it(desk: Desk) -> None:
    """The device was there long after the first, so that one did not erase it."""
    first, second = await both(desk)
    await finish(desk, first)
    await look(desk, _DROPPED_S)
    assert await state(desk, second) == (Rung.ISSUED, None)
    await look(desk, 3600)
    desk.google.gone = True
    await look(desk, 3600)
    await look(desk, 30)
    assert await state(desk, second) == (Rung.SUCCEEDED, None)


@pytest.mark.parametrize("is_forgotten", [False, True])
async def test_a_clock_that_is_set_forward_does_not_tell_two_apart(desk: Desk, is_forgotten: bool) -> None:
    """Google's shows that the second was made right after the first, which may have erased the device."""
    desk.google.clock = Clock()
    first = await desk.command({"type": "WIPE", "duration": "600s"})
    await desk.pay("issue", times=1)
    if is_forgotten:
        await give_up(desk, await desk.now(first))
    else:
        await finish(desk, first)
    desk.clock.jump(3600)
    second = await open_command(desk, "WIPE")
    desk.google.gone = True
    await look(desk, 1)
    await look(desk, 30)
    why = "the device is gone, by this command or by another"
    assert await state(desk, second) == (Rung.FAILED, Reason("outcome_unknown", why))


async def give_up(desk: Desk, command: Command) -> None:
    """Nobody can tell any more what becomes of a command."""
    changes = ChangeSet(desk.organization.id)
    changes.move(command, Failed(source="amapi", reason=Reason("outcome_unknown", "")), desk.clock.now())
    await desk.work.commit(changes)


async def test_an_attempt_under_the_former_name_holds_nothing_up(desk: Desk) -> None:
    """Two operations may be it, so nobody can tell until its time is over."""
    desk.google.answers = [Uncertain("no answer")]
    first = await open_command(desk, "WIPE")
    for _ in range(2):
        desk.google.accept("WIPE")
    second = await desk.command({"type": "WIPE"}, await enrol_again(desk))
    await look(desk, 2)
    assert (await desk.now(first)).issue is Issue.OPEN
    assert (await desk.now(second)).issue is Issue.BOUND


async def test_candidates_that_only_time_tells_apart_are_looked_at_ever_less_often(desk: Desk) -> None:
    desk.google.answers = [Uncertain("no answer")]
    await open_command(desk, "LOCK")
    for _ in range(2):
        desk.google.accept("LOCK")
    looks = 0
    for _ in range(3600):
        desk.clock.advance(1)
        looks += (await desk.pay()).count("issue")
    assert looks < 200


async def test_a_stray_of_the_former_name_is_cancelled_too(desk: Desk) -> None:
    command = await open_command(desk, "WIPE")
    stray = f"{DEVICE_NAME}/operations/1"
    await enrol_again(desk)
    desk.google.cancel_answer = CancelTaken()
    changes = ChangeSet(desk.organization.id)
    owe_stray_cancel(desk.services, changes, stray, command.enterprise_id)
    await desk.work.commit(changes)
    await look(desk, 1)
    assert desk.google.cancels == [stray]


async def test_one_that_is_open_under_the_former_name_is_looked_up_at_the_usual_pace(desk: Desk) -> None:
    await open_command(desk, "WIPE")
    await enrol_again(desk)
    looks = 0
    for _ in range(720):
        desk.clock.advance(5)
        looks += (await desk.pay()).count("look_up")
    assert looks < 200


def test_the_store_knows_the_types_that_erase() -> None:
    assert f"type IN {ERASING}" == ERASES


async def test_who_waits_for_another_has_no_place_in_the_queue(desk: Desk) -> None:
    _, second = await both(desk)
    services = replace(desk.services, quota=Quota(desk.services.store.system, desk.clock, 600))
    assert await turn_of(services, await desk.now(second)) is None


async def test_who_waits_asks_google_for_nothing_and_ever_less_often(desk: Desk) -> None:
    await both(desk)
    desk.google.asked.clear()
    tries = 0
    for _ in range(720):
        desk.clock.advance(5)
        tries += (await desk.pay()).count("issue")
    assert desk.google.asked == []
    assert tries < 120


async def test_of_two_begun_at_the_same_time_the_later_is_not_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was slow between its look and its mark looks again before it sends."""
    company = replace(desk.android, management_mode="PROFILE_OWNER", ownership="COMPANY_OWNED")
    await desk.work.setup.save_device(company)
    slow, quick = [await desk.command({"type": kind}, company) for kind in KINDS]
    really = fitness.check_fitness

    async def overtaken(*args: Any) -> bool:
        is_fit = await really(*args)
        monkeypatch.setattr(issue, "check_fitness", really)
        await EFFECTS["issue"](desk.services, replace(args[2], subject_id=quick.id))
        return is_fit

    monkeypatch.setattr(issue, "check_fitness", overtaken)
    await desk.pay("issue", times=1)
    assert [name for name, _ in desk.google.issued] == [quick.id]
    found = await desk.now(slow)
    assert (found.rung, found.issue) == (Rung.QUEUED, Issue.IDLE)
    assert (await evidence(desk, slow))[-1]["reason"] == "RELINQUISH_OWNERSHIP was begun at the same time"


async def test_after_an_attempt_that_was_given_up_nobody_can_tell_which_it_was(desk: Desk) -> None:
    first, second = await both(desk)
    changes = ChangeSet(desk.organization.id)
    reason = Reason("outcome_unknown", "the device left Google's list before the attempt was answered")
    changes.move(await desk.now(first), Failed(source="amapi", reason=reason), desk.clock.now())
    await desk.work.commit(changes)
    await look(desk, 6)
    assert await state(desk, second) == (Rung.ISSUED, None)
    desk.google.gone = True
    await look(desk, 1)
    await look(desk, 30)
    assert await failure(desk, second) == "outcome_unknown"
