"""A server of a few routes on uvicorn's protocols as ours are, and raw connections to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog
import uvicorn

from heliograph.bootstrap import listen
from heliograph.http.answers import Answer, Request
from heliograph.http.edge import Edge, Routes
from heliograph.http.room import Room
from heliograph.http.server_protocol import (
    ConnectionLimits,
    HttpProtocol,
    LineProtocol,
)

HOST = b"Host: localhost\r\n"
POST = b"POST /echo HTTP/1.1\r\n" + HOST
SHORT = ConnectionLimits(head_s=0.05, body_s=0.05)
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Line:
    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await receive()
        await send({"type": "websocket.close", "code": 1000})


class Served:
    """A server with one route, and how to reach it."""

    def __init__(self, port: int, line: _Line, connections: set[Any]) -> None:
        self.port, self.line, self.connections = port, line, connections

    def left(self) -> int:
        """Bytes of answers that no client has taken yet, beside what the kernel holds."""
        return sum(connection.transport.get_write_buffer_size() for connection in self.connections)

    async def connect(self) -> Stream:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer(self, *parts: bytes) -> bytes:
        """All that comes back until the server hangs up."""
        reader, writer = await self.connect()
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


async def _echo(request: Request) -> Answer:
    return Answer(b"%d" % len(request.body))


async def _large(_: Request) -> Answer:
    return Answer(LARGE)


async def _forged(_: Request) -> Answer:
    return Answer(b"0", headers={"X-Said": "a\r\nSet-Cookie: b"})


async def _told(request: Request) -> Answer:
    return Answer(b"0", 201, headers={"Link": request.url("page=2")})


async def _slow(_: Request) -> Answer:
    HELD.append(asyncio.Event())
    await HELD[-1].wait()
    return Answer(b"slow")


HELD: list[asyncio.Event] = []


async def _kept(_: Request) -> Answer:
    return Answer(LARGE, place=await ROOM.take(len(LARGE)))


ROOM = Room(2**30)
LARGE = bytes(4 * 1024 * 1024)
ROUTES = [
    ("POST", "/echo", _echo),
    ("GET", "/echo", _echo),
    ("GET", "/large", _large),
    ("GET", "/forged", _forged),
    ("GET", "/kept", _kept),
    ("GET", "/slow", _slow),
    ("GET", "/told", _told),
]


@asynccontextmanager
async def serving(limits: ConnectionLimits | None = None, kernel_holds: int = 0) -> AsyncIterator[Served]:
    line = _Line()
    edge = Edge(Routes(ROUTES), line, "/line", structlog.get_logger())
    http: Any = partial(HttpProtocol, limits=limits or ConnectionLimits())
    config = uvicorn.Config(edge, log_config=None, access_log=False, lifespan="off", http=http, ws=LineProtocol)
    listener = listen("127.0.0.1", 0)
    if kernel_holds:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel_holds)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    await server.on_tick(0)  # the headers that every answer has
    try:
        yield Served(listener.getsockname()[1], line, server.server_state.connections)
    finally:
        await server.shutdown(sockets=[listener])


def refusal(raw: bytes) -> tuple[int, int]:
    """HTTP status and contract code of an answer that is the envelope and says that the connection ends."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert b"connection: close" in lines
    assert any(line.startswith(b"x-request-id: ") for line in lines)
    assert b"content-length: %d" % len(body) in lines
    return int(head.split()[1]), json.loads(body)["error"]["code"]


def ask(path: bytes = b"/echo", method: bytes = b"GET", version: bytes = b"1.1", more: bytes = b"") -> bytes:
    """A request that ends its connection unless `more` says otherwise."""
    return method + b" " + path + b" HTTP/" + version + b"\r\n" + HOST + (more or b"Connection: close\r\n") + b"\r\n"


GO_ON = b"X-Request-Id: mine\r\n"


async def until(read: Callable[[], Any]) -> Any:
    async with asyncio.timeout(10):
        while not (found := read()):  # noqa: ASYNC110 - nobody says when
            await asyncio.sleep(0.01)
    return found
