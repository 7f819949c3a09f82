"""Ids are ordered by their characters, whatever rules of a language a PostgreSQL database sorts text by."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest

from heliograph.domain.errors import StoreUnavailable
from heliograph.ports.system import NONE_SHUT
from heliograph.store import Hub, PostgresStore, migrate, postgres_statistics
from tests.store.test_flood import Owed, check, put
from tests.store.world import NOW, SECOND, new_world, run_sql
from tests.support.postgres import Postgres

# What a server may have, and the database for it. In Danish aa goes behind z, in Czech digits go behind letters, in
# Welsh dd and ff are letters of their own; the last ones are what every server has.
DATABASES = {
    "da-x-icu": "LOCALE_PROVIDER icu ICU_LOCALE 'da' LOCALE 'C'",
    "cy-x-icu": "LOCALE_PROVIDER icu ICU_LOCALE 'cy' LOCALE 'C'",
    "en-US-x-icu": "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'",
    "und-x-icu": "LOCALE_PROVIDER icu ICU_LOCALE 'und-u-kn-true' LOCALE 'C'",
    "cs_CZ.utf8": "LOCALE 'cs_CZ.utf8'",
    "da_DK.utf8": "LOCALE 'da_DK.utf8'",
    "en_US.utf8": "LOCALE 'en_US.utf8'",
    "pg_unicode_fast": "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST' LOCALE 'C'",
    "C.utf8": "LOCALE 'C.utf8'",
    "POSIX": "LOCALE 'POSIX'",
}
IDS = sorted(
    f"{high}{low}{rest}"
    for high in ("6a", "9f", "a9")
    for low in ("0a", "9a", "aa", "ab", "dd", "de", "ff")
    for rest in ("10", "1a", "9")
)


@pytest.fixture
async def stores(postgres: Postgres) -> AsyncIterator[dict[str, PostgresStore]]:
    """A migrated store for each collation that the server has."""
    connection = await asyncpg.connect(postgres.url)
    rows = await connection.fetch("SELECT DISTINCT collname FROM pg_collation")
    await connection.close()
    names = {name: f"sorted_{secrets.token_hex(4)}" for (name,) in rows if name in DATABASES}
    found = {}
    try:
        for name, database in names.items():
            await postgres.execute(f"CREATE DATABASE {database} TEMPLATE template0 ENCODING 'UTF8' {DATABASES[name]}")
            found[name] = await PostgresStore.open(postgres.dsn(database), Hub())
            await migrate(found[name])
        yield found
    finally:
        for store in found.values():
            await store.close()
        for database in names.values():
            await postgres.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


BY_OTHER_RULES = """
SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname = current_schema()
AND NOT a.attisdropped AND a.attcollation NOT IN (0, to_regcollation('"C"'))"""


async def test_all_text_is_compared_byte_by_byte(postgres_store: PostgresStore) -> None:
    """Also the columns of migrations to come: two columns with different rules cannot be looked up by each other."""
    assert [tuple(row) for row in await postgres_store.fetch(BY_OTHER_RULES)] == []


@pytest.mark.parametrize("schema", ["Heliograph", "of-the fleet"])
async def test_in_a_schema_whose_name_needs_quotes(schema: str, postgres: Postgres) -> None:
    """A role's own schema has its name, whatever that is. The statistics of its tables are looked at, too."""
    database = f"schema_{secrets.token_hex(4)}"
    await postgres.execute(f"CREATE DATABASE {database}")
    await postgres.execute(f'ALTER DATABASE {database} SET search_path = "{schema}"')
    connection = await asyncpg.connect(postgres.dsn(database))
    await connection.execute(f'CREATE SCHEMA "{schema}"')
    await connection.close()
    store = await PostgresStore.open(postgres.dsn(database), Hub())
    try:
        await migrate(store)
        assert [tuple(row) for row in await store.fetch(BY_OTHER_RULES)] == []
        await run_sql(store, "CREATE TABLE grown AS SELECT g FROM generate_series(1, 5000) AS g")
        assert "grown" in [row[0] for row in await store.fetch(postgres_statistics._OUTGROWN)]
    finally:
        await store.close()
        await postgres.execute(f"DROP DATABASE {database} WITH (FORCE)")


async def test_claims_and_the_newest_id(stores: dict[str, PostgresStore]) -> None:
    assert stores
    for name, store in stores.items():
        world = await new_world(store)
        rows = [Owed(id_, NOW - n % 2, 0, 0, str(n // 2), ("", "a", "b")[n % 5 % 3], 1) for n, id_ in enumerate(IDS)]
        try:
            await check(world, rows, 100, NONE_SHUT)
            await check(world, rows, 7, NONE_SHUT)
            await put(world, [Owed(f"{id_:0<24}", NOW, 0, 0, None, "", 1) for id_ in IDS])
            assert await store.high_water() == (int(f"{IDS[-1]:0<24}"[:8], 16) + 1) * SECOND
        except AssertionError as error:
            raise AssertionError(f"in {name}") from error


async def test_a_process_that_runs_while_its_columns_change(postgres_store: PostgresStore) -> None:
    """Its plans are void then, and in the middle of a transaction it cannot make new ones: it claims the next time."""
    world = await new_world(postgres_store)
    await world.owe(world.debt(), world.debt())
    await world.claim(limit=1)
    await run_sql(postgres_store, 'ALTER TABLE outbox ALTER COLUMN pool TYPE TEXT COLLATE "POSIX"')
    with pytest.raises(StoreUnavailable):
        await world.claim(limit=1)
    assert len(await world.claim(limit=2)) == 1
