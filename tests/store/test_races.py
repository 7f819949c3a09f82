"""What is owed changes while a commit of ours waits on PostgreSQL: what the row has become decides, not what it was."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from heliograph.domain.errors import Conflict
from heliograph.ports.changes import OutboxItem
from heliograph.store import PostgresStore
from heliograph.store.records import OUTBOX
from tests.store.world import LATER, NOW, PUT_OFF_TO, SETTLE, World, new_world, run_sql, waiting_for_a_lock

CLAIMED = "UPDATE outbox SET lease_until = lease_until + 9, token = token + 1, attempts = attempts + 1 WHERE id = $1"
RENEWED = "UPDATE outbox SET lease_until = lease_until + 9 WHERE id = $1"
BROUGHT_FORWARD = "UPDATE outbox SET due_at = due_at - 9, lease_until = 0, token = token + 1 WHERE id = $1"
PAID = "DELETE FROM outbox WHERE id = $1"
NAMES = OUTBOX.names.replace("id,", "", 1)
MADE_ANEW = f"INSERT INTO outbox (id, {NAMES}) SELECT 'anew', {NAMES} FROM kept WHERE id = $1"
RENAMED = "UPDATE outbox SET key = 'another' WHERE id = $1"

each_settlement = pytest.mark.parametrize("how", SETTLE)


@pytest.fixture
async def world(postgres_store: PostgresStore) -> World:
    return await new_world(postgres_store)


class Race:
    """A set that moves a command and does something to an item; another transaction changes the item meanwhile."""

    def __init__(self, world: World, dsn: str, *, is_held: bool) -> None:
        self.world, self._dsn, self._is_held = world, dsn, is_held

    async def owe(self, key: str | None) -> OutboxItem:
        """An item that is claimed, and one for a bystander."""
        self.command = await self.world.added_command()
        await self.world.owe(self.world.debt(key=key, due_at=NOW - 1), self.world.debt())
        item, self._bystander = await self.world.claim()
        await run_sql(self.world.store, "CREATE TABLE kept AS SELECT * FROM outbox")
        self.changes = self.world.noted(self.command)
        return item

    async def run(self, item: OutboxItem, *changed: str) -> BaseException | None:
        """How the commit of `changes` ended. A set of the same batch settles another item, and always does."""
        bystander = self.world.changes()
        bystander.settle(self._bystander)
        blocker = await asyncpg.connect(self._dsn)
        transaction = blocker.transaction()
        await transaction.start()
        held = changed if self._is_held else ["SELECT FROM commands WHERE id = $1 FOR UPDATE"]
        for sql in held:
            await blocker.execute(sql, item.id if self._is_held else self.command.id)
        commits = [asyncio.create_task(self.world.work.commit(c)) for c in (self.changes, bystander)]
        await waiting_for_a_lock(blocker)
        for sql in () if self._is_held else changed:
            await run_sql(self.world.store, sql, item.id)
        await transaction.commit()
        await blocker.close()
        ended, others = await asyncio.gather(*commits, return_exceptions=True)
        assert others is None
        return ended

    async def owed(self) -> list[tuple[Any, ...]]:
        """(id, due_at, lease_until, token) of the item, and of nothing else."""
        return await self.world.owed()

    async def is_written(self) -> bool:
        return (await self.world.read(self.command.id)).version == 2

    async def dead(self) -> list[str]:
        return [reason for _, reason in await self.world.store.system.dead_letters(9)]


@pytest.fixture(params=[True, False], ids=["held", "changed"])
def race(request: pytest.FixtureRequest, world: World, dsn: str) -> Race:
    """The row is held when the commit comes to it, or changes between the commit's first look and its lock."""
    return Race(world, dsn, is_held=request.param)


@each_settlement
@pytest.mark.parametrize("changed", [CLAIMED, PAID], ids=["claimed", "paid"])
async def test_a_settlement_of_what_another_took_is_refused(race: Race, how: str, changed: str) -> None:
    item = await race.owe(None)
    SETTLE[how](race.changes, item)
    assert type(await race.run(item, changed)) is Conflict
    assert await race.owed() == ([(item.id, item.due_at, LATER + 9, 2)] if changed == CLAIMED else [])
    assert (await race.dead(), await race.is_written()) == ([], False)


@each_settlement
@pytest.mark.parametrize("changed", [CLAIMED, PAID, BROUGHT_FORWARD], ids=["claimed", "paid", "brought forward"])
async def test_a_soft_settlement_of_what_another_took_is_left_out(race: Race, how: str, changed: str) -> None:
    item = await race.owe("k")
    SETTLE[how](race.changes, item)
    assert await race.run(item, changed) is None
    left = {CLAIMED: [(item.due_at, LATER + 9, 2)], BROUGHT_FORWARD: [(item.due_at - 9, 0, 2)], PAID: []}
    assert [row[1:] for row in await race.owed()] == left[changed]
    assert (await race.dead(), await race.is_written()) == ([], True)


@each_settlement
@pytest.mark.parametrize("key", [None, "k"])
async def test_a_settlement_counts_while_the_claim_is_renewed(race: Race, how: str, key: str | None) -> None:
    item = await race.owe(key)
    SETTLE[how](race.changes, item)
    assert await race.run(item, RENEWED) is None
    assert await race.owed() == ([(item.id, PUT_OFF_TO, 0, 1)] if how == "put off" else [])
    assert (await race.dead(), await race.is_written()) == (["why"] if how == "buried" else [], True)


@pytest.mark.parametrize("changed", [CLAIMED, RENEWED, BROUGHT_FORWARD, PAID])
async def test_what_is_withdrawn_goes_whoever_has_it(race: Race, changed: str) -> None:
    item = await race.owe("k")
    race.changes.withdraw("k")
    assert await race.run(item, changed) is None
    assert (await race.owed(), await race.is_written()) == ([], True)


async def test_what_comes_after_a_withdrawal_began_stays(race: Race) -> None:
    """Owed anew under the key by whoever settled the first one."""
    item = await race.owe("k")
    race.changes.withdraw("k")
    assert await race.run(item, PAID, MADE_ANEW) is None
    assert ([row[0] for row in await race.owed()], await race.is_written()) == (["anew"], True)


async def test_what_is_owed_under_another_key_by_now_is_not_withdrawn(race: Race) -> None:
    """Two records of one device become one, and what was owed for the one is owed for the other."""
    item = await race.owe("k")
    race.changes.withdraw("k")
    assert await race.run(item, RENAMED) is None
    assert ([row[0] for row in await race.owed()], await race.is_written()) == ([item.id], True)


@pytest.mark.parametrize("changed", [CLAIMED, PAID], ids=["claimed", "paid"])
async def test_a_debt_while_the_one_with_its_key_changes(race: Race, changed: str) -> None:
    item = await race.owe("k")
    debt = race.world.debt(key="k", due_at=NOW - 5)
    race.changes.owe(debt)
    assert await race.run(item, changed) is None
    brought_forward, new = (item.id, NOW - 5, 0, 3), (debt.id, NOW - 5, 0, 0)
    assert await race.owed() == [brought_forward if changed == CLAIMED else new]


async def test_what_is_settled_is_locked_in_the_order_of_ids(world: World, dsn: str) -> None:
    """Else two batches could wait for one another. Neither the order of the sets nor that of due times, in which an
    index holds the ids, is this one.
    """
    await world.owe(*(world.debt(due_at=NOW - n) for n in range(5)))
    items = sorted(await world.claim(), key=lambda item: item.id)
    blocker = await asyncpg.connect(dsn)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT FROM outbox WHERE id = $1 FOR UPDATE", items[2].id)
    sets = [world.changes() for _ in items]
    for changes, item in zip(sets, reversed(items), strict=True):
        changes.settle(item)
    commits = [asyncio.create_task(world.work.commit(changes)) for changes in sets]
    await waiting_for_a_lock(blocker)
    free = await world.store.fetch("SELECT id FROM outbox ORDER BY id FOR UPDATE SKIP LOCKED")
    await transaction.rollback()
    await blocker.close()
    await asyncio.gather(*commits)
    assert [row[0] for row in free] == [item.id for item in items[3:]]
    assert await world.owed() == []
