"""A server that echoes, and a client on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from heliograph_lab.http2 import Answer, Authority, Outcome, Request, Server
from tests.lab.http2.client import Client, connected


def echo(request: Request) -> Outcome:
    return Answer(200, (("x-path", request.path), ("x-peer", str(request.peer.number))), request.body)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The lab runs on uvloop, whose transports differ from asyncio's just where connections are cut."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[Server]:
    server = Server(echo, authority.server_context(), identify=lambda request: request.headers.get("x-id"))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: Server, authority: Authority) -> AsyncIterator[Client]:
    async with connected(server.port, authority.ca_path) as client:
        yield client
