"""Accounts whose provider hangs, however many, keep nobody else's push waiting; one that is only slow is used."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from heliograph.app.agent_line import check_in, register_agent
from heliograph.app.places import QUICK_S
from heliograph.app.setup import add_account, add_device
from heliograph.domain.deliveries import Push, PushRung
from heliograph.ports.changes import OutboxItem
from heliograph.ports.system import NONE_SHUT
from heliograph_protocol.messages import MAX_ITEMS, CheckIn, PushAck, Register, Target
from tests.app.simulated import TIMEOUT_S, Stage, simulate
from tests.app.test_push_fairness import Tenant, dispatching, tenant
from tests.providers.test_webpush import BASE, subscription

AT_ONCE_S = 0.05
EVERY_S = 1.03  # the third sends, at changing moments of what the others do


async def accounts_of_one(stage: Stage, count: int) -> list[Tenant]:
    """An organization with so many accounts, and a device at each."""
    s, sick = stage.services, await tenant(stage.services, "sick-org", "pushy")
    tenants = [sick]
    for n in range(1, count):
        account = await add_account(s, sick.organization, "pushy", f"a{n}", {"apiKey": f"k{n}"}, False)
        wanted = {"platform": "aosp", "name": f"s{n}", "providerAccount": account.id}
        device, _ = await add_device(s, sick.organization, wanted)
        message = Register(app="mdmAgent", agent_version="1", targets=[Target(provider="pushy", token="t")])
        await register_agent(s, device, message)
        tenants.append(Tenant(s, sick.organization, device))
    return tenants


async def organizations(stage: Stage, count: int) -> list[Tenant]:
    """So many organizations with an account and a device each."""
    return [await tenant(stage.services, f"sick-{n}", "pushy") for n in range(count)]


async def hang(stage: Stage, tenants: list[Tenant], each: int = 100, source: str | None = None) -> None:
    """Each has pushes queued with a provider that does not answer."""
    for one in tenants:
        stage.provider.answers_s[one.device.id] = 3 * TIMEOUT_S
        for _ in range(each):
            await one.send(source)


async def waits_of(stage: Stage, third: Tenant, times: int) -> list[float]:
    """How long each of the third's pushes waits until it is on its way; `EVERY_S` = longer."""
    loop, began = asyncio.get_running_loop(), stage.provider.began[third.device.id]
    waits = []
    for _ in range(times):
        at = loop.time()
        await third.send()
        await asyncio.sleep(EVERY_S)
        waits.append(next((start - at for start in began if start >= at), EVERY_S))
    return waits


@pytest.mark.parametrize("source", ["operator", None], ids=["each in its turn", "in bulk"])
@pytest.mark.parametrize(("make", "count"), [(accounts_of_one, 5), (organizations, 6)])
def test_accounts_that_hang_keep_nobody_else_waiting(
    make: Callable[[Stage, int], Awaitable[list[Tenant]]], count: int, source: str | None
) -> None:
    async def course(stage: Stage) -> None:
        third = await tenant(stage.services, "third-org", "pushy")
        await hang(stage, await make(stage, count), source=source)
        async with dispatching(stage.services):
            waits = await waits_of(stage, third, 30)
        # At first nobody knows of them: they have all places, twice at the most, until it shows.
        assert waits[0] < 2 * QUICK_S + AT_ONCE_S
        assert max(waits[1:]) < AT_ONCE_S

    simulate(course)


async def taken_by_two(stage: Stage, sick: Tenant, count: int) -> list[Push]:
    """Pushes that were taken by one provider and, not being acknowledged, by another."""
    s = stage.services
    await add_account(s, sick.organization, "webpush", "", {**BASE}, True)
    relay = Target(provider="webpush", token=subscription("https://push.example/x"))
    targets = [Target(provider="pushy", token="t"), relay]
    await register_agent(s, sick.device, Register(app="mdmAgent", agent_version="1", targets=targets))
    pushes = [await sick.send() for _ in range(count)]
    await asyncio.sleep(130)
    return pushes


def test_withdrawals_that_hang_keep_nobody_else_waiting() -> None:
    async def course(stage: Stage) -> None:
        sick, third = [await tenant(stage.services, slug, "pushy") for slug in ("sick-org", "third-org")]
        async with dispatching(stage.services):
            pushes = await taken_by_two(stage, sick, 200)
            stage.provider.withdrawals_hang = True
            for n in range(0, len(pushes), MAX_ITEMS):
                acks = [PushAck(id=push.id, at="now") for push in pushes[n : n + MAX_ITEMS]]
                await check_in(stage.services, sick.device, "mdmAgent", CheckIn(seq=n + 1, push_acks=acks))
            push = await sick.work.pushes.find(pushes[0].id)
            assert push is not None
            assert (push.rung, [leg.provider for leg in push.legs or ()]) == (PushRung.ACKNOWLEDGED, ["pushy"])
            assert max(await waits_of(stage, third, 20)) < AT_ONCE_S

    simulate(course)


def test_an_account_that_is_only_slow_keeps_its_share() -> None:
    async def course(stage: Stage) -> None:
        slow = await tenant(stage.services, "slow-org", "pushy")
        await hang(stage, await organizations(stage, 6), each=80)
        stage.provider.answers_s[slow.device.id] = 5.0
        for _ in range(800):
            await slow.send()
        async with dispatching(stage.services):
            await asyncio.sleep(10)
            before = stage.provider.taken[slow.device.id]
            await asyncio.sleep(30)
            taken = stage.provider.taken[slow.device.id] - before
        share = stage.services.limits.pool_concurrency
        assert taken >= 0.9 * share * 30 / 5
        assert max(stage.provider.most.values()) <= 2 * share

    simulate(course)


def test_many_that_hang_leave_room_and_nobody_looks_for_work_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    async def course(stage: Stage) -> None:
        limits = replace(stage.services.limits, dispatch_concurrency=16, pool_concurrency=16)
        services = replace(stage.services, limits=limits)
        third = await tenant(services, "third-org", "pushy")
        await hang(stage, await organizations(stage, 20), each=15)
        looks: Counter[int] = Counter()
        system, under_way = services.store.system, stage.provider.under_way
        claim = system.claim

        async def counted(
            now: int, until: int, limit: int, shut: Sequence[Sequence[str]] = NONE_SHUT
        ) -> list[OutboxItem]:
            looks[int(asyncio.get_running_loop().time())] += 1
            return await claim(now, until, limit, shut)

        monkeypatch.setattr(system, "claim", counted)
        async with dispatching(services):
            await asyncio.sleep(6)
            assert 100 < under_way.total() < 8 * 16
            looks.clear()
            await asyncio.sleep(3)  # nothing ends
            assert looks.total() <= 2
            assert max(await waits_of(stage, third, 20)) < AT_ONCE_S

    simulate(course)


def test_more_accounts_that_hang_than_may_be_under_way_keep_nobody_else_waiting() -> None:
    """As with 2,100 accounts and the usual limits; one organization may make them all."""

    async def course(stage: Stage) -> None:
        limits = replace(stage.services.limits, dispatch_concurrency=16, pool_concurrency=16)
        stage.services = replace(stage.services, limits=limits)
        third = await tenant(stage.services, "third-org", "pushy")
        await hang(stage, await organizations(stage, 140), each=10, source="operator")
        loop, waits = asyncio.get_running_loop(), []
        async with dispatching(stage.services):
            await asyncio.sleep(60)
            for _ in range(10):
                at = loop.time()
                await third.send("operator")
                await asyncio.sleep(120)
                waits.append(next((round(b - at, 1) for b in stage.provider.began[third.device.id] if b >= at), 120.0))
        assert max(waits) < 0.5, waits

    simulate(course)
