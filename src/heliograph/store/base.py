"""What both stores have in common: the ports, put together over one database."""

# ruff: noqa: S608 - made of our own conditions

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from heliograph.domain.errors import Conflict
from heliograph.domain.ids import id_seconds
from heliograph.ports.changes import ChangeSet
from heliograph.ports.clock import Wakeups
from heliograph.store.commands import LIVE, OPEN_PUSH, Commands, History, Pushes
from heliograph.store.database import Dialect, LookUp, Rows, Statement, statement
from heliograph.store.devices import Devices
from heliograph.store.directory import SqlDirectory
from heliograph.store.enrollment import Enrollment
from heliograph.store.known_accounts import KnownAccounts
from heliograph.store.prepared import Prepared, prepare
from heliograph.store.setup import Setup
from heliograph.store.system import System

_SECOND = 1_000_000

_NEWEST_IDS = """
SELECT (SELECT max(c.id) FROM commands c WHERE c.organization_id = o.id) FROM organizations o
UNION ALL SELECT (SELECT max(p.id) FROM pushes p WHERE p.organization_id = o.id) FROM organizations o
UNION ALL SELECT max(id) FROM outbox
"""
# Of what is over, nothing more is written as a rule; and only what is live has an index of its own.
_LAST_CHANGES = f"""
SELECT max(updated_at) FROM commands WHERE {LIVE} UNION ALL SELECT max(updated_at) FROM pushes WHERE {OPEN_PUSH}
"""

# Every column that holds what the secret key has sealed.
SEALED = (("enterprises", "credentials"), ("provider_accounts", "config"), ("commands", "secret"))
_KEEP_FINGERPRINT = "INSERT INTO secret_key (id, fingerprint) VALUES (1, $1) ON CONFLICT (id) DO NOTHING"


class SqlStore(ABC):
    """Implements ports.store.Store; the two databases add how rows are read and written."""

    def __init__(self, dialect: Dialect, wakeups: Wakeups) -> None:
        self.dialect = dialect
        self._wakeups = wakeups
        self.known_accounts = KnownAccounts(self, wakeups)
        self.directory = SqlDirectory(self)
        self.system = System(self)

    def unit_of_work(self, organization_id: str) -> "Work":
        """Work inside one organization."""
        return Work(self, organization_id)

    async def ping(self) -> None:
        """Prove that the database answers and takes writes; raises StoreUnavailable."""
        await self.write(statement("UPDATE heartbeat SET beats = beats + 1 WHERE id = 1"))

    async def high_water(self) -> int:
        """The time (in microseconds) before which nothing is to be written any more; 0 in an empty database.

        It is past the second of the newest id, and not before the last change of anything that is not over.
        """
        ids = [str(row[0]) for row in await self.fetch(_NEWEST_IDS) if row[0] is not None]
        changes = [int(row[0]) for row in await self.fetch(_LAST_CHANGES) if row[0] is not None]
        return max([(id_seconds(max(ids)) + 1) * _SECOND if ids else 0, *changes])

    async def fingerprint(self, mine: str) -> str:
        """The fingerprint of the key that seals this database's secrets; on first use it becomes `mine`."""
        await self.write(statement(_KEEP_FINGERPRINT, mine))
        return await self.known_fingerprint() or ""

    async def known_fingerprint(self) -> str | None:
        """The fingerprint of the key that seals this database's secrets; None before the first use."""
        rows = await self.fetch("SELECT fingerprint FROM secret_key WHERE id = 1")
        return str(rows[0][0]) if rows else None

    async def replace_fingerprint(self, mine: str) -> None:
        """From now on secrets are sealed with another key. What was sealed before cannot be opened any more."""
        await self.write(statement("UPDATE secret_key SET fingerprint = $1 WHERE id = 1", mine))

    async def reseal(self, again: Callable[[bytes], bytes | None], mine: str) -> int:
        """Seal every secret again, in one transaction with the new key's fingerprint; answers how many.

        `again` gives the new form of a sealed secret, None for one that cannot be opened, which stays. Nothing else may
        write secrets meanwhile: Conflict, and nothing is sealed anew, where one of them has changed.
        """
        statements = [statement("UPDATE secret_key SET fingerprint = $1 WHERE id = 1", mine)]
        for table, column in SEALED:
            found = await self.fetch(f"SELECT organization_id, id, {column} FROM {table} WHERE {column} IS NOT NULL")
            renew = f"""
                UPDATE {table} SET {column} = $3 WHERE organization_id = $1 AND id = $2 AND {column} = $4 RETURNING id
            """
            for organization_id, id_, sealed in found:
                fresh = again(bytes(sealed))
                if fresh is not None:
                    statements.append(statement(renew, organization_id, id_, fresh, bytes(sealed), must=True))
        try:
            await self.write(*statements)
        except Conflict:
            raise Conflict("A secret was changed meanwhile. Stop every server on this database first") from None
        return len(statements) - 1

    @asynccontextmanager
    async def kept_alone(self) -> AsyncIterator[None]:
        """Keep servers off this database during the body. Conflict, naming them, where some work on it. On SQLite
        nobody else can.
        """
        yield

    async def clamp_times(self, now: int, cap_us: int) -> None:
        """Bring forward what a wall clock that jumped back would leave due, leased, or filled again in a far future."""
        latest = now + cap_us
        await self.write(
            statement("UPDATE outbox SET due_at = $1 WHERE due_at > $1", latest),
            statement("UPDATE outbox SET lease_until = $1 WHERE lease_until > $1", latest),
            statement("UPDATE quotas SET at = $1 WHERE at > $2", now, latest),
        )

    @abstractmethod
    async def fetch(self, sql: str, *args: Any) -> Rows:
        """See database.Reader."""

    @abstractmethod
    async def look_up(self, what: LookUp, *args: Any) -> Rows:
        """See database.Reader."""

    @abstractmethod
    async def write(self, *statements: Statement, alone: str | None = None) -> list[Rows]:
        """See database.Database."""

    @abstractmethod
    async def commit(self, prepared: Prepared) -> None:
        """See database.Database."""

    def notify(self, topics: frozenset[str]) -> None:
        """Wake whoever waits for the topics."""
        self._wakeups.notify(topics)

    @abstractmethod
    async def close(self) -> None:
        """Write what is queued, then let go of the database."""


class Work:
    """Work inside one organization. Its repositories are made as they are asked for: most work needs one or two."""

    commands: Commands
    pushes: Pushes
    history: History
    devices: Devices
    setup: Setup
    enrollment: Enrollment

    __slots__ = ("_database", "commands", "devices", "enrollment", "history", "organization_id", "pushes", "setup")

    def __init__(self, database: SqlStore, organization_id: str) -> None:
        self._database = database
        self.organization_id = organization_id

    def __getattr__(self, name: str) -> Any:
        made = _REPOSITORIES.get(name)
        if made is None:
            raise AttributeError(name)
        setattr(self, name, repository := made(self._database, self.organization_id))
        return repository

    async def commit(self, changes: ChangeSet) -> None:
        """See ports.store.UnitOfWork."""
        if changes.organization_id != self.organization_id:
            raise ValueError("a change set of another organization")
        if changes:
            await self._database.commit(prepare(changes))
        else:
            self._database.notify(frozenset(changes.topics))


_REPOSITORIES: dict[str, Callable[[SqlStore, str], Any]] = {
    "commands": Commands,
    "pushes": Pushes,
    "history": History,
    "devices": Devices,
    "setup": lambda database, organization_id: Setup(database, organization_id, database.known_accounts),
    "enrollment": Enrollment,
}
