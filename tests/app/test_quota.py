"""The quota of a Google project: shared, kept, used to the full, and first for who is urgent."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from heliograph.app.quota import Pace, Quota
from heliograph.domain.ladder import Issue, Rung
from heliograph.ports.changes import BACKGROUND, NORMAL, URGENT, OutboxItem
from heliograph.ports.system import TokenOrder
from tests.app.conftest import Desk

MICRO = 1_000_000


async def test_no_minute_has_more_than_the_quota(desk: Desk) -> None:
    quota = Quota(desk.services.store.system, desk.clock, 600)
    granted = 0
    for _ in range(60):
        order = quota._order("p", BACKGROUND, 1000)
        granted += await desk.services.store.system.take_tokens(order, desk.clock.now())
        order = quota._order("p", URGENT, 1000)
        granted += await desk.services.store.system.take_tokens(order, desk.clock.now())
        desk.clock.advance(1)
    assert 570 <= granted <= 600


async def test_the_most_urgent_waiter_goes_first(desk: Desk) -> None:
    quota = Quota(desk.services.store.system, desk.clock, 60_000)
    line: list[str] = []

    async def wait(name: str, priority: int) -> None:
        assert await quota.take("p", priority)
        line.append(name)

    slow = [asyncio.create_task(wait("slow", BACKGROUND)) for _ in range(3)]
    await asyncio.gather(*slow, wait("urgent", URGENT), wait("normal", NORMAL))
    assert line[:2] == ["urgent", "normal"]


async def test_where_the_rate_is_high_tokens_are_fetched_ahead(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    system, orders = desk.services.store.system, list[TokenOrder]()
    take_tokens = system.take_tokens

    async def noting(order: TokenOrder, now: int) -> int:
        orders.append(order)
        return await take_tokens(order, now)

    monkeypatch.setattr(system, "take_tokens", noting)
    fast, slow = Quota(system, desk.clock, 600_000), Quota(system, desk.clock, 1000)
    for _ in range(100):
        assert await fast.take("fast", NORMAL)
    assert await fast.take("fast", URGENT)
    assert [order.wanted for order in orders] == [500]
    assert await fast.take("fast", BACKGROUND)  # which must leave more in the bucket
    assert [order.wanted for order in orders] == [500, 500]
    for _ in range(3):
        assert await slow.take("slow", NORMAL)
    assert [order.wanted for order in orders[2:]] == [1, 1, 1]


async def test_who_waits_too_long_is_told(desk: Desk) -> None:
    quota = Quota(desk.services.store.system, desk.clock, 1)
    await desk.services.store.system.take_tokens(quota._order("p", URGENT, 100), desk.clock.now())
    assert not await quota.take("p", URGENT, patience_s=0.05)
    assert await Quota(desk.services.store.system, desk.clock, 0).take("p", BACKGROUND)


async def test_a_command_without_quota_waits_and_nothing_is_begun(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = Quota(desk.services.store.system, desk.clock, 60)
    monkeypatch.setattr(quota, "take", _never)
    desk.services = replace(desk.services, quota=quota)
    command = await desk.command({"type": "LOCK"})
    assert await desk.pay(times=1) == ["issue"]
    waiting = await desk.now(command)
    assert (waiting.rung, waiting.issue, waiting.entries) == (Rung.QUEUED, Issue.IDLE, 1)
    assert desk.google.issued == []
    monkeypatch.undo()
    later = await desk.command({"type": "REBOOT"})
    await desk.pay("issue", times=1)
    assert [(await desk.now(c)).rung for c in (command, later)] == [Rung.ISSUED, Rung.QUEUED]  # it kept its place


async def _never(*_: object) -> bool:
    return False


def test_who_sends_many_at_a_time_is_told_from_the_others() -> None:
    pace, second = Pace(per_minute=60, at_once=3), MICRO
    assert [pace.is_bulk("key:a", n) for n in range(5)] == [False, False, False, True, True]
    assert not pace.is_bulk("key:b", 5)
    assert not pace.is_bulk("key:a", 2 * second)  # one more for each second that went by
    assert not pace.is_bulk("key:a", 3 * second)
    assert not pace.is_bulk("key:a", 3 * second)
    assert pace.is_bulk("key:a", 3 * second)


async def test_the_commands_of_a_bulk_wait_behind_those_of_others(desk: Desk) -> None:
    desk.services = replace(desk.services, pace=Pace(at_once=2))
    bulk = [await desk.command({"type": "LOCK"}) for _ in range(4)]
    items = {item.subject_id: item.priority for item in await _claimed(desk)}
    # One attempt per device and type at a time: only the first of the lane is claimed.
    assert items == {bulk[0].id: NORMAL}
    danger = await desk.command({"type": "REBOOT"})
    assert {item.subject_id: item.priority for item in await _claimed(desk)} == {danger.id: BACKGROUND}


async def _claimed(desk: Desk) -> list[OutboxItem]:
    now = desk.clock.now()
    return list(await desk.services.store.system.claim(now, now + 15 * MICRO, 100))
