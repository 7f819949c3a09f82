"""What waits in a lane goes on at once when the one before it is over, also when that owes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from heliograph.app import dispatch
from heliograph.app.cancel_command import cancel_command
from heliograph.app.dispatch import Dispatcher
from heliograph.app.effects import EFFECTS
from heliograph.ports.channel import NotTaken, Refused
from tests.app.conftest import Desk

BEFORE_THE_LEASE_S = 10  # its end wakes the dispatcher as well


@asynccontextmanager
async def dispatching(desk: Desk) -> AsyncIterator[None]:
    running = asyncio.create_task(Dispatcher(desk.services, EFFECTS).run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture(autouse=True)
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_LONGEST_SLEEP_S", 3600.0)


async def test_a_command_behind_one_that_is_refused_is_issued_at_once(desk: Desk) -> None:
    desk.google.answers = [Refused("INVALID_ARGUMENT", "no")]
    answer = asyncio.Event()

    async def until_answered() -> None:
        await answer.wait()

    desk.google.while_issuing = until_answered
    async with dispatching(desk):
        await desk.command({"type": "LOCK"})
        await asyncio.wait_for(desk.google.issues[1].wait(), 10)
        await desk.command({"type": "LOCK"})
        await asyncio.sleep(0.3)  # the dispatcher has seen that it has to wait
        answer.set()
        await asyncio.wait_for(desk.google.issues[2].wait(), BEFORE_THE_LEASE_S)


async def test_a_command_behind_one_that_is_cancelled_is_issued_at_once(desk: Desk) -> None:
    desk.google.answers = [NotTaken("429", 60)]
    async with dispatching(desk):
        first = await desk.command({"type": "LOCK"})
        await asyncio.wait_for(desk.google.issues[1].wait(), 10)
        await desk.command({"type": "LOCK"})
        await asyncio.sleep(0.3)
        await cancel_command(desk.services, desk.work, first.id, first.device_id, "key:test", "over")
        await asyncio.wait_for(desk.google.issues[2].wait(), BEFORE_THE_LEASE_S)
