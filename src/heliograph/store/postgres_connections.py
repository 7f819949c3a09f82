"""Our connections to PostgreSQL: asyncpg's own, lent out one user at a time.

asyncpg's pool costs as much CPU per use as the query itself (a task, a proxy and, unless told otherwise, a round trip
per release). Nothing of ours changes a session, so a connection goes from hand to hand as it is; one that was left in
the middle of something is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_MAX_IDLE_S = 300.0  # what lay longer may have been dropped by something on the way, without a word
_CLOSE_TIMEOUT_S = 10.0
# For a connection, from whomever: where the database's machine is gone, each connect takes its whole time-out, and
# whoever comes behind others would wait for all of theirs.
_WAIT_S = 10.0


class Connections:
    """At most `limit` connections, made when needed. Connects with `asyncpg.connect(dsn, **settings)`.

    `session`: settings of PostgreSQL for each. They are SET: a pooler takes only few with the start of a connection.
    """

    def __init__(self, dsn: str, limit: int, session: Mapping[str, str] | None = None, **settings: Any) -> None:
        self._dsn = dsn
        self._limit = limit
        self._session = "; ".join(f"SET {name} TO '{value}'" for name, value in (session or {}).items())
        self._settings = settings
        self._idle: list[tuple[Connection, float]] = []
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._lent: set[Connection] = set()
        self._places = 0  # connections there are, and those that are being made
        self._making = 0
        self._freed = asyncio.Event()
        self._closed = False

    def acquire(self) -> Loan:
        """Borrow a connection, as an asynchronous context manager."""
        return Loan(self)

    async def close(self) -> None:
        """Close what is idle, and wait a little for what is in use."""
        self._closed = True
        while self._waiting:
            self._wake(None)
        idle, self._idle = self._idle, []
        self._places -= len(idle)
        await asyncio.gather(*(c.close(timeout=_CLOSE_TIMEOUT_S) for c, _ in idle), return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                while self._places > 0:
                    self._freed.clear()
                    await self._freed.wait()
        for connection in tuple(self._lent):
            connection.terminate()

    async def take(self) -> Connection:
        """A connection of one's own, until it is given back. Raises TimeoutError when none can be had in time."""
        connection = self._ready()
        if connection is None:
            async with asyncio.timeout(_WAIT_S):
                connection = await self._made_or_freed()
        self._lent.add(connection)
        return connection

    def give_back(self, connection: Connection, *, usable: bool) -> None:
        """Hand a connection on to the next, or keep it for later."""
        self._lent.discard(connection)
        if not usable or self._closed or connection.is_closed() or connection.is_in_transaction():
            connection.terminate()
            self._free_place()
        elif not self._wake(connection):
            self._idle.append((connection, asyncio.get_running_loop().time()))

    def _ready(self) -> Connection | None:
        """The connection that was used last, if there is one that still lives."""
        oldest = asyncio.get_running_loop().time() - _MAX_IDLE_S
        while self._idle:
            connection, since = self._idle.pop()
            if since >= oldest and not connection.is_closed():
                return connection
            connection.terminate()
            self._places -= 1
        return None

    async def _made_or_freed(self) -> Connection:
        connection: Connection | None = None
        while connection is None:
            if self._closed:
                raise asyncpg.InterfaceError("closed")
            connection = await (self._connect() if self._places < self._limit else self._wait())
        return connection

    async def _connect(self) -> Connection | None:
        self._places += 1
        self._making += 1
        try:
            made = await self._made()
        except BaseException as error:
            if not isinstance(error, asyncpg.TooManyConnectionsError) or self._places == self._making:
                self._free_place()
                raise
            self._places -= 1  # and nobody is told: there is no room for them either
        else:
            return made
        finally:
            self._making -= 1
        return self._ready() or await self._wait()

    async def _made(self) -> Connection:
        connection: Connection = await asyncpg.connect(self._dsn, **self._settings)
        try:
            if self._session:
                await connection.execute(self._session)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _wait(self) -> Connection | None:
        """A connection that somebody gives back; None = look again, a place has become free."""
        future: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # given to us in the very moment in which we gave up
                self._pass_on(future.result())
            raise

    def _free_place(self) -> None:
        self._places -= 1
        self._freed.set()
        self._wake(None)

    def _pass_on(self, connection: Connection | None) -> None:
        if connection is None:
            self._wake(None)
        else:
            self.give_back(connection, usable=True)

    def _wake(self, connection: Connection | None) -> bool:
        """Let the one who waits longest go on; False when nobody waits."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(connection)
                return True
        return False


class Loan:
    """One use of a connection."""

    __slots__ = ("_connection", "_connections")

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._connection: Connection | None = None

    async def __aenter__(self) -> Connection:
        self._connection = await self._connections.take()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            # Whoever gave up in the middle of a query leaves an answer behind that nobody waits for.
            unfinished = isinstance(error, asyncio.CancelledError | TimeoutError | OSError)
            self._connections.give_back(self._connection, usable=not unfinished)
