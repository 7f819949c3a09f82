"""The least that takes a push over HTTP, keeps it in PostgreSQL and hands it to its service: what no server of ours
can undercut. Its parts are ours (HTTP layer, transport, group commit, claims by lease), and there is no rule in it: no
rights but a known key, no history, no evidence, one try, and the requests to the service are made beforehand.

Run as a process: `python -m bench.bare_path PLAN`, a JSON file `{"dsn","kind","settings","count","key","port"}`.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import itertools
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import uvicorn

from bench.push_senders import recorded
from heliograph.http.edge import EXCHANGE
from heliograph.http.server_protocol import ConnectionLimits, HttpProtocol
from heliograph.ports.transport import Answered
from heliograph.providers.transport import Connections
from heliograph.system import SystemClock

TABLES = """
CREATE TABLE pushes (id text PRIMARY KEY, device_id text, message text, state text, created_at bigint);
CREATE TABLE owed (id text PRIMARY KEY, due_at bigint, lease_until bigint DEFAULT 0);
CREATE INDEX ON owed (due_at);
"""
_KEEP = """
WITH kept AS (
    INSERT INTO pushes SELECT id, device, message, 'queued', at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS x (id, device, message, at))
INSERT INTO owed SELECT id, at FROM unnest($1::text[], $4::bigint[]) AS x (id, at)
"""
_CLAIM = """
UPDATE owed SET lease_until = $2 FROM pushes p WHERE p.id = owed.id AND owed.id IN (
    SELECT id FROM owed WHERE due_at <= $1 AND lease_until < $1 ORDER BY due_at LIMIT 64 FOR UPDATE SKIP LOCKED)
RETURNING owed.id, p.message
"""
_RECORD = """
WITH paid AS (DELETE FROM owed WHERE id = ANY($1::text[]))
UPDATE pushes p SET state = x.state FROM unnest($1::text[], $2::text[]) AS x (id, state) WHERE p.id = x.id
"""
_LEASE_US, _LOOK_S, _AT_ONCE, _MOST_ROWS = 15_000_000, 0.5, 256, 128
_TIMEOUT_S = 30.0

Row = tuple[Any, ...]
Write = Callable[..., Awaitable[object]]


class GroupCommit:
    """What waits at the same moment leaves as one statement, whose parameters are the columns."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self._something = asyncio.Event()

    async def put(self, *row: Any) -> None:
        """Return once the row is committed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, future))
        self._something.set()
        await future

    async def run(self) -> None:
        """Commit until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            while batch := self._waiting[:_MOST_ROWS]:
                del self._waiting[: len(batch)]
                await self._write(*(list(column) for column in zip(*(row for row, _ in batch), strict=True)))
                for _, future in batch:
                    future.set_result(None)


class BarePath:
    """The server; see the module."""

    def __init__(self, plan: dict[str, Any], connections: Sequence[Any]) -> None:
        self._keys = {hashlib.sha256(plan["key"].encode()).digest()}
        keeping, claiming, recording = connections
        self._kept = GroupCommit(partial(keeping.fetch, _KEEP))
        self._recorded = GroupCommit(partial(recording.fetch, _RECORD))
        self._claiming = claiming
        self._owed = asyncio.Event()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, plan: dict[str, Any]) -> None:
        """Serve until the process is stopped."""
        recorder = await recorded(plan["kind"], plan["settings"], plan["count"])
        assert recorder.endpoint is not None
        self._requests = itertools.cycle(recorder.requests)
        self._transport = Connections(SystemClock()).at(recorder.endpoint)
        protocol = partial(HttpProtocol, limits=ConnectionLimits())
        config = uvicorn.Config(
            self._accept,
            port=plan["port"],
            interface="asgi3",
            http=protocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            server_header=False,
        )
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        await asyncio.gather(self._kept.run(), self._recorded.run(), self._deliver(), uvicorn.Server(config).serve())

    async def _accept(self, scope: Any, _receive: Any, _send: Any) -> None:
        exchange = scope["extensions"][EXCHANGE]
        token = next(value for name, value in scope["headers"] if name == b"authorization").removeprefix(b"Bearer ")
        if hashlib.sha256(token).digest() not in self._keys:
            raise PermissionError
        asked = msgspec.json.decode(exchange.body())
        push_id, now = secrets.token_hex(12), time.time_ns() // 1000
        await self._kept.put(push_id, asked["identifier"], msgspec.json.encode(asked["notification"]).decode(), now)
        self._owed.set()
        body = msgspec.json.encode({"status": True, "data": {"id": push_id, "status": "queued", "createdAt": now}})
        length = str(len(body)).encode()
        await exchange.answer(200, [(b"content-type", b"application/json"), (b"content-length", length)], body)

    async def _deliver(self) -> None:
        while True:
            now = time.time_ns() // 1000
            rows = await self._claiming.fetch(_CLAIM, now, now + _LEASE_US)
            for push_id, message in rows:
                await self._places.acquire()
                task = asyncio.create_task(self._send(push_id, message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if not rows:
                self._owed.clear()
                await asyncio.wait({asyncio.ensure_future(self._owed.wait())}, timeout=_LOOK_S)

    async def _send(self, push_id: str, message: str) -> None:
        msgspec.json.decode(message)
        path, headers, body = next(self._requests)
        answer = await self._transport.post(path, headers, body, _TIMEOUT_S)
        taken = isinstance(answer, Answered) and answer.status == 200
        await self._recorded.put(push_id, "accepted" if taken else "rejected")
        self._places.release()


async def _main(plan: dict[str, Any]) -> None:
    connections = [await asyncpg.connect(plan["dsn"]) for _ in range(3)]
    await connections[0].execute(TABLES)
    await BarePath(plan, connections).run(plan)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(msgspec.json.decode(Path(sys.argv[1]).read_bytes())))
