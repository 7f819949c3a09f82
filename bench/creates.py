"""Creates per second over HTTP, beside pgbench writing the same rows, in alternating rounds of one run."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import pgbench, processes, server, world
from bench.http_load import connect, post

DEVICES = 200
CONNECTIONS = 64
ROUNDS = 3
SECONDS = 5.0

Say = Callable[[str], None]


async def run(
    postgres: world.Postgres | None, say: Say, rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[str, Any]:
    """Measure; `postgres` None = SQLite, which has no pgbench beside it."""
    with tempfile.TemporaryDirectory(prefix="heliograph-bench-") as folder:
        if postgres is None:
            return await _measure(Path(folder), None, None, say, rounds, seconds)
        async with postgres.database() as dsn:
            return await _measure(Path(folder), postgres, dsn, say, rounds, seconds)


async def _measure(
    folder: Path, postgres: world.Postgres | None, dsn: str | None, say: Say, rounds: int, seconds: float
) -> dict[str, Any]:
    say("making the organization and its devices")
    made = await world.build(folder / "data", dsn, "aosp", DEVICES)
    paths = [
        f"/v1/organizations/{made.organization.slug}/mdm/aosp/enterprise/devices/{d.id}/commands" for d in made.devices
    ]
    # Without a dispatcher nothing but the create itself is measured, on either side.
    part = "api" if dsn else "all"
    with server.running(folder / "data", dsn, part) as running, processes.client("http_load", folder) as load:
        address = urlsplit(running.url)
        plan = {
            "host": address.hostname,
            "port": address.port,
            "key": made.key,
            "paths": paths,
            "body": '{"command":"LOCK"}',
            "connections": CONNECTIONS,
        }
        script = None
        if dsn is not None:
            script = await _script(folder, dsn, plan, [d.id for d in made.devices])
        load.ask(**plan, seconds=1.0)  # warm: connections, statements, caches
        measured = [
            await _round(number, load, plan, seconds, running.pids, dsn, script, say) for number in range(1, rounds + 1)
        ]
    return _summary(measured, await postgres.settings() if postgres else None, part)


async def _script(folder: Path, dsn: str, plan: dict[str, Any], device_ids: list[str]) -> Path:
    """pgbench's script, made of the rows of one real create."""
    command_id = await _create_one(plan)
    await pgbench.prepare(dsn, device_ids)
    path = folder / "create.sql"
    path.write_text(pgbench.script(await pgbench.sample(dsn, command_id), device_ids, as_one=True))
    return path


async def _create_one(plan: dict[str, Any]) -> str:
    import msgspec

    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    connection = await connect(plan["host"], plan["port"], lambda _, __, body: answered.set_result(body))
    connection.send(post(plan["paths"][0], plan["host"], plan["key"], plan["body"].encode()))
    answer = msgspec.json.decode(await answered)
    connection.close()
    return str(answer["data"]["id"])


async def _round(
    number: int,
    load: processes.Client,
    plan: dict[str, Any],
    seconds: float,
    pids: Any,
    dsn: str | None,
    script: Path | None,
    say: Say,
) -> dict[str, Any]:
    say(f"round {number}: creates over HTTP")
    meter = processes.CpuMeter.of(*pids)
    answer = await asyncio.to_thread(lambda: load.ask(**plan, seconds=seconds))
    if answer["wrong"]:
        raise processes.ChildFailed(f"the server refused creates: {answer['wrong']}")
    found = {
        "httpPerSecond": answer["count"] / answer["seconds"],
        "serverCpuMicros": meter.seconds() / answer["count"] * 1e6,
        "clientCpuShare": answer["cpuSeconds"] / answer["seconds"],
        "p50Ms": answer["p50"] * 1000,
        "p99Ms": answer["p99"] * 1000,
    }
    if dsn is not None and script is not None:
        say(f"round {number}: pgbench, the same rows")
        found["pgbenchPerSecond"] = await pgbench.run(dsn, script, int(seconds))
        found["ratio"] = found["httpPerSecond"] / found["pgbenchPerSecond"]
    return found


def _summary(rounds: list[dict[str, Any]], settings: dict[str, str] | None, part: str) -> dict[str, Any]:
    medians = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    return {
        "what": "creates over HTTP" + (" ÷ pgbench of the same rows" if settings else ", SQLite"),
        "serves": part,
        "rounds": rounds,
        "median": medians,
        "postgres": settings,
    }
