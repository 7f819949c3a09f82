"""Record ids: 24 lower-case hex digits in time order (contract decision 2)."""

import re
from collections.abc import Callable

_SECOND = 1_000_000
_DIGITS = 11
_FETCHED = 256
_ID = re.compile(r"[0-9a-fA-F]{24}")


def is_id(text: str) -> bool:
    """Whether `text` has the form of a record id, in either case."""
    return _ID.fullmatch(text) is not None


def id_seconds(record_id: str) -> int:
    """The second (Unix time) in which an id was minted."""
    return int(record_id[:8], 16)


class IdMinter:
    """Mints ids: 4 bytes of seconds that never go back, 20 bits that count on within the second, 44 random bits.

    The count follows the clock (microseconds) instead of the ids, and the rest is random, so two ids tell when they
    were minted, as their records do, and nothing of how many were minted in between. `now` gives Unix seconds,
    `random_bytes(n)` n random bytes. Ids of one minter sort in the order of minting, also when the clock stands still
    or jumps back; `not_before` (Unix seconds) keeps that true over restarts.
    """

    def __init__(self, now: Callable[[], float], random_bytes: Callable[[int], bytes], not_before: float = 0) -> None:
        self._now = now
        self._random_bytes = random_bytes
        self._last = int(not_before * _SECOND)
        self._random = ""

    def __call__(self) -> str:
        self._last = max(self._last + 1, int(self._now() * _SECOND))
        seconds, count = divmod(self._last, _SECOND)
        return f"{seconds:08x}{count:05x}{self._digits()}"

    def _digits(self) -> str:
        """Eleven random digits; many are fetched at once, since asking the kernel is dear."""
        if len(self._random) < _DIGITS:
            self._random = self._random_bytes(_FETCHED).hex()
        digits, self._random = self._random[:_DIGITS], self._random[_DIGITS:]
        return digits
