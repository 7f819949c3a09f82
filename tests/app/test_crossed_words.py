"""A cancel that comes while a command runs, and the device's "not now" right behind its answer."""

from __future__ import annotations

from typing import Any

from heliograph.app.agent_line import check_in
from heliograph.app.cancel_command import cancel_command
from heliograph.domain.ladder import Command, Rung
from heliograph_protocol.messages import CancelAnswer, CheckIn, Orders, Report
from tests.app.conftest import Desk

AT = "2026-01-01T00:00:00Z"


async def say(desk: Desk, **said: Any) -> Orders:
    return await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=1, **said), "one")


def report(command: Command, rung: Any) -> Report:
    return Report(command_id=command.id, rung=rung, at=AT)


def answer(command: Command, outcome: Any) -> CancelAnswer:
    return CancelAnswer(command_id=command.id, outcome=outcome, at=AT)


async def test_a_command_that_was_put_off_after_its_cancel_was_rejected_does_not_run_for_ever(desk: Desk) -> None:
    """Both wait for the same check-in, whose lists do not say which came first."""
    command = await desk.command({"command": "REBOOT"})
    await say(desk, claim=1)
    await say(desk, reports=[report(command, "acknowledged")])
    await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")
    orders = await say(desk, reports=[report(command, "deferred")], cancel_answers=[answer(command, "rejected")])
    assert (await desk.now(command)).rung is Rung.DEFERRED
    assert orders.cancels == [command.id]
    await say(desk, cancel_answers=[answer(command, "confirmed")])
    assert (await desk.now(command)).rung is Rung.CANCELLED


async def test_a_confirmation_still_comes_behind_the_not_now_that_it_follows(desk: Desk) -> None:
    command = await desk.command({"command": "REBOOT"})
    await say(desk, claim=1)
    await say(desk, reports=[report(command, "acknowledged"), report(command, "running")])
    await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")
    await say(desk, reports=[report(command, "deferred")], cancel_answers=[answer(command, "confirmed")])
    assert (await desk.now(command)).rung is Rung.CANCELLED
