"""Record ids: 24 lower-case hex digits in time order (contract decision 2)."""

import re
from collections.abc import Callable

_ID = re.compile(r"[0-9a-fA-F]{24}")


def is_id(text: str) -> bool:
    """Whether `text` has the form of a record id, in either case."""
    return _ID.fullmatch(text) is not None


def id_seconds(record_id: str) -> int:
    """The second (Unix time) in which an id was minted."""
    return int(record_id[:8], 16)


class IdMinter:
    """Mints ids: 4 bytes of seconds that never go back, 5 random bytes of this minter, a 3-byte counter.

    `now` gives Unix seconds, `random_bytes(n)` n random bytes. Ids of one minter sort in the order of minting, also
    when the clock stands still or jumps back; `not_before` keeps that true over restarts.
    """

    def __init__(self, now: Callable[[], float], random_bytes: Callable[[int], bytes], not_before: int = 0) -> None:
        self._now = now
        self._random_bytes = random_bytes
        self._seconds = not_before
        self._tail = random_bytes(5).hex()
        self._count = -1

    def __call__(self) -> str:
        seconds = int(self._now())
        if seconds > self._seconds:
            self._seconds, self._count = seconds, -1
        self._count += 1
        if self._count > 0xFFFFFF:  # more than 16 million in a second: borrow from the next
            self._seconds, self._count = self._seconds + 1, 0
        return f"{self._seconds:08x}{self._tail}{self._count:06x}"
