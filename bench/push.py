"""CPU per push through the whole path: API, PostgreSQL, dispatcher, provider, the lab's APNs or FCM over TLS.

Beside it in the same rounds: sygnal where it is at hand (see `bench.push_sygnal`), the same path without a rule in it
(`bench.bare_path`), our HTTP/2 transport alone, aioapns or firebase-admin, and h2load on the same fake.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import msgspec
from pydantic import SecretStr

from bench import h2load, processes, push_bare, push_fake, push_sygnal, server, world
from bench.acknowledged import Creator
from bench.http_load import post
from bench.push_senders import TEXT, TITLE
from heliograph.app import setup
from heliograph.app.agent_line import register_agent
from heliograph.bootstrap import open_node
from heliograph.domain.devices import COMMAND_APP
from heliograph.settings import Settings
from heliograph_protocol.messages import Register, Target

PUSHES = 5_000
DEVICES = 500
ROUNDS = 3
PEERS = {"apns": "aioapns", "fcm": "firebaseAdmin"}
"""The library that others use for a service; it sends fewer."""
_PEERS_SHARE = 10
_WITHIN_S = 300

Say = Callable[[str], None]


async def run(
    postgres: world.Postgres, kind: str, say: Say, rounds: int = ROUNDS, count: int = PUSHES
) -> dict[str, Any]:
    """Measure one provider (`apns` or `fcm`)."""
    with tempfile.TemporaryDirectory(prefix="heliograph-bench-") as name:
        folder = Path(name)
        async with postgres.database() as dsn:
            with push_fake.running(folder) as fake:
                say(f"making {DEVICES} devices")
                made = await _world(folder, dsn, kind, fake)
                measured = await _rounds(_Bench(postgres, dsn, folder, kind, fake, made, count, say), rounds)
        return {
            "what": f"pushes through {kind}, from the API until accepted",
            "pushes": count,
            "rounds": measured,
            "median": {key: statistics.median(r[key] for r in measured) for key in measured[0]},
            "postgres": await postgres.settings(),
        }


async def _world(folder: Path, dsn: str, kind: str, fake: push_fake.Fake) -> world.World:
    """An organization whose devices are reached through the provider alone."""
    made = await world.build(folder / "data", dsn, push_fake.PLATFORMS[kind], DEVICES)
    async with open_node(Settings(data_dir=made.data_dir, database=SecretStr(dsn))) as node:
        s = node.services
        await setup.add_account(s, made.organization, kind, "bench", fake.settings(kind), is_default=True)
        for number, device in enumerate(made.devices):
            address = Target(provider=kind, token=push_fake.address_of(kind, number))
            await register_agent(s, device, Register(app=COMMAND_APP, agent_version="1", targets=[address]))
    return made


@dataclass(frozen=True, slots=True)
class _Bench:
    postgres: world.Postgres
    dsn: str
    folder: Path
    kind: str
    fake: push_fake.Fake
    made: world.World
    count: int
    say: Say


@dataclass(frozen=True, slots=True)
class _Running:
    """What is measured; `gateways`: sygnal by its name in the figures."""

    server: server.Server
    gateways: dict[str, push_sygnal.Sygnal]
    bare_path: push_bare.Bare
    transport: processes.Client
    peer: processes.Client
    sample: dict[str, Any]


async def _rounds(bench: _Bench, rounds: int) -> list[dict[str, float]]:
    async with contextlib.AsyncExitStack() as stack:
        running = stack.enter_context(server.running(bench.made.data_dir, bench.dsn))
        gateways = _gateways(bench, stack)
        dsn = await stack.enter_async_context(bench.postgres.database())
        bare_path = stack.enter_context(push_bare.running(bench.folder, dsn, bench.kind, bench.fake, bench.count))
        transport = stack.enter_context(processes.client("push_senders", bench.folder))
        settings = bench.fake.settings(bench.kind)
        told = await asyncio.to_thread(lambda: transport.ask(prepare=bench.kind, settings=settings, count=bench.count))
        peer = stack.enter_context(
            processes.client("push_senders", bench.folder, SSL_CERT_FILE=bench.fake.urls["caPath"], NO_PROXY="*")
        )
        few = bench.count // _PEERS_SHARE
        await asyncio.to_thread(lambda: peer.ask(prepare=PEERS[bench.kind], settings=settings, count=few))
        bench.say("warming up")
        await _through_the_server(bench, running, bench.count // 10)
        for name, gateway in gateways.items():
            await _through_sygnal(bench, name, gateway, bench.count // 10)
        await _through_bare_path(bench, bare_path, bench.count // 10)
        all_of_it = _Running(running, gateways, bare_path, transport, peer, told["sample"])
        return [await _round(bench, number, all_of_it) for number in range(1, rounds + 1)]


def _gateways(bench: _Bench, stack: contextlib.AsyncExitStack) -> dict[str, push_sygnal.Sygnal]:
    checkout = push_sygnal.checkout()
    if checkout is None or bench.kind not in push_sygnal.KINDS:
        return {}
    bench.say("starting sygnal")
    return {
        name: stack.enter_context(push_sygnal.running(checkout, bench.folder, name, bench.fake))
        for name in push_sygnal.LOGGING
    }


async def _round(bench: _Bench, number: int, running: _Running) -> dict[str, float]:
    bench.say(f"{bench.kind}, round {number}: {bench.count:,} pushes through the server")
    found = await _through_the_server(bench, running.server, bench.count)
    for name, gateway in running.gateways.items():
        bench.say(f"{bench.kind}, round {number}: {bench.count:,} pushes through {name}")
        found |= await _through_sygnal(bench, name, gateway, bench.count)
        found[f"serverTo{name[0].upper()}{name[1:]}"] = found["serverCpuMicros"] / found[f"{name}CpuMicros"]
    bench.say(f"{bench.kind}, round {number}: the path without a rule in it")
    found |= await _through_bare_path(bench, running.bare_path, bench.count)
    bench.say(f"{bench.kind}, round {number}: the transport alone")
    found |= await _alone(running.transport, "transport", bench.count)
    bench.say(f"{bench.kind}, round {number}: {PEERS[bench.kind]}")
    found |= await _alone(running.peer, PEERS[bench.kind], bench.count // _PEERS_SHARE)
    bench.say(f"{bench.kind}, round {number}: h2load")
    url = bench.fake.urls[f"{bench.kind}Url"]
    return found | {"h2loadPerSecond": await h2load.per_second(url, running.sample, bench.count, bench.folder)}


async def _through_sygnal(bench: _Bench, name: str, gateway: push_sygnal.Sygnal, count: int) -> dict[str, float]:
    return await _through(bench, name, count, push_sygnal.send(gateway, count, DEVICES))


async def _through_bare_path(bench: _Bench, bare_path: push_bare.Bare, count: int) -> dict[str, float]:
    return await _through(bench, "barePath", count, push_bare.send(bare_path, count, DEVICES))


async def _through(bench: _Bench, name: str, count: int, sending: Awaitable[dict[str, float]]) -> dict[str, float]:
    taken = bench.fake.taken(bench.kind)
    used = await sending
    taken = bench.fake.taken(bench.kind) - taken
    if taken != count:
        raise processes.ChildFailed(f"of {count} pushes through {name} the provider took {taken}")
    return {f"{name}CpuMicros": used["cpuSeconds"] / count * 1e6, f"{name}PerSecond": count / used["seconds"]}


async def _alone(client: processes.Client, name: str, count: int) -> dict[str, float]:
    answer = await asyncio.to_thread(lambda: client.ask(send=True))
    if answer["taken"] != count:
        raise processes.ChildFailed(f"{name}: {answer['taken']} of {count} pushes were taken")
    return {
        f"{name}CpuMicros": answer["cpuSeconds"] / count * 1e6,
        f"{name}PerSecond": count / answer["seconds"],
    }


async def _through_the_server(bench: _Bench, running: server.Server, count: int) -> dict[str, float]:
    """Send so many over HTTP, and wait until the last is accepted by the provider."""
    address = urlsplit(running.url)
    host, port = address.hostname or "", address.port or 0
    creator = Creator(_requests(bench, host, count))
    taken, settled = bench.fake.taken(bench.kind), await _accepted(bench)
    meter, fakes, database = _meters(running, bench.fake, await bench.postgres.meter())
    began = time.monotonic()
    await creator.run(host, port)
    created = time.monotonic() - began
    lasted, used = await _settled(bench, began) - began, meter.seconds()
    taken, settled = bench.fake.taken(bench.kind) - taken, await _accepted(bench) - settled
    if (taken, settled) != (count, count):
        raise processes.ChildFailed(f"of {count} pushes the provider took {taken}, and {settled} are accepted")
    return {
        "serverCpuMicros": used / count * 1e6,
        "perSecond": count / lasted,
        "sendsPerSecond": count / created,
        "databaseCpuMicros": (database.seconds() or 0) / count * 1e6,
        "fakeCpuMicros": fakes.seconds() / count * 1e6,
    }


def _meters(
    running: server.Server, fake: push_fake.Fake, database: processes.PostgresMeter
) -> tuple[processes.CpuMeter, processes.CpuMeter, processes.PostgresMeter]:
    return processes.CpuMeter.of(*running.pids), processes.CpuMeter.of(fake.pid), database


def _requests(bench: _Bench, host: str, count: int) -> list[bytes]:
    path = f"/v1/organizations/{bench.made.organization.slug}/mdm/push-notifications/send"
    wanted: dict[str, Any] = {
        "app": COMMAND_APP,
        "type": "notification",
        "notification": {"title": TITLE, "body": TEXT},
    }
    bodies = [
        msgspec.json.encode(wanted | {"os": device.platform, "identifier": device.id}) for device in bench.made.devices
    ]
    return [post(path, host, bench.made.key, bodies[number % len(bodies)]) for number in range(count)]


async def _settled(bench: _Bench, began: float) -> float:
    """Wait until nothing is owed any more; when that was. Over one connection, for its own cost counts too."""
    connection = await asyncpg.connect(bench.dsn)
    try:
        while await connection.fetchval("SELECT EXISTS (SELECT FROM outbox WHERE kind = 'push')"):
            if time.monotonic() - began > _WITHIN_S:
                raise processes.ChildFailed("pushes were left in the queue")
            await asyncio.sleep(0.05)
        return time.monotonic()
    finally:
        await connection.close()


async def _accepted(bench: _Bench) -> int:
    [row] = await bench.postgres.execute("SELECT count(*) FROM pushes WHERE rung = 'accepted'", bench.dsn)
    return int(row[0])
