"""A minimal agent: speaks the agent line over a WebSocket, keeps no journal, and runs every command at once.

It does what the reference agent does, in the fewest messages that the protocol asks for: woken by a push it claims,
and what it claimed it reports as acknowledged and succeeded in one check-in.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
import time
from typing import Any, cast

import msgspec

from heliograph_protocol.messages import LINE_PATH, CheckIn, Orders, PushAck, Report

CLAIM = 16  # as many as the reference agent takes on
_ORDERS = msgspec.json.Decoder(Orders)
_ENCODER = msgspec.json.Encoder()
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_NO_MASK = b"\0\0\0\0"  # a mask of zeros is a mask: nothing has to be changed


class Journal:
    """When each command woke its device and when the server took its success, on the clock of all processes."""

    def __init__(self) -> None:
        self.woken: dict[str, float] = {}
        self.succeeded: dict[str, float] = {}
        self.changed = asyncio.Event()


class Agent(asyncio.Protocol):
    """One connected agent. `ready` is set by the first answer."""

    def __init__(self, host: str, secret: str, app: str, journal: Journal) -> None:
        self._host, self._secret, self._app, self._journal = host, secret, app, journal
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._upgraded = False
        self._seq = 0
        self._claiming = False
        self._reported: dict[int, list[str]] = {}
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the WebSocket."""
        self._transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            (
                f"GET {LINE_PATH}?app={self._app} HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                f"Authorization: Bearer {self._secret}\r\n\r\n"
            ).encode("ascii")
        )

    def connection_lost(self, error: Exception | None) -> None:
        """The server went away."""
        self._transport = None
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(self._buffer[:200].decode(errors="replace")))

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what is whole."""
        self._buffer += data
        if not self._upgraded:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.close()
                return
            self._upgraded, self._buffer = True, rest
            self._check_in(claim=True)
        while (frame := self._frame()) is not None:
            self._take(*frame)

    def _frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, at = buffer[1] & 0x7F, 2
        if size == 126:
            if len(buffer) < 4:
                return None
            size, at = struct.unpack_from("!H", buffer, 2)[0], 4
        elif size == 127:
            if len(buffer) < 10:
                return None
            size, at = struct.unpack_from("!Q", buffer, 2)[0], 10
        if len(buffer) < at + size:
            return None
        self._buffer = buffer[at + size :]
        return buffer[0] & 0x0F, buffer[at : at + size]

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == _TEXT:
            self._obey(_ORDERS.decode(payload))
        elif kind == _PING:
            self._send(_PONG, payload)
        elif kind == _CLOSE:
            self.close()

    def _obey(self, orders: Orders) -> None:
        now = time.monotonic()
        empty_handed = False
        if orders.seq:
            empty_handed = self._claiming and not orders.commands
            self._claiming = False
            done = self._reported.pop(orders.seq, ())
            self._journal.succeeded.update(dict.fromkeys(done, now))
            if done:
                self._journal.changed.set()
            if not self.ready.done():
                self.ready.set_result(None)
        for push in orders.pushes:
            if push.command_id is not None:
                self._journal.woken.setdefault(push.command_id, now)
        more = bool(orders.pushes or orders.waiting or orders.more) and not empty_handed and not self._claiming
        if more or orders.pushes or orders.commands:
            self._check_in(claim=more, orders=orders)

    def _check_in(self, *, claim: bool, orders: Orders | None = None) -> None:
        self._seq += 1
        self._claiming = self._claiming or claim
        at = "2026-01-01T00:00:00Z"  # evidence only
        acks, reports = [], []
        if orders is not None:
            acks = [PushAck(id=push.id, at=at) for push in orders.pushes]
            ids = [command.id for command in orders.commands]
            for command_id in ids:
                reports.append(Report(command_id=command_id, rung="acknowledged", at=at))
                reports.append(Report(command_id=command_id, rung="succeeded", at=at))
            if ids:
                self._reported[self._seq] = ids
        message = CheckIn(seq=self._seq, claim=CLAIM if claim else 0, push_acks=acks, reports=reports)
        self._send(_TEXT, _ENCODER.encode(message))

    def _send(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | kind, 0x80 | size))
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | kind, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | kind, 0x80 | 127, size)
        if self._transport is not None:
            self._transport.write(head + _NO_MASK + payload)


async def connect(host: str, port: int, secrets: list[str], app: str, journal: Journal) -> list[Agent]:
    """Agents that are connected and have been answered once."""
    loop = asyncio.get_running_loop()
    at_a_time = asyncio.Semaphore(64)

    async def one(secret: str) -> Agent:
        async with at_a_time:
            made: Any = await loop.create_connection(lambda: Agent(host, secret, app, journal), host, port)
            agent: Agent = made[1]
            await asyncio.wait_for(agent.ready, 30)
            return agent

    return list(await asyncio.gather(*(one(secret) for secret in secrets)))
