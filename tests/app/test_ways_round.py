"""An account that is out of order keeps no push from a way that works, and is found to work again."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import pytest

from heliograph.app.account_health import AccountHealth
from heliograph.app.dispatch import backoff_s
from heliograph.app.effects import EFFECTS
from heliograph.app.setup import add_account, update_account
from heliograph.domain.deliveries import Leg, Push, PushRung
from heliograph.domain.devices import ProviderAccount
from heliograph.ports.changes import OutboxItem
from heliograph.ports.push import Misconfigured, Rejected, RetryLater
from tests.app.conftest import Desk
from tests.app.pushing import Provider, one_for_each_kind
from tests.app.test_blamed_accounts import MQTT, fleet, now_of, push_to
from tests.app.test_moved_accounts import paid_but_for
from tests.app.test_push_fairness import dispatching
from tests.support.crash import until

REFUSED = Misconfigured("the key is refused")


@pytest.fixture
def ways(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> defaultdict[str, Provider]:
    return one_for_each_kind(desk, monkeypatch)


@pytest.fixture
async def pushy(desk: Desk, ways: defaultdict[str, Provider]) -> ProviderAccount:
    """Comes before the broker."""
    await add_account(desk.services, desk.organization, "mqtt", "", MQTT, True)
    return await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)


async def providers(desk: Desk, pushes: list[Push]) -> Counter[tuple[str, str]]:
    return Counter((push.provider, push.rung.value) for push in await now_of(desk, pushes))


@pytest.mark.parametrize("trouble", [REFUSED, RetryLater("limit", 300, account_wide=True)])
async def test_what_waits_for_an_account_out_of_order_goes_the_way_that_works(
    trouble: Misconfigured | RetryLater, desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    """With a pause that outlasts the test, so that nothing but what was under way is claimed of the account."""
    both, only = await fleet(desk, 250, "pushy", "mqtt"), await fleet(desk, 5, "pushy")
    desk.services = replace(desk.services, health=AccountHealth(pause_s=1000))
    pushes = await push_to(desk, *both, *only)
    ways["pushy"].outcomes = [trouble] * 1000

    async def have_gone() -> bool:
        return len(ways["mqtt"].sent) >= 250

    async with dispatching(desk.services):
        await until(have_gone, "every push goes the other way")
        await asyncio.sleep(0.5)
        assert len(ways["pushy"].sent) <= 2 * desk.services.limits.pool_concurrency
    assert await providers(desk, pushes) == {("mqtt", "accepted"): 250, ("pushy", "queued"): 5}
    assert Counter(message.id for message in ways["mqtt"].sent) == Counter(push.id for push in pushes[:250])
    last = (await now_of(desk, pushes))[249]
    assert last.legs == (Leg("pushy", pushy.id, None),)
    assert (await desk.work.history.of([last.id]))[last.id][1].evidence["next"] == "mqtt"


async def test_what_waits_for_a_service_that_makes_all_wait_again_and_again_goes_the_way_that_works(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    pushes = await push_to(desk, *await fleet(desk, 10, "pushy", "mqtt"))
    ways["pushy"].outcomes = [RetryLater("no access token", account_wide=True)] * 100
    for owed in ({}, {"reroute": 1, "push": 10}, {}):
        await desk.pay(times=1)
        assert Counter(await paid_but_for(desk, pushy)) == owed
        desk.clock.advance(31)
    assert await providers(desk, pushes) == {("mqtt", "accepted"): 10}


async def test_one_that_is_claimed_meanwhile_is_left_alone(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be on its way: were it moved, it would be sent twice."""
    pushes = await push_to(desk, *await fleet(desk, 3, "pushy", "mqtt"))
    now, system = desk.clock.now(), desk.services.store.system
    [under_way] = await system.claim(now, now + 15_000_000, 1)
    waiting = type(desk.work.pushes).waiting

    async def and_claim_one(*args: object) -> object:
        page = await waiting(*args)  # type: ignore[arg-type]
        if page:
            claimed.extend(await system.claim(now, now + 15_000_000, 1))
        return page

    claimed = [under_way]
    monkeypatch.setattr(type(desk.work.pushes), "waiting", and_claim_one)
    await walk(desk, pushy)
    assert [item.subject_id for item in claimed[:2]] == [pushes[0].id, pushes[1].id]
    assert [push.provider for push in await now_of(desk, pushes)] == ["pushy", "pushy", "mqtt"]
    for item in claimed[:2]:
        await EFFECTS["push"](desk.services, item)
    assert await providers(desk, pushes[:2]) == {("pushy", "accepted"): 2}
    assert ways["mqtt"].sent == []


async def walk(desk: Desk, account: ProviderAccount) -> None:
    """Pay what is owed when an account goes out of order."""
    item = OutboxItem(desk.services.new_id(), desk.organization.id, "reroute", account.id, 0, 1, 1, 0, 0, key="k")
    await EFFECTS["reroute"](desk.services, item)


async def test_new_pushes_go_the_way_that_works_but_one_now_and_then(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    [device] = await fleet(desk, 1, "pushy", "mqtt")
    ways["pushy"].outcomes = [REFUSED] * 2
    desk.services = replace(desk.services, health=AccountHealth(pause_s=5))
    for sent_at in (0, 1, 6, 7, 14, 15):
        desk.clock.advance(sent_at - desk.clock.ahead / 1_000_000)
        await push_to(desk, device)
        await desk.pay()
    # Refused, not tried, tried and refused, not tried, tried and taken, in order again.
    assert (len(ways["pushy"].sent), len(ways["mqtt"].sent)) == (4, 4)
    stored = await desk.work.setup.account(pushy.id)
    assert stored is not None
    assert stored.fault is None


async def test_a_push_whose_only_way_is_out_of_order_waits_there(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    await desk.work.setup.note_fault(pushy.id, "key", desk.clock.now())
    ways["pushy"].outcomes = [REFUSED] * 2
    pushes = await push_to(desk, *await fleet(desk, 2, "pushy"))
    assert await desk.pay(times=3) == ["push", "push", "reroute"]
    assert await providers(desk, pushes) == {("pushy", "queued"): 2}
    desk.clock.advance(60)
    await desk.pay()
    assert await providers(desk, pushes) == {("pushy", "accepted"): 2}


async def test_a_push_that_is_rerouted_comes_back_when_the_next_way_fails_and_this_one_works(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    pushes = await push_to(desk, *await fleet(desk, 2, "pushy", "mqtt"))
    ways["pushy"].outcomes, ways["mqtt"].outcomes = [REFUSED], [Misconfigured("no broker")] * 2
    ways["mqtt"].meanwhile = lambda: desk.work.setup.note_fault(pushy.id, None, 0)
    await desk.pay()
    assert await providers(desk, pushes) == {("pushy", "accepted"): 2}
    assert [push.rung for push in await now_of(desk, pushes)] == [PushRung.ACCEPTED] * 2


async def test_what_waits_where_nothing_works_goes_to_the_account_that_works_again(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    both, one = await fleet(desk, 5, "pushy", "mqtt"), await fleet(desk, 1, "pushy")
    pushes = await push_to(desk, *both)
    ways["pushy"].outcomes, ways["mqtt"].outcomes = [REFUSED] * 5, [Misconfigured("no broker")] * 100
    await desk.pay(times=40)
    assert await providers(desk, pushes) == {("mqtt", "queued"): 5}
    await push_to(desk, *one)
    await desk.pay(times=40)
    assert await providers(desk, pushes) == {("pushy", "accepted"): 5}


async def test_so_it_does_when_an_account_gets_new_settings(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    pushes = await push_to(desk, *await fleet(desk, 5, "pushy", "mqtt"))
    ways["pushy"].outcomes, ways["mqtt"].outcomes = [REFUSED] * 5, [Misconfigured("no broker")] * 100
    await desk.pay(times=40)
    await update_account(desk.services, pushy, {"config": {"apiKey": "right"}})
    await desk.pay(times=40)
    assert await providers(desk, pushes) == {("pushy", "accepted"): 5}


BUSY = RetryLater("it cannot take it now")


async def go_on(desk: Desk, times: int) -> None:
    for _ in range(times):
        await desk.pay()
        desk.clock.advance(30)


@pytest.mark.parametrize("first", ["pushy", "builtin"])
async def test_a_push_comes_back_to_the_way_that_works_while_the_next_one_is_down(
    first: str, desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    """That way was busy for some seconds. Whether our own line has taken the push before makes no difference."""
    ways["pushy"].outcomes, ways["mqtt"].outcomes = [BUSY] * 4, [BUSY] * 10_000
    pushes = await push_to(desk, *await fleet(desk, 1, *dict.fromkeys([first, "pushy", "mqtt"])))
    await go_on(desk, 20)
    assert await providers(desk, pushes) == {("pushy", "accepted"): 1}


async def test_a_busy_way_is_tried_again_before_what_our_line_took_counts_as_sent_there(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    ways["pushy"].outcomes, ways["mqtt"].outcomes = [BUSY] * 4, [Rejected("no")]
    pushes = await push_to(desk, *await fleet(desk, 1, "builtin", "pushy", "mqtt"))
    await go_on(desk, 10)
    assert await providers(desk, pushes) == {("pushy", "accepted"): 1}
    [after] = await now_of(desk, pushes)
    assert [(leg.provider, leg.reference, leg.refused) for leg in after.legs or ()] == [
        ("builtin", "p1", False),
        ("mqtt", None, True),
    ]


@pytest.mark.parametrize("working", ["pushy", "stub", "mqtt"])
async def test_of_ways_that_are_down_each_has_its_turn(
    working: str, desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    await add_account(desk.services, desk.organization, "stub", "", {}, True)
    pushes = await push_to(desk, *await fleet(desk, 1, "pushy", "stub", "mqtt"))
    for provider in ("pushy", "stub", "mqtt"):
        ways[provider].outcomes = [BUSY] * 10_000
    await go_on(desk, 60)
    ways[working].outcomes = []
    await go_on(desk, 40)
    assert await providers(desk, pushes) == {(working, "accepted"): 1}


async def test_the_pauses_of_a_push_to_and_fro_grow(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way has a debt of its own, whose pauses would begin at half a second again."""
    monkeypatch.setattr("heliograph.app.dispatch.random.random", lambda: 1.0)
    pauses: list[float] = []

    def kept(*args: Any) -> float:
        pauses.append(backoff_s(*args))
        return pauses[-1]

    monkeypatch.setattr("heliograph.app.effects.push.backoff_s", kept)
    for provider in ("pushy", "mqtt"):
        ways[provider].outcomes = [BUSY] * 10_000
    [push] = await push_to(desk, *await fleet(desk, 1, "pushy", "mqtt"))
    stays: list[list[float]] = [[]]
    for _ in range(60):
        [before] = await now_of(desk, [push])
        await desk.pay(times=1)
        [after] = await now_of(desk, [push])
        if after.provider != before.provider:
            stays.append([])
            continue
        stays[-1].append(pauses[-1])
        desk.clock.advance(pauses[-1])
    assert stays[:3] == [[0.5, 1, 2], [1, 2, 4, 8, 16, 30, 30], [4, 8, 16, 30, 30, 30, 30]]
    assert [stay[0] for stay in stays[:5]] == [0.5, 1, 4, 16, 30]
