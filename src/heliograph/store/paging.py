"""Pages of lists."""

# ruff: noqa: S608 - made of the names of our own tables and columns

from collections.abc import Sequence
from typing import Any, TypeVar

from heliograph.domain.errors import InvalidInput
from heliograph.ports.pages import Page, PageQuery
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
    """One page and the number of all rows; `ordered` ends with the parameters for LIMIT and OFFSET. `args` begin with
    the organization.
    """
    offset = min((query.page - 1) * query.limit, _LARGEST)
    rows = await reader.fetch(f"SELECT id {ordered}", *args, query.limit, offset)
    total = (await reader.fetch(f"SELECT count(*) {counted}", *args))[0][0]
    find = f"SELECT {table.names} FROM {table.name} WHERE organization_id = $1 AND {reader.dialect.among('id', 2)}"

    async def read(ids: Sequence[str]) -> list[T]:
        place = table.columns.index("id")
        found = {row[place]: row for row in await reader.fetch(find, args[0], reader.dialect.pack(ids))}
        return [table.read(found[id_]) for id_ in ids if id_ in found]

    return Page([row[0] for row in rows], total, read)
