"""PostgreSQL's group reads, the counterpart of its group commit: what is looked up at the same moment is one statement.

    SELECT k.n, q.* FROM (the parameters of each) AS k CROSS JOIN LATERAL (a look-up, its parameters from k) AS q

While a statement is under way, the next look-ups gather. There is no timer, so an idle server adds no delay; and a
look-up never joins a statement that was sent before it was asked for, so it sees what was committed until then.
"""

# ruff: noqa: S608 - made of statements of ours

import asyncio
import re
from collections import defaultdict
from functools import cache
from typing import Any

from heliograph.store.database import LookUp, Rows
from heliograph.store.postgres_connections import Connection, Connections
from heliograph.store.postgres_errors import is_unavailable, translate
from heliograph.store.postgres_rows import Shape

_MAX_LOOK_UPS = 128
_AT_A_TIME = 1  # statements of one text
_PARAMETER = re.compile(r"\$(\d+)")

_Asked = tuple[tuple[Any, ...], "asyncio.Future[Rows]"]


class PostgresReader:
    """Answers look-ups of one event loop."""

    def __init__(self, pool: Connections) -> None:
        self._pool = pool
        self._asked: defaultdict[LookUp, list[_Asked]] = defaultdict(list)
        self._active: defaultdict[LookUp, int] = defaultdict(int)
        self._tasks: set[asyncio.Task[None]] = set()

    def look_up(self, what: LookUp, args: tuple[Any, ...]) -> "asyncio.Future[Rows]":
        """The rows for these arguments."""
        future: asyncio.Future[Rows] = asyncio.get_running_loop().create_future()
        self._asked[what].append((args, future))
        if self._active[what] < _AT_A_TIME:
            self._active[what] += 1
            task = asyncio.create_task(self._answer_all(what), name="heliograph-reader")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return future

    async def _answer_all(self, what: LookUp) -> None:
        asked = self._asked[what]
        try:
            while asked:
                some = asked[:_MAX_LOOK_UPS]
                del asked[: len(some)]
                await self._answer(what, some)
        finally:
            self._active[what] -= 1  # in the same breath as nothing was left

    async def _answer(self, what: LookUp, asked: list[_Asked]) -> None:
        waiting = [(args, future) for args, future in asked if not future.done()]
        try:
            async with self._pool.acquire() as connection:
                found = await _fetch(connection, what, [args for args, _ in waiting])
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            if len(waiting) > 1 and not is_unavailable(error):
                for one in waiting:  # an argument that cannot be sent concerns its own caller alone
                    await self._answer(what, [one])
                return
            for _, future in waiting:
                if not future.done():
                    future.set_exception(translate(error))
            return
        for (_, future), rows in zip(waiting, found, strict=True):
            if not future.done():
                future.set_result(rows)


async def _fetch(connection: Connection, what: LookUp, asked: list[tuple[Any, ...]]) -> list[Rows]:
    """The rows of each; who ask for the same share them."""
    distinct = dict.fromkeys(asked)
    if len(distinct) < len(asked):
        rows = dict(zip(distinct, await _fetch(connection, what, list(distinct)), strict=True))
        return [rows[args] for args in asked]
    if len(asked) == 1:
        return [await connection.fetch(what.sql, *asked[0])]
    found: list[list[Any]] = [[] for _ in asked]
    parameters = _shape(what).packed((number, *args) for number, args in enumerate(asked))
    for row in await connection.fetch(_grouped(what), parameters):
        found[row[0]].append(row[1:])
    return list(found)


@cache
def _grouped(what: LookUp) -> str:
    """A statement that answers many look-ups: a nested loop, which keeps the order of each look-up's rows."""
    inner = _PARAMETER.sub(r"k.a\1", what.sql)
    return f"SELECT k.n, q.* FROM {_shape(what).rows_of(1, 'k')} CROSS JOIN LATERAL ({inner}) AS q"


@cache
def _shape(what: LookUp) -> Shape:
    """The number of a look-up in its group, then its parameters."""
    return Shape(("n", "integer"), *((f"a{n}", kind) for n, kind in enumerate(what.types, 1)))
