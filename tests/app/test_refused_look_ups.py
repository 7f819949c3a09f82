"""Google refuses look-ups: they wait together within their budget, and cancels and commands are not held up by it."""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from heliograph.app.cancel_command import cancel_command
from heliograph.app.dispatch import Dispatcher
from heliograph.app.effects import EFFECTS
from heliograph.app.request_command import read_android_request, request_android_command
from heliograph.app.services import Limits, Services
from heliograph.domain.devices import Device
from heliograph.domain.fields import Fields
from heliograph.domain.ids import IdMinter
from heliograph.domain.ladder import Command, Rung
from heliograph.ports.channel import CancelTaken, Gone, IssueAnswer, Operations, Taken, Toll, Unreachable
from heliograph.ports.push import Tools
from heliograph.providers import ProviderRegistry
from heliograph.providers.transport import Connections
from heliograph.store import Hub
from tests.app.conftest import Google, OneChannel
from tests.app.simulated import MemoryStore, SimulatedClock
from tests.schedules.loop import SimulatedLoop
from tests.schedules.process import OpenBox
from tests.schedules.store import ENTERPRISE, ORGANIZATION, Database, device

DEVICES = 200
FAULT_S = 300.0
BUDGET_S = DEVICES * 60 / Limits().look_ups_per_minute
FEW = 12


@dataclass
class Fleet(Google):
    """Many devices, none of which carries anything out. `fault`: how Google answers whoever asks for operations."""

    fault: Unreachable | None = None
    held: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # device → its operations
    looks: list[tuple[float, str]] = field(default_factory=list)
    issued_at: dict[str, float] = field(default_factory=dict)
    cancelled_at: dict[str, float] = field(default_factory=dict)

    async def issue(
        self, device: Device, command: Command, params: Mapping[str, Any], deadline_s: float
    ) -> IssueAnswer:
        self.issued_at[command.id] = asyncio.get_running_loop().time()
        await asyncio.sleep(0.1)
        name = f"{device.external_name}/operations/{len(self.issued_at)}"
        operation = {"name": name, "metadata": {"type": command.type}}
        self.held.setdefault(str(device.external_name), []).append(operation)
        return Taken(name, dict(operation))

    async def operations(self, device: Device, toll: Toll | None = None) -> Operations | Gone | Unreachable:
        if toll is not None and (refused := await toll()) is not None:
            return refused
        self.looks.append((asyncio.get_running_loop().time(), str(device.external_name)))
        fault = self.fault
        await asyncio.sleep(0.1)
        return fault or Operations([dict(op) for op in self.held[str(device.external_name)]])

    async def operation(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        return Unreachable("down")

    async def cancel(self, name: str) -> Any:
        self.cancelled_at[name] = asyncio.get_running_loop().time()
        return CancelTaken()

    def in_a_minute(self, begin: float, end: float) -> int:
        """The most looks within any 60 s of a time."""
        at = [when for when, _ in self.looks if begin <= when < end]
        return max((n + 1 - bisect.bisect_right(at, when - 60) for n, when in enumerate(at)), default=0)

    def first_since(self, begin: float) -> dict[str, float]:
        """When each device was looked at first, from a time on, in that order."""
        found: dict[str, float] = {}
        for when, name in self.looks:
            if when >= begin:
                found.setdefault(name, when - begin)
        return found


@dataclass
class Fault:
    """A server at work on a simulated clock."""

    s: Services
    google: Fleet
    fleet: list[Device]

    async def command(self, of: Device, kind: str = "LOCK") -> Command:
        """A command, each from another source: none is a bulk's."""
        request = read_android_request(Fields({"type": kind, "duration": "86400s"}))
        work = self.s.store.unit_of_work(ORGANIZATION.id)
        return (await request_android_command(self.s, work, of, request, f"key:{of.name}")).command

    async def cancel(self, command: Command) -> None:
        """Ask to cancel a command."""
        work = self.s.store.unit_of_work(ORGANIZATION.id)
        await cancel_command(self.s, work, command.id, command.device_id, "key:person", "over")

    async def now(self, command: Command) -> Command:
        """A command as it is stored now."""
        found = await self.s.store.unit_of_work(ORGANIZATION.id).commands.find(command.id)
        assert found is not None
        return found


async def _services(hub: Hub, clock: SimulatedClock, google: Fleet) -> tuple[Services, list[Device]]:
    database = Database()
    store = MemoryStore(database, hub)
    await store.directory.add_organization(ORGANIZATION, ENTERPRISE)
    facts = {"management_mode": "DEVICE_OWNER", "ownership": "COMPANY_OWNED", "facts": {"apiLevel": 34}}
    fleet = [device(number, **facts) for number in range(1, DEVICES + 1)]
    for known in fleet:
        await store.unit_of_work(ORGANIZATION.id).setup.add_device(known, None)

    async def no_account(*_: str) -> None:
        return None

    services = Services(
        store=store,
        clock=clock,
        new_id=IdMinter(lambda: clock.now() / 1e6, bytes),
        wakeups=hub,
        secrets=OpenBox(),
        providers=ProviderRegistry({}, no_account, OpenBox(), Tools(clock, Connections(clock))),
        channels=OneChannel(google),
    )
    return services, fleet


def simulated(play: Any, fault: Unreachable | None) -> None:
    """Play with a server whose look-ups meet a fault."""

    async def main() -> None:
        google = Fleet(fault=fault)
        services, fleet = await _services(Hub(), SimulatedClock(), google)
        dispatching = asyncio.create_task(Dispatcher(services, EFFECTS).run())
        try:
            await play(Fault(services, google, fleet))
        finally:
            dispatching.cancel()
            await asyncio.gather(dispatching, return_exceptions=True)

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main())


REFUSALS = [Unreachable("no", status=status) for status in (429, 403, 401)] + [Unreachable("no", 20, 429)]


@pytest.mark.parametrize("fault", REFUSALS, ids=["429", "403", "401", "429 with Retry-After"])
def test_refused_look_ups_wait_together_and_go_on_when_it_is_over(fault: Unreachable) -> None:
    async def play(at: Fault) -> None:
        google, per_minute = at.google, at.s.limits.look_ups_per_minute
        await asyncio.gather(*(at.command(of) for of in at.fleet))
        await asyncio.sleep(FAULT_S)
        assert google.in_a_minute(0, FAULT_S) <= per_minute + FEW
        assert google.in_a_minute(60, FAULT_S) <= FEW  # one finds out whether it is over
        google.fault = None
        await asyncio.sleep(at.s.limits.retry_after_cap_s + BUDGET_S)
        healed = google.first_since(FAULT_S)
        assert len(healed) == DEVICES
        assert min(healed.values()) <= at.s.limits.backoff_cap_s + 1
        assert google.in_a_minute(FAULT_S, 2 * FAULT_S) <= per_minute + FEW

    simulated(play, fault)


@pytest.mark.parametrize("fault", REFUSALS[:3], ids=["429", "403", "401"])
def test_cancels_and_commands_go_on_while_look_ups_are_refused(fault: Unreachable) -> None:
    async def play(at: Fault) -> None:
        commands = await asyncio.gather(*(at.command(of) for of in at.fleet))
        await asyncio.sleep(100.05)
        began = asyncio.get_running_loop().time()
        late = [await at.command(of, "REBOOT") for of in at.fleet[:5]]
        await asyncio.gather(*(at.cancel(command) for command in commands[-5:]))
        await asyncio.sleep(5)
        names = {(await at.now(command)).receipt for command in commands[-5:]}
        assert names == set(at.google.cancelled_at)
        assert all(when - began < 1 for when in at.google.cancelled_at.values())
        assert all(at.google.issued_at[command.id] - began < 1 for command in late)
        assert {(await at.now(command)).rung for command in late} == {Rung.ISSUED}

    simulated(play, fault)


def test_look_ups_that_go_unanswered_keep_within_their_budget() -> None:
    async def play(at: Fault) -> None:
        google, per_minute = at.google, at.s.limits.look_ups_per_minute
        for of in at.fleet:
            await at.command(of)
            await asyncio.sleep(60 / per_minute)
        began = asyncio.get_running_loop().time()
        google.fault = Unreachable("Google answered 503", status=503)
        await asyncio.sleep(FAULT_S)
        assert google.in_a_minute(began, began + FAULT_S) <= per_minute + FEW
        google.fault = None
        await asyncio.sleep(BUDGET_S + 1)
        assert len(google.first_since(began + FAULT_S)) == DEVICES

    simulated(play, None)


def test_a_lone_device_is_looked_at_soon_after_a_fault() -> None:
    async def play(at: Fault) -> None:
        command = await at.command(at.fleet[0])
        await asyncio.sleep(FAULT_S)
        at.google.fault = None
        [operations] = at.google.held.values()
        operations[0]["done"] = True
        await asyncio.sleep(at.s.limits.backoff_cap_s + 1)
        assert (await at.now(command)).rung is Rung.SUCCEEDED

    simulated(play, REFUSALS[0])
