"""The dispatcher: nobody takes all its places, and nothing is begun twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from heliograph.app import dispatch
from heliograph.app.dispatch import Dispatcher
from heliograph.app.effects import EFFECTS
from heliograph.app.services import Services
from heliograph.app.setup import create_organization
from heliograph.app.waiting import wait_for, wait_for_command
from heliograph.domain.ladder import Rung
from heliograph.ports.changes import BACKGROUND, URGENT, ChangeSet, OutboxItem
from heliograph.ports.system import NONE_SHUT
from tests.app.conftest import Desk
from tests.app.simulated import Stage, simulate


class Payments:
    """Effects that last until they are released, by pool."""

    def __init__(self) -> None:
        self.under_way: Counter[str] = Counter()
        self.paid: list[str] = []
        self.releases: dict[str, asyncio.Event] = {"hangs": asyncio.Event()}
        self.permits: dict[str, asyncio.Semaphore] = {}
        self.changed = asyncio.Condition()
        self.most: Counter[str] = Counter()

    async def pay(self, s: Services, item: OutboxItem) -> None:
        self.under_way[item.pool] += 1
        self.most[item.pool] = max(self.most[item.pool], self.under_way[item.pool])
        await self._tell()
        if item.pool in self.releases and item.priority != URGENT:
            await self.releases[item.pool].wait()
        if item.pool in self.permits:
            await self.permits[item.pool].acquire()
        changes = ChangeSet(item.organization_id)
        changes.settle(item)
        await s.store.unit_of_work(item.organization_id).commit(changes)
        self.under_way[item.pool] -= 1
        self.paid.append(item.subject_id)
        await self._tell()

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def reach(self, pool: str, count: int, paid: int) -> None:
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: self.under_way[pool] >= count and len(self.paid) == paid)

    async def until(self, paid: set[str]) -> None:
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: paid <= set(self.paid))


async def owe(desk: Desk, pool: str, subjects: list[str], priority: int = 1) -> None:
    changes = ChangeSet(desk.organization.id)
    for subject in subjects:
        changes.owe(desk.services.debt(desk.organization.id, "test", subject, pool=pool, priority=priority))
    await desk.work.commit(changes)


async def test_an_account_that_hangs_does_not_keep_the_others_waiting(desk: Desk) -> None:
    payments = Payments()
    limits = replace(desk.services.limits, dispatch_concurrency=12, pool_concurrency=3)
    services = replace(desk.services, limits=limits)
    hanging = [f"h{n}" for n in range(40)]
    await owe(desk, "hangs", hanging)
    running = asyncio.create_task(Dispatcher(services, {"test": payments.pay}).run())
    await owe(desk, "works", ["a", "b"])
    await owe(desk, "hangs", ["stop it"], URGENT)
    await payments.until({"a", "b", "stop it"})
    assert payments.under_way["hangs"] <= 2 * limits.pool_concurrency
    payments.releases["hangs"].set()
    await payments.until(set(hanging))
    assert len(payments.paid) == 43
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_behind_what_is_full_nothing_is_claimed_in_vain(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim is a transaction under a lock; a look at what is due is not."""
    monkeypatch.setattr(dispatch, "_LONGEST_SLEEP_S", 3600.0)
    monkeypatch.setattr(dispatch, "QUICK_S", 3600.0)  # what turns slow gives its place away, on a busy machine too
    payments, claimed = Payments(), Counter[int]()
    limits = replace(desk.services.limits, dispatch_concurrency=12, pool_concurrency=4, lease_s=3600)
    system = desk.services.store.system
    claim = system.claim

    async def counted(now: int, until: int, limit: int, shut: Sequence[Sequence[str]] = NONE_SHUT) -> list[OutboxItem]:
        items = await claim(now, until, limit, shut)
        claimed[len(items)] += 1
        return items

    monkeypatch.setattr(system, "claim", counted)
    payments.permits["busy"] = asyncio.Semaphore(0)
    await owe(desk, "busy", [f"h{n}" for n in range(20)], BACKGROUND)
    running = asyncio.create_task(Dispatcher(replace(desk.services, limits=limits), {"test": payments.pay}).run())
    for paid in (0, 4, 8, 12, 16):
        await payments.reach("busy", 4, paid)
        for _ in range(4):
            payments.permits["busy"].release()
    await payments.until({f"h{n}" for n in range(20)})
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert claimed[0] <= 1  # of what is owed no more, the last tells


def test_where_many_have_much_owed_it_does_not_look_before_each_claim() -> None:
    """Behind each that is full the next one waits, and another look would only keep it waiting."""

    async def course(stage: Stage) -> None:
        accounts, each, asked = 10, 30, Counter[str]()
        s = replace(stage.services, limits=replace(stage.services.limits, dispatch_concurrency=24, pool_concurrency=6))
        organization = await create_organization(s, "much-owed")
        work, system, everything_paid = s.store.unit_of_work(organization.id), s.store.system, asyncio.Event()
        claim, look = system.claim, system.next_due

        async def slow_claim(
            now: int, until: int, limit: int, shut: Sequence[Sequence[str]] = NONE_SHUT
        ) -> list[OutboxItem]:
            asked["claim"] += 1
            await asyncio.sleep(0.003)
            return await claim(now, until, limit, shut)

        async def slow_look(shut: Sequence[Sequence[str]] = NONE_SHUT) -> int | None:
            asked["look"] += 1
            await asyncio.sleep(0.003)
            return await look(shut)

        async def pay(s: Services, item: OutboxItem) -> None:
            await asyncio.sleep(0.1)
            changes = ChangeSet(item.organization_id)
            changes.settle(item)
            await work.commit(changes)
            asked["paid"] += 1
            if asked["paid"] == accounts * each:
                everything_paid.set()

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(system, "claim", slow_claim)
            patched.setattr(system, "next_due", slow_look)
            changes = ChangeSet(organization.id)
            for n in range(accounts * each):
                changes.owe(s.debt(organization.id, "test", str(n), pool=f"account {n // each}"))
            await work.commit(changes)
            running = asyncio.create_task(Dispatcher(s, {"test": pay}).run())
            await everything_paid.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert 10 * asked["look"] < asked["claim"], asked

    simulate(course)


async def test_places_that_come_free_one_by_one_are_not_filled_by_handfuls(desk: Desk) -> None:
    """Else what can wait would soon hold the places of what cannot."""
    payments = Payments()
    limits = replace(desk.services.limits, dispatch_concurrency=12, pool_concurrency=4)
    permits = payments.permits["paced"] = asyncio.Semaphore(0)
    await owe(desk, "paced", [f"h{n}" for n in range(10)], BACKGROUND)
    running = asyncio.create_task(Dispatcher(replace(desk.services, limits=limits), {"test": payments.pay}).run())
    for paid in range(6):
        await payments.reach("paced", 4, paid)
        permits.release()
    await payments.reach("paced", 4, 6)
    assert payments.most["paced"] == 4
    running.cancel()
    for _ in range(4):
        permits.release()
    await asyncio.gather(running, return_exceptions=True)


async def test_places_that_come_free_while_it_looks_for_the_next_are_used(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it found then left out the pool that was full: nobody would wake it for what waits there."""
    monkeypatch.setattr(dispatch, "_LONGEST_SLEEP_S", 3600.0)
    payments = Payments()
    limits = replace(desk.services.limits, dispatch_concurrency=12, pool_concurrency=4, lease_s=3600)
    permits = payments.permits["busy"] = asyncio.Semaphore(0)
    system = desk.services.store.system
    look = system.next_due

    async def look_until_all_are_paid(shut: Sequence[Sequence[str]] = NONE_SHUT) -> int | None:
        found = await look(shut)
        async with asyncio.timeout(20):
            while dispatcher._running:
                permits.release()
                await asyncio.wait(dispatcher._running, return_when=asyncio.FIRST_COMPLETED)
        return found

    monkeypatch.setattr(system, "next_due", look_until_all_are_paid)
    subjects = [f"h{n}" for n in range(10)]
    await owe(desk, "busy", subjects, BACKGROUND)
    dispatcher = Dispatcher(replace(desk.services, limits=limits), {"test": payments.pay})
    running = asyncio.create_task(dispatcher.run())
    await payments.until(set(subjects))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_is_under_way_here_is_not_begun_again_when_its_lease_seems_over(desk: Desk) -> None:
    payments = Payments()
    await owe(desk, "hangs", ["once"])
    running = asyncio.create_task(Dispatcher(desk.services, {"test": payments.pay}).run())
    async with asyncio.timeout(10), payments.changed:
        await payments.changed.wait_for(lambda: payments.under_way["hangs"] == 1)
    desk.clock.jump(3600)
    await owe(desk, "works", ["another"])
    await payments.until({"another"})
    assert payments.under_way["hangs"] == 1
    payments.releases["hangs"].set()
    await payments.until({"once"})
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert payments.most["hangs"] == 1
    assert set(payments.paid) == {"another", "once"}


async def test_what_is_owed_anew_while_it_is_under_way_comes_right_behind_it(desk: Desk) -> None:
    """And not when the claim of the second one has run out."""
    payments = Payments()
    await owe(desk, "hangs", ["look"])
    running = asyncio.create_task(Dispatcher(desk.services, {"test": payments.pay}).run())
    await payments.reach("hangs", 1, 0)
    await owe(desk, "hangs", ["look"])
    await owe(desk, "works", ["behind it"])
    await payments.until({"behind it"})
    assert payments.most["hangs"] == 1
    payments.releases["hangs"].set()
    async with asyncio.timeout(5), payments.changed:
        await payments.changed.wait_for(lambda: payments.paid.count("look") == 2)
    assert payments.most["hangs"] == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_result_is_not_late_because_another_was_looked_for_meanwhile(desk: Desk) -> None:
    looks, answer = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        desk.google.while_listing = None
        looks.set()
        await answer.wait()

    desk.google.while_listing = slow
    await desk.command({"type": "LOCK"})
    running = asyncio.create_task(Dispatcher(desk.services, EFFECTS).run())
    async with asyncio.timeout(10):
        await looks.wait()
        second = await desk.command({"type": "REBOOT", "duration": "600s"})
        topic = f"command:{second.id}"
        second = await wait_for(desk.services, topic, partial(desk.now, second), lambda c: c.rung is Rung.ISSUED, 10)
        desk.google.finish(second.receipt or "")
        await asyncio.sleep(0.5)  # its own look is due
        answer.set()
        assert (await wait_for_command(desk.services, desk.work, second, 5)).rung is Rung.SUCCEEDED
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_this_version_does_not_know_waits_for_one_that_does(desk: Desk) -> None:
    """While processes are replaced one after the other, an older one claims what a newer one has owed."""
    await owe(desk, "works", ["novel"])
    now = desk.clock.now()
    [item] = await desk.services.store.system.claim(now, now + 15_000_000, 1)
    await Dispatcher(desk.services, {})._pay(item)
    assert await desk.services.store.system.dead_letters(1) == []
    payments = Payments()
    desk.clock.advance(60)
    running = asyncio.create_task(Dispatcher(desk.services, {"test": payments.pay}).run())
    await payments.until({"novel"})
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
