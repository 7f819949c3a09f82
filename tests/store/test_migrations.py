"""Migrations: once, in order, by one process, and never over something that does not fit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from heliograph.store import AnyStore, Hub, MigrationRefused, PostgresStore, SqliteStore, migrate, status
from heliograph.store.migrator import Applied, Migration, known_migrations, pending
from tests.support.postgres import Databases, Postgres

KNOWN = known_migrations()
NEXT = Migration(
    KNOWN[-1].number + 1,
    "next",
    """-- A comment; with a semicolon;
CREATE TABLE novel (
    a TEXT, -- of its own
    b BYTEA
);
INSERT INTO novel (a) VALUES ('a;b');
--: postgres
INSERT INTO novel (a) VALUES ('postgres');
--: end
--: sqlite
INSERT INTO novel (a) VALUES ('sqlite');
--: end
""",
)


@pytest.fixture
async def empty_sqlite(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "empty", Hub())
    yield store
    await store.close()


async def _nothing(dsn: str) -> None: ...


@pytest.fixture(scope="session")
def empty_databases(postgres: Postgres) -> Databases:
    return postgres.template("empty", _nothing)


@pytest.fixture
async def empty_dsn(empty_databases: Databases) -> AsyncIterator[str]:
    dsn = await empty_databases()
    yield dsn
    await empty_databases.drop(dsn)


@pytest.fixture
async def empty_postgres(empty_dsn: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(empty_dsn, Hub())
    yield store
    await store.close()


@pytest.fixture(params=["empty_sqlite", "empty_postgres"])
def empty(request: pytest.FixtureRequest) -> AnyStore:
    found: AnyStore = request.getfixturevalue(request.param)
    return found


async def test_fresh_and_repeated(empty: AnyStore) -> None:
    assert {line.applied_at for line in await status(empty)} == {None}
    assert await migrate(empty) == KNOWN
    assert await migrate(empty) == []
    lines = await status(empty)
    assert [(line.number, line.name) for line in lines] == [(m.number, m.name) for m in KNOWN]
    assert all(line.applied_at is not None for line in lines)
    await empty.ping()


async def test_a_later_migration_with_fragments(empty: AnyStore) -> None:
    await migrate(empty)
    assert await migrate(empty, [*KNOWN, NEXT]) == [NEXT]
    rows = await empty.fetch("SELECT a FROM novel ORDER BY a")
    assert [row[0] for row in rows] == ["a;b", empty.dialect.name]


async def test_a_changed_migration_is_refused(empty: AnyStore) -> None:
    await migrate(empty)
    changed = [replace(KNOWN[0], text=KNOWN[0].text + "\n"), *KNOWN[1:], NEXT]
    for attempt in (migrate, status):
        with pytest.raises(MigrationRefused, match="was changed"):
            await attempt(empty, changed)
    assert not await has_table(empty, "novel")


async def test_a_newer_database_is_refused(empty: AnyStore) -> None:
    await migrate(empty, [*KNOWN, NEXT])
    for attempt in (migrate, status):
        with pytest.raises(MigrationRefused, match=f"newer .* ends at {KNOWN[-1].number}"):
            await attempt(empty)


async def test_a_gap_is_refused() -> None:
    done = [a for a in applied([*KNOWN, NEXT]) if a.number == NEXT.number]
    with pytest.raises(MigrationRefused, match="missing below"):
        pending([*KNOWN, NEXT], done)


async def test_a_migration_that_fails_leaves_nothing(empty: AnyStore) -> None:
    broken = replace(NEXT, text=NEXT.text + "\nINSERT INTO nowhere (a) VALUES (1);\n")
    with pytest.raises(Exception):  # noqa: B017, PT011 - a programming error: each driver says it its own way
        await migrate(empty, [*KNOWN, broken])
    assert await empty.applied_migrations() == []
    assert not await has_table(empty, "novel")
    assert not await has_table(empty, "commands")
    assert await migrate(empty) == KNOWN


async def test_a_store_that_was_not_migrated_says_so(empty: AnyStore) -> None:
    with pytest.raises(MigrationRefused, match="db migrate"):
        await empty.ping()
    with pytest.raises(MigrationRefused, match="db migrate"):
        await empty.system.next_due()


async def test_two_processes_at_once_on_postgres(empty_dsn: str) -> None:
    stores = [await PostgresStore.open(empty_dsn, Hub()) for _ in range(4)]
    try:
        done = await asyncio.gather(*(migrate(store) for store in stores))
        assert sorted(map(len, done)) == [0, 0, 0, len(KNOWN)]
    finally:
        for store in stores:
            await store.close()


async def test_two_connections_at_once_on_sqlite(empty_sqlite: SqliteStore) -> None:
    """The lock on the directory keeps a second process away; should it fail, the exclusive transaction still holds."""
    other = sqlite3.connect(empty_sqlite._path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    attempt = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(migrate(empty_sqlite))))
    await asyncio.sleep(0.1)
    assert not attempt.done()
    other.execute("ROLLBACK")
    other.close()
    assert await attempt == KNOWN


async def has_table(store: AnyStore, name: str) -> bool:
    if isinstance(store, SqliteStore):
        return bool(await store.fetch("SELECT 1 FROM sqlite_master WHERE name = $1", name))
    return bool((await store.fetch("SELECT to_regclass($1) IS NOT NULL", name))[0][0])


def applied(migrations: list[Migration]) -> list[Applied]:
    return [Applied(m.number, m.name, m.checksum, 1) for m in migrations]
