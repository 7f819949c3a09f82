"""A server, an effector that remembers, and a way to run agents against them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from heliograph_agent import Agent, AgentConfig, Result
from heliograph_protocol.messages import PushOffer
from tests.agent.fake_server import SECRET, FakeServer


class Device:
    """An effector in memory. `gates` holds the commands that must not end before a test says so."""

    def __init__(self) -> None:
        self.executed: list[str] = []
        self.displayed: list[str] = []
        self.observed: list[tuple[str, str]] = []
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.gates: dict[str, asyncio.Event] = {}
        self.results: dict[str, Result | Exception] = {}
        self.knows: dict[str, bool | None] = {}
        self.params: dict[str, dict[str, Any]] = {}

    async def execute(self, command_id: str, type: str, params: dict[str, Any]) -> Result:  # noqa: A002
        self.executed.append(command_id)
        self.params[command_id] = params
        self.began.set()
        if command_id in self.gates:
            await self.gates[command_id].wait()
        self.ended.set()
        result = self.results.get(command_id, Result(ok=True))
        if isinstance(result, Exception):
            raise result
        return result

    def already_executed(self, command_id: str) -> bool | None:
        return self.knows.get(command_id)

    async def display(self, push: PushOffer) -> None:
        self.displayed.append(push.id)

    async def observe(
        self,
        event: str,
        *,
        command_id: str | None = None,
        push_id: str | None = None,
        type: str | None = None,  # noqa: A002
    ) -> None:
        self.observed.append((event, command_id or push_id or ""))


Running = Callable[..., AbstractAsyncContextManager[Agent]]


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    server = FakeServer()
    await server.start()
    yield server
    await server.stop()
    assert server.violations == []


@pytest.fixture
async def device() -> Device:
    return Device()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "agent.journal"


@pytest.fixture
def running(server: FakeServer, device: Device, journal: Path) -> Running:
    """`async with running(line="poll") as agent:` an agent that lives within the block."""

    @asynccontextmanager
    async def run(effector: Device | None = None, **given: Any) -> AsyncIterator[Agent]:
        settings = {
            "server_url": server.url,
            "secret": SECRET,
            "state_path": journal,
            "durable": False,
            "grace": 0.0,
            "backoff_base": 0.01,
            "backoff_cap": 0.05,
            "refused_cap": 0.02,
            **given,
        }
        agent = Agent(AgentConfig(**settings), effector or device)
        task = asyncio.create_task(agent.run())
        try:
            yield agent
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    return run
