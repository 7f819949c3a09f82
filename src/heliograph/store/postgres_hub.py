"""Wake-ups between processes that share a PostgreSQL: NOTIFY and LISTEN on two connections of their own.

Local waiters are woken at once; the topics of a moment travel to the other processes together. While the database is
away nothing travels, and everybody is woken once when it is back: something may have been missed.
"""

import asyncio
import logging
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeAlias

import asyncpg

from heliograph.store.postgres_errors import describe
from heliograph.store.wakeups import Hub

log = logging.getLogger(__name__)

CHANNEL = "heliograph"
SERVING = 0x68656C_04
"""Number of the advisory lock that every process with the secret key shares while it listens. Who replaces the key has
it alone.
"""
_MAX_PAYLOAD = 7_500  # PostgreSQL takes less than 8,000 bytes
_MAX_PENDING = 50_000  # topics kept while the database is away; hints beyond that are dropped
_RETRY_S = 1.0
_PACE_S = 0.02  # what comes sooner after the last message goes with the next: each costs every process a wake-up
_CHECK_S = 30.0
_TIMEOUT_S = 10.0
_LAST_WORDS_S = 1.0

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class PostgresHub(Hub):
    """Implements ports.clock.Wakeups for all processes on one database. Built by `open`, or started later."""

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self._dsn = dsn
        self._name = secrets.token_hex(8)
        self._pending: set[str] = set()
        self._something = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()
        self._listening = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, dsn: str) -> "PostgresHub":
        """Start to send and to listen. Does not wait for the database."""
        hub = cls(dsn)
        hub.start()
        return hub

    def start(self) -> None:
        """Start to send and to listen, once."""
        self._tasks = [
            asyncio.create_task(self._forever(self._send), name="heliograph-notify"),
            asyncio.create_task(self._forever(self._listen), name="heliograph-listen"),
        ]

    async def listening(self) -> None:
        """Wait until notifications of other processes are heard."""
        await self._listening.wait()

    async def close(self) -> None:
        """Send what is pending (a revoked key, say) while the database takes it, then stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._sent.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def notify(self, topics: Iterable[str]) -> None:
        """Wake whoever waits for one of the topics, in every process."""
        topics = tuple(topics)
        super().notify(topics)
        if topics and len(self._pending) < _MAX_PENDING:
            self._pending.update(topics)
            self._sent.clear()
            self._something.set()

    async def _forever(self, work: Any) -> None:
        while True:
            connection: Connection | None = None
            try:
                connection = await asyncpg.connect(self._dsn, timeout=_TIMEOUT_S, command_timeout=_TIMEOUT_S)
                await work(connection)
            except Exception as error:  # noqa: BLE001 - whatever it is, a new connection is the remedy
                log.warning("no wake-ups between processes for now: %s", describe(error))
            finally:
                self._forget(work)
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(_RETRY_S)

    def _forget(self, work: Any) -> None:
        if work == self._listen:
            self._listening.clear()

    async def _send(self, connection: Connection) -> None:
        while True:
            await self._something.wait()
            # A topic that comes while these are on the way is another occasion, and is sent again.
            sending, self._pending = self._pending, set()
            self._something.clear()
            try:
                await connection.execute(
                    "SELECT pg_notify($1, payload) FROM unnest(CAST($2 AS TEXT[])) AS p (payload)",
                    CHANNEL,
                    list(_payloads(self._name, sending)),
                )
            except BaseException:
                self._pending |= sending
                self._something.set()
                raise
            if not self._pending:
                self._sent.set()
            await asyncio.sleep(_PACE_S)

    async def _listen(self, connection: Connection) -> None:
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _: closed.set())
        await connection.execute("SELECT pg_advisory_lock_shared($1)", SERVING)
        await connection.add_listener(CHANNEL, self._hear)
        self._listening.set()
        self.notify_all()
        while not closed.is_set():
            try:
                async with asyncio.timeout(_CHECK_S):
                    await closed.wait()
            except TimeoutError:
                await connection.execute("SELECT 1")  # finds a connection that died without a word

    def _hear(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        name, *topics = str(payload).split("\n")
        if name != self._name:
            super().notify(topics)


def _payloads(name: str, topics: Iterable[str]) -> Iterator[str]:
    """The topics, packed into as few messages as fit."""
    lines, size = [name], len(name)
    for topic in topics:
        length = len(topic.encode()) + 1
        if size + length > _MAX_PAYLOAD and len(lines) > 1:
            yield "\n".join(lines)
            lines, size = [name], len(name)
        if len(name) + length <= _MAX_PAYLOAD:
            lines.append(topic)
            size += length
    if len(lines) > 1:
        yield "\n".join(lines)
