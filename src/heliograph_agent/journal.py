"""The agent's journal on disk: JSON lines in one file, of which the last line per id counts.

A journal holds one file descriptor and a lock on it. A commit is one write and one fsync for all lines put since the
last; secrets (a command's params) are overwritten in place once a later line says that the command is over.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from heliograph_agent.records import LIVE, CommandRecord, Header, Record, decode_line, encode_line

VERSION = 1
_SLACK = 2000  # lines that may gather before the file is rewritten
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter


class JournalError(Exception):
    """The journal cannot be read or written; nothing may be answered or begun until it was opened anew."""


class JournalInUse(JournalError):
    """Another agent holds this journal."""


class Journal:
    """One file. `open`, then any number of `put` and `commit`, then `close`; after a JournalError only `close`.

    `snapshot` gives the records that a rewritten file shall hold. One that is damaged must be rewritten first: it is
    another journal then, with another name and with what could be read.
    """

    def __init__(self, path: Path, snapshot: Callable[[], list[Record]], *, durable: bool = True) -> None:
        self._path = path
        self._fresh = path.with_name(path.name + ".new")  # what is to take its place
        self._snapshot = snapshot
        self._durable = durable
        self._file = -1
        self._end = 0
        self._lines = 0
        self._limit = _SLACK
        self._buffer: list[tuple[bytes, Record, bytes | None]] = []
        self._urgent = False
        self._blanks: dict[str, tuple[int, bytes]] = {}  # where params lie, and the line without them
        self._lock = asyncio.Lock()
        self._writing: asyncio.Future[None] | None = None
        self._failed = False
        self.damaged = 0  # lines that could not be read
        self.name = ""  # once it is open; the file has it as soon as `is_named`
        self.is_named = False

    def open(self) -> list[Record]:
        """Open or create the file and lock it; returns its records in order. JournalInUse, JournalError."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _open_locked(self._path)
            self._fresh.unlink(missing_ok=True)  # of a rewrite that was cut off: nobody would blank its secrets
            data = self._begin(_read_all(self._file))
        except OSError as error:
            raise JournalError(f"cannot open the journal {self._path}: {error.strerror}") from error
        return self._read(data)

    def put(self, record: Record, *, urgent: bool = True, with_params: bool = False) -> None:
        """Add the record as it is now to the next commit. One that is not `urgent` may be lost in a crash."""
        secret = with_params and isinstance(record, CommandRecord) and bool(record.params)
        line = encode_line(record, with_params=secret)
        self._buffer.append((line, record, encode_line(record, with_params=False) if secret else None))
        self._urgent = self._urgent or urgent

    async def commit(self) -> None:
        """Return once all that was put before is on disk. JournalError."""
        async with self._lock:
            if self._failed or self._file < 0:
                raise JournalError("the journal has failed or is closed")
            if self._lines + len(self._buffer) > self._limit:
                await self._rewrite()
            elif self._buffer:
                sync = self._urgent and self._durable
                write = partial(self._write, *self._lay_out(), sync=sync)
                await self._carry_out(write, in_thread=sync)

    async def rewrite(self) -> None:
        """Replace the file by one that holds only the snapshot. JournalError."""
        async with self._lock:
            await self._rewrite()

    async def close(self) -> None:
        """Write what is left, release the lock. Never raises for a journal that has failed."""
        if self._writing is not None and not self._writing.done():
            await asyncio.wait({self._writing})
        try:
            if self._file >= 0 and not self._failed:
                with contextlib.suppress(JournalError):
                    await self.commit()
        finally:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1

    def _begin(self, data: bytes) -> bytes:
        """Cut off what follows the last line break: it was being written at a crash, and nobody was told of it."""
        self._end = data.rfind(b"\n") + 1
        # A torn line ends early; one that has something else for its line break was whole once.
        self.damaged += self._end > 0 and _is_whole(data[self._end : -1])
        if not self.damaged:  # else it is the proof of the damage, until the file is replaced
            os.ftruncate(self._file, self._end)
        if self._end == 0:
            self._begin_anew()
        return data[: self._end]

    def _begin_anew(self) -> None:
        self.name = _new_name()
        header = self._header()
        _pwrite_all(self._file, header, 0)
        self._end = len(header)
        if self._durable:
            _sync(self._file)  # what the server gives to this name, it gives to no other one
        _sync_folder(self._path.parent)
        self.is_named = True

    def _header(self) -> bytes:
        return encode_line(Header(version=VERSION, name=self.name), with_params=False)

    def _read(self, data: bytes) -> list[Record]:
        records: list[Record] = []
        at = 0
        for line in data.split(b"\n")[:-1]:
            start, at = at, at + len(line) + 1
            try:
                record = decode_line(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self.damaged += 1
                continue
            if not isinstance(record, Header):
                self._remember_blank(record, start, at - start)
                records.append(record)
            elif record.version != VERSION:
                raise JournalError(f"{self._path} was written by another version of the agent")
            elif record.name:
                self.name, self.is_named = record.name, True
        if self.damaged or not self.name:
            # What the server gave to a journal that knew more, it must not ask of this one.
            self.name, self.is_named = _new_name(), False
        self._lines = len(records)
        return records

    def _lay_out(self) -> tuple[bytes, int, list[tuple[int, bytes]]]:
        """Take the buffer: its bytes, where they go, and which older lines are then blanked."""
        batch, self._buffer, self._urgent = self._buffer, [], False
        start, wipes = self._end, []
        for line, record, blank in batch:
            if blank is not None:
                self._blanks[record.id] = (self._end, _padded(blank, len(line)))
            elif isinstance(record, CommandRecord) and record.stage not in LIVE and record.id in self._blanks:
                wipes.append(self._blanks.pop(record.id))
            self._end += len(line)
        self._lines += len(batch)
        return b"".join(line for line, _, _ in batch), start, wipes

    def _write(self, data: bytes, start: int, wipes: list[tuple[int, bytes]], *, sync: bool) -> None:
        _pwrite_all(self._file, data, start)
        if sync:
            _sync(self._file)
        # Only now: before, a power cut could leave a command that has begun without its end and without its params.
        for at, blank in wipes:
            _pwrite_all(self._file, blank, at)

    async def _rewrite(self) -> None:
        records = self._snapshot()
        self._buffer, self._urgent = [], False
        lines = [self._header()]
        end, self._blanks = len(lines[0]), {}
        for record in records:
            line = encode_line(record, with_params=True)
            self._remember_blank(record, end, len(line))
            lines.append(line)
            end += len(line)
        self._end, self._lines, self._limit = end, len(records), 2 * len(records) + _SLACK
        await self._carry_out(partial(self._replace, b"".join(lines)), in_thread=True)
        self.is_named = True

    def _remember_blank(self, record: Record, start: int, length: int) -> None:
        if isinstance(record, CommandRecord) and record.params:
            blank = encode_line(record, with_params=False)
            if len(blank) <= length:  # a file from other hands may be written more tersely
                self._blanks[record.id] = (start, _padded(blank, length))

    def _replace(self, data: bytes) -> None:
        file = os.open(self._fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _pwrite_all(file, data, 0)
            os.fsync(file)
            self._fresh.replace(self._path)
        except BaseException:
            os.close(file)
            raise
        old, self._file = self._file, file
        os.close(old)
        _sync_folder(self._path.parent)

    async def _carry_out(self, write: Callable[[], None], *, in_thread: bool) -> None:
        try:
            if in_thread:
                self._writing = asyncio.get_running_loop().run_in_executor(None, write)
                await self._to_the_end(self._writing)
            else:
                write()
        except OSError as error:
            self._failed = True
            raise JournalError(f"cannot write the journal {self._path}: {error.strerror}") from error

    async def _to_the_end(self, work: asyncio.Future[None]) -> None:
        """Await `work` however often cancelled: the thread cannot be stopped, and nobody may write beside it."""
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            while not work.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({work})
            self._failed = self._failed or work.exception() is not None
            raise


def _new_name() -> str:
    return secrets.token_hex(16)


def _is_whole(line: bytes) -> bool:
    try:
        decode_line(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


def _padded(line: bytes, length: int) -> bytes:
    """A line that takes the place of a longer one, so that no other line moves."""
    return line[:-1].ljust(length - 1) + b"\n"


def _open_locked(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_ino == path.stat().st_ino:
                return file
        except BlockingIOError as error:
            os.close(file)
            raise JournalInUse(f"another agent holds {path}") from error
        except FileNotFoundError:
            pass
        # The holder replaced the file between our open and our lock.
        os.close(file)


def _read_all(file: int) -> bytes:
    with os.fdopen(os.dup(file), "rb") as stream:
        stream.seek(0)
        return stream.read()


def _pwrite_all(file: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
