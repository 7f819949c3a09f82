"""An account whose addresses are all refused is to blame itself: no push is lost by it, and no address."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import pytest

from heliograph.app.account_health import AccountHealth
from heliograph.app.agent_line import register_agent
from heliograph.app.effects import EFFECTS
from heliograph.app.pushes import PushRequest, send_push
from heliograph.app.setup import add_account, add_device, update_account
from heliograph.domain.deliveries import Leg, Push, PushRung
from heliograph.domain.devices import Device
from heliograph.domain.errors import Conflict, StoreUnavailable
from heliograph.ports.changes import ChangeSet
from heliograph.ports.push import Misconfigured, Outcome, Rejected, RetryLater
from heliograph.ports.store import UnitOfWork
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


async def given_up(desk: Desk, devices: list[Device]) -> int:
    """How many of their addresses are used no more."""
    found = [await desk.work.devices.targets(device.id) for device in devices]
    return sum(target.dead_at is not None for targets in found for target in targets)


async def rungs(desk: Desk, pushes: list[Push]) -> Counter[str]:
    return Counter(push.rung.value for push in await now_of(desk, pushes))


async def test_what_is_refused_while_the_account_is_to_blame_waits(desk: Desk, ways: Ways) -> None:
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    pushes = await push_to(desk, *await fleet(desk, 30, "pushy"))
    ways["pushy"].outcomes = [WRONG] * 100
    for _ in range(3):
        await desk.pay(times=40)
        desk.clock.advance(31)
    assert await rungs(desk, pushes) == {"rejected": 2, "queued": 28}  # until three speak of the account
    for push in (await now_of(desk, pushes))[2:]:
        assert push.attempts is not None
        assert (push.attempts.count >= 3, push.attempts.reason) == (True, WRONG.reason)
        assert len((await desk.work.history.of([push.id]))[push.id]) == 2  # however often it is tried
    ways["pushy"].outcomes.clear()
    await desk.pay(times=40)
    assert await rungs(desk, pushes) == {"rejected": 2, "accepted": 28}


async def test_it_goes_another_way_meanwhile_and_may_come_back(desk: Desk, ways: Ways) -> None:
    account = await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    await add_account(desk.services, desk.organization, "mqtt", "", MQTT, True)
    await push_to(desk, *await fleet(desk, 2, "pushy"))
    ways["pushy"].outcomes = [WRONG] * 3
    await desk.pay(times=40)
    [push] = await push_to(desk, *await fleet(desk, 1, "pushy", "mqtt"))
    await desk.pay()
    [after] = await now_of(desk, [push])
    assert (after.rung, after.provider) == (PushRung.ACCEPTED, "mqtt")
    assert after.legs == (Leg("pushy", account.id, None, refused=False, attempts=1),)


async def test_no_address_of_a_small_fleet_is_given_up_for_wrong_settings(desk: Desk, ways: Ways) -> None:
    account = await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    devices = await fleet(desk, 3, "pushy")
    ways["pushy"].outcomes = [WRONG] * 3
    await push_to(desk, *devices)
    await desk.pay(times=3)
    assert await given_up(desk, devices) == 0
    stored = await desk.work.setup.account(account.id)
    assert stored is not None
    assert stored.fault is not None


async def test_what_a_process_before_gave_up_is_taken_back_as_well(desk: Desk, ways: Ways) -> None:
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    other = await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "x"}, False)
    devices = await fleet(desk, 8, "pushy")
    elsewhere, _ = await add_device(
        desk.services, desk.organization, {"platform": "aosp", "name": "other", "providerAccount": other.id}
    )
    targets = [Target(provider="pushy", token="t")]
    await register_agent(desk.services, elsewhere, Register(app="mdmAgent", agent_version="1", targets=targets))
    ways["pushy"].outcomes = [WRONG] * 9
    for now_and_then, some in ((3700, devices[:1]), (0, devices[1:3]), (0, [elsewhere]), (0, devices[3:5])):
        desk.services = replace(desk.services, health=AccountHealth())  # it was started again
        await push_to(desk, *some)
        await desk.pay(times=2)
        desk.clock.advance(now_and_then)
    assert await given_up(desk, [*devices, elsewhere]) == 6
    await push_to(desk, devices[5])
    await desk.pay(times=1)
    assert await given_up(desk, devices[1:]) == 0
    assert await given_up(desk, devices[:1]) == 1  # long before
    assert await given_up(desk, [elsewhere]) == 1  # by another account


@pytest.mark.parametrize("said", [{"config": {"apiKey": "right"}}, {"disabled": False}])
async def test_new_settings_are_tried_at_once_on_every_address(said: dict[str, Any], desk: Desk, ways: Ways) -> None:
    account = await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "wrong"}, True)
    devices = await fleet(desk, 4, "pushy")
    ways["pushy"].outcomes = [WRONG] * 2
    await push_to(desk, *devices[:2])
    await desk.pay(times=2)
    assert await given_up(desk, devices) == 2
    desk.services = replace(desk.services, health=AccountHealth())
    ways["pushy"].outcomes = [Misconfigured("key")]
    await push_to(desk, devices[2])
    await desk.pay(times=1)
    assert list(desk.services.health.paused(desk.clock.now())) == [account.id]
    await update_account(desk.services, account, {"name": "till"})
    assert await given_up(desk, devices) == 2
    await update_account(desk.services, account, said)
    assert (await given_up(desk, devices), desk.services.health.paused(desk.clock.now())) == (0, {})
    assert await rungs(desk, await push_to(desk, *devices)) == {"queued": 4}


async def test_addresses_that_one_account_gave_up_are_tried_through_the_next(desk: Desk, ways: Ways) -> None:
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "wrong"}, True)
    devices = await fleet(desk, 1, "pushy")
    for how in ("added", "chosen"):
        ways["pushy"].outcomes = [WRONG]
        await push_to(desk, *devices)
        await desk.pay(times=1)
        assert await given_up(desk, devices) == 1
        if how == "added":
            await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "right"}, True)
        else:
            first = (await desk.work.setup.accounts())[0]
            await update_account(desk.services, first, {"default": True})
        assert await given_up(desk, devices) == 0


async def test_what_was_refused_on_its_way_while_the_settings_changed_is_sent_again(desk: Desk, ways: Ways) -> None:
    account = await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "wrong"}, True)
    devices = await fleet(desk, 1, "pushy")

    async def put_right() -> None:
        ways["pushy"].meanwhile = Provider.meanwhile
        await update_account(desk.services, account, {"config": {"apiKey": "right"}})

    ways["pushy"].outcomes, ways["pushy"].meanwhile = [WRONG], put_right
    pushes = await push_to(desk, *devices)
    await desk.pay(times=1)
    assert (await given_up(desk, devices), await rungs(desk, pushes)) == (0, {"queued": 1})
    desk.clock.advance(1)
    await desk.pay(times=1)
    assert await rungs(desk, pushes) == {"accepted": 1}


async def test_what_another_process_learns_of_settings_that_are_gone_is_worth_nothing(desk: Desk, ways: Ways) -> None:
    account = await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "wrong"}, True)
    devices, here = await fleet(desk, 3, "pushy"), desk.services
    desk.services = replace(desk.services, health=AccountHealth())  # there

    async def put_right() -> None:
        ways["pushy"].meanwhile = Provider.meanwhile
        await update_account(here, account, {"config": {"apiKey": "right"}})

    ways["pushy"].outcomes, ways["pushy"].meanwhile = [WRONG], put_right
    pushes = await push_to(desk, devices[0])
    await desk.pay(times=1)
    assert (await given_up(desk, devices), await rungs(desk, pushes)) == (0, {"queued": 1})
    ways["pushy"].outcomes, ways["pushy"].meanwhile = [Misconfigured("key")], put_right
    pushes += await push_to(desk, *devices[1:])
    await desk.pay(times=2)
    stored = await desk.work.setup.account(account.id)
    assert stored is not None
    assert (stored.fault, desk.services.health.paused(desk.clock.now())) == (None, {})
    desk.clock.advance(1)
    await desk.pay()
    assert await rungs(desk, pushes) == {"accepted": 3}


async def test_what_was_refused_with_the_settings_before_another_process_renewed_them_is_forgotten(
    desk: Desk, ways: Ways
) -> None:
    account = await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "wrong"}, True)
    devices, here = await fleet(desk, 4, "pushy"), desk.services
    desk.services = replace(desk.services, health=AccountHealth())  # there
    ways["pushy"].outcomes = [WRONG] * 2
    await push_to(desk, *devices[:2])
    await desk.pay(times=2)
    await update_account(here, account, {"config": {"apiKey": "right"}})
    ways["pushy"].outcomes = [WRONG]  # and this one is dead
    pushes = await push_to(desk, *devices[2:])
    await desk.pay(times=2)
    assert (await given_up(desk, devices), await rungs(desk, pushes)) == (1, {"rejected": 1, "accepted": 1})


async def test_no_account_gives_up_an_address_that_another_reaches_by_now(desk: Desk, ways: Ways) -> None:
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "wrong"}, True)
    devices = await fleet(desk, 1, "pushy")

    async def add_another() -> None:
        ways["pushy"].meanwhile = Provider.meanwhile
        await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "right"}, True)

    ways["pushy"].outcomes, ways["pushy"].meanwhile = [WRONG], add_another
    pushes = await push_to(desk, *devices)
    await desk.pay()
    assert (await given_up(desk, devices), await rungs(desk, pushes)) == (0, {"accepted": 1})


async def test_no_fault_is_told_of_settings_that_are_gone(
    desk: Desk, ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "wrong"}, True)
    commit = type(desk.work).commit

    async def put_right_first(work: UnitOfWork, changes: ChangeSet) -> None:
        monkeypatch.setattr(type(desk.work), "commit", commit)
        await update_account(desk.services, account, {"config": {"apiKey": "right"}})
        await work.commit(changes)

    ways["pushy"].outcomes = [Misconfigured("key")]
    await push_to(desk, *await fleet(desk, 1, "pushy"))
    monkeypatch.setattr(type(desk.work), "commit", put_right_first)
    await desk.pay(times=1)
    stored = await desk.work.setup.account(account.id)
    assert stored is not None
    assert stored.fault is None


@pytest.mark.parametrize("trouble", [Misconfigured("key"), RetryLater("limit", 300, account_wide=True)])
@pytest.mark.parametrize("lost", [StoreUnavailable("away"), Conflict("its claim ran out")])
async def test_what_a_lost_record_should_have_led_to_is_done_with_the_next(
    lost: Exception, trouble: Outcome, desk: Desk, ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    commit = type(desk.work).commit

    async def refuse(work: UnitOfWork, changes: ChangeSet) -> None:
        raise lost

    ways["pushy"].outcomes = [trouble] * 2
    await push_to(desk, *await fleet(desk, 2, "pushy"))
    now = desk.clock.now()
    first, second = await desk.services.store.system.claim(now, now + 15_000_000, 2)
    monkeypatch.setattr(type(desk.work), "commit", refuse)
    with pytest.raises(type(lost)):
        await EFFECTS["push"](desk.services, first)
    monkeypatch.setattr(type(desk.work), "commit", commit)
    await EFFECTS["push"](desk.services, second)
    now = desk.clock.now()
    assert [item.kind for item in await desk.services.store.system.claim(now, now + 15_000_000, 2)] == ["reroute"]
