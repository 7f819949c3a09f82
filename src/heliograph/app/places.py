"""The places of a dispatcher: how many effects may be under way, in all and in each pool (ADR 0047).

An effect takes a place. After `QUICK_S` it is known to wait for somebody else: others get its place, and it goes on
counting in its pool's share. A pool is slow while one of its effects waits, and until one has ended before that. All
slow pools together get half of the places, so that the others find the other half, whoever hangs.
"""

from collections import Counter
from math import ceil

from heliograph.app.services import Limits

QUICK_S = 0.5
_MOST = 8  # times as many as there are places may be under way, with those that wait
_LEFT = 16  # a pool's share is a 16th of what is left of these: the more hang, the less each, and never all
_SHARES = (2.0, 1.5, 1.0)  # of a pool's share, for each priority: what can wait leaves room for the others


class Places:
    """Who has a place, and who waits. What has no pool asks nobody outside: it has no share, and is never slow."""

    def __init__(self, limits: Limits) -> None:
        self._places, self._share = limits.dispatch_concurrency, limits.pool_concurrency
        self._under_way: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()  # of these, those that have run for long
        self._slow: set[str] = set()

    def begin(self, pool: str) -> None:
        """An effect takes a place."""
        self._under_way[pool] += 1

    def wait(self, pool: str) -> None:
        """It has run for `QUICK_S`: others get its place."""
        self._waiting[pool] += 1
        if pool:
            self._slow.add(pool)

    def end(self, pool: str, *, waited: bool) -> None:
        """It is over; `waited`: after `QUICK_S`."""
        _take_one(self._under_way, pool)
        if waited:
            _take_one(self._waiting, pool)
        elif pool not in self._waiting:
            self._slow.discard(pool)

    def free(self) -> int:
        """How many more may begin, if their pools are not shut."""
        return min(self._places - self._under_way.total() + self._waiting.total(), self._left())

    def room(self) -> int:
        """How many may be claimed at a time from what is not shut: of whatever pool and priority they are, no pool gets
        more than its share, and the slow ones together no more than theirs.
        """
        bounds, used = self._bounds(), [0, *(n for pool, n in self._under_way.items() if pool)]
        rooms = [self.free(), *(bound - n for n in used for bound in bounds if bound > n)]
        if self._slow and (left := self._left_to_slow()) > 0:
            rooms.append(left)
        return min(rooms)

    def shut(self) -> list[list[str]]:
        """For each priority, the pools that nothing may begin in for now."""
        slow = list(self._slow) if self._left_to_slow() <= 0 else []
        used = [(pool, n) for pool, n in self._under_way.items() if pool]
        return [[pool for pool, n in used if n >= bound] + slow for bound in self._bounds()]

    def _left(self) -> int:
        return _MOST * self._places - self._under_way.total()

    def _left_to_slow(self) -> int:
        return ceil(self._places / 2) - sum(self._under_way[pool] - self._waiting[pool] for pool in self._slow)

    def _bounds(self) -> list[int]:
        """For each priority, how many effects of a pool may be under way."""
        share = min(self._share, self._left() / _LEFT)
        return [ceil(share * part) for part in _SHARES]


def _take_one(counts: Counter[str], pool: str) -> None:
    counts[pool] -= 1
    if not counts[pool]:
        del counts[pool]
