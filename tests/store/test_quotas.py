"""Token buckets and the queue before them, as all processes on one database share them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from heliograph.ports.changes import BACKGROUND, NORMAL, URGENT
from heliograph.ports.system import Place, TokenOrder
from heliograph.store import AnyStore
from tests.store.world import NOW, SECOND, World

MICRO = 1_000_000
ORDER = TokenOrder("p", wanted=100, left=0, most=10 * MICRO, per_minute=60)


async def test_a_bucket_begins_full_is_filled_with_time_and_never_holds_more(world: World) -> None:
    take = world.store.system.take_tokens
    assert await take(ORDER, NOW) == 10
    assert await take(ORDER, NOW) == 0
    assert await take(ORDER, NOW - 3600 * SECOND) == 0  # a clock that goes back fills nothing
    assert await take(ORDER, NOW + 3 * SECOND) == 3
    assert await take(ORDER, NOW + 3600 * SECOND) == 10
    assert await take(replace(ORDER, project="other"), NOW) == 10


async def test_a_bucket_that_was_filled_in_a_far_future_is_filled_again_after_a_start(world: World) -> None:
    take, cap = world.store.system.take_tokens, 30 * SECOND
    assert await take(ORDER, NOW + 86_400 * SECOND) == 10  # a wall clock that was ahead, and has been set right
    assert await take(replace(ORDER, project="other"), NOW + 20 * SECOND) == 10  # another machine's, which is no fault
    await world.store.clamp_times(NOW, cap)
    assert await take(ORDER, NOW) == 0
    assert await take(ORDER, NOW + 3 * SECOND) == 3
    assert await take(replace(ORDER, project="other"), NOW + 3 * SECOND) == 0


async def test_what_can_wait_leaves_tokens_for_who_cannot(world: World) -> None:
    take = world.store.system.take_tokens
    assert await take(replace(ORDER, left=5 * MICRO), NOW) == 5
    assert await take(replace(ORDER, left=5 * MICRO), NOW) == 0
    assert await take(replace(ORDER, wanted=2), NOW) == 2


async def test_those_who_take_at_the_same_moment_get_no_more_than_there_is(world: World) -> None:
    taken = await asyncio.gather(*(world.store.system.take_tokens(replace(ORDER, wanted=3), NOW) for _ in range(8)))
    assert sum(taken) == 10


async def test_a_place_in_the_queue(world: World) -> None:
    first = world.debt(due_at=NOW - 2, pool="a", key="1")
    last = world.debt(due_at=NOW - 3, pool="a", key="2", priority=BACKGROUND)
    urgent = world.debt(due_at=NOW, pool="a", key="3", priority=URGENT)
    elsewhere = [world.debt(due_at=NOW - 9, pool="b", key="4"), world.debt(due_at=NOW - 9, pool="a", kind="look_up")]
    await world.owe(first, last, urgent, *elsewhere)
    places = [await world.store.system.place(world.organization.id, key) for key in ("1", "2", "3", "5")]
    assert places == [Place(1, NOW - 2), Place(2, NOW - 3), Place(0, NOW), None]
    assert await world.store.system.place("another organization", "1") is None


async def test_what_is_put_off_or_dead_stays_as_urgent_as_it_was(world: World, store: AnyStore) -> None:
    for priority in (URGENT, BACKGROUND):
        await world.owe(world.debt(pool="a", priority=priority))
        put_off = world.changes()
        put_off.put_off(await world.claim_one(), NOW + 1)
        await world.work.commit(put_off)
        again = await world.claim_one(now=NOW + 1)
        assert (again.priority, again.pool) == (priority, "a")
        buried = world.changes()
        buried.bury(again, "x")
        await world.work.commit(buried)
    dead = await store.system.dead_letters(2)
    assert {item.priority for item, _ in dead} == {URGENT, BACKGROUND}


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_is_owed_twice_is_as_urgent_as_the_more_urgent(world: World, at_once: bool) -> None:
    debts = [world.debt(key="k", due_at=NOW - n, priority=priority) for n, priority in enumerate((URGENT, BACKGROUND))]
    if at_once:
        await world.owe(*debts)
    else:
        for debt in debts:
            await world.owe(debt)
    item = await world.claim_one()
    assert (item.priority, item.due_at) == (URGENT, NOW - 1)


async def test_a_lane_is_as_urgent_as_its_last(world: World) -> None:
    first, second = (world.debt(lane="l", priority=BACKGROUND) for _ in range(2))
    await world.owe(first, second, world.debt(lane="other", priority=BACKGROUND), world.debt(lane="l", priority=URGENT))
    await world.store.system.hasten("l", NORMAL)
    await world.store.system.hasten("nobody's", NORMAL)
    rows = await world.store.fetch("SELECT lane, priority FROM outbox ORDER BY lane, id")
    assert [tuple(row) for row in rows] == [("l", NORMAL), ("l", NORMAL), ("l", URGENT), ("other", BACKGROUND)]
