"""Pages of lists, whose records are read piece by piece: a large page as a whole would fill the memory."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

PIECE = 50  # records


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which page of a list: 1-based `page`, `limit` rows, ordered by `sort` (a record's field), ties by id."""

    page: int = 1
    limit: int = 25
    sort: str = "created_at"
    descending: bool = False


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which devices a list has: of a user, in one of some states, without those that are deleted; or none at all."""

    mdm_user_id: str | None = None
    states: tuple[str, ...] | None = None
    with_deleted: bool = True
    nothing: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page: the ids of its records in their order, the number of all rows, and what reads records by their ids."""

    ids: list[str]
    total: int
    read: Callable[[Sequence[str]], Awaitable[list[T]]]

    async def pieces(self) -> AsyncIterator[list[T]]:
        """The records in their order, up to PIECE at a time. What is no more by then is left out."""
        for begin in range(0, len(self.ids), PIECE):
            yield await self.read(self.ids[begin : begin + PIECE])

    async def items(self) -> list[T]:
        """All of its records."""
        return [record async for piece in self.pieces() for record in piece]
