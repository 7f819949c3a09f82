"""How much memory bodies take that have not come to their end, before anybody knows who sends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from heliograph.http import edge
from heliograph.http.answers import Answer, Request
from heliograph.http.edge import MAX_BODY, Edge, Routes

PIECE = bytes(MAX_BODY // 4)
PATH = "/v1/x"


async def _echo(request: Request) -> Answer:
    return Answer(b"%d" % len(request.body))


async def _no_line(*_: Any) -> None:
    raise AssertionError


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Edge:
    monkeypatch.setattr(edge, "MAX_COMING", 2 * MAX_BODY)
    return Edge(Routes([("POST", PATH, _echo)]), _no_line, "/line", structlog.get_logger())


class Client:
    """One request that comes piece by piece."""

    def __init__(self, app: Edge) -> None:
        self._app = app
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.status: int | None = None
        self.answered = bytearray()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        headers = [(b"transfer-encoding", b"chunked")]
        scope = {"type": "http", "method": "POST", "path": PATH, "query_string": b"", "headers": headers}
        self._task = asyncio.create_task(self._app(scope, self._hear, self._send))

    async def say(self, body: bytes, *, more: bool = True) -> None:
        self._said.put_nowait({"type": "http.request", "body": body, "more_body": more})
        await self._said.join()
        for _ in range(3):  # what the application does with it
            await asyncio.sleep(0)

    async def leave(self) -> None:
        self._said.put_nowait({"type": "http.disconnect"})
        assert self._task is not None
        await self._task

    async def _hear(self) -> MutableMapping[str, Any]:
        message = await self._said.get()
        self._said.task_done()
        return message

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.status = message.get("status", self.status)
        self.answered += message.get("body", b"")


@asynccontextmanager
async def come(app: Edge, pieces: int) -> AsyncIterator[list[Client]]:
    """Requests of three pieces so far each, which go on."""
    clients = [Client(app) for _ in range(pieces // 3)]
    for client in clients:
        client.start()
        for _ in range(3):
            await client.say(PIECE)
    yield clients
    for client in clients:
        await client.leave()


async def test_what_comes_beyond_is_told_to_come_again(app: Edge) -> None:
    async with come(app, 6) as clients:  # one and a half of the two that there are
        late = Client(app)
        late.start()
        for _ in range(2):
            await late.say(PIECE)
        assert [late.status] == [None]
        await late.say(PIECE)
        assert late.status == 503
        assert [client.status for client in clients] == [None, None]
        await late.leave()
        await clients[0].say(b"", more=False)
        assert (clients[0].status, bytes(clients[0].answered)) == (200, b"%d" % (3 * len(PIECE)))


async def test_who_has_left_or_was_refused_takes_none_of_it(app: Edge) -> None:
    for _ in range(3):
        async with come(app, 6):
            pass
        too_large = Client(app)
        too_large.start()
        for _ in range(5):
            await too_large.say(PIECE)
        await too_large.leave()
        assert too_large.status == 413
    async with come(app, 6) as clients:
        assert [client.status for client in clients] == [None, None]


async def test_a_whole_body_takes_none_of_it_any_more(app: Edge) -> None:
    for _ in range(5):
        client = Client(app)
        client.start()
        for number in range(4):
            await client.say(PIECE, more=number < 3)
        assert client.status == 200
