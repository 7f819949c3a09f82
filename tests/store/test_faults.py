"""What was answered is there, whatever is killed; what was refused is not, and the store works again by itself."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.domain.errors import OutcomeUnknown, StoreUnavailable
from heliograph.store import AnyStore, DataDirectoryInUse, Hub, PostgresStore, SqliteStore, migrate, sqlite_writer
from tests.store.world import NOW, World, new_world

ROOT = Path(__file__).parents[2]


def program(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def killed_writer(database: str, world: World) -> set[str]:
    """Let another process write, kill it, and answer what it had been told is stored."""
    process = subprocess.Popen(
        program("tests.store.writer_process", database, world.organization.id, world.enterprise.id, world.device.id),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    wanted = random.randint(200, 600)
    lines = [process.stdout.readline() for _ in range(wanted)]
    process.kill()
    lines += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    return {line.strip() for line in lines if line.endswith("\n")}


async def assert_whole(store: AnyStore, answered: set[str]) -> None:
    """Everything answered is there, and nothing is there in part."""
    rows = await store.fetch(
        "SELECT c.id, (SELECT count(*) FROM history h WHERE h.subject_id = c.id),"
        " (SELECT count(*) FROM outbox o WHERE o.subject_id = c.id) FROM commands c"
    )
    assert {row[0] for row in rows} >= answered
    assert {(row[1], row[2]) for row in rows} == {(1, 1)}
    assert len(answered) >= 200
    [[orphans]] = await store.fetch(
        "SELECT count(*) FROM outbox o WHERE NOT EXISTS (SELECT 1 FROM commands c WHERE c.id = o.subject_id)"
    )
    assert orphans == 0


async def test_a_killed_writer_on_sqlite(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, Hub())
    await migrate(store)
    world = await new_world(store)
    await store.close()
    answered = await asyncio.to_thread(killed_writer, str(tmp_path), world)
    again = await SqliteStore.open(tmp_path, Hub())  # the lock died with its process
    try:
        await assert_whole(again, answered)
        assert await again.fetch("SELECT 1 FROM outbox WHERE lease_until > 0") == []
    finally:
        await again.close()


async def test_a_killed_writer_on_postgres(postgres_store: PostgresStore, dsn: str) -> None:
    world = await new_world(postgres_store)
    answered = await asyncio.to_thread(killed_writer, dsn, world)
    await asyncio.sleep(0.2)  # the server notices that the client is gone, and ends what it had begun
    await assert_whole(postgres_store, answered)


async def test_leases_of_an_earlier_start_are_void(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, Hub())
    await migrate(store)
    world = await new_world(store)
    await world.owe(world.debt())
    old = await world.claim_one()
    await store.close()
    again = await SqliteStore.open(tmp_path, Hub())
    try:
        [item] = await again.system.claim(NOW, NOW + 1, 9)
        assert (item.id, item.token) == (old.id, old.token + 1)
    finally:
        await again.close()


async def test_a_data_directory_admits_one(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, Hub())
    with pytest.raises(DataDirectoryInUse, match=f"process {os.getpid()}"):
        await SqliteStore.open(tmp_path, Hub())
    await store.close()
    again = await SqliteStore.open(tmp_path, Hub())
    await again.close()
    assert stat.S_IMODE((tmp_path / "heliograph.db").stat().st_mode) == 0o600


async def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        await SqliteStore.open(tmp_path / "file" / "data", Hub())
    (tmp_path / "heliograph.db").write_bytes(b"no database, but a text of some length" * 100)
    with pytest.raises(StoreUnavailable):
        await SqliteStore.open(tmp_path, Hub())
    (tmp_path / "heliograph.db").unlink()
    store = await SqliteStore.open(tmp_path, Hub())  # the lock was let go of
    await store.close()


async def test_a_full_disk(tmp_path: Path) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        program("tests.store.filling_process", str(tmp_path)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def test_a_full_database_fails_whole_batches_and_recovers(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, Hub())
    await migrate(store)
    world = await new_world(store)
    [[pages]] = await store.fetch("PRAGMA page_count")
    await store.close()
    store = await SqliteStore.open(tmp_path, Hub(), max_pages=pages + 40)
    world.store = store
    commands = [world.command(params={"filling": "x" * 2000}) for _ in range(400)]
    results = await asyncio.gather(*(world.add(c) for c in commands), return_exceptions=True)
    refused = [r for r in results if r is not None]
    assert refused
    assert {type(r) for r in refused} == {StoreUnavailable}
    kept = {c.id for c, r in zip(commands, results, strict=True) if r is None}
    assert {row[0] for row in await store.fetch("SELECT id FROM commands")} == kept
    store._writer._max_pages = None
    await store._writer.submit(lambda connection: connection.execute("PRAGMA max_page_count=1000000").fetchall())
    await world.add(world.command(params={"filling": "x" * 200_000}))
    await store.close()


class CannotCommit(sqlite3.Connection):
    """A disk that takes what is written, and fails when it is to say that it has it."""

    fault: str | None = None

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and self.fault is not None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorname, error.sqlite_errorcode = self.fault, getattr(sqlite3, self.fault)
            raise error
        return super().execute(sql, *parameters)


@pytest.mark.parametrize(("fault", "told"), [("SQLITE_IOERR_FSYNC", OutcomeUnknown), ("SQLITE_FULL", StoreUnavailable)])
async def test_a_disk_that_fails_at_the_end_of_a_commit(
    fault: str, told: type[StoreUnavailable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in the log whole, and is not known to be on disk, is there for whoever opens it after a crash."""

    def connect(path: Path, *_: float) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=CannotCommit)

    monkeypatch.setattr(sqlite_writer, "connect", connect)
    store = await SqliteStore.open(tmp_path, Hub())
    await migrate(store)
    world = await new_world(store)
    monkeypatch.setattr(CannotCommit, "fault", fault)
    results = await asyncio.gather(*(world.add(world.command()) for _ in range(3)), return_exceptions=True)
    assert {type(r) for r in results} == {told}
    monkeypatch.setattr(CannotCommit, "fault", None)
    await world.added_command()
    await store.close()


async def test_a_foreign_program_that_locks_the_database(sqlite: SqliteStore) -> None:
    world = await new_world(sqlite)
    kept = await world.added_command()
    await sqlite._writer.submit(lambda connection: connection.execute("PRAGMA busy_timeout=50").fetchall())
    other = sqlite3.connect(sqlite._path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        await world.add(world.command())
    assert await world.read(kept.id) == kept  # readers do not wait for writers
    other.execute("ROLLBACK")
    other.close()
    await world.add(world.command())
    [[count]] = await sqlite.fetch("SELECT count(*) FROM commands")
    assert count == 2


def cut_off(whole: bytes) -> bytes:
    return whole[: len(whole) // 8]


def partly_zeros(whole: bytes) -> bytes:
    return whole[:4096] + bytes(9 * 4096) + whole[10 * 4096 :]


async def opened_and_migrated(folder: Path) -> None:
    store = await SqliteStore.open(folder, Hub())
    try:
        await migrate(store)
    finally:
        await store.close()


@pytest.mark.parametrize("damage", [cut_off, partly_zeros])
async def test_a_damaged_database_is_called_that(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    await opened_and_migrated(tmp_path)
    file = tmp_path / "heliograph.db"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(StoreUnavailable, match="damaged: put a backup back"):
        await opened_and_migrated(tmp_path)


async def test_a_closed_store_refuses(store: AnyStore) -> None:
    world = await new_world(store)
    pending = [asyncio.create_task(world.add(world.command())) for _ in range(20)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*pending)  # what was queued was written
    with pytest.raises(StoreUnavailable):
        await world.add(world.command())
    with pytest.raises(StoreUnavailable):
        await store.ping()
    await store.close()
