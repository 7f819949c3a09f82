"""Use cases on simulated time: the store is in memory and waiting costs nothing, so that a test may count seconds."""

from __future__ import annotations

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from heliograph.app.services import SECOND, Services
from heliograph.domain.devices import PushTarget
from heliograph.domain.ids import IdMinter
from heliograph.ports.push import Accepted, Outcome, PushMessage, RetryLater, Tools, Unavailable, WithdrawAnswer
from heliograph.providers import ProviderRegistry, accounts_in, discover
from heliograph.providers.transport import Connections
from heliograph.store import Hub
from tests.app.conftest import Google, OneChannel
from tests.app.pushing import Provider
from tests.schedules.loop import SimulatedLoop
from tests.schedules.process import OpenBox
from tests.schedules.store import BEGAN, Database, ProcessStore

TIMEOUT_S = 10.0  # after which providers give up


class SimulatedClock:
    """Implements ports.clock.Clock on the time of the loop."""

    def now(self) -> int:
        return BEGAN + self.elapsed()

    def elapsed(self) -> int:
        return int(asyncio.get_running_loop().time() * SECOND)


class MemoryStore(ProcessStore):
    """The store of the only process."""

    def __init__(self, database: Database, hub: Hub) -> None:
        super().__init__(database)
        self._hub = hub

    def notify(self, topics: frozenset[str]) -> None:
        self._hub.notify(topics)


@dataclass
class Timed(Provider):
    """Answers for a device after `answers_s` seconds, or not at all where that is longer than a provider waits.

    By device: `began` = when each push was on its way, `most` = how many were so at a time, `taken` = how many it took.
    """

    answers_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(lambda: 0.1))
    withdrawals_hang: bool = False
    began: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    under_way: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        device, lasts_s = target.device_id, self.answers_s[target.device_id]
        self.began[device].append(asyncio.get_running_loop().time())
        self.under_way[device] += 1
        self.most[device] = max(self.most[device], self.under_way[device])
        await asyncio.sleep(min(lasts_s, TIMEOUT_S))
        self.under_way[device] -= 1
        if lasts_s > TIMEOUT_S:
            return RetryLater("no answer in time", uncertain=True)
        self.taken[device] += 1
        return Accepted(reference=message.id)

    async def withdraw(self, reference: str) -> WithdrawAnswer:
        if not self.withdrawals_hang:
            return await super().withdraw(reference)
        await asyncio.sleep(TIMEOUT_S)
        return Unavailable("no answer in time")


@dataclass
class Stage:
    """One process, and one provider behind every account."""

    services: Services
    provider: Timed


def simulate(test: Callable[[Stage], Awaitable[None]]) -> None:
    """Carry out a test on a loop of its own."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(_on_stage(test))


async def _on_stage(test: Callable[[Stage], Awaitable[None]]) -> None:
    clock, hub, box, provider = SimulatedClock(), Hub(), OpenBox(), Timed()
    database = Database()
    store = MemoryStore(database, hub)
    providers = ProviderRegistry(discover([]), accounts_in(store), box, Tools(clock, Connections(clock)))

    async def always(organization_id: str, kind: str, account_id: str | None) -> Timed:
        return provider

    providers.provider = always  # type: ignore[method-assign]
    new_id = IdMinter(lambda: clock.now() / SECOND, os.urandom)
    channels = OneChannel(Google())
    try:
        await test(Stage(Services(store, clock, new_id, hub, box, providers, channels), provider))
    finally:
        await providers.close()
        database.connection.close()
