"""Pages of lists on the wire: one rule for how much memory, and how much of everybody's time, an answer takes.

What is large is read, shaped and encoded piece by piece, and the others get their turn in between (ADR 0057).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
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


async def page_of(call: Call, page: Page[T], shown: Callable[[list[T]], Awaitable[Sequence[Any]]]) -> PageOf[Any]:
    """A page on the wire, with a Link header to the next; `shown` gives the shapes of some records.

    Raises InvalidInput where all of it is larger than MAX_BYTES, with a limit that fits. A single record is shown
    however large it is.
    """
    items = bytearray(b"[")
    count, has_place = 0, False
    async with AsyncExitStack() as places:
        async for records in page.pieces():
            await asyncio.sleep(0)
            for shape in await shown(records):
                part = ENCODER.encode(shape)
                if count and len(items) + len(part) > MAX_BYTES:
                    raise _too_large(count)
                items += b"," + part if count else part
                count += 1
            if len(items) > LARGE_BYTES and not has_place:
                await places.enter_async_context(call.api.large_pages)
                has_place = True
        return page_with(call, page.total, msgspec.Raw(items + b"]"))


async def commands_page(call: Call, device_id: str, shape: Callable[[Command, Sequence[Entry]], Any]) -> PageOf[Any]:
    """A page of a device's commands, with their histories."""

    async def shown(commands: list[Command]) -> list[Any]:
        histories = await call.work.history.of([c.id for c in commands])
        return [shape(c, histories.get(c.id, [])) for c in commands]

    return await page_of(call, await call.work.commands.list_of_device(device_id, call.query.page), shown)


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
