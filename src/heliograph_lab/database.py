"""The lab's one SQLite file: a writer thread with group commit, and a reader for the event loop's thread."""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS state (
    namespace TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (namespace, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, device_id TEXT NOT NULL, event TEXT NOT NULL,
    command_id TEXT, operation TEXT, push_id TEXT, item BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS journal_device ON journal (device_id, seq);
CREATE INDEX IF NOT EXISTS journal_command ON journal (device_id, command_id) WHERE event = 'executed';
CREATE INDEX IF NOT EXISTS journal_operation ON journal (device_id, operation) WHERE event = 'executed';
CREATE INDEX IF NOT EXISTS journal_push ON journal (device_id, push_id) WHERE event = 'displayed';
"""
MOST_IN_ONE_COMMIT = 500


class Job:
    """One piece of writing, and whom to tell when it is on disk."""

    __slots__ = ("error", "future", "loop", "result", "work")

    def __init__(
        self, work: Work, future: "asyncio.Future[Any] | Future[Any]", loop: asyncio.AbstractEventLoop | None
    ) -> None:
        self.work = work
        self.future = future
        self.loop = loop
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Hand over the result; a caller who has gone away meanwhile changes nothing."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Database:
    """WAL, synchronous=FULL: what `write` has returned for is still there after SIGKILL or a power cut."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._writer = self._connect()
        self._writer.executescript(SCHEMA)
        self._reader = self._connect()
        self._closed = False
        self._thread = threading.Thread(target=self._write_loop, name="lab-writer", daemon=True)
        self._thread.start()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA busy_timeout=10000")
        return connection

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the writer's next transaction; return once that is committed."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._submit(Job(work, future, loop))
        return await future

    def write_now(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The same for callers without an event loop; blocks."""
        future: Future[T] = Future()
        self._submit(Job(work, future, None))
        return future.result()

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Read what is committed."""
        return self._reader.execute(sql, parameters).fetchall()

    def close(self) -> None:
        """Write what is queued, then close the file."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def _submit(self, job: Job) -> None:
        if self._closed:
            raise RuntimeError("the lab's database is closed")
        self._jobs.put(job)

    def _write_loop(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch, last = self._more(first)
            self._commit(batch)
            self._tell(batch)
            if last:
                return

    def _more(self, first: Job) -> tuple[list[Job], bool]:
        """Everything that waits right now shares one commit, and so one fsync."""
        batch = [first]
        with contextlib.suppress(queue.Empty):
            while len(batch) < MOST_IN_ONE_COMMIT:
                job = self._jobs.get_nowait()
                if job is None:
                    return batch, True
                batch.append(job)
        return batch, False

    def _commit(self, batch: list[Job]) -> None:
        writer = self._writer
        try:
            writer.execute("BEGIN IMMEDIATE")
            for job in batch:
                self._run(job)
            writer.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                writer.execute("ROLLBACK")
            for job in batch:
                job.error = error

    def _run(self, job: Job) -> None:
        # A savepoint each: one that fails takes nothing of its neighbours with it.
        self._writer.execute("SAVEPOINT job")
        try:
            job.result = job.work(self._writer)
        except Exception as error:  # noqa: BLE001 - whatever it was goes to the one who asked
            self._writer.execute("ROLLBACK TO job")
            job.error = error
        self._writer.execute("RELEASE job")

    @staticmethod
    def _tell(batch: list[Job]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        for job in batch:
            if job.loop is None:
                job.settle()
            else:
                by_loop.setdefault(job.loop, []).append(job)
        for loop, jobs in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                loop.call_soon_threadsafe(_settle_all, jobs)


def _settle_all(jobs: list[Job]) -> None:
    for job in jobs:
        job.settle()
