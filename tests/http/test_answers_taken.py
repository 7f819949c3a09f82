"""Who takes an answer slowly, or not at all, and what it costs meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
import structlog
import uvloop

from heliograph.http.server_protocol import (
    ConnectionLimits,
)
from tests.http.served import (
    GO_ON,
    LARGE,
    ROOM,
    Served,
    ask,
    serving,
    until,
)


async def until_gone(served: Served) -> None:
    await until(lambda: not served.connections)


def taking_little(served: Served) -> socket.socket:
    """A connection that takes as little as it can."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", served.port))
    client.setblocking(False)
    return client


@pytest.mark.parametrize("last", [GO_ON, b"Connection: close\r\n"])
@pytest.mark.parametrize("ahead", [1, 3])
async def test_who_takes_nothing_of_an_answer_is_gone(last: bytes, ahead: int) -> None:
    async with serving(ConnectionLimits(taken_s=0.05)) as served:
        with taking_little(served) as client:
            client.sendall(ask(b"/large", more=GO_ON) * (ahead - 1) + ask(b"/large", more=last))
            await until(lambda: served.left() > 0)
            await until_gone(served)


def test_an_answer_that_waited_for_a_client_who_is_gone_is_no_fault() -> None:
    """On the loop that servers run on, whose transports refuse to write once they are closed."""

    async def leave() -> None:
        async with serving(ConnectionLimits(taken_s=0.05)) as served:
            with taking_little(served) as client:
                client.sendall(ask(b"/large", more=GO_ON) * 3)
                await until(lambda: served.left() > 0)
                await until_gone(served)

    with structlog.testing.capture_logs() as told:
        uvloop.run(leave())
    assert told == []


async def test_who_leaves_the_end_of_an_answer_is_gone() -> None:
    """What is left is less than asyncio calls much, and closing waits for it as well."""
    async with serving(ConnectionLimits(taken_s=0.2), kernel_holds=4096) as served:
        with taking_little(served) as client:
            client.sendall(ask(b"/large", more=b"Connection: close\r\n"))
            await until(lambda: served.left() > 0)
            while served.left() > 50_000:
                with contextlib.suppress(BlockingIOError):
                    client.recv(10_000)
                await asyncio.sleep(0)
            assert served.left() > 0
            await until_gone(served)


@pytest.mark.parametrize("is_taken", [True, False])
async def test_an_answer_has_its_room_until_it_is_taken_or_nobody_is_there(is_taken: bool) -> None:
    async with serving() as served:
        with taking_little(served) as client:
            client.sendall(ask(b"/kept"))
            await until(lambda: served.left() > 0)
            assert not ROOM.is_empty
            while is_taken and await asyncio.get_running_loop().sock_recv(client, 64 * 1024):
                pass
        await until(lambda: ROOM.is_empty)


async def test_an_answer_that_needs_no_body_keeps_no_room() -> None:
    async with serving() as served:
        with taking_little(served) as client:
            client.sendall(ask(b"/kept", method=b"HEAD", more=GO_ON))
            assert b"\r\n\r\n" in await asyncio.get_running_loop().sock_recv(client, 4096)
            await until(lambda: ROOM.is_empty)
            assert served.connections


async def test_who_takes_an_answer_slowly_gets_all_of_it() -> None:
    """The kernel holds megabytes, and takes no more of ours before a good part of those is gone."""
    async with serving(ConnectionLimits(taken_s=0.2)) as served:
        with taking_little(served) as client:
            client.sendall(ask(b"/large"))
            got = 0
            while part := await asyncio.get_running_loop().sock_recv(client, 64 * 1024):
                got += len(part)
                await asyncio.sleep(0.003)
    assert got > len(LARGE)
