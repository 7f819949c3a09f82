"""Many at once: whatever is interleaved, the outcome is that of some order of the sets that were answered well."""

from __future__ import annotations

import asyncio
from graphlib import TopologicalSorter
from itertools import pairwise
from unittest.mock import AsyncMock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heliograph.domain.errors import Conflict
from heliograph.domain.ladder import Noted
from heliograph.store import AnyStore, Hub, PostgresStore
from tests.store.world import NOW, World, new_id, new_world

# One use of the store: which commands it reads, how often it lets others run before it commits, whether it adds one too
# (2 = one that the database refuses).
USE = st.tuples(st.sets(st.integers(0, 4), min_size=1, max_size=3), st.integers(0, 3), st.sampled_from([0, 0, 1, 2]))


async def use(world: World, ids: list[str], number: int, picked: set[int], pauses: int, more: int) -> bool:
    changes = world.changes()
    for index in sorted(picked):
        command = await world.read(ids[index])
        changes.move(command, Noted(source="test", evidence={"use": number}), NOW)
    if more:
        changes.new_commands.append(world.command(device_id=world.device.id if more == 1 else new_id()))
    for _ in range(pauses):
        await asyncio.sleep(0)
    try:
        await world.work.commit(changes)
    except Conflict:
        return False
    return True


async def check(world: World, uses: list[tuple[set[int], int, int]]) -> None:
    commands = [await world.added_command() for _ in range(5)]
    ids = [c.id for c in commands]
    before = (await world.store.fetch("SELECT count(*) FROM commands"))[0][0]
    done = await asyncio.gather(*(use(world, ids, n, *one) for n, one in enumerate(uses)))
    assert any(done) == any(more != 2 for _, _, more in uses)
    histories = await world.work.history.of(ids)
    before_of: dict[int, set[int]] = {n: set() for n, ok in enumerate(done) if ok}
    for index, command_id in enumerate(ids):
        walked = [entry.evidence["use"] for entry in histories[command_id][1:]]
        assert sorted(walked) == [n for n, ok in enumerate(done) if ok and index in uses[n][0]]
        assert [entry.seq for entry in histories[command_id]] == list(range(len(walked) + 1))
        assert (await world.read(command_id)).version == 1 + len(walked)
        for earlier, later in pairwise(walked):
            before_of[later].add(earlier)
    list(TopologicalSorter(before_of).static_order())  # raises when no serial order explains what was written
    added = sum(ok and uses[n][2] == 1 for n, ok in enumerate(done))
    assert (await world.store.fetch("SELECT count(*) FROM commands"))[0][0] == before + added


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(uses=st.lists(USE, min_size=1, max_size=25))
async def test_random_sets_at_the_same_time(store: AnyStore, uses: list[tuple[set[int], int, int]]) -> None:
    await check(await new_world(store), uses)


async def test_two_processes_on_one_postgres(postgres_store: PostgresStore, dsn: str) -> None:
    """Two stores, each with its own queue and connections: batches of both meet in the database."""
    other = await PostgresStore.open(dsn, Hub())
    world = await new_world(postgres_store)
    twin = World(other, world.organization, world.enterprise, world.account, world.device)
    try:
        ids = [(await world.added_command()).id for _ in range(8)]
        won = 0

        async def one(number: int) -> bool:
            return await use((world, twin)[number % 2], ids, number, {number % 8, (number * 5 + 3) % 8}, number % 4, 0)

        for _ in range(10):
            won += 2 * sum(await asyncio.gather(*(one(n) for n in range(40) if n % 8 != (n * 5 + 3) % 8)))
        versions = [(await world.read(i)).version - 1 for i in ids]
        assert sum(versions) == won > 0
    finally:
        await other.close()


@pytest.mark.parametrize("by_pool", [False, True], ids=["in order", "by pool"])
async def test_claims_of_two_processes(
    postgres_store: PostgresStore, dsn: str, monkeypatch: pytest.MonkeyPatch, by_pool: bool
) -> None:
    other = await PostgresStore.open(dsn, Hub())
    world = await new_world(postgres_store)
    for each in (postgres_store, other):
        monkeypatch.setattr(each.system, "_flooded", AsyncMock(return_value=by_pool))
    try:
        debts = [world.debt(lane=f"lane-{n % 10}") for n in range(200)]
        await world.owe(*debts)
        claimed: list[str] = []
        while len(claimed) < 200:
            batches = await asyncio.gather(
                *(s.system.claim(NOW, NOW + 9, 4) for s in (postgres_store, other) for _ in range(4))
            )
            items = [item for batch in batches for item in batch]
            assert items
            assert len({item.lane for item in items}) == len(items)
            claimed += [item.id for item in items]
            changes = world.changes()
            for item in items:
                changes.settle(item)
            await world.work.commit(changes)
        assert sorted(claimed) == sorted(d.id for d in debts)
    finally:
        await other.close()


@pytest.mark.parametrize("pauses", [0, 1])
async def test_no_update_is_lost(world: World, pauses: int) -> None:
    """Fifty writers count in one record, each trying until it got through."""
    command = await world.added_command()

    async def count(number: int) -> None:
        while not await use(world, [command.id], number, {0}, pauses, 0):
            pass

    await asyncio.gather(*(count(n) for n in range(50)))
    assert (await world.read(command.id)).version == 51
