"""The agent is stopped while something lasts, and by somebody who is impatient."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from heliograph_agent import Agent, AgentConfig, Result
from heliograph_agent import journal as module
from tests.agent.conftest import Device, Running
from tests.agent.fake_server import SECRET, FakeServer


class Slow(Device):
    """Begins to act, and acts in the end unless it is cancelled before."""

    def __init__(self) -> None:
        super().__init__()
        self.acted: list[str] = []
        self.go = asyncio.Event()

    async def execute(self, command_id: str, type: str, params: dict[str, Any]) -> Result:  # noqa: A002
        self.executed.append(command_id)
        self.began.set()
        await self.go.wait()
        self.acted.append(command_id)
        return Result(ok=True)

    def already_executed(self, command_id: str) -> bool | None:
        return command_id in self.acted


async def test_an_effect_does_not_outlive_an_agent_that_is_cancelled_twice(
    server: FakeServer, running: Running, journal: Path
) -> None:
    device = Slow()
    command = await server.command("c1")
    config = AgentConfig(server_url=server.url, secret=SECRET, state_path=journal, durable=False, grace=30.0)
    first = asyncio.create_task(Agent(config, device).run())
    await device.began.wait()
    for _ in range(2):  # Ctrl-C, and once more since it does not end at once
        first.cancel()
        await asyncio.sleep(0.01)
    await asyncio.wait({first}, timeout=10)
    assert first.cancelled()
    # In the same process again: what was cancelled must not act beside it.
    async with running(device):
        await server.until(lambda: len(device.executed) == 2)
        device.go.set()
        await server.until(lambda: command.over)
    assert device.acted == ["c1"]


async def test_an_agent_that_is_cancelled_again_and_again_lets_go_of_its_journal(
    server: FakeServer, device: Device, running: Running, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, written = threading.Event(), threading.Event()
    write = module._pwrite_all

    def slow(file: int, data: bytes, at: int) -> None:
        if b'"of":"command"' in data and not writing.is_set():
            writing.set()
            written.wait(30)
        write(file, data, at)

    monkeypatch.setattr(module, "_pwrite_all", slow)
    command = await server.command("c1")
    config = AgentConfig(server_url=server.url, secret=SECRET, state_path=journal)
    first = asyncio.create_task(Agent(config, device).run())
    await asyncio.to_thread(writing.wait, 30)
    for _ in range(4):
        first.cancel()
        await asyncio.sleep(0.01)
    written.set()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    async with running():
        await server.until(lambda: command.over)
    assert device.executed == ["c1"]
