"""A push service that hangs keeps no push to another service waiting, though both are used through one account."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import pytest

from heliograph.app.agent_line import register_agent
from heliograph.app.setup import add_account, add_device
from heliograph.domain.deliveries import PushRung
from heliograph.outbound import Exchange, NoReply, Outbound, Reply
from heliograph_protocol.messages import Register, Target
from tests.app.simulated import TIMEOUT_S, Stage, simulate
from tests.app.test_push_fairness import Tenant, dispatching, tenant
from tests.providers.test_webpush import BASE, subscription

AT_ONCE_S = 0.05
EVERY_S = 7.3  # at changing moments of what hangs


@dataclass
class Web:
    """Push services by their host, which answer after so many seconds where they are waited for so long.

    `lost_every`: of so many requests one is not answered. `began`: when each was on its way.
    """

    lost_every: int = 10**9
    answers_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(lambda: 0.1))
    began: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    under_way: Counter[str] = field(default_factory=Counter)

    async def exchange(self, url: str) -> Exchange:
        host = urlsplit(url).hostname or ""
        self.began[host].append(asyncio.get_running_loop().time())
        is_lost = len(self.began[host]) % self.lost_every == 0
        lasts_s = 3 * TIMEOUT_S if is_lost else self.answers_s[host]
        self.under_way[host] += 1
        await asyncio.sleep(min(lasts_s, TIMEOUT_S))
        self.under_way[host] -= 1
        return Reply(201) if lasts_s <= TIMEOUT_S else NoReply("no answer in time")


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    return in_place_of_the_net(Web(), monkeypatch)


def in_place_of_the_net(web: Web, patch: pytest.MonkeyPatch) -> Web:
    """All requests go to these services."""

    async def exchange(http: Outbound, method: str, url: str, **_: object) -> Exchange:
        return await web.exchange(url)

    patch.setattr(Outbound, "exchange", exchange)
    return web


async def device_at(one: Tenant, host: str) -> Tenant:
    """Another device of the organization, with a subscription at a push service."""
    s = one.services
    device, _ = await add_device(s, one.organization, {"platform": "aosp", "name": host})
    targets = [Target(provider="webpush", token=subscription(f"https://{host}/x"))]
    await register_agent(s, device, Register(app="mdmAgent", agent_version="1", targets=targets))
    return Tenant(s, one.organization, device)


async def with_account(stage: Stage) -> Tenant:
    """An organization with a Web Push account, and the provider that is really behind it."""
    del stage.services.providers.provider
    one = await tenant(stage.services, "acme", "builtin")
    await add_account(stage.services, one.organization, "webpush", "", {**BASE}, True)
    return one


async def waits_of(web: Web, well: Tenant, host: str, times: int) -> list[float]:
    """How long each of so many pushes waits until it is on its way."""
    loop, waits = asyncio.get_running_loop(), []
    for _ in range(times):
        at = loop.time()
        await well.send("operator")
        await asyncio.sleep(EVERY_S)
        waits.append(next((start - at for start in web.began[host] if start >= at), EVERY_S))
    return waits


@pytest.mark.parametrize("services", [1, 12])
def test_services_that_hang_keep_no_device_of_another_waiting(services: int, web: Web) -> None:
    async def course(stage: Stage) -> None:
        one = await with_account(stage)
        well = await device_at(one, "well.example")
        for n in range(services):
            sick = await device_at(one, f"sick{n}.example")
            web.answers_s[f"sick{n}.example"] = 3 * TIMEOUT_S
            for _ in range(240 // services):
                await sick.send("operator")
        limits = replace(stage.services.limits, pool_concurrency=32)
        async with dispatching(replace(stage.services, limits=limits)):
            await asyncio.sleep(1)  # all of these are due before
            assert max(await waits_of(web, well, "well.example", 15)) < AT_ONCE_S
            assert 0 < web.under_way.total() <= 32

    simulate(course)


def test_a_service_that_works_again_gets_all_that_waits(web: Web) -> None:
    async def course(stage: Stage) -> None:
        sick = await device_at(await with_account(stage), "sick.example")
        web.answers_s["sick.example"] = 3 * TIMEOUT_S
        pushes = [await sick.send("operator") for _ in range(200)]
        async with dispatching(stage.services):
            await asyncio.sleep(60)
            assert web.under_way["sick.example"] > 0
            web.answers_s.clear()
            await asyncio.sleep(45)
            found = [await sick.work.pushes.find(push.id) for push in pushes]
        assert {push.rung for push in found if push} == {PushRung.ACCEPTED}

    simulate(course)


def test_a_service_that_answers_is_asked_as_often_as_there_are_pushes(web: Web) -> None:
    """Though some requests are lost."""

    async def course(stage: Stage) -> None:
        busy = await device_at(await with_account(stage), "busy.example")
        web.lost_every = 200
        async with dispatching(stage.services):
            await busy.send("operator")
            await asyncio.sleep(1)
            pushes = [await busy.send("operator") for _ in range(4000)]
            await asyncio.sleep(TIMEOUT_S - 1)
            found = [await busy.work.pushes.find(push.id) for push in pushes]
        assert (len(found), len(web.began["busy.example"])) == (4000, 4001)
        assert {push.attempts for push in found if push} == {None}  # none was turned back

    simulate(course)
