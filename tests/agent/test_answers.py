"""Answers of a server, or of whoever sits on the way to it, that are no answers: the agent goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from heliograph_protocol.messages import CHECK_IN_PATH
from tests.agent.conftest import Device, Running
from tests.agent.fake_server import FakeServer, Scope, _body

_MOST = 64  # MiB; a loop that nobody ends must end


class Strange(FakeServer):
    """One that can answer strangely, until it is told not to."""

    def __init__(self) -> None:
        super().__init__()
        self.location = b""  # where lines are sent
        self.parts: list[bytes] = []  # of an answer without an end to a check-in
        self.left = asyncio.Event()  # the agent has

    async def app(self, scope: Scope, receive: Any, send: Any) -> None:
        if self.location and scope["type"] == "websocket":
            await receive()
            headers = [(b"location", self.location), (b"content-length", b"0")]
            await send({"type": "websocket.http.response.start", "status": 302, "headers": headers})
            self.location = b""
            await send({"type": "websocket.http.response.body", "body": b""})
        elif self.parts and scope["path"] == CHECK_IN_PATH:
            await _body(receive)
            gone = asyncio.ensure_future(receive())
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for part in self.parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
                await asyncio.wait({gone}, timeout=0.01)
                if gone.done():
                    self.left.set()
                    break
            gone.cancel()
            self.parts = []
            await send({"type": "http.response.body", "body": b"{}"})
        else:
            await super().app(scope, receive, send)


@pytest.fixture
async def strange() -> AsyncIterator[Strange]:
    server = Strange()
    await server.start()
    yield server
    await server.stop()
    assert server.violations == []


@pytest.mark.parametrize("line", ["poll", "none"])
@pytest.mark.parametrize(
    ("part", "timeout"), [(b" " * 1024 * 1024, 30.0), (b" ", 0.2)], ids=["without end", "a byte at a time"]
)
async def test_an_answer_takes_neither_all_memory_nor_all_time(
    part: bytes, timeout: float, line: str, strange: Strange, device: Device, running: Running
) -> None:
    strange.parts = [part] * (_MOST if len(part) > 1 else 2000)
    async with running(line=line, server_url=strange.url, answer_timeout=timeout) as agent:
        async with asyncio.timeout(30):
            await strange.left.wait()
        command = await strange.command("c1")
        agent.wake()
        await strange.until(lambda: command.over)


@pytest.mark.parametrize("location", [b"http://[x", b"ws://127.0.0.1:99999/", b"http://127.0.0.1:1/portal"])
async def test_a_line_that_is_sent_elsewhere_does_not_end_the_agent(
    location: bytes, strange: Strange, device: Device, running: Running
) -> None:
    strange.location = location
    command = await strange.command("c1")
    async with running(server_url=strange.url):
        await strange.until(lambda: command.over)
