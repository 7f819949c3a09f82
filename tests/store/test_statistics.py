"""Fresh statistics: when there are, and that a fault is worth a log line and another try."""

from __future__ import annotations

import asyncio

import pytest

from heliograph.store import PostgresStore, postgres_statistics
from heliograph.store.database import Rows
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
