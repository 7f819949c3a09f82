"""Token buckets and the queue before them, as all processes on one database share them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from heliograph.ports.changes import BACKGROUND, URGENT
from heliograph.ports.store import TokenOrder
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


async def test_what_can_wait_leaves_tokens_for_who_cannot(world: World) -> None:
    take = world.store.system.take_tokens
    assert await take(replace(ORDER, left=5 * MICRO), NOW) == 5
    assert await take(replace(ORDER, left=5 * MICRO), NOW) == 0
    assert await take(replace(ORDER, wanted=2), NOW) == 2


async def test_those_who_take_at_the_same_moment_get_no_more_than_there_is(world: World) -> None:
    taken = await asyncio.gather(*(world.store.system.take_tokens(replace(ORDER, wanted=3), NOW) for _ in range(8)))
    assert sum(taken) == 10


async def test_how_many_go_before(world: World) -> None:
    first = world.debt(due_at=NOW - 2, pool="a", key="1")
    last = world.debt(due_at=NOW - 3, pool="a", key="2", priority=BACKGROUND)
    urgent = world.debt(due_at=NOW, pool="a", key="3", priority=URGENT)
    await world.owe(first, last, urgent, world.debt(due_at=NOW - 9, pool="b", key="4"))
    ahead = world.store.system.ahead_in_pool
    assert [await ahead("a", key) for key in ("1", "2", "3", "5")] == [1, 2, 0, None]
