"""SQLite's one writer: a thread that runs what waits at the same moment as one transaction.

Each job has a savepoint of its own, so a bad one fails alone. There is no timer: while one transaction is being made
durable the next jobs gather, and an idle writer starts at once.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from heliograph.domain.errors import Conflict, HeliographError, OutcomeUnknown, StoreUnavailable
from heliograph.store.database import cannot_be_stored, not_migrated

log = logging.getLogger(__name__)

Job = Callable[[sqlite3.Connection], Any]

_MAX_JOBS = 256
_DAMAGED = "The database is damaged: put a backup back, as the operators' page says (Backup)"
BUSY_TIMEOUT_S = 5.0


def connect(path: Path, timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """A connection as all of ours are: explicit transactions, write-ahead log, every commit on disk."""
    connection = sqlite3.connect(
        path, timeout=timeout_s, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-16384"):
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@dataclass(slots=True)
class _Order:
    job: Job
    future: "asyncio.Future[Any]"
    on_done: Callable[[], None] | None = None
    result: Any = None
    error: Exception | None = None


class SqliteWriter:
    """Takes jobs from one event loop."""

    def __init__(self, path: Path, max_pages: int | None = None) -> None:
        self._path = path
        self._max_pages = max_pages
        self._loop = asyncio.get_running_loop()
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="heliograph-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job, on_done: Callable[[], None] | None = None) -> "asyncio.Future[Any]":
        """Queue a job. It runs whether or not somebody still waits; `on_done` is called on the loop once durable."""
        if self._closed:
            raise StoreUnavailable
        order = _Order(job, self._loop.create_future(), on_done)
        self._orders.put(order)
        return order.future

    async def close(self) -> None:
        """Run what is queued, then end."""
        if not self._closed:
            self._closed = True
            self._orders.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        last = False
        while not last:
            batch, last = self._gather()
            if batch:
                self._transact(batch)
                self._loop.call_soon_threadsafe(_deliver, batch)
        self._drop_connection()

    def _gather(self) -> tuple[list[_Order], bool]:
        """The jobs that wait now (at least one), and whether the end was reached."""
        batch: list[_Order] = []
        order = self._orders.get()
        while order is not None:
            batch.append(order)
            if len(batch) == _MAX_JOBS:
                return batch, False
            try:
                order = self._orders.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    def _transact(self, batch: list[_Order]) -> None:
        is_sent = False
        try:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            for order in batch:
                _run(connection, order)
            is_sent = True
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - the thread must live on
            log.warning("writing to the database failed: %s", describe(error))
            self._drop_connection()
            for order in batch:
                order.error = OutcomeUnknown() if is_sent and _may_be_kept(error) else unavailable(error)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(self._path)
            if self._max_pages is not None:
                self._connection.execute(f"PRAGMA max_page_count={self._max_pages}")
        return self._connection

    def _drop_connection(self) -> None:
        """Closing rolls back; the next transaction opens anew."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def unavailable(error: Exception) -> StoreUnavailable:
    """Nothing was written, because of what SQLite says."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    is_damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return StoreUnavailable(_DAMAGED) if is_damaged else StoreUnavailable()


def _may_be_kept(error: Exception) -> bool:
    """Whether a COMMIT that failed so may be found done: it lies in the log whole, and after a crash that is read."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) == sqlite3.SQLITE_IOERR


def _run(connection: sqlite3.Connection, order: _Order) -> None:
    """Run one job; what concerns only its own data fails it alone, what concerns the database is raised."""
    connection.execute("SAVEPOINT job")
    try:
        order.result = order.job(connection)
    except Exception as error:
        if isinstance(translate(error), StoreUnavailable) or isinstance(error, MemoryError):
            raise
        order.error = translate(error)
        connection.execute("ROLLBACK TO job")
    connection.execute("RELEASE job")


def translate(error: Exception) -> Exception:
    """What a caller is told; never a statement or a value."""
    match error:
        case HeliographError():
            return error
        case sqlite3.IntegrityError():
            return Conflict("A record with these unique values exists, or one it refers to does not")
        case OverflowError() | UnicodeError() | sqlite3.DataError():
            return cannot_be_stored()
        case sqlite3.OperationalError() if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
            return not_migrated() if "no such" in str(error) else error
        case sqlite3.DatabaseError() if not isinstance(error, sqlite3.ProgrammingError):
            return unavailable(error)
        case _:
            return error


def describe(error: Exception) -> str:
    """An error for the log, without values."""
    return f"{type(error).__name__} {getattr(error, 'sqlite_errorname', '')}".strip()


def _deliver(batch: list[_Order]) -> None:
    for order in batch:
        if order.error is None and order.on_done is not None:
            order.on_done()
        if order.future.done():  # cancelled: the caller went away, the work was done all the same
            continue
        if order.error is None:
            order.future.set_result(order.result)
        else:
            order.future.set_exception(order.error)
