"""Fresh statistics are worth a log line when they fail, and another try."""

from __future__ import annotations

import asyncio

import pytest

from heliograph.store import postgres_statistics
from heliograph.store.database import Rows


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
