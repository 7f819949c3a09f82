"""A load generator for HTTP: keep-alive connections, each with one request under way, over loopback.

Run as a process: one line of JSON in, `{"host","port","seconds","connections","requests":[…]}`, one out.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import httptools
import msgspec
import uvloop


class Connection(asyncio.Protocol):
    """One connection; `send` a request, and `on_answer(status, body)` is called with what comes back."""

    def __init__(self, on_answer: Callable[[Connection, int, bytes], None]) -> None:
        self._on_answer = on_answer
        self._waits = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to send."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The server has closed it, as it may between two requests."""
        self._transport = None
        if self._waits:
            self._waits = False
            self._on_answer(self, 0, f"no answer: {error or 'closed'}".encode())

    def data_received(self, data: bytes) -> None:
        """Part of an answer."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Part of an answer's body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The whole of an answer."""
        body = b"".join(self._body)
        self._body.clear()
        self._waits = False
        self._on_answer(self, self._parser.get_status_code(), body)

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None

    def send(self, request: bytes) -> None:
        """Send a request; the answer to the one before must have come."""
        if self._transport is not None:
            self.sent_at, self._waits = time.monotonic(), True
            self._transport.write(request)

    def close(self) -> None:
        """Hang up."""
        self._waits = False
        if self._transport is not None:
            self._transport.close()


def post(path: str, host: str, key: str, body: bytes) -> bytes:
    """A POST request, ready to send."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


async def connect(host: str, port: int, on_answer: Callable[[Connection, int, bytes], None]) -> Connection:
    """An open connection."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(on_answer), host, port)
    return connection


class ClosedLoop:
    """As many requests as the server takes, one under way on each connection."""

    def __init__(self, requests: list[bytes]) -> None:
        self._requests = requests
        self._next = 0
        self._going = True
        self.latencies: list[float] = []
        self.wrong: dict[str, int] = {}

    def _answered(self, connection: Connection, status: int, body: bytes) -> None:
        if self._going:
            self.latencies.append(time.monotonic() - connection.sent_at)
            if status != 200:
                what = f"{status} {body[:200].decode(errors='replace')}"
                self.wrong[what] = self.wrong.get(what, 0) + 1
            self._send(connection)

    def _send(self, connection: Connection) -> None:
        self._next = (self._next + 1) % len(self._requests)
        connection.send(self._requests[self._next])

    async def run(self, host: str, port: int, connections: int, seconds: float) -> dict[str, Any]:
        """The result of one round."""
        opened = [await connect(host, port, self._answered) for _ in range(connections)]
        cpu, began = time.process_time(), time.monotonic()
        for connection in opened:
            self._send(connection)
        await asyncio.sleep(seconds)
        self._going = False
        elapsed, used = time.monotonic() - began, time.process_time() - cpu
        for connection in opened:
            connection.close()
        self.latencies.sort()
        count = len(self.latencies)
        return {
            "count": count,
            "seconds": elapsed,
            "cpuSeconds": used,
            "p50": self.latencies[count // 2] if count else None,
            "p99": self.latencies[int(count * 0.99)] if count else None,
            "wrong": self.wrong,
        }


def main() -> None:
    """Answer requests for rounds until there are no more."""
    for line in sys.stdin.buffer:
        plan = msgspec.json.decode(line)
        requests = [post(path, plan["host"], plan["key"], plan["body"].encode()) for path in plan["paths"]]
        answer = uvloop.run(ClosedLoop(requests).run(plan["host"], plan["port"], plan["connections"], plan["seconds"]))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
