"""One WIPE or RELINQUISH_OWNERSHIP at a time: were two open when the device goes, nobody could tell which it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heliograph.app.cancel_command import cancel_command
from heliograph.app.effects import EFFECTS, fitness, issue
from heliograph.domain.ladder import Command, Failed, Issue, Reason, Rung
from heliograph.ports.changes import ChangeSet
from tests.app.conftest import Desk
from tests.app.test_absence import KINDS, look, open_command, state

_DROPPED_S = 601


async def finish(desk: Desk, command: Command) -> None:
    desk.google.finish(str((await desk.now(command)).receipt))
    await look(desk, 1)
    assert await state(desk, command) == (Rung.SUCCEEDED, None)


async def both(desk: Desk, kinds: tuple[str, str] = KINDS) -> tuple[Command, Command]:
    """Two that may erase the device: the first at Google, the second waiting for it."""
    first, second = await open_command(desk, kinds[0]), await open_command(desk, kinds[1])
    assert [name for name, _ in desk.google.issued] == [first.id]
    return first, second


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
    rung, reason = await state(desk, second)
    assert reason is not None
    assert (rung, reason.code) == (Rung.FAILED, "DEVICE_GONE")


async def test_one_that_is_asked_for_after_the_device_was_erased_is_not_issued_either(desk: Desk) -> None:
    """Google takes commands until it has dropped the record, and would then forget what became of them."""
    first = await open_command(desk, "WIPE")
    await finish(desk, first)
    second = await open_command(desk, "WIPE")
    assert len(desk.google.issued) == 1
    desk.google.gone = True
    await look(desk, 6)
    rung, reason = await state(desk, second)
    assert reason is not None
    assert (rung, reason.code) == (Rung.FAILED, "DEVICE_GONE")


async def test_a_device_that_is_there_long_after_is_erased_once_more(desk: Desk) -> None:
    first, second = await both(desk)
    await finish(desk, first)
    await look(desk, _DROPPED_S)
    assert await state(desk, second) == (Rung.ISSUED, None)


async def test_a_device_that_enrolled_again_is_not_the_one_that_was_meant(desk: Desk) -> None:
    first, second = await both(desk)
    await finish(desk, first)
    device = await desk.work.devices.find("android", desk.android.id)
    assert device is not None
    await desk.work.setup.save_device(replace(device, external_name="enterprises/LC0test/devices/d2"))
    await look(desk, _DROPPED_S)
    rung, reason = await state(desk, second)
    assert reason is not None
    assert (rung, reason.code) == (Rung.FAILED, "DEVICE_GONE")
    assert len(desk.google.issued) == 1
    again = await desk.command({"type": "WIPE"}, await desk.work.devices.find("android", desk.android.id))
    await look(desk, 1)
    assert (await desk.now(again)).issue is Issue.BOUND


@pytest.mark.parametrize("outcome", [{"error": {"code": 1}}, {"metadata": {"type": "WIPE", "errorCode": "UNKNOWN"}}])
async def test_it_goes_once_the_first_is_over_and_the_device_is_still_there(
    desk: Desk, outcome: dict[str, Any]
) -> None:
    first, second = await both(desk)
    desk.google.finish(str((await desk.now(first)).receipt), **outcome)
    await look(desk, 6)
    await look(desk, 6)
    assert (await desk.now(first)).is_over
    assert await state(desk, second) == (Rung.ISSUED, None)


async def test_its_cancel_is_proven_at_once(desk: Desk) -> None:
    _, second = await both(desk)
    cancelled = await cancel_command(desk.services, desk.work, second.id, desk.android.id, "key:x", "over")
    assert cancelled.rung is Rung.CANCELLED


async def test_a_device_that_cannot_be_asked_for_keeps_it_waiting(desk: Desk) -> None:
    first, second = await both(desk)
    await finish(desk, first)
    desk.google.unreachable = True
    await look(desk, _DROPPED_S)
    assert await state(desk, second) == (Rung.QUEUED, None)


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
    rung, why = await state(desk, second)
    assert why is not None
    assert (rung, why.code) == (Rung.FAILED, "outcome_unknown")
