"""Pages of lists on the wire: one rule for how much memory, and how much of everybody's time, an answer takes.

What is large is read, shaped and encoded piece by piece, and the others get their turn in between (ADR 0057, 0059).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from heliograph.domain.errors import InvalidInput
from heliograph.domain.ladder import Command, Entry
from heliograph.http.operations import ENCODER, Call
from heliograph.http.wire import PageOf
from heliograph.ports.pages import Page

T = TypeVar("T")

MAX_BYTES = 16 * 1024 * 1024
LARGE_BYTES = 1024 * 1024


Find = Callable[[], Awaitable[Page[T]]]
Shown = Callable[[list[T]], Awaitable[Sequence[Any]]]


async def page_of(call: Call, find: Find[T], shown: Shown[T]) -> PageOf[Any]:
    """A page on the wire, with a Link header to the next; `find` reads which records, `shown` gives the shapes of some.

    Raises InvalidInput where all of it is larger than MAX_BYTES, with a limit that fits. A single record is shown
    however large it is.
    """
    made = await _made(call, find, shown, call.api.pages, LARGE_BYTES)
    if made is None:  # nothing of it is kept: who waits takes no memory
        made = await _made(call, find, shown, call.api.large_pages, MAX_BYTES)
    total, items = made or (0, b"[]")
    return page_with(call, total, msgspec.Raw(items))


async def _made(
    call: Call, find: Find[T], shown: Shown[T], places: asyncio.Semaphore, most: int
) -> tuple[int, bytearray] | None:
    """The number of all records, and a page of them as JSON; None where that is large, for which `most` is too few."""
    await call.take_room(most)
    async with places:
        page = await find()
        items = bytearray(b"[")
        count = 0
        async for records in page.pieces():
            await asyncio.sleep(0)
            for shape in await shown(records):
                part = ENCODER.encode(shape)
                if len(items) + len(part) > most and (count or most < MAX_BYTES):
                    if most < MAX_BYTES:
                        return None
                    raise _too_large(count)
                items += b"," + part if count else part
                count += 1
    items += b"]"
    return page.total, items


async def commands_page(call: Call, device_id: str, shape: Callable[[Command, Sequence[Entry]], Any]) -> PageOf[Any]:
    """A page of a device's commands, with their histories."""

    async def shown(commands: list[Command]) -> list[Any]:
        histories = await call.work.history.of([c.id for c in commands])
        return [shape(c, histories.get(c.id, [])) for c in commands]

    return await page_of(call, partial(call.work.commands.list_of_device, device_id, call.query.page), shown)


def page_with(call: Call, total: int, items: Any) -> PageOf[Any]:
    """A page of `total` records, with a Link header to the next."""
    query = call.query.page
    pages = max(1, -(-total // query.limit))
    has_next = query.page < pages
    if has_next:
        url = call.request.url(_next_query(call))
        call.headers["Link"] = f'<{url}>; rel="next"'
    return PageOf(
        items=items,
        total_docs=total,
        limit=query.limit,
        page=query.page,
        total_pages=pages,
        paging_counter=(query.page - 1) * query.limit + 1,
        has_prev_page=query.page > 1,
        has_next_page=has_next,
        prev_page=query.page - 1 if query.page > 1 else None,
        next_page=query.page + 1 if has_next else None,
    )


def _next_query(call: Call) -> str:
    kept = [(name, value) for name, value in call.request.query() if name not in ("page", "limit")]
    return urlencode([*kept, ("page", call.query.page.page + 1), ("limit", call.query.page.limit)])


def _too_large(fitting: int) -> InvalidInput:
    mib = MAX_BYTES // (1024 * 1024)
    return InvalidInput.of("limit", f"must be at most {fitting} for records as large as these: an answer has {mib} MiB")
