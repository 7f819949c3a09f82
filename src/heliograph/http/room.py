"""How much memory the answers of one organization may take that are being made or wait to be taken by their clients."""

import asyncio
from collections import deque

ROOM_BYTES = 64 * 1024 * 1024
PATIENCE_S = 10.0


class NoRoom(Exception):
    """There was no room in time."""


class Place:
    """Bytes that were given out, until they are given back."""

    __slots__ = ("_bytes", "_room")

    def __init__(self, room: "Room", bytes_: int) -> None:
        self._room, self._bytes = room, bytes_

    def shrink(self, bytes_: int) -> None:
        """Give back all but so many."""
        if bytes_ < self._bytes:
            self._room.free(self._bytes - bytes_)
            self._bytes = bytes_

    def leave(self) -> None:
        """Give back all that is left."""
        self.shrink(0)


class Room:
    """Gives out bytes, in the order in which they were asked for."""

    def __init__(self, bytes_: int) -> None:
        self._all = self._left = bytes_
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether nobody has a place or waits for one."""
        return self._left == self._all and not self._waiting

    async def take(self, bytes_: int) -> Place:
        """A place as large as this, or as the room where that is smaller; raises NoRoom."""
        bytes_ = min(bytes_, self._all)
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((bytes_, given))
        self._let_in()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await given
        except BaseException as error:
            if not given.cancelled():
                self.free(bytes_)  # it came at the same moment
            self._let_in()
            if isinstance(error, TimeoutError):
                raise NoRoom from None
            raise
        return Place(self, bytes_)

    def free(self, bytes_: int) -> None:
        """Take bytes back."""
        self._left += bytes_
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            bytes_, given = self._waiting[0]
            if not given.cancelled() and bytes_ > self._left:
                return
            self._waiting.popleft()
            if not given.cancelled():
                self._left -= bytes_
                given.set_result(None)


class Rooms:
    """One room for each organization, as long as it is used."""

    def __init__(self, bytes_: int = ROOM_BYTES) -> None:
        self._bytes = bytes_
        self._rooms: dict[str, Room] = {}

    async def take(self, organization_id: str, bytes_: int) -> Place:
        """A place in an organization's room; raises NoRoom."""
        for idle in [name for name, room in self._rooms.items() if room.is_empty]:
            del self._rooms[idle]
        room = self._rooms.setdefault(organization_id, Room(self._bytes))
        return await room.take(bytes_)
