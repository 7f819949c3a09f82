"""The kernel that every emulator of the lab is built on."""

import contextlib
import fcntl
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from heliograph_lab.clock import LabClock
from heliograph_lab.database import Database
from heliograph_lab.faults import Faults
from heliograph_lab.requests import RequestLog
from heliograph_lab.service import ASGIApp, ErrorBody, Service, plain_error
from heliograph_lab.settings import Settings
from heliograph_lab.state import Changes, Entry, Journal, Key, Put, StateStore

_NAMESPACE = "lab"


class StateDirInUseError(RuntimeError):
    """Another lab runs on this state directory."""


class Kernel:
    """Clock, faults, settings, request log, journal and durable state, on one directory that admits one process."""

    def __init__(self, state_dir: Path) -> None:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        state_dir.chmod(0o700)  # whoever made it first: secrets lie here in clear
        self.state_dir = state_dir
        self._lock = _lock(state_dir)
        self._database = Database(state_dir / "lab.sqlite3")
        self.state = StateStore(self._database)
        self.journal = Journal(self._database)
        self.faults = Faults()
        self.requests = RequestLog()
        self.settings = Settings(self.state)
        self.clock = LabClock(float(self.state.get(_NAMESPACE, "clock") or 0.0), self._save_clock)

    def service(self, name: str, app: ASGIApp, error: ErrorBody = plain_error) -> ASGIApp:
        """Wrap an emulator: each request is recorded, and faults are applied.

        `error` gives the body of a fault's answer, so that each emulator refuses in its provider's own words.
        """
        return Service(name, app, self.faults, self.requests, error)

    async def commit(
        self, *, journal: Iterable[Entry] = (), puts: Iterable[Put] = (), deletes: Iterable[Key] = ()
    ) -> None:
        """Write journal entries (`heliograph_lab.state.entry`) and state in one commit: all of it or nothing."""
        await self._database.write(Changes(journal=journal, puts=puts, deletes=deletes))

    def close(self) -> None:
        """Write what is queued and release the directory."""
        self._database.close()
        self._lock.close()

    async def _save_clock(self, offset: float) -> None:
        await self.state.put(_NAMESPACE, "clock", offset)


def _lock(state_dir: Path) -> IO[str]:
    # The lock ends with the process, however that ends.
    file = (state_dir / "lab.lock").open("a", encoding="utf-8")
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    file.close()
    raise StateDirInUseError(f"the lab's state directory is in use by another process: {state_dir}")
