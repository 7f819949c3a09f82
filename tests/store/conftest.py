"""One suite for both databases: whoever asks for `store` (or `world`) runs twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heliograph.store import AnyStore, Hub, PostgresStore, SqliteStore, migrate
from tests.store.world import World, new_world
from tests.support.postgres import Databases, Postgres


async def _migrated(dsn: str) -> None:
    store = await PostgresStore.open(dsn, Hub())
    await migrate(store)
    await store.close()


@pytest.fixture(scope="session")
def databases(postgres: Postgres) -> Databases:
    return postgres.template("store", _migrated)


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
async def sqlite(tmp_path: Path, hub: Hub) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "data", hub)
    await migrate(store)
    yield store
    await store.close()


@pytest.fixture
async def dsn(databases: Databases) -> AsyncIterator[str]:
    dsn = await databases()
    yield dsn
    await databases.drop(dsn)


@pytest.fixture
async def postgres_store(dsn: str, hub: Hub) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(dsn, hub)
    yield store
    await store.close()


@pytest.fixture(params=["sqlite", "postgres_store"])
def store(request: pytest.FixtureRequest) -> AnyStore:
    found: AnyStore = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def world(store: AnyStore) -> World:
    return await new_world(store)
