"""What only PostgreSQL can do wrong: batches, two flushers, lost connections and a server that restarts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest

from heliograph.domain.errors import Conflict, InvalidInput, StoreUnavailable
from heliograph.store import Hub, PostgresHub, PostgresStore, migrate, postgres_batch, postgres_writer
from heliograph.store.prepared import Prepared
from tests.store.world import LATER, NOW, World, bare_set, new_id, new_world, waiting_for_a_lock
from tests.support.restartable import RestartablePostgres, restartable


@pytest.fixture
async def world(postgres_store: PostgresStore) -> World:
    return await new_world(postgres_store)


class InstantPool:
    """A pool that never makes anybody wait, so that flushers end in the step in which they answer."""

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[None]:
        yield None


async def test_no_commit_is_left_lying_when_the_last_flusher_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(connection: Any, batch: Any, parts: Any = ()) -> set[int]:
        return set()

    monkeypatch.setattr(postgres_writer, "_run", run)
    writer = postgres_writer.PostgresWriter(InstantPool(), lambda topics: None)  # type: ignore[arg-type]

    async def client() -> None:
        for _ in range(5):
            await writer.submit(Prepared("o"))

    async with asyncio.timeout(5):
        await asyncio.gather(*(client() for _ in range(4)))
    await writer.close()


async def test_what_waits_leaves_as_one_statement(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    build = postgres_batch.build

    def counting(batch: Any, parts: Any) -> Any:
        sizes.append(len(batch))
        return build(batch, parts)

    monkeypatch.setattr(postgres_writer, "build", counting)
    await asyncio.gather(*(world.add(world.command()) for _ in range(300)))
    assert sum(sizes) == 300
    assert len(sizes) < 10
    assert max(sizes) <= 128


async def test_one_bad_set_would_take_others_along_without_the_fallback(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shows that the fallback is what lets the good ones through: the statement itself fails as a whole."""
    batches: list[Any] = []
    run = postgres_writer._run

    async def noting(connection: Any, batch: Any, parts: Any = postgres_batch.PARTS) -> Any:
        try:
            found = await run(connection, batch, parts)
        except asyncpg.IntegrityConstraintViolationError:
            batches.append(len(batch))
            raise
        return found

    monkeypatch.setattr(postgres_writer, "_run", noting)
    sets = [bare_set(world.organization.id, new_commands=[world.command()]) for _ in range(9)]
    sets.insert(4, bare_set(world.organization.id, new_commands=[world.command(device_id=new_id())]))
    results = await asyncio.gather(*(world.work.commit(s) for s in sets), return_exceptions=True)
    assert [type(r) for r in results].count(Conflict) == 1
    assert results.count(None) == 9
    assert batches == [10, 1]


async def test_what_no_column_takes_fails_alone_among_others(world: World) -> None:
    good = [world.command(secret=b"\x00\xff\\"), world.command(mdm_user_id='"\\\n🌞{}'), world.command(secret=None)]
    bad = [world.command(mdm_user_id="\0"), world.command(mdm_user_id="\ud800"), world.command(duration_us=2**63)]
    sets = [bare_set(world.organization.id, new_commands=[command]) for command in (*good, *bad)]
    results = await asyncio.gather(*(world.work.commit(s) for s in sets), return_exceptions=True)
    assert [type(r) for r in results] == [type(None)] * 3 + [InvalidInput] * 3
    assert [await world.read(command.id) for command in good] == good


async def test_a_renewed_lease_does_not_hide_a_settlement(world: World, dsn: str) -> None:
    """The lease is renewed while the statement that settles the item already waits for another row's lock."""
    command = await world.added_command()
    await world.owe(world.debt(), world.debt(key="k"))
    items = await world.claim()
    changes = world.noted(command)
    changes.settle(items[0])
    changes.put_off(items[1], NOW + 77)
    blocker = await asyncpg.connect(dsn)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT 1 FROM commands WHERE id = $1 FOR UPDATE", command.id)
    commit = asyncio.create_task(world.work.commit(changes))
    await waiting_for_a_lock(blocker)
    await world.store.system.renew(items, LATER + 5)
    await transaction.rollback()
    await commit
    await blocker.close()
    assert [row[1:3] for row in await world.owed()] == [(NOW + 77, 0)]
    assert (await world.read(command.id)).version == 2


async def test_a_version_that_changes_while_the_statement_waits_is_seen(world: World, dsn: str) -> None:
    command, other = await world.added_command(), await world.added_command()
    blocker = await asyncpg.connect(dsn)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("UPDATE commands SET version = version + 1 WHERE id = $1", command.id)
    bystander = world.noted(other)
    commits = [asyncio.create_task(world.work.commit(c)) for c in (world.noted(command), bystander)]
    await waiting_for_a_lock(blocker)
    await transaction.commit()
    results = await asyncio.gather(*commits, return_exceptions=True)
    await blocker.close()
    assert [type(r) for r in results] == [Conflict, type(None)]
    assert (await world.read(other.id)).version == 2


async def test_deadlocks_are_resolved(world: World, dsn: str) -> None:
    """Another client locks the rows of a batch in the opposite order; one of the two loses, none of ours is lost."""
    commands = sorted([await world.added_command() for _ in range(2)], key=lambda c: c.id)
    blocker = await asyncpg.connect(dsn)
    await blocker.execute("SET deadlock_timeout = '10s'")  # so that it is the store that notices, and loses
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT 1 FROM commands WHERE id = $1 FOR UPDATE", commands[1].id)
    commits = [asyncio.create_task(world.work.commit(world.noted(c))) for c in commands]
    await waiting_for_a_lock(blocker)
    other = asyncio.create_task(blocker.execute("SELECT 1 FROM commands WHERE id = $1 FOR UPDATE", commands[0].id))
    await asyncio.sleep(1.5)
    await other
    await transaction.rollback()
    await asyncio.gather(*commits)
    await blocker.close()
    assert [(await world.read(c.id)).version for c in commands] == [2, 2]


async def test_cut_connections(world: World, dsn: str) -> None:
    """Connections that are cut under load: what was answered is there, what was refused is not, and it goes on."""
    answered: list[str] = []
    refused: list[str] = []

    async def client() -> None:
        for _ in range(60):
            command = world.command()
            try:
                await world.add(command)
            except StoreUnavailable:
                refused.append(command.id)
                await asyncio.sleep(0.02)
            else:
                answered.append(command.id)

    clients = [asyncio.create_task(client()) for _ in range(12)]
    killer = await asyncpg.connect(dsn)
    while not all(task.done() for task in clients):
        await killer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'heliograph' AND datname = current_database()"
        )
        await asyncio.sleep(0.15)
    await asyncio.gather(*clients)
    await killer.close()
    await world.store.ping()
    rows = await world.store.fetch(
        "SELECT c.id, (SELECT count(*) FROM history h WHERE h.subject_id = c.id) FROM commands c"
    )
    stored = {row[0]: row[1] for row in rows}
    assert set(answered) <= set(stored)
    assert set(stored.values()) == {1}
    assert len(answered) + len(refused) == 720


async def test_a_nul_character_is_refused(world: World) -> None:
    good = world.command()
    results = await asyncio.gather(world.add(good), world.add(world.command(type="a\0b")), return_exceptions=True)
    assert [type(r) for r in results] == [type(None), InvalidInput]


@pytest.fixture
def server() -> Iterator[RestartablePostgres]:
    with restartable() as server:
        yield server


async def test_a_restart_of_the_server(server: RestartablePostgres) -> None:
    hub = await PostgresHub.open(server.url)
    store = await PostgresStore.open(server.url, hub)
    await migrate(store)
    world = await new_world(store)
    kept = await world.added_command()
    await world.owe(world.debt())

    await asyncio.to_thread(server.stop)
    attempts: list[Callable[[], Awaitable[object]]] = [
        store.ping,
        lambda: world.add(world.command()),
        lambda: world.work.commands.find(kept.id),
        lambda: store.system.claim(NOW, LATER, 1),
        lambda: migrate(store),
    ]
    for attempt in attempts:
        with pytest.raises(StoreUnavailable) as caught:
            await attempt()
        assert "postgres" not in repr(caught.value).lower()
    server.start()

    async with asyncio.timeout(10):
        await world.add(command := world.command())
    assert await world.read(kept.id) == kept
    assert (await world.read(command.id)).version == 1
    assert len(await world.claim()) == 1
    async with asyncio.timeout(10):
        await hub.listening()
    await store.close()
    await hub.close()


async def test_a_server_that_is_away_at_the_start(server: RestartablePostgres) -> None:
    await asyncio.to_thread(server.stop)
    with pytest.raises(StoreUnavailable):
        await PostgresStore.open(server.url, Hub())
    with pytest.raises(InvalidInput, match="URL") as caught:
        await PostgresStore.open("postgresql://u:canary@host:notaport/x", Hub())
    assert "canary" not in str(caught.value)


async def test_a_wrong_password_is_not_repeated(dsn: str) -> None:
    wrong = dsn.replace("postgres:", "postgres:canary", 1)
    with pytest.raises(StoreUnavailable) as caught:
        await PostgresStore.open(wrong, Hub())
    assert "canary" not in repr(caught.value) + repr(caught.value.__cause__)
