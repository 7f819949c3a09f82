"""The line breaks while the agent puts down what came: what comes again is taken up where it was left."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from heliograph_agent import AgentConfig, clock
from heliograph_agent import journal as module
from heliograph_agent.journal import Journal
from heliograph_agent.ledger import Ledger
from heliograph_agent.outbox import Signal
from heliograph_agent.talk import Talk
from heliograph_protocol.messages import CheckIn, ClaimedCommand, Orders
from tests.agent.conftest import Device

ORDERS = Orders(commands=[ClaimedCommand(id="c1", type="LOCK", expires_in_ms=600_000)])


class Life:
    """What an agent has of the conversation."""

    def __init__(self, device: Device, path: Path) -> None:
        self.ledger = Ledger(1e9, 1000)
        self.journal = Journal(path, self.ledger.snapshot)
        self.ledger.load(self.journal, self.journal.open())
        config = AgentConfig(server_url="http://127.0.0.1:1", secret="s", state_path=path)
        self.talk = Talk(config, device, self.ledger, self.journal, Signal())

    def hears(self, orders: Orders) -> asyncio.Task[bool]:
        return asyncio.create_task(self.talk.handle(orders, clock.elapsed(), ordered=True))


async def is_told_and_run(life: Life) -> None:
    """The server has no acknowledgement, so it hands the command out again."""
    life.talk.reconnect()
    await life.hears(ORDERS)
    message: CheckIn = await life.talk.next_message()
    assert [(report.command_id, report.rung) for report in message.reports] == [("c1", "acknowledged")]
    record = life.ledger.begin_next()
    assert record is not None
    assert (record.id, record.stage, life.ledger.begin_next()) == ("c1", "started", None)
    await life.journal.close()


async def test_while_the_disk_is_busy(device: Device, journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, written = threading.Event(), threading.Event()
    write = module._pwrite_all

    def slow(file: int, data: bytes, at: int) -> None:
        if b'"id":"c1"' in data:
            writing.set()
            written.wait(30)
        write(file, data, at)

    life = Life(device, journal)
    monkeypatch.setattr(module, "_pwrite_all", slow)
    hearing = life.hears(ORDERS)
    await asyncio.to_thread(writing.wait, 30)
    hearing.cancel()
    written.set()
    await asyncio.wait({hearing})
    assert hearing.cancelled()
    await is_told_and_run(life)


@pytest.mark.parametrize("event", ["received", "acknowledged"])
async def test_while_the_device_notes_it(
    event: str, device: Device, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noting = asyncio.Event()

    async def slow(what: str, **_: Any) -> None:
        if what == event:
            noting.set()
            await asyncio.Event().wait()

    life = Life(device, journal)
    with monkeypatch.context() as patch:
        patch.setattr(device, "observe", slow)
        hearing = life.hears(ORDERS)
        await noting.wait()
        hearing.cancel()
        await asyncio.wait({hearing})
    assert hearing.cancelled()
    await is_told_and_run(life)
