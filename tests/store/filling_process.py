"""Fills a database under a limit on file sizes, as a full disk would set it; then lifts the limit and goes on.

Argument: the data directory. Exits with 0 when all went as it must.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys

from heliograph.domain.errors import StoreUnavailable
from heliograph.store import Hub, SqliteStore, migrate
from tests.store.world import new_world

LIMIT = 2_000_000


async def main(data_dir: str) -> None:
    store = await SqliteStore.open(data_dir, Hub())
    await migrate(store)
    world = await new_world(store)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
    answered: list[str] = []
    refused: list[str] = []
    while len(refused) < 3:
        command = world.command(params={"filling": "x" * 50_000})
        try:
            await world.add(command)
        except StoreUnavailable:
            refused.append(command.id)
        else:
            answered.append(command.id)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await world.add(last := world.command())
    rows = await store.fetch("SELECT id FROM commands")
    assert {row[0] for row in rows} == {*answered, last.id}
    assert len(answered) > 5
    [[verdict]] = await store.fetch("PRAGMA integrity_check")
    assert verdict == "ok"
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
