"""What one line may cost the server when its other end takes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from heliograph.bootstrap import listen
from heliograph.http.server_protocol import LineProtocol

UPGRADE = (
    b"GET /line HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PING = b"\x89\xfd\0\0\0\0" + bytes(125)  # masked with zeros


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


class Lines:
    """An application that accepts, and says what it is told to; `over` once a line has ended."""

    def __init__(self, says: int) -> None:
        self._says = says
        self.over = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with contextlib.suppress(OSError):
            for _ in range(self._says):
                await send({"type": "websocket.send", "text": "x" * 100_000})
            await receive()
        self.over.set()


@asynccontextmanager
async def deaf(lines: Any, **given: Any) -> AsyncIterator[tuple[socket.socket, LineProtocol]]:
    """A client that never reads, and the server's side of its line."""
    made: list[LineProtocol] = []

    class Protocol(LineProtocol):
        def connection_made(self, transport: Any) -> None:
            made.append(self)
            super().connection_made(transport)

    config = uvicorn.Config(lines, log_config=None, access_log=False, lifespan="off", ws=Protocol, **given)
    listener = listen("127.0.0.1", 0)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(client, listener.getsockname())
        await loop.sock_sendall(client, UPGRADE)
        await until(lambda: bool(made) and made[0].handshake_complete)
        yield client, made[0]
    finally:
        client.close()
        await server.shutdown(sockets=[listener])


async def test_pings_are_not_answered_to_who_takes_no_answer() -> None:
    async with deaf(Lines(0)) as (client, line):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                for _ in range(32):  # 32 MiB
                    await asyncio.get_running_loop().sock_sendall(client, PING * 8000)
        assert line.transport.get_write_buffer_size() < 4 * 1024 * 1024


async def test_a_line_that_takes_nothing_ends_when_it_answers_no_ping() -> None:
    lines = Lines(100)
    async with deaf(lines, ws_ping_interval=0.1, ws_ping_timeout=0.1):
        async with asyncio.timeout(10):
            await lines.over.wait()


async def test_a_line_that_is_closed_ends_although_the_rest_is_not_taken() -> None:
    begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await begun.wait()
        line.close_timeout = 0.1
        while line.transport.get_write_buffer_size() == 0:
            await send({"type": "websocket.send", "text": "x" * 8_000})
        await send({"type": "websocket.close", "code": 4409})

    async with deaf(app) as (_, line):
        begun.set()
        await until(lambda: line.disconnected)


async def test_a_client_that_says_goodbye_and_takes_nothing_is_gone() -> None:
    lines = Lines(100)
    async with deaf(lines) as (client, line):
        line.close_timeout = 0.1
        await until(lambda: not line.writable.is_set())
        await asyncio.get_running_loop().sock_sendall(client, b"\x88\x82\0\0\0\0\x03\xe8")
        async with asyncio.timeout(10):
            await lines.over.wait()
        assert line.disconnected


async def test_empty_parts_of_a_message_are_not_kept() -> None:
    async with deaf(Lines(0)) as (client, line):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, b"\x01\x81\0\0\0\0a" + b"\x00\x80\0\0\0\0" * 1000 + b"\x00\x81\0\0\0\0b")
        await until(lambda: bool(line.frames) and bytes(line.frames[-1]) == b"b")
        assert [bytes(part) for part in line.frames] == [b"a", b"b"]
