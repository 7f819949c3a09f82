"""The places of a dispatcher: how many effects may be under way, in all and in each pool (ADR 0047).

An effect takes a place. After `QUICK_S` it is known to wait for somebody else: others get its place, and it goes on
counting in its pool's share. A pool is slow while one of its effects waits, and until one has ended before that. All
slow pools together get half of the places, so that the others find the other half, whoever hangs; and of all that may
be under way they leave to the others as much as there are places, however many hang.
"""

from collections import Counter
from math import ceil

from heliograph.app.services import Limits

QUICK_S = 0.5
_MOST = 8  # times as many as there are places may be under way, with those that wait
_LEFT = 12  # a pool's share is a 12th of what is left of these to its kind: the more hang, the less each, never all
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
        used = [*self._used().values(), (0, self._bounds(self._left()))]
        rooms = [self.free(), *(bound - n for n, bounds in used for bound in bounds if bound > n)]
        if self._slow and (left := self._left_to_slow()) > 0:
            rooms += [left, *self._bounds(self._slow_left())]
        return min(rooms)

    def shut(self) -> list[list[str]]:
        """For each priority, the pools that nothing may begin in for now."""
        slow = list(self._slow) if self._left_to_slow() <= 0 else []
        used = self._used().items()
        return [[pool for pool, (n, bounds) in used if n >= bounds[of]] + slow for of in range(len(_SHARES))]

    def _left(self) -> int:
        return _MOST * self._places - self._under_way.total()

    def _slow_left(self) -> int:
        """How many more of slow pools may be under way. What turned slow all at once may have gone beyond: then < 0."""
        return (_MOST - 1) * self._places - sum(self._under_way[pool] for pool in self._slow)

    def _left_to_slow(self) -> int:
        in_places = sum(self._under_way[pool] - self._waiting[pool] for pool in self._slow)
        return min(ceil(self._places / 2) - in_places, self._slow_left())

    def _used(self) -> dict[str, tuple[int, list[int]]]:
        """Of each pool that has effects under way, how many, and for each priority, how many may be."""
        slow, other = self._bounds(self._slow_left()), self._bounds(self._left())
        return {pool: (n, slow if pool in self._slow else other) for pool, n in self._under_way.items() if pool}

    def _bounds(self, left: int) -> list[int]:
        """For each priority, how many effects of a pool may be under way."""
        share = min(self._share, left / _LEFT)
        return [ceil(share * part) for part in _SHARES]


def _take_one(counts: Counter[str], pool: str) -> None:
    counts[pool] -= 1
    if not counts[pool]:
        del counts[pool]
