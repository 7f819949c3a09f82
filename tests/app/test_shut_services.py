"""A push service that refuses all its devices, as one does that was shut, stops nobody else's pushes."""

from __future__ import annotations

import asyncio

import pytest

from heliograph.domain.deliveries import Push, PushRung
from heliograph.outbound import Exchange, Reply
from tests.app.simulated import Stage, simulate
from tests.app.test_hanging_services import AT_ONCE_S, Web, device_at, in_place_of_the_net, waits_of, with_account
from tests.app.test_push_fairness import Tenant, dispatching


class Shut(Web):
    """`shut.example` knows no subscription any more."""

    async def exchange(self, url: str) -> Exchange:
        answer = await super().exchange(url)
        return Reply(410) if "shut.example" in url else answer


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    return in_place_of_the_net(Shut(), monkeypatch)


async def is_refused(of: Tenant, push: Push) -> bool:
    found = await of.work.pushes.find(push.id)
    return found is not None and found.rung is PushRung.REJECTED


@pytest.mark.parametrize("from_the_start", [True, False])
@pytest.mark.parametrize("devices", [3, 30])
def test_one_that_was_shut_keeps_no_device_of_another_waiting(devices: int, from_the_start: bool, web: Web) -> None:
    async def course(stage: Stage) -> None:
        one = await with_account(stage)
        well = await device_at(one, "well.example")
        async with dispatching(stage.services):
            if not from_the_start:
                await waits_of(web, well, "well.example", 1)
            there = [await device_at(one, "shut.example") for _ in range(devices)]
            pushes = [(device, await device.send("operator")) for device in there]
            await asyncio.sleep(1)
            assert max(await waits_of(web, well, "well.example", 15)) < AT_ONCE_S
            refused = [await is_refused(device, push) for device, push in pushes]
            given_up = [t for device in there for t in await device.work.devices.targets(device.device.id) if t.dead_at]
            [account] = await one.work.setup.accounts()
        assert (sum(refused), len(given_up), account.fault) == (2, 2, None)

    simulate(course)
