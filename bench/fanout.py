"""A command to every device of a large fleet through the quota of one Google project, while people go on working.

The server's own dispatcher, quota and store, on simulated time: a run of many minutes takes as long as its work does.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bench import simulated_time
from bench.simulated_google import SimulatedGoogle
from bench.simulated_time import SimulatedClock, SimulatedLoop
from bench.world import ENTERPRISE
from heliograph.app import setup
from heliograph.app.dispatch import Dispatcher
from heliograph.app.effects import EFFECTS
from heliograph.app.quota import Quota
from heliograph.app.request_command import read_android_request, request_android_command
from heliograph.app.services import SECOND, Services
from heliograph.domain.devices import Device, Organization
from heliograph.domain.fields import Fields
from heliograph.domain.ids import IdMinter
from heliograph.domain.ladder import Command
from heliograph.ports.push import Tools
from heliograph.ports.store import UnitOfWork
from heliograph.providers import ProviderRegistry, accounts_in, discover
from heliograph.providers.transport import Connections
from heliograph.store import Hub, SqliteStore, migrate
from heliograph.store.sqlite_writer import Job
from heliograph.system import AesGcmBox
from heliograph.telemetry import configure_logging

DEVICES = 10_000
PER_MINUTE = 600
_EVERY_S = 2.0  # an interactive command comes so often, on average
_SOME = random.Random(7)  # the same run each time
_AT_A_TIME = 200

T = TypeVar("T")
Say = Callable[[str], None]


def run(say: Say, rounds: int = 1, devices: int = DEVICES) -> dict[str, Any]:
    """Measure; each round is the whole fan-out. Blocking: it has an event loop of its own."""
    measured = []
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory(prefix="heliograph-bench-") as folder:
            say(f"round {number}: {devices:,} commands through {PER_MINUTE} requests a minute, simulated")
            measured.append(simulated_time.run(_fan_out(Path(folder), devices)))
    medians = {name: statistics.median(r[name] for r in measured) for name in measured[0]}
    return {
        "what": f"a fan-out to {devices:,} devices, quota {PER_MINUTE}/min, simulated time",
        "rounds": measured,
        "median": medians,
    }


async def _fan_out(folder: Path, count: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    google = SimulatedGoogle(PER_MINUTE)
    began_real_s = time.monotonic()
    store, s = await _services(folder, loop, google)
    try:
        organization, devices = await _fleet(s, count)
        work = store.unit_of_work(organization.id)
        fleet: set[str] = set()
        began_s = loop.time()
        for some in _slices(devices):
            fleet |= {c.id for c in await asyncio.gather(*(_create(s, work, d, "key:fleet") for d in some))}
        people = People(s, work, devices)
        async with _running(Dispatcher(s, EFFECTS).run(), people.work()):
            while not fleet <= google.issued.keys():  # noqa: ASYNC110 - once a simulated second
                await asyncio.sleep(1)
        found = _figures(google, loop.time() - began_s, people) | await people.results()
    finally:
        await store.close()
    return found | {"realSeconds": time.monotonic() - began_real_s}


class People:
    """Others in the organization, who send a command now and then and wait for it."""

    def __init__(self, s: Services, work: UnitOfWork, devices: list[Device]) -> None:
        self._s, self._work, self._devices = s, work, devices
        self.asked: dict[str, float] = {}  # command → when

    async def work(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_SOME.expovariate(1 / _EVERY_S))
            now = asyncio.get_running_loop().time()
            command = await _create(self._s, self._work, _SOME.choice(self._devices), "key:person")
            self.asked[command.id] = now

    async def results(self) -> dict[str, float]:
        """How long they waited for a result, the device's own time included."""
        found = [await self._work.commands.find(command_id) for command_id in self.asked]
        waited = [(c.rung_at - c.created_at) / SECOND for c in found if c is not None and c.is_over]
        return {"resultP50S": share(waited, 0.5), "resultP99S": share(waited, 0.99)}


def _figures(google: SimulatedGoogle, lasted_s: float, people: People) -> dict[str, float]:
    """What the run was like. Google takes no more than the quota in any minute, so that is what can be used."""
    waits = [google.issued[c] - at for c, at in people.asked.items() if c in google.issued]
    still = lasted_s - max(people.asked.values(), default=0)
    assert len(waits) >= len(people.asked) - 2, f"interactive commands were left behind, the last {still:.1f} s ago"
    return {
        "minutes": lasted_s / 60,
        "quotaUsed": len(google.at) / (PER_MINUTE * lasted_s / 60),
        "busiestMinute": google.busiest(),
        "refusedByGoogle": google.refused,
        "issues": google.kinds["issue"],
        "otherRequests": len(google.at) - google.kinds["issue"],
        "interactive": len(waits),
        "waitP50Ms": share(waits, 0.5) * 1000,
        "waitP99Ms": share(waits, 0.99) * 1000,
        "waitMaxMs": max(waits, default=0) * 1000,
    }


def share(values: list[float], part: float) -> float:
    """The value below which this part of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


@contextlib.asynccontextmanager
async def _running(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _services(folder: Path, loop: SimulatedLoop, google: SimulatedGoogle) -> tuple[SqliteStore, Services]:
    configure_logging("ERROR", "text")
    clock, hub = SimulatedClock(loop), Hub()
    store = await SqliteStore.open(folder / "data", hub)
    _count_writes(store, loop)
    await migrate(store)
    box = AesGcmBox(secrets.token_bytes(32))
    services = Services(
        store=store,
        clock=clock,
        new_id=IdMinter(lambda: clock.now() / SECOND, secrets.token_bytes),
        wakeups=hub,
        secrets=box,
        providers=ProviderRegistry(
            discover([]),
            accounts_in(store),
            box,
            Tools(clock, Connections(clock)),
        ),
        channels=google,
        quota=Quota(store.system, clock, PER_MINUTE),
    )
    return store, services


def _count_writes(store: SqliteStore, loop: SimulatedLoop) -> None:
    """Let no time pass while the writer's thread has something to do."""
    writer = store._writer  # noqa: SLF001
    submit = writer.submit

    def ended(_: object) -> None:
        loop.under_way -= 1

    def counted(job: Job, on_done: Callable[[], None] | None = None) -> asyncio.Future[Any]:
        loop.under_way += 1
        future = submit(job, on_done)
        future.add_done_callback(ended)
        return future

    writer.submit = counted  # type: ignore[method-assign]


async def _fleet(s: Services, count: int) -> tuple[Organization, list[Device]]:
    organization = await setup.create_organization(s, "bench")
    await setup.add_enterprise(s, organization, ENTERPRISE, {})
    plain = {"platform": "android", "managementMode": "DEVICE_OWNER", "ownership": "COMPANY_OWNED"}
    made: list[Device] = []
    for some in _slices(range(count)):
        descriptions = [plain | {"externalName": f"{ENTERPRISE}/devices/{number:x}"} for number in some]
        made += [d for d, _ in await asyncio.gather(*(setup.add_device(s, organization, d) for d in descriptions))]
    return organization, made


async def _create(s: Services, work: UnitOfWork, device: Device, source: str) -> Command:
    request = read_android_request(Fields({"type": "LOCK", "duration": "86400s"}))
    return (await request_android_command(s, work, device, request, source)).command


def _slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[at : at + _AT_A_TIME] for at in range(0, len(items), _AT_A_TIME))
