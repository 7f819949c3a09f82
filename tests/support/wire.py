"""A small HTTP server that answers as it is told, also in ways that no well-behaved server would."""

from __future__ import annotations

import asyncio
import contextlib
import json as jsonlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Seen:
    """A request as it came in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))

    @property
    def json(self) -> Any:
        return jsonlib.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. `missing`: bytes announced and never sent. `keep`: leave the connection open afterwards."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0
    keep: bool = False

    def wire(self) -> bytes:
        head = [f"HTTP/1.1 {self.status} Whatever", f"Content-Length: {len(self.body) + self.missing}"]
        head += [f"{name}: {value}" for name, value in self.headers.items()]
        head += [] if self.keep else ["Connection: close"]
        return "\r\n".join([*head, "", ""]).encode() + self.body


@dataclass(frozen=True)
class Raw:
    """Bytes, then the end of the connection, unless `keep`. Empty = the connection is cut without an answer."""

    data: bytes = b""
    keep: bool = False


class Hang:
    """No answer, ever."""


Action = Answer | Raw | Hang


def json_answer(body: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, jsonlib.dumps(body).encode(), {name.replace("_", "-"): v for name, v in headers.items()})


class Wire:
    """`answers` are used up one after the other; then `handler` (or `otherwise`) answers.

    `read` takes one request off a connection; None at its end. It is HTTP's, unless a test speaks something else.
    """

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.answers: deque[Action] = deque()
        self.otherwise: Action = Answer()
        self.handler: Callable[[Seen], Action] | None = None
        self.read: Callable[[asyncio.StreamReader], Awaitable[Seen | None]] = read_http
        self.got_one = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self._connections: set[asyncio.Task[None]] = set()

    def _next(self, seen: Seen) -> Action:
        if self.answers:
            return self.answers.popleft()
        return self.handler(seen) if self.handler else self.otherwise

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while (seen := await self.read(reader)) is not None:
                self.seen.append(seen)
                self.got_one.set()
                await self.may_answer.wait()
                action = self._next(seen)
                if isinstance(action, Hang):
                    await reader.read()  # until the client lets go
                    break
                writer.write(action.wire() if isinstance(action, Answer) else action.data)
                await writer.drain()
                if not action.keep:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Wire]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in list(self._connections):
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await server.wait_closed()


async def read_http(reader: asyncio.StreamReader) -> Seen | None:
    """One HTTP request."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, target, headers, body)


async def closed_port() -> str:
    """An address where nobody listens."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"http://127.0.0.1:{port}"
