"""The database: plain SQL on PostgreSQL and SQLite, and the wake-ups that go with each."""

from pathlib import Path

from heliograph.store.base import SqlStore
from heliograph.store.database import DataDirectoryInUse, MigrationRefused
from heliograph.store.migrator import MigrationStatus, migrate, status
from heliograph.store.postgres import PostgresStore
from heliograph.store.postgres_hub import PostgresHub
from heliograph.store.sqlite import SqliteStore
from heliograph.store.wakeups import Hub

AnyStore = SqliteStore | PostgresStore


def is_postgres(database: str | Path) -> bool:
    """Whether a database is named by a PostgreSQL URL (else it is a data directory)."""
    return str(database).startswith(("postgres://", "postgresql://"))


async def open_hub(database: str | Path) -> Hub:
    """The wake-ups that go with a database: within this process for SQLite, between processes for PostgreSQL."""
    return await PostgresHub.open(str(database)) if is_postgres(database) else Hub()


async def open_store(database: str | Path, hub: Hub) -> AnyStore:
    """The store behind a PostgreSQL URL or in a data directory, for one command. Not migrated: see `migrate`."""
    if is_postgres(database):
        return await PostgresStore.open(str(database), hub)
    return await SqliteStore.open(database, hub, briefly=True)


__all__ = [
    "AnyStore",
    "DataDirectoryInUse",
    "Hub",
    "MigrationRefused",
    "MigrationStatus",
    "PostgresHub",
    "PostgresStore",
    "SqlStore",
    "SqliteStore",
    "is_postgres",
    "migrate",
    "open_hub",
    "open_store",
    "status",
]
