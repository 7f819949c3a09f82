"""The connection to PostgreSQL breaks between the writing and its answer: what the caller is told is true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from heliograph.domain.errors import OutcomeUnknown, StoreUnavailable
from heliograph.http.problems import problem_of
from heliograph.store import Hub, PostgresStore
from tests.store.world import new_world


class Wire:
    """Between a store and its server. `deaf`: the next answer is lost with its connection; `cut`: nobody gets on."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self.deaf = False
        self.cut = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.cut:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
            ways = [asyncio.create_task(way) for way in (self._there(reader, up_writer), self._back(up_reader, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            up_writer.close()
        writer.close()

    async def _there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (data := await reader.read(65_536)) and not self.deaf:
            writer.write(data)


@pytest.fixture
async def wire(dsn: str) -> AsyncIterator[tuple[Wire, PostgresStore]]:
    parts = urlsplit(dsn)
    wire = Wire(parts.hostname or "", parts.port or 5432)
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = await PostgresStore.open(dsn.replace(f":{parts.port}/", f":{port}/"), Hub())
    yield wire, store
    await store.close()
    server.close()


async def test_a_write_whose_answer_is_lost_may_have_been_stored(
    wire: tuple[Wire, PostgresStore], postgres_store: PostgresStore
) -> None:
    line, store = wire
    world = await new_world(store)
    await world.added_command()  # the statement is prepared: the next answer is that of its execution
    line.deaf = True
    command = world.command()
    with pytest.raises(OutcomeUnknown) as told:
        await world.add(command)
    problem = problem_of(told.value, "r")
    assert (problem.status, problem.code) == (503, 1003)
    assert "may or may not" in problem.message
    found = await postgres_store.unit_of_work(world.organization.id).commands.find(command.id)
    assert found is not None


async def test_a_write_that_found_no_connection_changed_nothing(wire: tuple[Wire, PostgresStore]) -> None:
    line, store = wire
    world = await new_world(store)
    line.cut = True
    for connection, _ in store._pool._idle:
        connection.terminate()
    with pytest.raises(StoreUnavailable, match="nothing was changed") as told:
        await world.add(world.command())
    assert not isinstance(told.value, OutcomeUnknown)
