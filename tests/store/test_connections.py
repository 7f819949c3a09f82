"""Connections to PostgreSQL: never more than the limit, none lost, and none handed on in the middle of something."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from heliograph.store import postgres_connections
from heliograph.store.postgres_connections import Connections
from tests.support.postgres import Postgres


@pytest.fixture
async def connections(dsn: str) -> AsyncIterator[Connections]:
    connections = Connections(dsn, 3)
    yield connections
    await connections.close()


async def process_id(connections: Connections) -> int:
    async with connections.acquire() as connection:
        return int(await connection.fetchval("SELECT pg_backend_pid()"))


async def test_connections_are_used_again(connections: Connections) -> None:
    assert await process_id(connections) == await process_id(connections)
    everybody = await asyncio.gather(*(process_id(connections) for _ in range(50)))
    assert len(everybody) == 50
    assert 1 <= len(set(everybody)) <= 3


async def test_cancelled_users_and_waiters_take_nothing_along(connections: Connections) -> None:
    async def sleeper() -> None:
        async with connections.acquire() as connection:
            await connection.execute("SELECT pg_sleep(30)")

    for pauses in range(12):
        tasks = [asyncio.create_task(sleeper()) for _ in range(7)]
        await asyncio.sleep(0.02)
        tasks[0].cancel()
        for _ in range(pauses):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(5):
            await asyncio.gather(*(process_id(connections) for _ in range(9)))


async def test_a_cancelled_query_does_not_answer_the_next(connections: Connections) -> None:
    first = await process_id(connections)

    async def slow() -> None:
        async with connections.acquire() as connection:
            await connection.fetchval("SELECT pg_sleep(0.2)")

    task = asyncio.create_task(slow())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await process_id(connections) != first


async def test_an_open_transaction_is_not_handed_on(connections: Connections) -> None:
    async with connections.acquire() as connection:
        await connection.execute("BEGIN")
        first = await connection.fetchval("SELECT pg_backend_pid()")
    assert await process_id(connections) != first


async def test_an_error_keeps_the_connection(connections: Connections) -> None:
    first = await process_id(connections)
    with pytest.raises(asyncpg.UndefinedTableError):
        async with connections.acquire() as connection:
            await connection.execute("SELECT 1 FROM nowhere")
    assert await process_id(connections) == first


async def test_what_lay_too_long_is_not_trusted(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await process_id(connections)
    monkeypatch.setattr(postgres_connections, "_MAX_IDLE_S", -1.0)
    assert await process_id(connections) != first


async def test_a_failed_connect_frees_its_place(dsn: str) -> None:
    connections = Connections(dsn + "_which_does_not_exist", 2)
    for _ in range(3):
        results = await asyncio.gather(*(process_id(connections) for _ in range(6)), return_exceptions=True)
        assert {type(r) for r in results} == {asyncpg.InvalidCatalogNameError}
    await connections.close()


async def test_a_server_with_no_room_for_more_serves_all_by_those_there_are(postgres: Postgres, dsn: str) -> None:
    """Others have taken what it admits. Whoever asks waits for one of ours rather than being turned away."""
    name = f"few_{secrets.token_hex(4)}"
    await postgres.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{name}' CONNECTION LIMIT 2")
    address = urlsplit(dsn)
    few = address._replace(netloc=f"{name}:{name}@{address.netloc.rpartition('@')[2]}").geturl()
    connections, other = Connections(few, 9), Connections(few, 9)

    async def briefly() -> int:
        async with connections.acquire() as connection:
            return int(await connection.fetchval("SELECT pg_backend_pid() FROM pg_sleep(0.01)"))

    try:
        for _ in range(2):
            held = await connections.take(), await connections.take()
            users = [asyncio.create_task(briefly()) for _ in range(50)]
            with pytest.raises(asyncpg.TooManyConnectionsError):  # these have none that could come free
                await process_id(other)
            for connection in held:
                connections.give_back(connection, usable=True)
            assert len(set(await asyncio.gather(*users))) <= 2
        held = await connections.take(), await connections.take()
        users = [asyncio.create_task(briefly()) for _ in range(50)]
        await asyncio.sleep(0.1)
        connections.give_back(held[0], usable=False)  # one breaks: the other serves them all, or a new one with it
        await asyncio.sleep(0.1)
        connections.give_back(held[1], usable=True)
        await asyncio.gather(*users)
    finally:
        await asyncio.gather(connections.close(), other.close())
        await postgres.execute(f"DROP ROLE {name}")


async def test_nobody_waits_behind_others_for_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is gone refuses nobody. Each connect takes its time, and those behind it must not add theirs."""
    monkeypatch.setattr(postgres_connections, "_WAIT_S", 0.3)

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connections = Connections(f"postgresql://nobody@127.0.0.1:{port}/x?sslmode=disable", 2, timeout=0.3)
    began = asyncio.get_running_loop().time()
    results = await asyncio.gather(*(process_id(connections) for _ in range(20)), return_exceptions=True)
    assert {type(r) for r in results} == {TimeoutError}
    assert asyncio.get_running_loop().time() - began < 1.5  # not ten times 0.3 s
    await connections.close()
    server.close()


async def test_who_gives_up_waiting_takes_no_place_along(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [await connections.take() for _ in range(3)]
    with monkeypatch.context() as impatient:
        impatient.setattr(postgres_connections, "_WAIT_S", 0.05)
        late = await asyncio.gather(*(process_id(connections) for _ in range(9)), return_exceptions=True)
    assert {type(r) for r in late} == {TimeoutError}
    for connection in held:
        connections.give_back(connection, usable=True)
    assert set(await asyncio.gather(*(process_id(connections) for _ in range(9)))) <= {
        connection.get_server_pid() for connection in held
    }


async def test_closing_waits_for_users_and_refuses_the_rest(dsn: str) -> None:
    connections = Connections(dsn, 1)
    async with connections.acquire() as connection:
        waiter = asyncio.create_task(process_id(connections))
        closing = asyncio.create_task(connections.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        assert await connection.fetchval("SELECT 1") == 1
    await closing
    for refused in (waiter, asyncio.create_task(process_id(connections))):
        with pytest.raises(asyncpg.InterfaceError):
            await refused
