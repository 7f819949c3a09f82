"""What is owed to pools that are shut costs a claim nothing, however much it is; and what is claimed stays the same."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heliograph.domain.ladder import Command
from heliograph.ports.changes import NORMAL
from heliograph.store import AnyStore, PostgresStore, SqliteStore
from heliograph.store.database import Statement, statement
from heliograph.store.due import due_statements
from heliograph.store.postgres_batch import build
from heliograph.store.prepared import prepare
from heliograph.store.records import OUTBOX
from tests.store.world import LATER, NOW, SETTLE, World, new_id, new_world, run_sql

FIRST = 100  # fewer than in earnest, so that less is a flood
FLOOD = 2000
Shut = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Owed:
    """A row of the outbox, as far as claims look at it."""

    id: str
    due_at: int
    lease_until: int
    attempts: int
    lane: str | None
    pool: str
    priority: int


@st.composite
def outboxes(draw: st.DrawFn) -> list[Owed]:
    def row(number: int) -> Owed:
        due_at = NOW + draw(st.integers(-3, 2))
        # What is claimed was due before its lease ends.
        lease_until = draw(st.sampled_from([0, 0, 0, max(due_at, NOW - 1), max(due_at, NOW), NOW + 5]))
        attempts = draw(st.integers(0, 1)) or int(lease_until > 0)
        lane = draw(st.sampled_from([None, None, "k", "l"]))
        pool, priority = draw(st.sampled_from(["", "a", "a", "b"])), draw(st.sampled_from([0, 1, 1, 1, 2]))
        return Owed(f"{number:02}", due_at, lease_until, attempts, lane, pool, priority)

    numbers = draw(st.permutations(range(draw(st.integers(1, 14)))))
    return [row(number) for number in numbers]


SHUT = st.tuples(*(st.sets(st.sampled_from(["", "a", "b"])).map(sorted) for _ in range(3)))


def is_free(row: Owed, rows: list[Owed], at: int) -> bool:
    """Nothing in its lane is claimed or goes before it."""

    def goes_before(other: Owed) -> bool:
        begun, other_begun = row.attempts > 0, other.attempts > 0
        return other.id < row.id if begun == other_begun else other_begun

    others = [other for other in rows if other.lane == row.lane and other.id != row.id]
    return row.lane is None or not any(other.lease_until > at or goes_before(other) for other in others)


def to_be_claimed(rows: list[Owed], limit: int, shut: Shut) -> list[str]:
    due = [row for row in rows if row.due_at <= NOW and row.lease_until <= NOW and row.pool not in shut[row.priority]]
    claimable = [row for row in due if is_free(row, rows, NOW)]
    return [row.id for row in sorted(claimable, key=lambda row: (row.priority, row.due_at, row.id))][:limit]


def next_of(rows: list[Owed], shut: Shut) -> int | None:
    wanted = [row for row in rows if row.pool not in shut[row.priority]]
    free = [row.due_at for row in wanted if not row.lease_until and is_free(row, rows, 0)]
    return min([*free, *(row.lease_until for row in wanted if row.lease_until)], default=None)


async def put(world: World, rows: list[Owed]) -> None:
    names = ", ".join(OUTBOX.columns)
    values = ", ".join(f"${n}" for n in range(1, len(OUTBOX.columns) + 1))
    inserts = []
    for row in rows:
        plain: dict[str, Any] = {name: getattr(row, name, None) for name in OUTBOX.columns}
        plain |= {"organization_id": world.organization.id, "kind": "push", "subject_id": row.id}
        plain |= {"token": row.attempts, "created_at": NOW}
        inserts.append(statement(f"INSERT INTO outbox ({names}) VALUES ({values})", *plain.values()))
    await world.store.write(statement("DELETE FROM outbox"), *inserts)


async def check(world: World, rows: list[Owed], limit: int, shut: Shut) -> None:
    system = world.store.system
    for flooded in (True, False):  # by pool, and in order
        with patch.object(system, "_flooded", AsyncMock(return_value=flooded)):
            await put(world, rows)
            assert await system.next_due(shut) == next_of(rows, shut)
            claimed = await system.claim(NOW, LATER, limit, shut)
            assert [item.id for item in claimed] == to_be_claimed(rows, limit, shut)
            assert all(item.lease_until == LATER for item in claimed)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=outboxes(), limit=st.integers(1, 6), shut=SHUT)
async def test_both_ways_find_what_the_definition_says(
    store: AnyStore, rows: list[Owed], limit: int, shut: Shut
) -> None:
    await check(await new_world(store), rows, limit, shut)


class SqliteMeter:
    """Counts the steps of SQLite's machine."""

    def __init__(self, store: SqliteStore) -> None:
        self._connections = [store._reader(), store._writer._open()]
        self._steps = 0

    async def __call__(self, work: Awaitable[object]) -> int:
        self._steps = 0
        for connection in self._connections:
            connection.set_progress_handler(self._step, 1)
        await work
        for connection in self._connections:
            connection.set_progress_handler(None, 1)
        return self._steps

    def _step(self) -> int:
        self._steps += 1
        return 0


class PostgresMeter:
    """Counts the rows and the entries of indexes that PostgreSQL reads, and those that it compares in vain for a join,
    with the plans that it makes for any values.
    """

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._read = 0
        self._pages = 0
        self._names = (f"metered_{n}" for n in itertools.count())
        self._fetch, self._write = store.fetch, store.write

    async def __call__(self, work: Awaitable[object]) -> int:
        self._read = 0
        fetch, write = self._metered_fetch, self._metered_write
        with patch.multiple(self._store, fetch=fetch, write=write):
            await work
        return self._read

    async def undone(self, one: Statement) -> tuple[int, int]:
        """What a statement reads, and how often it looks at a page of an index (a walk through one reads no row that it
        passes by); it is then undone.
        """
        self._read = self._pages = 0
        await self._explain(one)
        return self._read, self._pages

    async def _metered_fetch(self, sql: str, *args: Any) -> Any:
        await self._explain(statement(sql, *args))
        return await self._fetch(sql, *args)

    async def _metered_write(self, *statements: Statement, alone: str | None = None) -> Any:
        await self._explain(*statements)
        return await self._write(*statements, alone=alone)

    async def _explain(self, *statements: Statement) -> None:
        names = [next(self._names) for _ in statements]
        async with self._store._pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            for name, one in zip(names, statements, strict=True):
                await connection.execute(f"PREPARE {name} AS {one.sql}")
                run = f"{name}({', '.join(map(literal, one.args))})" if one.args else name
                [[found]] = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE {run}")
                plan = json.loads(found)[0]["Plan"]
                self._read += rows_read(plan)
                self._pages += pages_of_indexes(plan)
            await transaction.rollback()
            for name in names:
                await connection.execute(f"DEALLOCATE {name}")


def literal(value: Any) -> str:
    if isinstance(value, list):
        return f"CAST(ARRAY[{', '.join(repr(one) for one in value)}] AS TEXT[])"
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'"
    quoted = str(value).replace("'", "''")
    return "NULL" if value is None else f"'{quoted}'" if isinstance(value, str) else str(value)


def rows_read(plan: dict[str, Any]) -> int:
    in_vain: int = round(plan.get("Rows Removed by Join Filter", 0) * plan["Actual Loops"])
    seen = sum(plan.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck"))
    # What a bitmap has found is counted where its rows are fetched.
    is_bitmap = plan["Node Type"] == "Bitmap Index Scan"
    of_outbox = not is_bitmap and ("Index Name" in plan or plan.get("Relation Name") == "outbox")
    below: int = sum(rows_read(part) for part in plan.get("Plans", []))
    return below + in_vain + (round(seen * plan["Actual Loops"]) if of_outbox else 0)


def pages_of_indexes(plan: dict[str, Any]) -> int:
    below = sum(pages_of_indexes(part) for part in plan.get("Plans", []))
    return below + (plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] if "Index Name" in plan else 0)


Meter = Callable[[Awaitable[object]], Awaitable[int]]


@pytest.fixture
async def meter(store: AnyStore) -> Meter:
    return PostgresMeter(store) if isinstance(store, PostgresStore) else SqliteMeter(store)


async def owe_many(
    world: World, count: int, pools: int, *, due_at: int = NOW - 1000, name: str = "flood", analyze: bool = True
) -> None:
    """Effects that are due one after the other, of one pool or in turn of several."""
    rows = f"""
    WITH RECURSIVE numbers (n) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < $1)
    INSERT INTO outbox (id, organization_id, kind, subject_id, due_at, attempts, token, lease_until, created_at, pool,
        priority)
    SELECT '{name}' || CAST(n AS TEXT), $2, 'push', 'x', $3 + n, 0, 0, 0, 0, '{name}' || CAST(n % $4 AS TEXT), {NORMAL}
    FROM numbers
    """
    await run_sql(world.store, rows, count, world.organization.id, due_at - count, pools)
    if analyze and isinstance(world.store, PostgresStore):
        await run_sql(world.store, "VACUUM ANALYZE outbox")


SHUT_TO_ALL: Shut = [["flood0"]] * 3
NONE: Shut = [[]] * 3


async def costs(world: World, meter: Meter, shut: Shut, limit: int = 4) -> tuple[int, int]:
    """What a claim and a look at what comes next cost."""
    system = world.store.system
    system._due = due_statements(world.store.dialect, FIRST)
    next_due = await meter(system.next_due(shut))
    return await meter(system.claim(NOW, LATER, limit, shut)), next_due


@pytest.mark.parametrize("pools", [1, 10])
async def test_what_is_shut_costs_nothing(world: World, meter: Meter, pools: int) -> None:
    found = []
    for flood in (FLOOD, 4 * FLOOD):
        await run_sql(world.store, "DELETE FROM outbox")
        await owe_many(world, flood, 1)
        await owe_many(world, 3 * pools, pools, due_at=NOW, name="third")
        found.append(await costs(world, meter, SHUT_TO_ALL))
    assert found[0] == found[1]


async def test_one_that_comes_behind_a_flood_is_found_at_once(world: World, meter: Meter) -> None:
    """Also while the database still takes what it is flooded with for all there is."""
    found = []
    for flood in (FLOOD, 4 * FLOOD):
        await run_sql(world.store, "DELETE FROM outbox")
        await owe_many(world, flood, 1)
        third = world.debt(pool="third")
        await world.owe(third)
        found.append(await costs(world, meter, SHUT_TO_ALL))
        assert [row[0] for row in await world.owed() if row[2]] == [third.id]
    assert found[0] == found[1]


@pytest.mark.parametrize("shut", [NONE, [["other"]] * 3], ids=["none shut", "another shut"])
async def test_what_is_open_is_not_read_as_a_whole(world: World, meter: Meter, shut: Shut) -> None:
    """Neither all of the one account that everything is owed to, nor a row of each account."""
    found = []
    for count, pools in ((FLOOD, 1), (4 * FLOOD, 1), (4 * FLOOD, 300)):
        await run_sql(world.store, "DELETE FROM outbox")
        await owe_many(world, count, pools)
        found.append(await costs(world, meter, shut))
    assert found[0] == found[1] == found[2]


async def seen_empty(store: PostgresStore) -> World:
    """A world whose outbox PostgreSQL has seen empty, on pages of what was owed before: every plan seems to cost
    nothing.
    """
    world = await new_world(store)
    for task in store._tasks:  # they would have it looked at again
        task.cancel()
    await owe_many(world, 4 * FLOOD, 1)
    await run_sql(store, "DELETE FROM outbox")
    await run_sql(store, "VACUUM (TRUNCATE off, ANALYZE) outbox")
    return world


async def test_a_flood_after_a_quiet_hour(postgres_store: PostgresStore) -> None:
    """Claims read what is owed once, at worst."""
    world, meter = await seen_empty(postgres_store), PostgresMeter(postgres_store)
    await owe_many(world, 2 * FLOOD, 1, analyze=False)
    await owe_many(world, FLOOD, 20, name="third", analyze=False)
    stale = await costs(world, meter, SHUT_TO_ALL, limit=20)
    assert max(stale) < 2 * 3 * FLOOD  # each row once, not once for each that is claimed
    await run_sql(postgres_store, "UPDATE outbox SET lease_until = 0")
    await run_sql(postgres_store, "ANALYZE outbox")
    assert max(await costs(world, meter, SHUT_TO_ALL, limit=20)) < FLOOD / 2


async def test_what_nothing_is_owed_for_is_looked_up_after_a_quiet_hour(postgres_store: PostgresStore) -> None:
    """Each command in its index, not each in all that is owed."""
    world, meter = await seen_empty(postgres_store), PostgresMeter(postgres_store)
    commands = [world.command(platform="android") for _ in range(200)]
    await world.add(*commands)
    await world.owe(*(world.debt(key=f"issue:{command.id}") for command in commands[1:]))
    await owe_many(world, 2 * FLOOD, 1, analyze=False)
    found: list[Command] = []

    async def look() -> None:
        found.extend(await postgres_store.system.silent_commands(10))

    assert await meter(look()) < FLOOD
    assert [command.id for command in found] == [commands[0].id]


async def test_two_records_of_a_device_are_joined_after_a_quiet_hour(postgres_store: PostgresStore) -> None:
    """The lanes of one's commands are looked up, not looked for in all that is owed."""
    world, meter = await seen_empty(postgres_store), PostgresMeter(postgres_store)
    kept = replace(world.device, id=new_id(), all_platform_id=new_id(), created_at=NOW - 1)
    await world.work.setup.add_device(kept, None)
    commands = [world.command() for _ in range(50)]
    await world.add(*commands)
    lanes = {command.id: f"issue:{world.device.id}:{command.id}" for command in commands}
    await world.owe(*(world.debt(key=f"issue:{name}", lane=lane) for name, lane in lanes.items()))
    await owe_many(world, 2 * FLOOD, 1, analyze=False)
    await run_sql(postgres_store, "UPDATE outbox SET lane = id WHERE lane IS NULL")
    joined = world.work.setup.join_devices(replace(kept, updated_at=NOW + 1), [world.device], read_at=NOW)
    assert await meter(joined) < 3 * 2 * FLOOD  # once by a statement or two, at worst
    rows = await postgres_store.fetch("SELECT lane FROM outbox WHERE key IS NOT NULL")
    assert {row[0] for row in rows} == {f"issue:{kept.id}:{name}" for name in lanes}


CHANGES = SETTLE | {"withdrawn": lambda changes, item: changes.withdraw(item.key or "")}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_batch_after_a_quiet_hour(postgres_store: PostgresStore, change: str) -> None:
    """A commit walks through what is owed a few times at worst, not once for each row that it changes."""
    world, meter = await seen_empty(postgres_store), PostgresMeter(postgres_store)
    await world.owe(*(world.debt(key=new_id()) for _ in range(50)))
    items = await world.claim()
    await owe_many(world, 2 * FLOOD, 1, analyze=False)
    found = []
    for _ in ("seen empty", "analyzed"):
        sets = [world.changes() for _ in items]
        for changes, item in zip(sets, items, strict=True):
            CHANGES[change](changes, item)
        built = build([prepare(changes) for changes in sets])
        assert built is not None
        found.append(await meter.undone(statement(built[0], *built[1])))
        await run_sql(postgres_store, "ANALYZE outbox")
    (read, pages), (read_then, pages_then) = found
    assert read < 2 * 2 * FLOOD
    assert pages < 1500
    assert read_then < 300
    assert pages_then < 1500


async def test_few_that_are_shut_are_passed_by_in_order(world: World, meter: Meter) -> None:
    """With many accounts it costs more to look at each than at the few rows that one of them has."""
    found = []
    for pools in (1, 300):
        await run_sql(world.store, "DELETE FROM outbox")
        await owe_many(world, FIRST // 2, 1)
        await owe_many(world, FLOOD, pools, due_at=NOW, name="third")
        found.append(await costs(world, meter, SHUT_TO_ALL))
    assert found[0] == found[1]
