"""Migrations: once, in order, by one process, and never over something that does not fit."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec
import pytest

from heliograph.domain.errors import Conflict, StoreUnavailable
from heliograph.store import AnyStore, Hub, MigrationRefused, PostgresStore, SqliteStore, migrate, status
from heliograph.store.database import statement
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


@pytest.fixture
async def plain_dsn(postgres: Postgres, empty_dsn: str) -> AsyncIterator[str]:
    """The database as a role that does not own it: since PostgreSQL 15 that one may make no tables."""
    role, parts = f"plain_{secrets.token_hex(4)}", urlsplit(empty_dsn)
    await postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
    yield urlunsplit(parts._replace(netloc=f"{role}:{role}@{parts.netloc.rpartition('@')[2]}"))
    await postgres.execute(f"DROP ROLE {role}")


async def test_a_role_without_rights_is_told_what_it_needs(plain_dsn: str) -> None:
    store = await PostgresStore.open(plain_dsn, Hub())
    with pytest.raises(StoreUnavailable, match="let the role own the database"):
        await migrate(store)
    await store.close()


async def test_a_database_that_takes_no_writes_is_called_that(empty_dsn: str) -> None:
    store = await PostgresStore.open(f"{empty_dsn}?default_transaction_read_only=on", Hub())
    with pytest.raises(StoreUnavailable, match="takes no writes"):
        await migrate(store)
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


_RECORDS_OF_ONE_DEVICE = """
INSERT INTO organizations (id, slug, name, features, created_at, updated_at) VALUES ('o', 'o', 'o', '{}', 1, 1);
INSERT INTO enterprises (id, organization_id, platform, name, created_at)
    VALUES ('e', 'o', 'android', 'enterprises/e', 1);
INSERT INTO devices (id, organization_id, all_platform_id, platform, enterprise_id, name, state, created_at, updated_at,
    external_name, facts, agent_secret_hash) VALUES
    ('000000000000000000000001', 'o', 'a1', 'android', 'e', 'n', 's', 5, 1, 'd', '{}', NULL),
    ('000000000000000000000002', 'o', 'a2', 'android', 'e', 'n', 's', 6, 1, 'd', '{}', CAST('x' AS BLOB)),
    ('000000000000000000000003', 'o', 'a3', 'android', 'e', 'n', 's', 7, 1, 'd', '{}', NULL),
    ('000000000000000000000004', 'o', 'a4', 'android', 'e', 'n', 's', 1, 1, 'single', '{}', NULL),
    ('000000000000000000000005', 'o', 'a5', 'android', 'e', 'n', 's', 1, 1, NULL, '{}', NULL),
    ('000000000000000000000006', 'o', 'a6', 'android', 'e', 'n', 's', 1, 1, NULL, '{}', NULL);
INSERT INTO commands (id, organization_id, device_id, enterprise_id, platform, type, params, duration_us, created_at,
    updated_at, expires_at, rung, rung_at, issue, entries, version)
    SELECT 'c' || substr(id, 24), 'o', id, 'e', 'android', 'LOCK', '{}', 1, 1, 1, 1, 'queued', 1, 'idle', 1, 1
    FROM devices;
INSERT INTO pushes (id, organization_id, device_id, app, kind, provider, message, created_at, updated_at, expires_at,
    rung, rung_at, entries, version)
    SELECT 'p' || substr(id, 24), 'o', id, 'a', 'k', 'x', '{}', 1, 1, 1, 'queued', 1, 1, 1 FROM devices;
INSERT INTO push_targets (organization_id, device_id, app, provider, token, registered_at)
    SELECT 'o', id, 'a', 'x', 't' || substr(id, 24), 10 - created_at FROM devices WHERE created_at > 5;
INSERT INTO push_targets (organization_id, device_id, app, provider, token, registered_at) VALUES
    ('o', '000000000000000000000001', 'a', 'x', 't1', 1), ('o', '000000000000000000000001', 'a', 'y', 'own', 1);
INSERT INTO outbox (id, organization_id, kind, subject_id, due_at, attempts, token, lease_until, created_at, lane, key)
    SELECT 'i' || substr(id, 24), 'o', 'issue', 'c' || substr(id, 24), 1, 0, 0, 0, 1, 'issue:' || id || ':WIPE:d',
    'issue:c' || substr(id, 24) FROM devices;
INSERT INTO outbox (id, organization_id, kind, subject_id, due_at, attempts, token, lease_until, created_at, key)
    SELECT 'l' || substr(id, 24), 'o', 'look_up', id, created_at, 0, 4, 9, 1, 'look_up:' || id FROM devices
    WHERE created_at > 5 OR external_name = 'single';
"""


async def test_records_of_one_device_become_one(empty: AnyStore) -> None:
    """The oldest stays, with what the others had; nothing else is touched."""
    before = [migration for migration in KNOWN if migration.number < 17]
    await migrate(empty, before)
    for text in _RECORDS_OF_ONE_DEVICE.split(";\n"):
        as_bytes = text.replace("BLOB", "BYTEA") if isinstance(empty, PostgresStore) else text
        await empty.write(*([statement(as_bytes)] if text.strip() else []))
    await migrate(empty)
    one, four, five, six = (f"{n:024d}" for n in (1, 4, 5, 6))
    assert await table(empty, "id, agent_secret_hash", "devices") == [
        (one, b"x"),
        (four, None),
        (five, None),
        (six, None),
    ]
    moved = [one, one, one, four, five, six]
    assert await table(empty, "device_id, version", "commands") == [(m, 1 + (0 < n < 3)) for n, m in enumerate(moved)]
    assert await table(empty, "device_id", "pushes") == [(m,) for m in moved]
    assert await table(empty, "device_id, token", "push_targets", "token") == [(one, "own"), (one, "t2")]
    lanes = await table(empty, "lane", "outbox WHERE kind = 'issue'")
    assert lanes == [(f"issue:{m}:WIPE:d",) for m in moved]
    looks = await table(empty, "subject_id, key, lease_until, token", "outbox WHERE kind = 'look_up'")
    assert looks == [(one, f"look_up:{one}", 0, 5), (four, f"look_up:{four}", 9, 4)]
    ids = [("000000000000000000000002", one), ("000000000000000000000003", one), ("a2", one), ("a3", one)]
    assert await table(empty, "name, device_id", "device_names", "name") == [*ids, ("d", one), ("single", four)]
    with pytest.raises(Conflict):
        await empty.write(statement("UPDATE devices SET external_name = 'd' WHERE id = $1", four))


_ONE_DEVICE = """
INSERT INTO organizations (id, slug, name, features, created_at, updated_at) VALUES ('o', 'o', 'o', '{}', 1, 1);
INSERT INTO enterprises (id, organization_id, platform, name, created_at)
    VALUES ('e', 'o', 'android', 'enterprises/e', 1);
INSERT INTO devices (id, organization_id, all_platform_id, platform, enterprise_id, name, state, created_at, updated_at,
    external_name, facts) VALUES ('000000000000000000000001', 'o', 'a1', 'android', 'e', 'n', 's', 5, 1, 'd', '{}')
"""
_CANCELS = {
    "taken": ({"cancel": "requested"}, {"cancel": "refused", "status": 404, "message": ""}),
    "refused": ({"cancel": "refused", "status": 404, "message": '"cancel":"requested"'},),
    "unanswered": ({},),
}


async def test_how_cancels_were_answered_is_found_in_histories(empty: AnyStore) -> None:
    await migrate(empty, [migration for migration in KNOWN if migration.number < 20])
    for text in _ONE_DEVICE.split(";\n"):
        await empty.write(statement(text))
    insert = """
    INSERT INTO commands (id, organization_id, device_id, enterprise_id, platform, type, params, duration_us,
        created_at, updated_at, expires_at, rung, rung_at, issue, cancel_requested_at, entries, version)
    VALUES ($1, 'o', '000000000000000000000001', 'e', 'android', 'WIPE', '{}', 1,
        1, 1, 1, 'issued', 1, 'bound', 1, 1, 1)
    """
    note = "INSERT INTO history VALUES ('o', $1, $2, 'issued', 1, 'amapi', $3)"
    for command, notes in _CANCELS.items():
        await empty.write(statement(insert, command))
        for seq, evidence in enumerate(notes):
            await empty.write(statement(note, command, seq, msgspec.json.encode(evidence).decode()))
    await migrate(empty)
    expected = [("refused", '{"cancelRefused":0}'), ("taken", '{"cancelTaken":true}'), ("unanswered", None)]
    assert await table(empty, "id, findings", "commands") == expected


async def table(store: AnyStore, columns: str, name: str, order: str = "id") -> list[tuple[object, ...]]:
    return [tuple(row) for row in await store.fetch(f"SELECT {columns} FROM {name} ORDER BY {order}")]


async def has_table(store: AnyStore, name: str) -> bool:
    if isinstance(store, SqliteStore):
        return bool(await store.fetch("SELECT 1 FROM sqlite_master WHERE name = $1", name))
    return bool((await store.fetch("SELECT to_regclass($1) IS NOT NULL", name))[0][0])


def applied(migrations: list[Migration]) -> list[Applied]:
    return [Applied(m.number, m.name, m.checksum, 1) for m in migrations]
