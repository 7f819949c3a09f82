"""The share of a quota: one token bucket for each Google project or push account, for all processes on one database.

A request takes a token. The bucket holds a 25th of a minute's requests and is filled with the rest, so no minute
has more. What is urgent may take the last token, what is normal leaves a quarter and what can wait a half: a fan-out
to a whole fleet takes what nobody else wants. Each process hands its tokens to its most urgent waiter.
"""

import asyncio
import heapq
import itertools
from dataclasses import dataclass, field

import structlog

from heliograph.domain.errors import StoreUnavailable
from heliograph.ports.changes import BACKGROUND, NORMAL, PRIORITIES, URGENT
from heliograph.ports.clock import Clock
from heliograph.ports.system import SystemWork, TokenOrder

log = structlog.get_logger("heliograph.quota")

_SHORTEST_S = 0.02
_LONGEST_S = 5.0
_AT_ONCE_S = 0.25  # tokens for so much time are fetched together
_AHEAD_S = 0.05  # and where the rate is high at least those for so much: one or five hundred cost the same
_BURST = 25  # the bucket holds this fraction of a minute's requests
_LEFT = {URGENT: 0.0, NORMAL: 0.25, BACKGROUND: 0.5}  # of a full bucket, for those before
_MICRO = 1_000_000
_MINUTE_US = 60_000_000
PATIENCE_S = 10.0

_Ticket = tuple[int, int, "asyncio.Future[None]"]


@dataclass(slots=True)
class _Line:
    """Who waits for one project's tokens in this process, and the task that fetches them.

    `spare`: for each priority, tokens fetched ahead for it, which more urgent ones may take.
    """

    waiting: list[_Ticket] = field(default_factory=list)
    fetcher: "asyncio.Task[None] | None" = None
    spare: list[int] = field(default_factory=lambda: [0] * len(PRIORITIES))


class Quota:
    """Tokens of all projects; `per_minute` 0 = no limit."""

    def __init__(self, system: SystemWork, clock: Clock, per_minute: int) -> None:
        self._system, self._clock, self.per_minute = system, clock, per_minute
        self._lines: dict[str, _Line] = {}
        self._numbers = itertools.count()

    async def take(self, project: str, priority: int, patience_s: float = PATIENCE_S) -> bool:
        """A token, or False when none came within `patience_s`."""
        if self.per_minute <= 0:
            return True
        line = self._lines.setdefault(project, _Line())
        if _take_spare(line, priority):
            return True
        ticket = (priority, next(self._numbers), asyncio.get_running_loop().create_future())
        heapq.heappush(line.waiting, ticket)
        if line.fetcher is None or line.fetcher.done():
            line.fetcher = asyncio.create_task(self._fetch(project, line))
        try:
            async with asyncio.timeout(patience_s):
                await ticket[2]
        except TimeoutError:
            return False
        return True

    async def take_now(self, project: str, priority: int) -> bool:
        """A token, if there is one at this moment besides those that are left for who comes before."""
        if self.per_minute <= 0:
            return True
        try:
            return await self._system.take_tokens(self._order(project, priority, 1), self._clock.now()) > 0
        except StoreUnavailable:
            return False

    def expected_s(self, ahead: int) -> float:
        """When the next request can go that has so many before it, by the rate alone."""
        return 0.0 if self.per_minute <= 0 else ahead / (self._lasting_rate() / 60)

    def _burst(self) -> float:
        return max(4.0, self.per_minute / _BURST)

    def _lasting_rate(self) -> int:
        """Tokens a minute with which the bucket is filled: with a full bucket's they are a minute's quota."""
        return max(1, int(self.per_minute - self._burst())) if self.per_minute > 4 else self.per_minute

    def _order(self, project: str, priority: int, wanted: int) -> TokenOrder:
        burst = self._burst()
        return TokenOrder(
            project=project,
            wanted=wanted,
            left=int(burst * _LEFT[priority] * _MICRO),
            most=int(burst * _MICRO),
            per_minute=self._lasting_rate(),
        )

    async def _fetch(self, project: str, line: _Line) -> None:
        while _settle(line):
            priority = line.waiting[0][0]
            rate_s = self.per_minute / 60
            waiting, ahead = sum(p == priority for p, *_ in line.waiting), int(rate_s * _AHEAD_S)
            wanted = max(min(waiting, max(1, int(rate_s * _AT_ONCE_S))), ahead)
            try:
                taken = await self._system.take_tokens(self._order(project, priority, wanted), self._clock.now())
            except StoreUnavailable:
                taken = 0
            except Exception:
                log.exception("quota.failed", project=project)
                taken = 0
            left = taken
            while left and _settle(line) and line.waiting[0][0] <= priority:
                heapq.heappop(line.waiting)[2].set_result(None)
                left -= 1
            line.spare[priority] = min(left, ahead)  # else one who gave up meanwhile costs a token at the worst
            if not taken:
                await asyncio.sleep(min(_LONGEST_S, max(_SHORTEST_S, 0.5 / rate_s)))


def _settle(line: _Line) -> bool:
    """Drop who has given up; whether anybody is left."""
    while line.waiting and line.waiting[0][2].done():
        heapq.heappop(line.waiting)
    return bool(line.waiting)


def _take_spare(line: _Line, priority: int) -> bool:
    of = next((of for of in PRIORITIES[priority:] if line.spare[of]), None)
    if of is not None:
        line.spare[of] -= 1
    return of is not None


class AccountQuotas:
    """Tokens of the accounts at push providers, each with a rate of its own."""

    def __init__(self, system: SystemWork, clock: Clock, patience_s: float = PATIENCE_S) -> None:
        self._system, self._clock, self._patience_s = system, clock, patience_s
        self._quotas: dict[str, Quota] = {}

    async def take(self, account_id: str, per_minute: int, priority: int) -> bool:
        """A token, or False when none came in time; `per_minute` 0 = no limit."""
        return await self._quota(account_id, per_minute).take(f"push:{account_id}", priority, self._patience_s)

    async def take_now(self, account_id: str, per_minute: int, priority: int) -> bool:
        """A token, if there is one at this moment; `per_minute` 0 = no limit."""
        return await self._quota(account_id, per_minute).take_now(f"push:{account_id}", priority)

    def _quota(self, account_id: str, per_minute: int) -> Quota:
        quota = self._quotas.get(account_id)
        if quota is None or quota.per_minute != per_minute:
            quota = self._quotas[account_id] = Quota(self._system, self._clock, per_minute)
        return quota


class Pace:
    """Tells who sends many commands at a time: what goes beyond a few at once and `per_minute` in the long run, for
    one key, can wait.
    """

    def __init__(self, per_minute: int = 60, at_once: int = 10, most: int = 10_000) -> None:
        self._every_us = _MINUTE_US // max(1, per_minute)
        self._ahead_us = (at_once - 1) * self._every_us
        self._most = most
        self._next: dict[str, int] = {}  # source → when it has used up nothing any more

    def is_bulk(self, source: str, now: int) -> bool:
        """Whether one more of a source is beyond what a person or a script in the foreground sends; counted if not."""
        if len(self._next) >= self._most:
            self._next.clear()
        free_at = max(now, self._next.get(source, 0))
        if free_at - now > self._ahead_us:
            return True
        self._next[source] = free_at + self._every_us
        return False
