"""The store of all simulated processes: the real statements on one SQLite database in memory.

Each process has a handle of its own, at which it can be slow, fail, and die: before a commit, or after it and before
it hears of it. A schedule runs inside one transaction that is rolled back, so each begins with the same fleet.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from heliograph.domain.commands import TERMINAL
from heliograph.domain.devices import Device, Enterprise, Organization
from heliograph.domain.errors import StoreUnavailable
from heliograph.store.base import SqlStore
from heliograph.store.database import LookUp, Rows, Statement
from heliograph.store.migrator import known_migrations
from heliograph.store.prepared import Prepared
from heliograph.store.sqlite import SQLITE
from heliograph.store.sqlite_changes import write_changes
from heliograph.store.sqlite_writer import translate
from heliograph.store.wakeups import Hub

if TYPE_CHECKING:
    from tests.schedules.process import Process

BEGAN = 1_800_000_000 * 1_000_000
ENTERPRISE = Enterprise("e" * 24, "a" * 24, "android", "enterprises/LC0", BEGAN, credentials=b"sealed")
ORGANIZATION = Organization(ENTERPRISE.organization_id, "acme", "acme", {}, BEGAN, BEGAN)
_OVER = ", ".join(f"'{rung.value}'" for rung in sorted(TERMINAL))
# A record that was over and moved.
_WITNESS = f"""
CREATE TEMP TRIGGER witness AFTER UPDATE OF rung ON commands WHEN OLD.rung IN ({_OVER}) AND NEW.rung <> OLD.rung
BEGIN INSERT INTO moved VALUES (OLD.id, OLD.rung, NEW.rung); END
"""


def device(number: int, **known: Any) -> Device:
    """A device of the fleet as our records describe it."""
    return Device(
        id=f"{number:024x}",
        organization_id=ORGANIZATION.id,
        all_platform_id=f"{number + 100:024x}",
        platform="android",
        enterprise_id=ENTERPRISE.id,
        name=f"d{number}",
        state="ACTIVE",
        created_at=BEGAN,
        updated_at=BEGAN,
        external_name=f"{ENTERPRISE.name}/devices/d{number}",
        **known,
    )


# Of the second one nothing is known: Google is asked before what depends on it.
FLEET = (device(1, management_mode="DEVICE_OWNER", ownership="COMPANY_OWNED", facts={"apiLevel": 34}), device(2))


class Database:
    """The database of one schedule after the other."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
        self.connection.execute("PRAGMA foreign_keys=ON")
        for migration in known_migrations():
            for text in migration.statements("sqlite"):
                self.connection.execute(text)
        self.connection.execute("CREATE TEMP TABLE moved (id TEXT, before TEXT, after TEXT)")
        self.connection.execute(_WITNESS)

    async def fill(self, store: ProcessStore) -> None:
        """The fleet that every schedule begins with."""
        await store.directory.add_organization(ORGANIZATION, ENTERPRISE)
        for known in FLEET:
            await store.unit_of_work(ORGANIZATION.id).setup.add_device(known, None)

    def begin(self) -> None:
        """A new schedule."""
        self.connection.execute("BEGIN")

    def undo(self) -> None:
        """Forget the schedule."""
        self.connection.execute("ROLLBACK")

    def run(self, statements: Sequence[Statement]) -> list[Rows]:
        """All of them or none."""
        rows: list[Rows] = self._whole(lambda: [s.kept(self.read(s.sql, s.args)) for s in statements])
        return rows

    def write(self, prepared: Prepared) -> None:
        """As a whole or not at all."""
        self._whole(lambda: write_changes(self.connection, prepared))

    def read(self, sql: str, args: Sequence[Any]) -> Rows:
        """The rows of one statement."""
        return self.connection.execute(sql, {str(n): value for n, value in enumerate(args, 1)}).fetchall()

    def _whole(self, job: Any) -> Any:
        self.connection.execute("SAVEPOINT job")
        try:
            return job()
        except Exception as error:  # noqa: BLE001 - as the store itself tells them
            self.connection.execute("ROLLBACK TO job")
            raise translate(error) from None
        finally:
            self.connection.execute("RELEASE job")


class ProcessStore(SqlStore):
    """The store as one process sees it."""

    def __init__(self, database: Database, process: Process | None = None) -> None:
        super().__init__(SQLITE, Hub() if process is None else process.world.hub)
        self._database = database
        self._process = process

    async def fetch(self, sql: str, *args: Any) -> Rows:
        """See database.Reader."""
        await self._step()
        return self._database.read(sql, args)

    async def look_up(self, what: LookUp, *args: Any) -> Rows:
        """See database.Reader."""
        return await self.fetch(what.sql, *args)

    async def write(self, *statements: Statement, alone: str | None = None) -> list[Rows]:
        """See database.Database."""
        await self._step(writes=True)
        rows = self._database.run(statements)
        await self._step()
        return rows

    async def commit(self, prepared: Prepared) -> None:
        """See database.Database. It may be durable and yet seem to have failed."""
        await self._step(writes=True)
        self._database.write(prepared)
        self.notify(prepared.topics)
        await self._step(writes=True)

    async def close(self) -> None:
        """Nothing to let go of."""

    async def _step(self, *, writes: bool = False) -> None:
        process = self._process
        if process is None:
            return
        await process.step()
        if writes and process.world.store_fails():
            await asyncio.sleep(0)
            raise StoreUnavailable
