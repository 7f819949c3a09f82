"""Behind a pooler in session mode, which refuses whoever names settings at the start that it does not keep track of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from heliograph.store import Hub, PostgresStore
from heliograph.store.postgres import _SETTINGS
from tests.store.world import LATER, NOW, new_world

# What PgBouncer takes, besides user and database.
TRACKED = {"client_encoding", "datestyle", "timezone", "standard_conforming_strings", "application_name"}


class Pooler:
    """Carries what comes after a start that names nothing else."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self.refused: set[str] = set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = await self._start(reader, writer)
        words = start[8:].rstrip(b"\0").decode().split("\0")
        self.refused |= {name.lower() for name in words[::2]} - {"user", "database", *TRACKED}
        if not self.refused:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
            up_writer.write(start)
            await asyncio.gather(_copy(reader, up_writer), _copy(up_reader, writer))
        writer.close()

    async def _start(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        while True:
            length = await reader.readexactly(4)
            packet = length + await reader.readexactly(int.from_bytes(length) - 4)
            if len(packet) > 8:
                return packet
            writer.write(b"N")  # no TLS here


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


@pytest.fixture
async def pooled(dsn: str) -> AsyncIterator[tuple[Pooler, str]]:
    parts = urlsplit(dsn)
    pooler = Pooler(parts.hostname or "", parts.port or 5432)
    server = await asyncio.start_server(pooler.carry, "127.0.0.1", 0)
    yield pooler, dsn.replace(f":{parts.port}/", f":{server.sockets[0].getsockname()[1]}/")
    server.close()


async def test_a_pooler_lets_us_in_and_our_settings_hold(pooled: tuple[Pooler, str]) -> None:
    pooler, dsn = pooled
    store = await PostgresStore.open(dsn, Hub())
    try:
        world = await new_world(store)
        await world.owe(world.debt(due_at=NOW - 1))
        assert [item.lease_until for item in await world.claim()] == [LATER]
        for name, value in _SETTINGS.items():
            assert [tuple(row) for row in await store.fetch("SELECT current_setting($1)", name)] == [(value,)]
    finally:
        await store.close()
    assert pooler.refused == set()
