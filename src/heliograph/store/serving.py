"""What a server heeds when it opens a database: the commands of its operator, which work there as well."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from heliograph.store.database import DataDirectoryInUse
from heliograph.store.postgres import PostgresStore
from heliograph.store.postgres_hub import PostgresHub
from heliograph.store.sqlite import SqliteStore
from heliograph.store.wakeups import Hub

log = logging.getLogger(__name__)

_COMMAND_S = 60.0
_LOOK_AGAIN_S = 0.1
_LISTENING_S = 5.0


async def open_directory(data_dir: Path, hub: Hub, *, briefly: bool) -> SqliteStore:
    """The store in a data directory. A command that works there is gone in a moment, and must not keep a server from
    starting; another command (`briefly`) does not wait here.
    """
    left_s = 0.0 if briefly else _COMMAND_S
    while True:
        try:
            return await SqliteStore.open(data_dir, hub, briefly=briefly)
        except DataDirectoryInUse as error:
            if not error.briefly or left_s <= 0:
                raise
            if left_s == _COMMAND_S:
                log.warning("the start waits: %s", error)
        await asyncio.sleep(_LOOK_AGAIN_S)
        left_s -= _LOOK_AGAIN_S


async def may_read_key(store: SqliteStore | PostgresStore, hub: Hub) -> bool:
    """Wait until nobody replaces the secret key any more without knowing of this process; False while somebody does.

    Where PostgreSQL has no connection left for wake-ups, nobody waits for one.
    """
    if not isinstance(store, PostgresStore) or not isinstance(hub, PostgresHub):
        return True
    with suppress(TimeoutError):
        async with asyncio.timeout(_LISTENING_S):
            await hub.listening()
    return not await store.is_kept_alone()
