"""Pages of lists."""

from collections.abc import Sequence
from typing import Any, TypeVar

from heliograph.domain.errors import InvalidInput
from heliograph.ports.store import Page, PageQuery
from heliograph.store.database import Reader
from heliograph.store.records import Table

T = TypeVar("T")

_LARGEST = 2**63 - 1  # that the databases count to


def order_by(query: PageQuery, allowed: Sequence[str]) -> str:
    """The ORDER BY clause of a query; ties by id, in the same direction."""
    if query.sort not in allowed:
        raise InvalidInput.of("sort", f"must be one of {', '.join(allowed)}")
    direction = " DESC" if query.descending else ""
    return f"ORDER BY {query.sort}{direction}, id{direction}"


async def page_of(
    reader: Reader, table: Table[T], ordered: str, counted: str, args: tuple[Any, ...], query: PageQuery
) -> Page[T]:
    """One page and the number of all rows; `ordered` ends with the parameters for LIMIT and OFFSET."""
    offset = min((query.page - 1) * query.limit, _LARGEST)
    rows = await reader.fetch(f"SELECT {table.names} {ordered}", *args, query.limit, offset)
    total = (await reader.fetch(f"SELECT count(*) {counted}", *args))[0][0]
    return Page([table.read(row) for row in rows], total)
