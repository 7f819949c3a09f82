"""A load generator for whole commands: creates over HTTP, and the agents that carry them out.

Run as a process: a line of JSON in, a line out. First `{"do":"connect",…}`, then rounds: `{"do":"burst",…}` creates as
fast as the server takes them, `{"do":"steady",…}` at a given rate.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import uvloop

from bench.http_load import Connection, post
from bench.http_load import connect as connect_http
from bench.line_client import Agent, Journal, connect

_PATIENCE_S = 60.0


class _Id(msgspec.Struct):
    id: str


class _Answer(msgspec.Struct):
    data: _Id


_ANSWER = msgspec.json.Decoder(_Answer)


class Fleet:
    """Connected agents, and the requests that command them."""

    def __init__(self) -> None:
        self._agents: list[Agent] = []
        self._host, self._port = "", 0
        self._requests: list[bytes] = []
        self._next = 0
        self._journal = Journal()

    async def connect(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Connect the agents."""
        began = time.monotonic()
        self._host, self._port = plan["host"], plan["port"]
        self._requests = [post(path, self._host, plan["key"], plan["body"].encode()) for path in plan["paths"]]
        self._agents = await connect(self._host, self._port, plan["secrets"], plan["app"], self._journal)
        return {"connected": len(self._agents), "seconds": time.monotonic() - began}

    async def round(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Create `count` commands (at `rate` a second, if that is given) and wait until all have succeeded."""
        self._journal.woken.clear()
        self._journal.succeeded.clear()
        creator = _Creator(self._host, self._port, plan["count"], plan.get("rate"))
        await creator.open(plan["connections"])
        cpu, began = time.process_time(), time.monotonic()
        await creator.run(self._take)
        await self._settled(creator)
        used = time.process_time() - cpu
        creator.close()
        return {"cpuSeconds": used, **self._figures(creator, began)}

    def _take(self) -> bytes:
        self._next = (self._next + 1) % len(self._requests)
        return self._requests[self._next]

    async def _settled(self, creator: _Creator) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while len(self._journal.succeeded) < len(creator.created) and time.monotonic() < deadline:
            self._journal.changed.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self._journal.changed.wait()
            except TimeoutError:
                continue

    def _figures(self, creator: _Creator, began: float) -> dict[str, Any]:
        succeeded, woken = self._journal.succeeded, self._journal.woken
        ends = sorted(at for command_id, at in succeeded.items() if command_id in creator.created)
        low, high = len(ends) // 5, len(ends) * 4 // 5
        to_success = [succeeded[i] - sent for i, (sent, _) in creator.created.items() if i in succeeded]
        # From the answer that says "queued": the push may even be faster than that.
        to_wake = [max(0.0, woken[i] - answered) for i, (_, answered) in creator.created.items() if i in woken]
        return {
            "count": len(creator.created),
            "succeeded": len(ends),
            "seconds": (ends[-1] - began) if ends else None,
            "steady": (high - low) / (ends[high] - ends[low]) if high > low else None,
            "createsPerSecond": len(creator.created) / creator.seconds,
            "toSuccess": quantiles(to_success),
            "toWake": quantiles(to_wake),
            "woken": len(to_wake),
            "wrong": creator.wrong,
        }


class _Creator:
    """Sends creates on some connections, each with one under way."""

    def __init__(self, host: str, port: int, count: int, rate: float | None) -> None:
        self._host, self._port = host, port
        self._count, self._rate = count, rate
        # Last in, first out: at a low rate few connections are used, and none long enough idle to be closed.
        self._free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
        self._opened = 0
        self.created: dict[str, tuple[float, float]] = {}
        self.wrong: dict[str, int] = {}
        self.seconds = 0.0

    def answered(self, connection: Connection, status: int, body: bytes) -> None:
        """An answer has come."""
        if status == 200:
            self.created[_ANSWER.decode(body).data.id] = (connection.sent_at, time.monotonic())
        else:
            what = f"{status} {body[:200].decode(errors='replace')}"
            self.wrong[what] = self.wrong.get(what, 0) + 1
        self._free.put_nowait(connection)

    async def open(self, connections: int) -> None:
        """Connect."""
        for _ in range(connections):
            self._free.put_nowait(await connect_http(self._host, self._port, self.answered))
        self._opened = connections

    def close(self) -> None:
        """Hang up."""
        while not self._free.empty():
            self._free.get_nowait().close()

    async def run(self, take: Callable[[], bytes]) -> None:
        """Send all, and wait for the answers."""
        began = time.monotonic()
        for number in range(self._count):
            if self._rate is not None:
                pause = began + number / self._rate - time.monotonic()
                if pause > 0:
                    await asyncio.sleep(pause)
            connection = await self._free.get()
            if not connection.is_open:
                connection = await connect_http(self._host, self._port, self.answered)
            connection.send(take())
        idle = [await self._free.get() for _ in range(self._opened)]
        self.seconds = time.monotonic() - began
        for connection in idle:
            self._free.put_nowait(connection)


def quantiles(values: list[float]) -> dict[str, float] | None:
    """Median and 99th percentile."""
    ordered = sorted(values)
    if not ordered:
        return None
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]}


async def serve() -> None:
    """Answer requests for rounds until there are no more."""
    fleet = Fleet()
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        plan = msgspec.json.decode(line)
        answer = await (fleet.connect(plan) if plan["do"] == "connect" else fleet.round(plan))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(serve())
