"""Where each device chooses its push service, what one service says of the account speaks for its devices alone."""

from __future__ import annotations

import pytest

from heliograph.app.account_health import AccountHealth, Lesson
from heliograph.app.agent_line import register_agent
from heliograph.app.setup import add_account, add_device, update_account
from heliograph.domain.devices import Device, ProviderAccount
from heliograph.outbound import Reply
from heliograph.ports.push import Accepted, Misconfigured
from heliograph_protocol.messages import Register, Target
from tests.app.conftest import Desk
from tests.app.test_blamed_accounts import given_up, push_to, rungs
from tests.providers.test_webpush import BASE, subscription

KEY = Misconfigured("the key is refused", one_device=True)
HOUR = 3_600_000_000


async def device_at(desk: Desk, service: str) -> Device:
    """A device with a subscription at a push service; all that `strict` has in its name refuse the account's key."""
    device, _ = await add_device(desk.services, desk.organization, {"platform": "aosp", "name": service})
    token = subscription(f"https://push.{service}.example/{device.id}")
    message = Register(app="mdmAgent", agent_version="1", targets=[Target(provider="webpush", token=token)])
    await register_agent(desk.services, device, message)
    return device


@pytest.fixture
async def account(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> ProviderAccount:
    async def exchange(http: object, method: str, url: str, **_: object) -> Reply:
        return Reply(403 if "strict" in url else 201)

    monkeypatch.setattr("heliograph.outbound.Outbound.exchange", exchange)
    return await add_account(desk.services, desk.organization, "webpush", "", {**BASE}, True)


async def fault(desk: Desk, account: ProviderAccount) -> str | None:
    stored = await desk.work.setup.account(account.id)
    assert stored is not None
    return stored.fault


async def test_one_device_whose_service_refuses_the_key_stops_nobody_elses_pushes(
    desk: Desk, account: ProviderAccount
) -> None:
    strict = await device_at(desk, "strict")
    [push] = await push_to(desk, strict)
    for _ in range(5):  # however often it is tried
        await desk.pay()
        assert (await fault(desk, account), desk.services.health.paused(desk.clock.now())) == (None, {})
        desk.clock.advance(31)
    found = await desk.work.pushes.find(push.id)
    assert found is not None
    assert found.attempts is not None
    assert (found.attempts.count, found.attempts.uncertain) == (5, 0)
    assert "VAPID" in (found.attempts.reason or "")
    desk.clock.advance((found.expires_at - desk.clock.now()) / 1_000_000)
    await desk.pay()
    assert (await rungs(desk, [push]), await given_up(desk, [strict])) == ({"expired": 1}, 0)


@pytest.mark.parametrize("phones_for_each", [1, 2])
async def test_that_one_service_takes_any_key_gives_up_no_address_at_others(
    phones_for_each: int, desk: Desk, account: ProviderAccount
) -> None:
    """The account's key is not the one that the browsers subscribed with. One that looks at no key took it."""
    phones = [await device_at(desk, "any-key") for _ in range(20)]
    browsers = [await device_at(desk, "strict") for _ in range(20)]
    taken, refused = await push_to(desk, *phones[:6]), []
    for phone, browser in zip(phones, browsers, strict=True):
        taken += await push_to(desk, *[phone] * phones_for_each)
        refused += await push_to(desk, browser)
    await desk.pay(times=100)
    assert "VAPID" in (await fault(desk, account) or "")
    assert (await given_up(desk, browsers), await rungs(desk, refused)) == (0, {"queued": 20})
    assert desk.services.health.paused(desk.clock.now()) == {}  # the phones have nothing to wait for
    assert await rungs(desk, taken) == {"accepted": len(taken)}


async def test_a_key_that_no_service_takes_stops_the_account_until_it_gets_another(
    desk: Desk, account: ProviderAccount
) -> None:
    devices = [await device_at(desk, f"strict{n}") for n in range(3)]
    pushes = await push_to(desk, *devices[:2])
    await desk.pay()
    assert (await fault(desk, account), desk.services.health.paused(desk.clock.now())) == (None, {})
    pushes += await push_to(desk, devices[2])
    await desk.pay()
    assert "VAPID" in (await fault(desk, account) or "")
    assert list(desk.services.health.paused(desk.clock.now())) == [account.id]
    assert (await given_up(desk, devices), await rungs(desk, pushes)) == (0, {"queued": 3})
    await update_account(desk.services, account, {"config": {**BASE, "subject": "mailto:new@example.com"}})
    assert (await fault(desk, account), desk.services.health.paused(desk.clock.now())) == (None, {})


# ---------------------------------------------------------------- what is learnt


def learn(health: AccountHealth, device: str, outcome: Accepted | Misconfigured, at: int) -> Lesson:
    return health.learn("a", device, outcome, at, at)


def test_a_device_is_one_however_often_its_service_refuses_the_account() -> None:
    health = AccountHealth()
    assert {learn(health, device, KEY, n) for n in range(100) for device in ("x", "y")} == {Lesson()}
    assert health.paused(0) == {}


def test_several_are_told_at_once_and_stop_nobody_where_others_services_take_the_account() -> None:
    health, told = AccountHealth(), Lesson(tells_fault=True, fault="for several devices, the key is refused")
    assert learn(health, "well", Accepted("p"), 0) == Lesson(tells_fault=True)
    assert [learn(health, device, KEY, 1) for device in "xyz"] == [Lesson(), Lesson(), told]
    assert [learn(health, "well", Accepted("p"), 2), learn(health, "x", KEY, 2)] == [Lesson()] * 2
    assert learn(health, "well", Accepted("p"), 40_000_000) == told  # for another process may have said otherwise
    assert health.paused(3) == {}
    assert learn(health, "x", Accepted("p"), 40_000_001) == Lesson(tells_fault=True)


def test_where_nothing_is_taken_all_wait_until_something_is() -> None:
    health, text = AccountHealth(), "for several devices, the key is refused"
    lessons = [learn(health, device, KEY, 0) for device in "xyz"]
    assert lessons[-1] == Lesson(tells_fault=True, fault=text, reroute=True)
    assert health.paused(0) == {"a": 30_000_000}
    assert learn(health, "well", Accepted("p"), 30_000_000) == Lesson(tells_fault=True, fault=text)
    assert learn(health, "x", KEY, 30_000_001) == Lesson()
    assert health.paused(30_000_002) == {}


def test_what_nobody_has_said_for_an_hour_counts_no_more() -> None:
    health = AccountHealth()
    for device in "xyz":
        learn(health, device, KEY, 0)
    assert learn(health, "well", Accepted("p"), HOUR - 1).fault is not None
    assert learn(health, "well", Accepted("p"), HOUR) == Lesson(tells_fault=True)
    assert learn(health, "v", KEY, HOUR) == Lesson()


def test_new_settings_end_it() -> None:
    health = AccountHealth()
    for device in "xy":
        learn(health, device, KEY, 0)
    health.renew("a", 1)
    assert learn(health, "z", KEY, 2) == Lesson()


def test_ever_new_devices_take_no_more_room() -> None:
    health = AccountHealth()
    for n in range(1000):
        learn(health, f"d{n}", KEY, n)
    assert len(health._accounts["a"].doubts) == 40  # what shows it is memory
