"""What stands between us and Google answers too; its words prove nothing of what Google has done."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.app.cancel_command import cancel_command
from heliograph.channels.amapi_answers import cancel_answer, issue_answer
from heliograph.domain.ladder import Command, Rung
from heliograph.outbound import Reply
from heliograph.ports.channel import CancelRefused, CancelTaken, IssueAnswer, Taken
from tests.app.conftest import Desk
from tests.app.test_absence import look, open_command

# Envoy's words when the connection breaks after it has passed the request on.
BROKEN = b"upstream connect error or disconnect/reset before headers. reset reason: connection termination"
PAGE = b"<html>Proxy Authentication Required</html>"


async def ask_to_cancel(desk: Desk, command: Command) -> None:
    await cancel_command(desk.services, desk.work, command.id, desk.android.id, "key:test", "over")


@pytest.mark.parametrize("status", [503, 408])
async def test_what_a_gateway_gave_up_is_not_called_cancelled(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    async def issue(*_: Any) -> IssueAnswer:
        desk.google.accept("REBOOT")
        return issue_answer(Reply(status, BROKEN), ())

    monkeypatch.setattr(desk.google, "issue", issue)
    command = await desk.command({"type": "REBOOT"})
    await desk.pay("issue", times=1)
    await ask_to_cancel(desk, command)
    assert (await desk.now(command)).rung is Rung.QUEUED
    (name,) = desk.google.operations_now
    desk.google.finish(name)  # the device has run it
    for _ in range(30):
        await look(desk, 10)
    assert (await desk.now(command)).rung is Rung.SUCCEEDED


async def test_what_a_gateway_gave_up_is_not_issued_twice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[IssueAnswer] = [issue_answer(Reply(503, BROKEN), ())]

    async def issue(*_: Any) -> IssueAnswer:
        operation = desk.google.accept("REBOOT")
        return answers.pop() if answers else Taken(operation["name"], operation)

    monkeypatch.setattr(desk.google, "issue", issue)
    await desk.command({"type": "REBOOT", "duration": "86400s"})
    for _ in range(10):
        await look(desk, 10)
    assert len(desk.google.operations_now) == 1


@pytest.mark.parametrize("status", [400, 407, 451])
async def test_a_page_of_a_proxy_does_not_end_a_cancel(desk: Desk, status: int) -> None:
    """The WIPE waits at Google for the device."""
    command = await open_command(desk, "WIPE")
    desk.google.cancel_answer = cancel_answer(Reply(status, PAGE))
    await ask_to_cancel(desk, command)
    await look(desk, 60)
    desk.google.cancel_answer = CancelTaken()
    await look(desk, 60)
    assert len(desk.google.cancels) > 1


async def test_who_asks_again_after_a_refusal_has_google_asked_again(desk: Desk) -> None:
    command = await open_command(desk, "WIPE")
    desk.google.cancel_answer = CancelRefused(400, "not now")
    for times in (1, 2):
        await ask_to_cancel(desk, command)
        for _ in range(3):
            await look(desk, 60)
        assert len(desk.google.cancels) == times


async def test_who_asks_again_and_again_has_google_asked_now_and_then(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request, with the looks behind it, takes of the quota that all other cancels need as well."""
    monkeypatch.setattr("heliograph.app.effects.cancel._LOOKS_S", ())
    command = await open_command(desk, "WIPE")
    desk.google.cancel_answer = CancelRefused(400, "not now")
    began = desk.clock.now()
    for _ in range(30):
        await ask_to_cancel(desk, command)
        await desk.pay("cancel", times=1)
        desk.clock.advance(1)
    most = 2 + (desk.clock.now() - began) // 10_000_000
    assert 4 <= len(desk.google.cancels) <= most
    asked = len(desk.google.cancels)
    desk.clock.advance(60)
    await desk.pay()
    assert len(desk.google.cancels) == asked + 1  # for who asked last
    desk.clock.advance(60)
    await desk.pay()
    assert len(desk.google.cancels) == asked + 1


async def test_nor_does_it_wait_longer_by_the_clock_of_another_process(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliograph.app.effects.cancel._LOOKS_S", ())
    command = await open_command(desk, "WIPE")
    desk.google.cancel_answer = CancelRefused(400, "not now")
    for _ in range(2):
        await ask_to_cancel(desk, command)
        await desk.pay("cancel", times=1)
    desk.clock.advance(-600)
    await ask_to_cancel(desk, command)
    desk.clock.advance(11)
    await desk.pay("cancel", times=1)
    assert len(desk.google.cancels) == 3


@pytest.mark.parametrize("status", [400, 407, 451])
async def test_a_page_of_a_proxy_does_not_fail_a_command(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    answers: list[IssueAnswer] = [issue_answer(Reply(status, PAGE), ())]

    async def issue(*_: Any) -> IssueAnswer:
        if answers:
            return answers.pop()
        operation = desk.google.accept("REBOOT")
        return Taken(operation["name"], operation)

    monkeypatch.setattr(desk.google, "issue", issue)
    command = await desk.command({"type": "REBOOT"})
    for _ in range(3):
        await look(desk, 10)
    assert (await desk.now(command)).rung is Rung.ISSUED
