"""Fresh statistics: when there are, and that a fault is worth a log line and another try."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from heliograph.store import PostgresStore, postgres_statistics
from heliograph.store.database import Rows
from heliograph.store.postgres_connections import Connection
from tests.store.world import new_world, run_sql


async def test_a_fault_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_statistics, "_EVERY_S", 0.0)
    asked, failures = asyncio.Event(), iter(range(2))

    async def fetch(sql: str) -> Rows:
        if next(failures, None) is not None:
            raise RuntimeError
        asked.set()
        return []

    keeping = asyncio.create_task(postgres_statistics.keep_statistics(fetch))
    async with asyncio.timeout(30):
        await asked.wait()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_an_outbox_that_was_empty_when_it_was_looked_at(
    postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plans would read all of it for each row, and it need not grow for that: what was owed left its pages."""
    world = await new_world(postgres_store)
    await world.owe(*(world.debt() for _ in range(1200)))
    await run_sql(postgres_store, "DELETE FROM outbox")
    await run_sql(postgres_store, "VACUUM (TRUNCATE off, ANALYZE) outbox")
    [[rows, pages]] = await postgres_store.fetch("SELECT reltuples, relpages FROM pg_class WHERE relname = 'outbox'")
    assert (rows, pages > 10) == (0, True)
    assert "outbox" not in [row[0] for row in await postgres_store.fetch(postgres_statistics._OUTGROWN)]
    monkeypatch.setattr(postgres_statistics, "_EVERY_S", 0.01)
    keeping = asyncio.create_task(postgres_statistics.keep_statistics(postgres_store.fetch))
    try:
        await world.owe(*(world.debt() for _ in range(1000)))
        async with asyncio.timeout(30):
            while not rows:
                [[rows]] = await postgres_store.fetch("SELECT reltuples FROM pg_class WHERE relname = 'outbox'")
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    assert rows >= 500
    again = await postgres_store.fetch(postgres_statistics._SEEN_EMPTY)
    assert again == []


async def test_what_is_owed_is_not_counted_where_the_statistics_are_fresh(postgres_store: PostgresStore) -> None:
    """Each second each server would count some of it."""
    world = await new_world(postgres_store)
    await world.owe(*(world.debt() for _ in range(1000)))
    await run_sql(postgres_store, "ANALYZE outbox")
    rows = await postgres_store.fetch(f"EXPLAIN (ANALYZE) {postgres_statistics._SEEN_EMPTY}")
    readings = [row[0] for row in rows if " on outbox" in row[0]]
    assert readings
    assert all("never executed" in reading for reading in readings)


@pytest.fixture
async def plain(postgres_store: PostgresStore, dsn: str) -> AsyncIterator[tuple[Connection, str]]:
    """A connection as a role that may only read and write, and the role's name."""
    role = f"plain_{secrets.token_hex(4)}"
    await run_sql(postgres_store, f"CREATE ROLE {role}")
    connection = await asyncpg.connect(dsn)
    try:
        await run_sql(postgres_store, f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {role}")
        await connection.execute(f"SET ROLE {role}")
        yield connection, role
    finally:
        await connection.close()
        await run_sql(postgres_store, f"REASSIGN OWNED BY {role} TO current_user")
        await run_sql(postgres_store, f"DROP OWNED BY {role}")
        await run_sql(postgres_store, f"DROP ROLE {role}")


def _rights(database: str, owner: str, version: int) -> list[tuple[str, str]]:
    """Ways to let {role} analyze, and back."""
    ways = [
        (f"ALTER DATABASE {database} OWNER TO {{role}}", f"ALTER DATABASE {database} OWNER TO CURRENT_USER"),
        ("ALTER TABLE outbox OWNER TO {role}", "ALTER TABLE outbox OWNER TO CURRENT_USER"),
        (f"GRANT {owner} TO {{role}}", f"REVOKE {owner} FROM {{role}}"),
    ]
    later = [
        ("GRANT MAINTAIN ON outbox TO {role}", "REVOKE MAINTAIN ON outbox FROM {role}"),
        ("GRANT pg_maintain TO {role}", "REVOKE pg_maintain FROM {role}"),
    ]
    return ways + later if version >= 17 else ways


async def test_who_may_analyze(postgres_store: PostgresStore, dsn: str, plain: tuple[Connection, str]) -> None:
    """What we take for the right to it is what PostgreSQL does."""
    connection, role = plain
    warnings: list[object] = []
    connection.add_log_listener(lambda _, message: warnings.append(message))

    async def may() -> bool:
        [[ours]] = await connection.fetch(f"SELECT {postgres_statistics._MAY} FROM pg_class WHERE relname = 'outbox'")
        warnings.clear()
        await connection.execute("ANALYZE outbox")
        assert ours == (warnings == [])
        return bool(ours)

    assert not await may()
    [[owner]] = await postgres_store.fetch("SELECT quote_ident(current_user)")
    database, version = urlsplit(dsn).path.removeprefix("/"), connection.get_server_version().major
    for give, take in _rights(database, owner, version):
        await run_sql(postgres_store, give.format(role=role))
        assert await may(), give
        await run_sql(postgres_store, take.format(role=role))
        assert not await may(), take


async def test_a_role_that_may_not_analyze_is_told_once(
    postgres_store: PostgresStore,
    dsn: str,
    plain: tuple[Connection, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And PostgreSQL is not asked in vain each second, but once the right is there."""
    monkeypatch.setattr(postgres_statistics, "_EVERY_S", 0.0)
    connection, role = plain
    warnings: list[object] = []
    connection.add_log_listener(lambda _, message: warnings.append(message))
    world = await new_world(postgres_store)
    await run_sql(
        postgres_store, "CREATE TABLE grown AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 1000)"
    )
    await world.owe(*(world.debt() for _ in range(1000)))
    analyzed: set[str] = set()
    rounds = asyncio.Semaphore(0)

    async def fetch(sql: str) -> Rows:
        if sql.startswith("ANALYZE"):
            analyzed.add(sql)
        elif sql == postgres_statistics._SEEN_EMPTY:
            rounds.release()
        return await connection.fetch(sql)

    keeping = asyncio.create_task(postgres_statistics.keep_statistics(fetch))
    try:
        async with asyncio.timeout(30):
            for _ in range(5):
                await rounds.acquire()
            assert (analyzed, warnings) == (set(), [])
            await run_sql(postgres_store, f"ALTER DATABASE {urlsplit(dsn).path.removeprefix('/')} OWNER TO {role}")
            while not {"ANALYZE grown", "ANALYZE outbox"} <= analyzed:
                await rounds.acquire()
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    assert warnings == []
    [told] = [record.getMessage() for record in caplog.records if record.name == postgres_statistics.__name__]
    assert "grown, " in told
    assert "outbox, " in told
