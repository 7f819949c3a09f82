"""The bare path as a peer: see `bench.bare_path`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import msgspec

from bench import processes, push_fake
from bench.acknowledged import Creator
from bench.http_load import post
from bench.processes import free_port, wait_until_open
from bench.push_senders import TEXT, TITLE

_HOST, _PATH = "127.0.0.1", "/v1/organizations/bench/mdm/push-notifications/send"
_WITHIN_S = 300


@dataclass(frozen=True, slots=True)
class Bare:
    """One that runs."""

    port: int
    pid: int
    dsn: str
    key: str = field(repr=False)


@contextlib.contextmanager
def running(folder: Path, dsn: str, kind: str, fake: push_fake.Fake, count: int) -> Iterator[Bare]:
    """Run it on a fresh database and the lab's service."""
    log, plan, port, key = folder / "bare.log", folder / "bare.json", free_port(), secrets.token_hex(32)
    wanted = {"dsn": dsn, "kind": kind, "settings": fake.settings(kind), "count": count, "key": key, "port": port}
    plan.write_bytes(msgspec.json.encode(wanted))
    process = processes.start([sys.executable, "-m", "bench.bare_path", str(plan)], log)
    try:
        wait_until_open(port, process, log)
        yield Bare(port, process.pid, dsn, key)
    finally:
        processes.stop(process)


async def send(bare: Bare, count: int, devices: int) -> dict[str, float]:
    """Send so many over HTTP and wait until nothing is owed any more: its CPU, and how long that took."""
    notification = {"title": TITLE, "body": TEXT}
    bodies = [
        msgspec.json.encode(
            {"os": "ios", "identifier": f"{n:024x}", "app": "x", "type": "notification", "notification": notification}
        )
        for n in range(devices)
    ]
    creator = Creator([post(_PATH, _HOST, bare.key, bodies[n % devices]) for n in range(count)])
    meter, began = processes.CpuMeter.of(bare.pid), time.monotonic()
    await creator.run(_HOST, bare.port)
    connection = await asyncpg.connect(bare.dsn)
    try:
        while await connection.fetchval("SELECT EXISTS (SELECT FROM owed)"):
            if time.monotonic() - began > _WITHIN_S:
                raise processes.ChildFailed("the bare path left pushes in its queue")
            await asyncio.sleep(0.05)
    finally:
        await connection.close()
    return {"seconds": time.monotonic() - began, "cpuSeconds": meter.seconds()}
