"""An account whose addresses are all refused is to blame itself: no push is lost by it, and no address."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from heliograph.app.agent_line import register_agent
from heliograph.app.pushes import PushRequest, send_push
from heliograph.app.setup import add_account, add_device
from heliograph.domain.deliveries import Leg, Push, PushRung
from heliograph.domain.devices import Device
from heliograph.ports.push import Rejected
from heliograph_protocol.messages import Register, Target
from tests.app.conftest import Desk
from tests.app.pushing import Provider, one_for_each_kind

Ways = defaultdict[str, Provider]
MQTT = {"url": "mqtt://127.0.0.1"}
WRONG = Rejected("the token is of another environment", token_gone=True)


@pytest.fixture
def ways(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Ways:
    return one_for_each_kind(desk, monkeypatch)


async def fleet(desk: Desk, size: int, *providers: str) -> list[Device]:
    """Devices whose app can be reached through each of the providers."""
    made = []
    for number in range(size):
        device, _ = await add_device(desk.services, desk.organization, {"platform": "aosp", "name": f"d{number}"})
        targets = [
            Target(provider=provider, token="" if provider == "mqtt" else f"t{number}") for provider in providers
        ]
        await register_agent(desk.services, device, Register(app="mdmAgent", agent_version="1", targets=targets))
        made.append(device)
    return made


async def push_to(desk: Desk, *devices: Device) -> list[Push]:
    wanted = [PushRequest("aosp", device.id, "mdmAgent", "silent", None, "x", None) for device in devices]
    return [await send_push(desk.services, desk.work, request, "operator") for request in wanted]


async def now_of(desk: Desk, pushes: list[Push]) -> list[Push]:
    return [found for push in pushes if (found := await desk.work.pushes.find(push.id))]


async def rungs(desk: Desk, pushes: list[Push]) -> Counter[str]:
    return Counter(push.rung.value for push in await now_of(desk, pushes))


async def test_what_is_refused_while_the_account_is_to_blame_waits(desk: Desk, ways: Ways) -> None:
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    pushes = await push_to(desk, *await fleet(desk, 30, "pushy"))
    ways["pushy"].outcomes = [WRONG] * 100
    for _ in range(3):
        await desk.pay(times=40)
        desk.clock.advance(31)
    assert await rungs(desk, pushes) == {"rejected": 19, "queued": 11}
    for push in (await now_of(desk, pushes))[19:]:
        assert push.attempts is not None
        assert (push.attempts.count >= 3, push.attempts.reason) == (True, WRONG.reason)
        assert len((await desk.work.history.of([push.id]))[push.id]) == 2  # however often it is tried
    ways["pushy"].outcomes.clear()
    await desk.pay(times=40)
    assert await rungs(desk, pushes) == {"rejected": 19, "accepted": 11}


async def test_it_goes_another_way_meanwhile_and_may_come_back(desk: Desk, ways: Ways) -> None:
    account = await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    await add_account(desk.services, desk.organization, "mqtt", "", MQTT, True)
    await push_to(desk, *await fleet(desk, 19, "pushy"))
    ways["pushy"].outcomes = [WRONG] * 20
    await desk.pay(times=40)
    [push] = await push_to(desk, *await fleet(desk, 1, "pushy", "mqtt"))
    await desk.pay()
    [after] = await now_of(desk, [push])
    assert (after.rung, after.provider) == (PushRung.ACCEPTED, "mqtt")
    assert after.legs == (Leg("pushy", account.id, None, refused=False, attempts=1),)
