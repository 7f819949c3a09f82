"""A provider that hangs and a flood of pushes keep nobody else's push waiting; what an account must not send, waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from heliograph.app.agent_line import register_agent
from heliograph.app.dispatch import Dispatcher
from heliograph.app.effects import EFFECTS
from heliograph.app.pushes import PushRequest, send_push
from heliograph.app.quota import AccountQuotas
from heliograph.app.services import Services
from heliograph.app.setup import add_account, add_device, create_organization
from heliograph.domain.deliveries import Push
from heliograph.domain.devices import Device, Organization, PushTarget
from heliograph.ports.push import Accepted, Outcome, PushMessage
from heliograph.ports.store import UnitOfWork
from heliograph_protocol.messages import Register, Target
from tests.app.conftest import Desk
from tests.app.pushing import Provider, in_place_of_all

FLOOD = 600


@dataclass
class Tenant:
    """An organization with a device that is reached through one provider."""

    services: Services
    organization: Organization
    device: Device

    @property
    def work(self) -> UnitOfWork:
        return self.services.store.unit_of_work(self.organization.id)

    async def send(self, source: str | None = None) -> Push:
        """A push with the organization's key, which lets others go first when it sends many, or by another source."""
        wanted = PushRequest("aosp", self.device.id, "mdmAgent", "silent", None, "x", None)
        return await send_push(self.services, self.work, wanted, source or f"key:{self.organization.slug}")


async def tenant(s: Services, slug: str, provider: str) -> Tenant:
    organization = await create_organization(s, slug)
    if provider != "builtin":
        await add_account(s, organization, provider, "", {"apiKey": "abc"}, True)
    device, _ = await add_device(s, organization, {"platform": "aosp", "name": slug})
    targets = [Target(provider=provider, token="" if provider == "builtin" else "t")]
    await register_agent(s, device, Register(app="mdmAgent", agent_version="1", targets=targets))
    return Tenant(s, organization, device)


@dataclass
class Watched(Provider):
    """Notes to whom it sends, in order; what goes to a device among `hanging` is never answered."""

    order: list[str] = field(default_factory=list)
    hanging: set[str] = field(default_factory=set)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        if target.device_id in self.hanging:
            await asyncio.Event().wait()
        async with self.came:
            self.order.append(target.device_id)
            self.came.notify_all()
        return Accepted(reference=message.id)

    async def reached(self, device: Device) -> int:
        """How many were sent to others until the device was reached."""
        async with asyncio.timeout(60), self.came:
            await self.came.wait_for(lambda: device.id in self.order)
        return self.order.index(device.id)


@asynccontextmanager
async def dispatching(services: Services) -> AsyncIterator[None]:
    running = asyncio.create_task(Dispatcher(services, EFFECTS).run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("flooded", ["pushy", "builtin"])
async def test_a_flood_and_a_hanging_provider_keep_nobody_else_waiting(
    flooded: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick, busy, third = [await tenant(desk.services, f"{name}-org", p) for name, p in (
        ("sick", "pushy"), ("busy", flooded), ("third", "builtin"))]  # fmt: skip
    provider = Watched(hanging={sick.device.id})

    async def always(organization_id: str, kind: str, account_id: str | None) -> Watched:
        return provider

    monkeypatch.setattr(desk.services.providers, "provider", always)
    await asyncio.gather(*(sick.send() for _ in range(100)), *(busy.send() for _ in range(FLOOD)))
    services = replace(desk.services, limits=replace(desk.services.limits, lease_s=0.5))
    async with dispatching(services):
        async with asyncio.timeout(30), provider.came:
            await provider.came.wait_for(lambda: len(provider.order) >= 50)
        before = len(provider.order)
        await third.send()
        # Those that were under way, and what went while it was stored; not the rest of the flood.
        assert await provider.reached(third.device) - before < 200


async def test_what_an_account_must_not_send_this_minute_waits(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    one = await tenant(desk.services, "one-org", "pushy")
    provider = in_place_of_all(desk, monkeypatch)
    monkeypatch.setattr(desk.services.providers, "per_minute", lambda account_id: 600)
    quotas = AccountQuotas(desk.services.store.system, desk.clock, patience_s=0.1)
    desk.services = replace(desk.services, account_quotas=quotas)
    pushes = [await one.send() for _ in range(40)]
    await desk.pay(times=40)
    sent = len(provider.sent)
    assert 1 <= sent < 40
    rungs = [push.rung for p in pushes if (push := await one.work.pushes.find(p.id))]
    assert sorted(rung.value for rung in rungs) == ["accepted"] * sent + ["queued"] * (40 - sent)
    for _ in range(20):
        desk.clock.advance(30)
        await desk.pay(times=40)
    assert len(provider.sent) == 40
