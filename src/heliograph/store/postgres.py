"""The store on PostgreSQL: all state there, any number of processes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from heliograph.domain.errors import Conflict
from heliograph.ports.clock import Wakeups
from heliograph.store.base import SqlStore
from heliograph.store.database import Dialect, LookUp, Rows, Statement
from heliograph.store.migrator import Applied, Migration, pending
from heliograph.store.postgres_connections import Connection, Connections
from heliograph.store.postgres_errors import DATABASE_ERRORS, translate
from heliograph.store.postgres_hub import SERVING
from heliograph.store.postgres_reach import reach
from heliograph.store.postgres_reader import PostgresReader
from heliograph.store.postgres_statistics import keep_statistics
from heliograph.store.postgres_writer import PostgresWriter
from heliograph.store.prepared import Prepared

POSTGRES = Dialect(
    name="postgres",
    # Not a join with the list: that leaves the planner free to read the table whole.
    among=lambda column, n: f"{column} = ANY(CAST(${n} AS TEXT[]))",
    among_found=lambda column, select: f"{column} = ANY(ARRAY({select}))",
    pack=list,
    skip_locked="FOR UPDATE OF o SKIP LOCKED",
)

# All our statements look up keys in indexes. Statistics of a table that was empty a minute ago must not talk the
# planner into reading it whole, nor a penalty for doing so into compiling the plan, nor a wrong guess into starting
# workers.
_SETTINGS = {
    # Who has waited for a lock must see what was done under it, whatever the database is set to.
    "default_transaction_isolation": "read committed",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    # A process that was stopped in the middle of a claim holds the lock on claims; the others must not wait for it.
    "idle_in_transaction_session_timeout": "5s",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "force_generic_plan",
    "timezone": "UTC",
}
_LOCKS = {"migrate": 0x68656C_01, "claim": 0x68656C_02, "quota": 0x68656C_03, "keys": 0x68656C_05}  # and SERVING
_SERVING = """
    SELECT a.pid, a.client_addr FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.classid = 0 AND l.objid = $1 AND l.granted AND l.mode = $2
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_STATEMENT_TIMEOUT_S = 30.0
_CONNECT_TIMEOUT_S = 10.0


class PostgresStore(SqlStore):
    """All state in one PostgreSQL database. Built by `open`."""

    def __init__(self, dsn: str, pool: Connections, wakeups: Wakeups) -> None:
        super().__init__(POSTGRES, wakeups)
        self._dsn = dsn
        self._pool = pool
        self._writer = PostgresWriter(pool, wakeups.notify)
        self._reader = PostgresReader(pool)
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, dsn: str, wakeups: Wakeups, *, connections: int = 10) -> "PostgresStore":
        """Connect to a database; raises StoreUnavailable, saying why, when it cannot be had."""
        await reach(dsn)
        pool = Connections(
            dsn,
            connections,
            _SETTINGS,
            command_timeout=_STATEMENT_TIMEOUT_S,
            timeout=_CONNECT_TIMEOUT_S,
            server_settings={"application_name": "heliograph"},
        )
        store = cls(dsn, pool, wakeups)
        store._tasks.append(asyncio.create_task(keep_statistics(store.fetch), name="heliograph-statistics"))
        return store

    async def close(self) -> None:
        """Write what is queued, then disconnect."""
        self.known_accounts.close()
        await self._writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.close()

    async def fetch(self, sql: str, *args: Any) -> Rows:
        """See database.Reader."""
        try:
            async with self._pool.acquire() as connection:
                return await connection.fetch(sql, *args)
        except DATABASE_ERRORS as error:
            raise translate(error) from None

    async def look_up(self, what: LookUp, *args: Any) -> Rows:
        """See database.Reader."""
        return await self._reader.look_up(what, args)

    async def write(self, *statements: Statement, alone: str | None = None) -> list[Rows]:
        """See database.Database."""
        sent = False
        try:
            async with self._pool.acquire() as connection:
                sent = True
                if len(statements) == 1 and alone is None:
                    return await _fetched(connection, statements)
                if alone is not None:
                    return await _write_alone(connection, _LOCKS[alone], statements)
                async with connection.transaction():
                    return await _fetched(connection, statements)
        except DATABASE_ERRORS as error:
            raise translate(error, sent=sent) from None

    async def commit(self, prepared: Prepared) -> None:
        """See database.Database."""
        await self._writer.submit(prepared)

    @asynccontextmanager
    async def kept_alone(self) -> AsyncIterator[None]:
        """See SqlStore. A server shares the lock from before it reads the key until it ends."""
        connection = await self._connected()
        try:
            if not await _has_alone(connection, SERVING):
                found = [f"process {p} of PostgreSQL, from {a or 'the same machine'}" for p, a in await self._serving()]
                connected = "; ".join(found)
                raise Conflict(f"a server works on this database: stop each one first. Connected: {connected}")
            yield
        finally:
            with suppress(*DATABASE_ERRORS):  # it is gone, and the lock with it; how the body ended is what counts
                await connection.close(timeout=_CONNECT_TIMEOUT_S)

    async def _connected(self) -> Connection:
        try:
            return await asyncpg.connect(self._dsn, timeout=_CONNECT_TIMEOUT_S, command_timeout=_STATEMENT_TIMEOUT_S)
        except DATABASE_ERRORS as error:
            raise translate(error) from None

    async def _serving(self, *, alone: bool = False) -> Rows:
        return await self.fetch(_SERVING, SERVING, "ExclusiveLock" if alone else "ShareLock")

    async def is_kept_alone(self) -> bool:
        """Whether somebody keeps servers off this database now."""
        return bool(await self._serving(alone=True))

    async def applied_migrations(self) -> list[Applied]:
        """See migrator.Migratable."""
        if not (await self.fetch("SELECT to_regclass('schema_migrations') IS NOT NULL"))[0][0]:
            return []
        return [Applied(*row) for row in await self.fetch(Applied.SELECT)]

    async def apply_migrations(self, known: Sequence[Migration], now: Callable[[], int]) -> list[Migration]:
        """See migrator.Migratable. On a connection of its own, which holds the lock; all in one transaction."""
        try:
            connection = await asyncpg.connect(self._dsn, timeout=_CONNECT_TIMEOUT_S)
            try:
                await connection.execute("SELECT pg_advisory_lock($1)", _LOCKS["migrate"])
                async with connection.transaction():
                    return await _apply(connection, known, now)
            finally:
                await connection.close()
        except DATABASE_ERRORS as error:
            raise translate(error) from None


async def _has_alone(connection: Connection, lock: int) -> bool:
    try:
        return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock))
    except DATABASE_ERRORS as error:
        raise translate(error) from None


async def _fetched(connection: Connection, statements: Sequence[Statement]) -> list[Rows]:
    return [s.kept(await connection.fetch(s.sql, *s.args)) for s in statements]


async def _write_alone(connection: Connection, lock: int, statements: Sequence[Statement]) -> list[Rows]:
    """A transaction under a lock, which begins with one round trip instead of two: each claim is one."""
    await connection.execute(f"BEGIN; SELECT pg_advisory_xact_lock({lock})")
    try:
        rows = await _fetched(connection, statements)
        await connection.execute("COMMIT")
    except Exception:
        if connection.is_in_transaction():  # else the database has rolled it back, or is gone
            await connection.execute("ROLLBACK")
        raise
    return rows


async def _apply(
    connection: "asyncpg.Connection[asyncpg.Record]", known: Sequence[Migration], now: Callable[[], int]
) -> list[Migration]:
    await connection.execute(Migration.TABLE)
    todo = pending(known, [Applied(*row) for row in await connection.fetch(Applied.SELECT)])
    for migration in todo:
        for text in migration.statements("postgres"):
            await connection.execute(text)
        await connection.execute(
            "INSERT INTO schema_migrations (number, name, checksum, applied_at) VALUES ($1, $2, $3, $4)",
            migration.number,
            migration.name,
            migration.checksum,
            now(),
        )
    return todo
