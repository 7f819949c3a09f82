"""The store on SQLite: one machine, one process, nothing to install."""

# ruff: noqa: S608 - made of a number

import errno
import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from heliograph.domain.errors import StoreUnavailable
from heliograph.ports.clock import Wakeups
from heliograph.store.base import SqlStore
from heliograph.store.database import DataDirectoryInUse, Dialect, LookUp, Rows, Statement
from heliograph.store.migrator import Applied, Migration, pending
from heliograph.store.prepared import Prepared
from heliograph.store.sqlite_changes import write_changes
from heliograph.store.sqlite_writer import SqliteWriter, connect, translate

SQLITE = Dialect(
    name="sqlite",
    among=lambda column, n: f"{column} IN (SELECT value FROM json_each(${n}))",
    among_found=lambda column, select: f"{column} IN ({select})",
    pack=lambda members: json.dumps(list(members)),
)

_MAGIC = b"SQLite format 3\0"
_OLDEST = (3, 35)  # RETURNING
_BRIEFLY = "briefly"
_READ_TIMEOUT_S = 1.0  # reads run on the event loop and never wait for the writer, only for a foreign program's lock


class SqliteStore(SqlStore):
    """All state in `<data-dir>/heliograph.db`. Built by `open`."""

    def __init__(self, path: Path, lock: IO[str], writer: SqliteWriter, wakeups: Wakeups) -> None:
        super().__init__(SQLITE, wakeups)
        self._path = path
        self._lock = lock
        self._writer = writer
        self._connection: sqlite3.Connection | None = None

    @classmethod
    async def open(
        cls, data_dir: str | Path, wakeups: Wakeups, *, max_pages: int | None = None, briefly: bool = False
    ) -> "SqliteStore":
        """Open the database of a data directory, which is created if need be. Raises DataDirectoryInUse.

        `briefly`: for one command, as others are told that find it in use. `max_pages` limits the size of the database
        (tests of a full disk).
        """
        path, lock = _prepared(Path(data_dir), briefly)
        store = cls(path, lock, SqliteWriter(path, max_pages), wakeups)
        try:
            await store._writer.submit(_void_leases)
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Write what is queued, then let go of the files."""
        self.known_accounts.close()
        await self._writer.close()
        self._drop_reader()
        self._lock.close()

    async def fetch(self, sql: str, *args: Any) -> Rows:
        """See database.Reader. Runs on the event loop: a read takes microseconds and never waits for a writer."""
        try:
            return self._reader().execute(sql, _named(args)).fetchall()
        except (sqlite3.Error, OverflowError, UnicodeError) as error:
            if isinstance(error, sqlite3.DatabaseError):
                self._drop_reader()
            raise translate(error) from None

    async def look_up(self, what: LookUp, *args: Any) -> Rows:
        """See database.Reader."""
        return await self.fetch(what.sql, *args)

    async def write(self, *statements: Statement, alone: str | None = None) -> list[Rows]:  # noqa: ARG002 - always so
        """See database.Database."""

        def job(connection: sqlite3.Connection) -> list[Rows]:
            return [s.kept(connection.execute(s.sql, _named(s.args)).fetchall()) for s in statements]

        result: list[Rows] = await self._writer.submit(job)
        return result

    async def commit(self, prepared: Prepared) -> None:
        """See database.Database."""
        await self._writer.submit(
            lambda connection: write_changes(connection, prepared), lambda: self._wakeups.notify(prepared.topics)
        )

    async def applied_migrations(self) -> list[Applied]:
        """See migrator.Migratable."""
        return _applied(self._reader())

    async def apply_migrations(self, known: Sequence[Migration], now: Callable[[], int]) -> list[Migration]:
        """See migrator.Migratable. All of them in one exclusive transaction."""
        connection = connect(self._path)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            todo = pending(known, _applied(connection))
            connection.execute(Migration.TABLE)
            for migration in todo:
                for text in migration.statements("sqlite"):
                    connection.execute(text)
                connection.execute(
                    "INSERT INTO schema_migrations (number, name, checksum, applied_at) VALUES (?, ?, ?, ?)",
                    (migration.number, migration.name, migration.checksum, now()),
                )
            connection.execute("COMMIT")
        except sqlite3.IntegrityError:
            raise  # a fault of the migration
        except sqlite3.DatabaseError as error:
            raise translate(error) from None
        finally:
            connection.close()  # rolls back what was not committed
        return todo

    def _reader(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(self._path, _READ_TIMEOUT_S)
            self._connection.execute("PRAGMA query_only=ON")
        return self._connection

    def _drop_reader(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _named(args: tuple[Any, ...]) -> dict[str, Any]:
    """`$1` is a named parameter to SQLite."""
    return {str(number): value for number, value in enumerate(args, 1)}


def _prepared(folder: Path, briefly: bool) -> tuple[Path, IO[str]]:
    """The path of the database, readable by nobody else, and the lock that is held on it."""
    if sqlite3.sqlite_version_info < _OLDEST:
        least = ".".join(map(str, _OLDEST))
        raise StoreUnavailable(
            f"SQLite {sqlite3.sqlite_version} of this Python is too old: take one with SQLite {least} or newer, or "
            "PostgreSQL (HELIOGRAPH_DATABASE)"
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock(folder, briefly)
        path = folder / "heliograph.db"
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        head = os.read(handle, len(_MAGIC))
        os.close(handle)
    except OSError as error:
        raise StoreUnavailable(
            f"The data directory {folder} cannot be used: {error.strerror}{_advice(error)}"
        ) from None
    if head and head != _MAGIC:
        lock.close()
        raise StoreUnavailable(f"{path} is not an SQLite database: move it away, or choose another --data-dir")
    return path, lock


def _advice(error: OSError) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return ". Choose another with --data-dir"
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return ". Choose another with --data-dir, or let the user that runs this write there"
    return ""


def _lock(folder: Path, briefly: bool) -> IO[str]:
    """The lock that admits one process to a data directory; it ends with the process, however that ends."""
    file = (folder / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder, _, how_long = file.read(40).strip().partition(" ")
        file.close()
        who = f"process {holder}" if holder.isdigit() else "another process"
        raise DataDirectoryInUse(
            f"The data directory {folder} is in use by {who}: stop that first, or talk to it over HTTP",
            briefly=how_long == _BRIEFLY,
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()} {_BRIEFLY}" if briefly else str(os.getpid()))
    file.flush()
    return file


def _void_leases(connection: sqlite3.Connection) -> None:
    """Claims of an earlier start are void: whoever held them is gone."""
    if _has_table(connection, "outbox"):
        connection.execute("UPDATE outbox SET lease_until = 0 WHERE lease_until > 0")


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))
    return found.fetchone() is not None


def _applied(connection: sqlite3.Connection) -> list[Applied]:
    if not _has_table(connection, "schema_migrations"):
        return []
    return [Applied(*row) for row in connection.execute(Applied.SELECT)]
