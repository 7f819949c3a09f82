"""PostgreSQL's group commit: what waits at the same moment leaves as one statement, each set failing alone.

At most two batches are under way: while they commit, the next sets gather. There is no timer, so an idle server adds
no delay.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from heliograph.domain.errors import Conflict, StoreUnavailable
from heliograph.store.postgres_batch import DEBTS, PARTS, WITHDRAWN, build
from heliograph.store.postgres_connections import Connection, Connections
from heliograph.store.postgres_errors import describe, is_unavailable, passes, translate
from heliograph.store.prepared import Prepared

log = logging.getLogger(__name__)

_MAX_SETS = 128
_FLUSHERS = 2
_TRIES = 5


@dataclass(slots=True, eq=False)
class _Order:
    prepared: Prepared
    future: "asyncio.Future[None]"


class PostgresWriter:
    """Takes change sets from one event loop."""

    def __init__(self, pool: Connections, notify: Callable[[frozenset[str]], None]) -> None:
        self._pool = pool
        self._notify = notify
        self._queue: list[_Order] = []
        self._flushers: set[asyncio.Task[None]] = set()
        self._active = 0
        self._closed = False

    def submit(self, prepared: Prepared) -> "asyncio.Future[None]":
        """Queue a change set. It is written whether or not somebody still waits."""
        if self._closed:
            raise StoreUnavailable
        order = _Order(prepared, asyncio.get_running_loop().create_future())
        self._queue.append(order)
        if self._active < _FLUSHERS:
            self._active += 1
            flusher = asyncio.create_task(self._flush(), name="heliograph-flusher")
            self._flushers.add(flusher)
            flusher.add_done_callback(self._flushers.discard)
        return order.future

    async def close(self) -> None:
        """Write what is queued, then end."""
        self._closed = True
        while self._flushers:
            await asyncio.gather(*self._flushers)

    async def _flush(self) -> None:
        try:
            while batch := self._gather():
                await self._write_or_fail(batch)
        finally:
            self._active -= 1  # in the same breath as the queue was seen empty: the next order starts a new flusher

    async def _write_or_fail(self, batch: list[_Order]) -> None:
        sent = False
        try:
            async with self._pool.acquire() as connection:
                sent = True
                await self._write(connection, batch)
        except Exception as error:  # noqa: BLE001 - nobody but the waiting callers could handle it
            log.warning("writing to the database failed: %s", describe(error))
            for order in batch:
                _fail(order, translate(error, sent=sent))

    def _gather(self) -> list[_Order]:
        """The next batch: no two of its sets touch the same thing; whoever must wait keeps its place in the queue."""
        batch: list[_Order] = []
        left: list[_Order] = []
        touched: set[str] = set()
        for index, order in enumerate(self._queue):
            if len(batch) == _MAX_SETS:
                left.extend(self._queue[index:])
                break
            apart = touched.isdisjoint(order.prepared.touched)
            (batch if apart else left).append(order)
            touched |= order.prepared.touched
        self._queue = left
        return batch

    async def _write(self, connection: Connection, batch: list[_Order]) -> None:
        together = [order for order in batch if not order.prepared.in_phases]
        single = [order for order in batch if order.prepared.in_phases]
        if len(together) == 1 or (together and not await self._write_together(connection, together)):
            single += together
        for order in single:
            await self._write_alone(connection, order)

    async def _write_together(self, connection: Connection, orders: list[_Order]) -> bool:
        """Write them as one statement; False when it failed, which says nothing about which of them is to blame."""
        try:
            bad = await _run(connection, [order.prepared for order in orders])
        except Exception as error:
            if is_unavailable(error):
                raise
            log.info("a batch failed and is written one by one: %s", describe(error))
            return False
        self._done([order for number, order in enumerate(orders) if number not in bad] if bad else orders)
        for number in bad:
            _fail(orders[number], Conflict())
        return True

    async def _write_alone(self, connection: Connection, order: _Order) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                bad = await (_run_in_phases if order.prepared.in_phases else _run_one)(connection, order.prepared)
            except Exception as error:
                if is_unavailable(error):
                    raise
                if not passes(error) or attempt == _TRIES:
                    _fail(order, translate(error))
                    return
            else:
                if bad:
                    _fail(order, Conflict())
                else:
                    self._done([order])
                return

    def _done(self, orders: Sequence[_Order]) -> None:
        self._notify(frozenset().union(*(order.prepared.topics for order in orders)))
        for order in orders:
            if not order.future.done():  # cancelled: the caller went away, the work was done all the same
                order.future.set_result(None)


async def _run(connection: Connection, batch: Sequence[Prepared], parts: Sequence[Any] = PARTS) -> set[int]:
    """Write sets as one statement; answers the numbers of those that were refused."""
    built = build(batch, parts)
    if built is None:
        return set()
    sql, arguments = built
    return {row[0] for row in await connection.fetch(sql, *arguments)}


async def _run_one(connection: Connection, prepared: Prepared) -> bool:
    return bool(await _run(connection, [prepared]))


async def _run_in_phases(connection: Connection, prepared: Prepared) -> bool:
    """Write a set that changes an outbox row more than once: settlements, then withdrawals, then debts."""
    async with connection.transaction():
        if await _run(connection, [prepared], PARTS[:-2]):
            return True  # a refused set has written nothing
        await _run(connection, [prepared], [WITHDRAWN])
        await _run(connection, [prepared], [DEBTS])
    return False


def _fail(order: _Order, error: BaseException) -> None:
    if not order.future.done():
        order.future.set_exception(error)
