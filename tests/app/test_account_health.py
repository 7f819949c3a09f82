"""What outcomes mean for addresses and accounts: dead, quarantined by mistake, out of order, told to wait."""

from __future__ import annotations

from collections import Counter

import pytest

from heliograph.app.account_health import AccountHealth, Lesson, _Account
from heliograph.app.agent_line import register_agent
from heliograph.app.setup import add_account
from heliograph.domain.deliveries import PushRung
from heliograph.domain.devices import ProviderAccount, PushTarget
from heliograph.ports.push import Accepted, Misconfigured, Outcome, Rejected, RetryLater
from heliograph_protocol.messages import Register, Target
from tests.app.conftest import Desk
from tests.app.pushing import Provider, in_place_of_all

GONE = Rejected("unregistered", token_gone=True)


def device(number: int) -> str:
    return f"{number:024x}"


def test_a_refused_address_is_given_up() -> None:
    assert AccountHealth().learn("a", device(1), GONE, 0, 0) == Lesson(quarantine=True)


def test_a_refused_message_says_nothing_of_the_device() -> None:
    assert AccountHealth().learn("a", device(1), Rejected("too large"), 0, 0) == Lesson()


def test_refusals_of_three_devices_and_no_success_speak_of_the_account() -> None:
    health = AccountHealth()
    lessons = [health.learn("a", device(n), GONE, 0, 0) for n in range(5)]
    assert [lesson.quarantine for lesson in lessons] == [True, True, False, False, False]
    assert [lesson.try_again for lesson in lessons] == [False, False, True, True, True]
    assert [lesson.revive for lesson in lessons] == [False, False, True, False, False]
    assert {lesson.fault for lesson in lessons[2:]} == {
        "3 of the last 3 addresses were refused (unregistered): are its settings those of the apps?"
    }
    assert list(health.paused(0)) == ["a"]
    assert health.paused(31_000_000) == {}
    assert health.learn("a", device(9), GONE, 31_000_000, 31_000_000).revive  # what others gave up meanwhile


def test_of_an_account_that_takes_some_twenty_are_looked_at() -> None:
    health = AccountHealth()
    for n in range(5):
        health.learn("a", device(n), Accepted("x"), 0, 0)
    lessons = [health.learn("a", device(n), GONE, 0, 0) for n in range(20)]
    assert [lesson.quarantine for lesson in lessons] == [True] * 14 + [False] * 6
    assert "15 of the last 20 addresses" in (lessons[-1].fault or "")


def test_one_device_alone_does_not_speak_of_the_account_however_often_it_is_refused() -> None:
    """It may register what it likes, again and again."""
    health = AccountHealth()
    assert all(health.learn("a", device(7), GONE, 0, 0).quarantine for n in range(1000))
    assert health.learn("a", device(8), GONE, 0, 0).quarantine
    assert health.paused(0) == {}


def test_what_was_sent_with_former_settings_says_nothing_of_the_new_ones() -> None:
    health = AccountHealth()
    for n in range(3):
        health.learn("a", device(n), GONE, 0, 0)
    health.learn("a", device(1), RetryLater("limit", 60.0, account_wide=True), 0, 0)
    gone = Lesson(quarantine=True)
    assert health.that_holds("a", 0, gone) == Lesson()
    health.renew("a", 5)
    assert health.learn("a", device(3), GONE, 4, 6) == Lesson(try_again=True)
    assert health.learn("a", device(4), Misconfigured("old key"), 4, 6) == Lesson()
    fault = Lesson(tells_fault=True, fault="key", reroute=True)
    assert [health.that_holds("a", 4, lesson) for lesson in (gone, fault)] == [Lesson(), Lesson()]
    assert [health.that_holds("a", 5, lesson) for lesson in (gone, fault)] == [gone, fault]
    assert health.learn("a", device(5), GONE, 5, 7) == Lesson(quarantine=True)
    assert health.paused(8) == {"a": 60_000_000}  # what the service asked for


def test_some_refusals_among_successes_do_not() -> None:
    health = AccountHealth()
    for n in range(1, 201):
        outcome = GONE if n % 3 == 0 else Accepted("x")
        assert health.learn("a", device(n), outcome, 0, 0).quarantine is (n % 3 == 0)
    assert health.paused(0) == {}


def test_one_account_says_nothing_of_another() -> None:
    health = AccountHealth()
    for n in range(3):
        health.learn("a", device(n), GONE, 0, 0)
    assert health.learn("b", device(1), GONE, 0, 0).quarantine
    assert list(health.paused(0)) == ["a"]


def test_the_first_success_after_a_start_says_that_the_account_works() -> None:
    health = AccountHealth()
    assert health.learn("a", device(1), Accepted("x"), 0, 0) == Lesson(tells_fault=True)
    assert health.learn("a", device(1), Accepted("x"), 0, 0) == Lesson()
    out_of_order = Lesson(tells_fault=True, fault="key", reroute=True)
    assert health.learn("a", device(1), Misconfigured("key"), 0, 0) == out_of_order
    assert health.learn("a", device(1), Accepted("x"), 0, 0) == Lesson(tells_fault=True)
    assert health.paused(0) == {}


def test_that_it_works_is_said_again_for_another_process_may_have_said_that_it_does_not() -> None:
    health, minute = AccountHealth(), 60_000_000
    told = [health.learn("a", device(1), Accepted("x"), n, n).tells_fault for n in (0, 1, minute, minute + 1)]
    assert told == [True, False, True, False]


def test_what_waits_is_moved_once_for_each_time_that_an_account_goes_out_of_order() -> None:
    health = AccountHealth()
    said: list[Outcome] = [Misconfigured("key"), Misconfigured("key"), Accepted("x"), Misconfigured("key")]
    assert [health.learn("a", device(n), o, n, n).reroute for n, o in enumerate(said)] == [True, False, False, True]
    health.say_again("a", Lesson(tells_fault=True, fault="key", reroute=True))
    assert [health.learn("a", device(1), Misconfigured("key"), 9, 9).reroute for _ in range(2)] == [True, False]
    assert health.that_holds("a", 9, Lesson(quarantine=True)) == Lesson()  # it is to blame all the same
    waits = [RetryLater("limit", after_s, account_wide=True) for after_s in (60, 61, 300)]
    assert [health.learn("b", device(1), wait, 0, 0).reroute for wait in waits] == [False, True, False]
    assert (health.rests("b", 0), health.rests("b", 240_000_000)) == (True, False)
    health.say_again("b", Lesson(reroute=True))
    assert [health.learn("b", device(1), wait, 0, 0).reroute for wait in waits] == [True, False, False]


def test_what_another_process_made_of_an_account_is_heard_of_with_the_next_refusal() -> None:
    health = AccountHealth()
    health.heard_of_settings("a", 3, began=4, now=9)  # they were there before
    assert health.learn("a", device(1), GONE, 4, 5).quarantine
    health.heard_of_settings("a", 3, began=2, now=9)  # as is known
    assert health.learn("a", device(2), Accepted("x"), 5, 5).tells_fault
    health.heard_of_settings("a", 6, began=7, now=9)
    assert [health.learn("a", device(n), GONE, began, 7).try_again for n, began in ((3, 5), (4, 6))] == [True, False]
    health.heard_of_settings("b", 9, began=8, now=9)
    assert health.learn("b", device(1), GONE, 8, 9) == Lesson(try_again=True)


def test_settings_that_were_made_by_a_clock_that_is_ahead_hold_from_when_they_are_heard_of() -> None:
    health = AccountHealth()
    for began, quarantine in ((8, False), (9, True), (10, True)):
        health.heard_of_settings("a", 1000, began, now=began + 1)
        lesson = health.learn("a", device(1), GONE, began, began + 1)
        assert (lesson.quarantine, lesson.try_again) == (quarantine, not quarantine)


def test_what_comes_late_from_former_settings_says_nothing_after_a_refusal_with_the_present_ones() -> None:
    health = AccountHealth()
    health.heard_of_settings("a", 20, 30, 31)  # with those, one is refused
    assert health.learn("a", device(1), GONE, 30, 31).quarantine
    health.heard_of_settings("a", 20, 10, 40)  # and this one was on its way for long
    assert health.learn("a", device(2), GONE, 10, 40) == Lesson(try_again=True)
    assert health.learn("a", device(3), GONE, 35, 41).quarantine


@pytest.mark.parametrize("wait_s", [None, 30.0])
def test_a_service_that_makes_all_wait_again_and_again_counts_as_one_that_asks_for_a_long_wait(
    wait_s: float | None,
) -> None:
    health, busy, second = AccountHealth(), RetryLater("limit", wait_s, account_wide=True), 1_000_000

    def learn(outcome: Outcome, at: int) -> tuple[bool, bool]:
        lesson = health.learn("a", device(1), outcome, at * second, at * second)
        return lesson.reroute, health.rests("a", at * second)

    assert [learn(busy, at) for at in (0, 1, 2)] == [(False, False)] * 3  # all that were under way
    assert [learn(busy, at) for at in (33, 34, 65)] == [(True, True), (False, True), (False, True)]
    assert not health.rests("a", 96 * second)  # one may find out
    assert learn(Accepted("x"), 97) == (False, False)
    assert [learn(busy, at) for at in (98, 129)] == [(False, False), (True, True)]
    assert [learn(Accepted("x"), 160), learn(busy, 161)] == [(False, False)] * 2


@pytest.mark.parametrize("wait_s", [1.0, 10.0])
def test_short_waits_do_not(wait_s: float) -> None:
    health = AccountHealth()
    for n in range(3):
        at = int(n * wait_s * 1_100_000)
        assert not health.learn("a", device(1), RetryLater("limit", wait_s, account_wide=True), at, at).reroute


def test_a_push_finds_out_now_and_then() -> None:
    health = AccountHealth()
    assert health.may_try("a", 0)
    health.given("a", 0)
    assert (health.may_try("a", 29_999_999), health.may_try("a", 30_000_000)) == (False, True)
    health.learn("a", device(1), Misconfigured("key"), 30_000_000, 31_000_000)
    assert (health.may_try("a", 60_999_999), health.may_try("a", 61_000_000)) == (False, True)


def test_a_limit_of_the_account_makes_it_wait_but_not_for_ever() -> None:
    health = AccountHealth()
    health.learn("a", device(1), RetryLater("limit", 7.0, account_wide=True), 0, 0)
    assert health.paused(0) == {"a": 7_000_000}
    health.learn("a", device(1), RetryLater("limit", 1e9, account_wide=True), 0, 0)
    assert health.paused(0) == {"a": 600_000_000}
    health.learn("b", device(1), RetryLater("this device", 7.0), 0, 0)
    assert "b" not in health.paused(0)


def test_what_a_service_asks_for_is_waited_for_whatever_else_succeeds() -> None:
    health = AccountHealth()
    health.learn("a", device(1), RetryLater("limit", 60.0, account_wide=True), 0, 5)
    health.learn("a", device(2), RetryLater("limit", 7.0, account_wide=True), 0, 6)
    health.learn("a", device(3), Accepted("was on its way"), 4, 7)
    health.learn("a", device(4), Accepted("had been claimed"), 8, 9)
    assert health.paused(10) == {"a": 60_000_005}


@pytest.mark.parametrize("trouble", [Misconfigured("key"), RetryLater("away", account_wide=True)])
def test_only_what_was_sent_after_a_pause_was_made_ends_it(trouble: Misconfigured | RetryLater) -> None:
    health = AccountHealth()
    health.learn("a", device(1), trouble, 4, 5)
    assert health.learn("a", device(2), Accepted("was on its way"), 4, 6) == Lesson()
    assert health.paused(7) == {"a": 30_000_005}
    assert health.learn("a", device(3), Accepted("tried again"), 5, 8) == Lesson(tells_fault=True)
    assert health.paused(9) == {}


@pytest.fixture
def provider(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Provider:
    return in_place_of_all(desk, monkeypatch)


@pytest.fixture
async def account(desk: Desk) -> ProviderAccount:
    account = await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    await register(desk)
    return account


async def register(desk: Desk, token: str = "t1") -> None:
    targets = [Target(provider="pushy", token=token)]
    await register_agent(desk.services, desk.aosp, Register(app="mdmAgent", agent_version="1", targets=targets))


async def pushy_target(desk: Desk) -> PushTarget:
    return next(t for t in await desk.work.devices.targets(desk.aosp.id) if t.provider == "pushy")


async def test_a_dead_address_is_not_used_until_it_is_registered_again(
    desk: Desk, provider: Provider, account: ProviderAccount
) -> None:
    provider.outcomes = [GONE]
    await desk.command({"command": "LOCK"})
    await desk.pay()
    dead = await pushy_target(desk)
    assert (dead.dead_reason, dead.dead_at is not None) == ("unregistered", True)
    second = await desk.command({"command": "LOCK"})
    assert await desk.work.pushes.of_command(second.id) == []
    await register(desk)
    third = await desk.command({"command": "LOCK"})
    [push] = await desk.work.pushes.of_command(third.id)
    assert push.provider == "pushy"


async def test_a_word_on_the_time_before_the_registration_ends_no_device(
    desk: Desk, provider: Provider, account: ProviderAccount
) -> None:
    registered_at = (await pushy_target(desk)).registered_at
    provider.outcomes = [Rejected("unregistered", token_gone=True, gone_since=registered_at - 1)]
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    assert (await pushy_target(desk)).dead_at is None
    [push] = await desk.work.pushes.of_command(command.id)
    assert push.rung is PushRung.REJECTED


@pytest.mark.parametrize("token", ["t1", "t2"])
async def test_what_was_refused_at_an_address_that_was_registered_anew_meanwhile_goes_there(
    token: str, desk: Desk, provider: Provider, account: ProviderAccount
) -> None:
    async def registers() -> None:
        provider.meanwhile = Provider.meanwhile
        desk.clock.advance(0.1)
        await register(desk, token)

    provider.outcomes, provider.meanwhile = [GONE], registers
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    assert ((await pushy_target(desk)).token, (await pushy_target(desk)).dead_at) == (token, None)
    desk.clock.advance(1)
    await desk.pay()
    [push] = await desk.work.pushes.of_command(command.id)
    assert (push.rung, push.unanswered, len(provider.sent)) == (PushRung.ACCEPTED, 0, 2)


async def test_an_account_out_of_order_is_told_to_its_organization_until_it_works(
    desk: Desk, provider: Provider, account: ProviderAccount
) -> None:
    provider.outcomes = [Misconfigured("the key is refused")]
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    stored = await desk.work.setup.account(account.id)
    assert stored is not None
    assert (stored.fault, stored.fault_at is not None) == ("the key is refused", True)
    assert (await pushy_target(desk)).dead_at is None
    desk.clock.advance(60)
    await desk.pay()
    stored = await desk.work.setup.account(account.id)
    assert stored is not None
    assert (stored.fault, stored.fault_at) == (None, None)
    [push] = await desk.work.pushes.of_command(command.id)
    assert push.rung is PushRung.ACCEPTED


def test_the_dispatcher_is_told_of_pauses_without_a_look_at_every_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks several times for each claim."""
    health = AccountHealth()
    for n in range(5000):
        health.learn(f"a{n}", device(1), Accepted("x"), 0, 0)
    health.learn("a7", device(1), Misconfigured("key"), 0, 0)
    health.learn("a9", device(1), RetryLater("limit", 60.0, account_wide=True), 0, 0)
    free_at, looks = _Account.free_at, Counter[str]()

    def counted(account: _Account) -> int:
        looks["all"] += 1
        return free_at(account)

    monkeypatch.setattr(_Account, "free_at", counted)
    assert health.paused(0) == {"a7": 30_000_000, "a9": 60_000_000}
    assert health.paused(30_000_000) == {"a9": 60_000_000}
    health.renew("a9", 40_000_000)
    assert health.paused(40_000_000) == {"a9": 60_000_000}
    assert health.paused(60_000_000) == health.paused(60_000_000) == {}
    assert looks["all"] < 10
