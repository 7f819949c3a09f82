"""Many minimal agents over WebSockets in one process: they claim, and report success at once. No journals.

Run as a process: lines of JSON in, lines of JSON out. `connect` opens the connections; `watch` waits until so many
commands were reported done, and answers when the first was heard of and how long each push took to arrive.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import msgspec
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from heliograph_protocol.messages import LINE_PATH, CheckIn, Orders, PushAck, Report

_AT = "2026-01-01T00:00:00Z"
_ENCODER = msgspec.json.Encoder()
_ORDERS = msgspec.json.Decoder(Orders)
_AT_A_TIME = 50


class Fleet:
    """The agents of this process."""

    def __init__(self) -> None:
        self.heard: dict[str, float] = {}
        self.done: dict[str, float] = {}
        self.changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, url: str, secrets: list[str]) -> None:
        """Open a line for each secret."""
        gate = asyncio.Semaphore(_AT_A_TIME)

        async def one(secret: str) -> None:
            async with gate:
                line = await connect(
                    f"{url.replace('http', 'ws', 1)}{LINE_PATH}?app=mdmAgent",
                    additional_headers={"Authorization": f"Bearer {secret}"},
                    compression=None,
                    proxy=None,
                    ping_interval=None,
                )
            self._tasks.append(asyncio.create_task(self._talk(line)))

        await asyncio.gather(*map(one, secrets))

    async def _talk(self, line: ClientConnection) -> None:
        async for frame in line:
            orders = _ORDERS.decode(frame)
            answer = self._answer(orders)
            if answer is not None:
                await line.send(_ENCODER.encode(answer).decode())

    def _answer(self, orders: Orders) -> CheckIn | None:
        now = time.monotonic()
        for push in orders.pushes:
            if push.command_id is not None:
                self.heard.setdefault(push.command_id, now)
        reports = []
        for command in orders.commands:
            self.done.setdefault(command.id, now)
            reports += [Report(command_id=command.id, rung=rung, at=_AT) for rung in ("acknowledged", "succeeded")]  # type: ignore[arg-type]
        if orders.commands:
            self.changed.set()
        if not (orders.pushes or reports or orders.more):
            return None
        acks = [PushAck(id=push.id, at=_AT) for push in orders.pushes]
        return CheckIn(seq=1, claim=16 if orders.pushes or orders.more else 0, push_acks=acks, reports=reports)


async def main() -> None:
    """Serve requests until there are no more."""
    fleet = Fleet()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        request: dict[str, Any] = msgspec.json.decode(line)
        answer: dict[str, Any] = {"ok": True}
        if "connect" in request:
            await fleet.connect(request["connect"], request["secrets"])
        else:
            while len(fleet.done) < request["watch"]:
                fleet.changed.clear()
                await fleet.changed.wait()
            answer = {"heard": fleet.heard, "done": fleet.done, "cpuSeconds": time.process_time()}
            fleet.heard, fleet.done = {}, {}
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(main())
