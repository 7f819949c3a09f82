"""Commands delivered and acknowledged per second, by real WebSocket sessions of many agents, on PostgreSQL."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import msgspec

from bench import processes, server, world
from bench.http_load import Connection, connect, post

DEVICES = 1_000
COMMANDS = 5
ROUNDS = 3
HISTORY = 10_000
CREATORS = 32

Say = Callable[[str], None]


async def run(postgres: world.Postgres, say: Say, devices: int = DEVICES, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure throughput in rounds, then a check-in with and without a long history."""
    with tempfile.TemporaryDirectory(prefix="heliograph-bench-") as name:
        async with postgres.database() as dsn:
            folder = Path(name)
            say(f"making {devices} devices")
            made = await world.build(folder / "data", dsn, "aosp", devices)
            with server.running(folder / "data", dsn) as running, processes.client("agents", folder) as agents:
                say(f"connecting {devices} agents")
                await asyncio.to_thread(lambda: agents.ask(connect=running.url, secrets=made.agent_secrets))
                measured = [await _round(n, made, running, agents, say) for n in range(1, rounds + 1)]
                history = await _with_history(made, running, dsn, say)
            return {
                "what": "commands delivered and acknowledged",
                "devices": devices,
                "rounds": measured,
                "median": {key: statistics.median(r[key] for r in measured) for key in measured[0]},
                "checkIn": history,
                "postgres": await postgres.settings(),
            }


class Creator:
    """Creates commands over HTTP, a fixed number of requests under way. To be made where an event loop runs."""

    def __init__(self, requests: list[bytes]) -> None:
        self._requests = iter(requests)
        self._left = len(requests)
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.made: dict[str, float] = {}  # id → when the request was sent

    def _answered(self, connection: Connection, status: int, body: bytes) -> None:
        if self._finished.done():  # a request was refused meanwhile
            return
        if status != 200 or not self._took(connection, body):
            # Raised here, the error would end in the event loop's log.
            self._finished.set_exception(processes.ChildFailed(f"a request was refused: {status} {body[:200]!r}"))
            return
        self._left -= 1
        if self._left == 0:
            self._finished.set_result(None)
        self._next(connection)

    def _took(self, connection: Connection, body: bytes) -> bool:
        """Whether an answer with status 200 says that it is done."""
        self.made[msgspec.json.decode(body)["data"]["id"]] = connection.sent_at
        return True

    def _next(self, connection: Connection) -> None:
        request = next(self._requests, None)
        if request is not None:
            connection.send(request)

    async def run(self, host: str, port: int) -> None:
        """Send them all. ChildFailed for the first that is refused."""
        opened = [await connect(host, port, self._answered) for _ in range(CREATORS)]
        try:
            for connection in opened:
                self._next(connection)
            await self._finished
        finally:
            for connection in opened:
                connection.close()


def _requests(made: world.World, host: str) -> list[bytes]:
    root = f"/v1/organizations/{made.organization.slug}/mdm/aosp/enterprise/devices"
    paths = [f"{root}/{device.id}/commands" for device in made.devices[:-1]]
    return [post(path, host, made.key, b'{"command":"LOCK"}') for _ in range(COMMANDS) for path in paths]


async def _round(
    number: int, made: world.World, running: server.Server, agents: processes.Client, say: Say
) -> dict[str, Any]:
    address = urlsplit(running.url)
    host, port = address.hostname or "", address.port or 0
    requests = _requests(made, host)
    say(f"round {number}: {len(requests)} commands")
    creator = Creator(requests)
    meter = processes.CpuMeter.of(*running.pids)
    began = time.monotonic()
    watching = asyncio.create_task(asyncio.to_thread(lambda: agents.ask(watch=len(requests))))
    await creator.run(host, port)
    created = time.monotonic() - began
    answer = await watching
    # The monotonic clock is one for all processes of a machine.
    ended = max(answer["done"].values())
    waits = sorted(answer["done"][key] - sent for key, sent in creator.made.items())
    wakes = sorted(answer["heard"][key] - sent for key, sent in creator.made.items() if key in answer["heard"])
    return {
        "perSecond": len(requests) / (ended - began),
        "createsPerSecond": len(requests) / created,
        "serverCpuMicros": meter.seconds() / len(requests) * 1e6,
        "createToAgentP50Ms": waits[len(waits) // 2] * 1000,
        "createToAgentP99Ms": waits[int(len(waits) * 0.99)] * 1000,
        "createToWakeP50Ms": wakes[len(wakes) // 2] * 1000 if wakes else None,
    }


async def _with_history(made: world.World, running: server.Server, dsn: str, say: Say) -> dict[str, Any]:
    """The p99 of a check-in over HTTP, at 0 and at `HISTORY` finished commands of the device."""
    fresh, old = made.devices[-1], made.devices[0]  # the last has never had a command
    connection = await asyncpg.connect(dsn)
    try:
        say(f"writing {HISTORY} finished commands")
        await _write_history(connection, old.organization_id, old.id)
    finally:
        await connection.close()
    found: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(5):
        for name, device in (("without", fresh), ("with", old)):
            say(f"check-ins {name} history")
            found[name] += await _check_ins(running.url, made.agent_secrets[made.devices.index(device)])
    p99 = {name: sorted(times)[int(len(times) * 0.99)] * 1000 for name, times in found.items()}
    p50 = {name: statistics.median(times) * 1000 for name, times in found.items()}
    return {
        "p99Ms": p99,
        "p50Ms": p50,
        "p99Ratio": p99["with"] / p99["without"],
        "p50Ratio": p50["with"] / p50["without"],
    }


async def _write_history(connection: asyncpg.Connection[Any], organization_id: str, device_id: str) -> None:
    """Copies of one finished command of the device."""
    [model] = await connection.fetch(
        "SELECT * FROM commands WHERE organization_id = $1 AND device_id = $2 AND rung = 'succeeded' LIMIT 1",
        organization_id,
        device_id,
    )
    rows = [{**dict(model), "id": f"{number:024x}"} for number in range(HISTORY)]
    await connection.copy_records_to_table(
        "commands", records=[tuple(row.values()) for row in rows], columns=list(rows[0])
    )
    await connection.execute("ANALYZE commands")


async def _check_ins(url: str, secret: str, count: int = 400) -> list[float]:
    address = urlsplit(url)
    times: list[float] = []
    finished = asyncio.Event()
    request = post("/agent/v1/check-in?app=mdmAgent", address.hostname or "", secret, b'{"seq":1,"claim":8}')

    def answered(connection: Connection, status: int, body: bytes) -> None:
        if status != 200:
            raise processes.ChildFailed(f"a check-in was refused: {status} {body[:200]!r}")
        times.append(time.monotonic() - connection.sent_at)
        if len(times) == count:
            finished.set()
        else:
            connection.send(request)

    line = await connect(address.hostname or "", address.port or 0, answered)
    line.send(request)
    await finished.wait()
    line.close()
    return times
