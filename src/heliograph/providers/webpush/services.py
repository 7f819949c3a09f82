"""What is known of the push services, of which each device brings one of its own choice: nothing that one service says
or does is held against another.

One that hangs, or is new, may keep a few requests waiting, and what comes beyond is not sent: all services of an
account share what it may have under way, and those that answer need it. One that answers is not bounded, however busy
it is, as long as it does not leave too many requests without an answer all the same.

One that refuses the addresses of several devices, and has taken nothing since, was shut, or has other settings than it
had: no more of its addresses are given up, and what is sent there waits.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from heliograph.guard import Origin, origin_of
from heliograph.outbound import Exchange, NotSent
from heliograph.ports.push import Outcome, Rejected, RetryLater

SLOW_S = 2.0
_MAY_WAIT = 32  # requests at all services: half of a pool's share (app.services.Limits); one more at each at the least
_PART = 4  # and at one that is not known to be quick a quarter of what is left of these
_MOST_SERVICES = 1000  # devices name them
_FEW = 3  # devices, as for an account (app.account_health)


@dataclass(slots=True)
class Service:
    """One origin. `takes_key`: it has taken a push with the account's key. `refused`: devices, a few at most, whose
    address it has refused since. `under_way`: requests, and `waiting` those of them that have lasted for `SLOW_S`.
    `is_quick`: the one that ended last had not.
    """

    takes_key: bool = False
    refused: set[str] = field(default_factory=set)
    under_way: int = 0
    waiting: int = 0
    is_quick: bool = False  # until it shows: a device could name a new service for each wave of pushes

    def held(self) -> int:
        """How many requests it keeps waiting, or is going to."""
        return self.waiting if self.is_quick else self.under_way

    def takes(self) -> None:
        """It has taken a push."""
        self.takes_key = True
        self.refused.clear()

    def spared(self, outcome: Outcome, device_id: str) -> Outcome:
        """A refusal of a device's address, unless it refuses those of several and takes nothing: all else as it is."""
        if not isinstance(outcome, Rejected) or not outcome.token_gone:
            return outcome
        if len(self.refused) < _FEW:
            self.refused.add(device_id)
        if len(self.refused) < _FEW:
            return outcome
        self.takes_key = False  # who knows what it refuses
        reason = f"{outcome.reason}; so it says of several devices, and takes nothing"
        return RetryLater(reason, evidence=outcome.evidence)


@dataclass(slots=True)
class Services:
    """Those that an account was used with of late. `held`: the sum of theirs."""

    held: int = 0
    _known: "OrderedDict[Origin | None, Service]" = field(default_factory=OrderedDict)

    def of(self, url: str) -> Service:
        """The service behind an endpoint, or behind a message that it has named."""
        origin = origin_of(url)
        service = self._known.setdefault(origin, Service())
        self._known.move_to_end(origin)
        if len(self._known) > _MOST_SERVICES:
            self._known.popitem(last=False)
        return service

    async def ask(self, service: Service, request: Callable[[], Awaitable[Exchange]]) -> Exchange:
        """The answer to a request; it is not sent to a service that keeps enough of them waiting."""
        left = _MAY_WAIT - self.held
        if service.held() >= max(1, left + service.held() if service.is_quick else left // _PART):
            return NotSent("the push service has not answered others yet")
        with self._under_way(service):
            return await request()

    @contextmanager
    def _under_way(self, service: Service) -> Iterator[None]:
        has_waited = False

        def waits() -> None:
            nonlocal has_waited
            has_waited = True
            with self._counted(service):
                service.waiting += 1

        timer = asyncio.get_running_loop().call_later(SLOW_S, waits)
        with self._counted(service):
            service.under_way += 1
        try:
            yield
        finally:
            timer.cancel()
            with self._counted(service):
                service.under_way -= 1
                service.waiting -= has_waited
                service.is_quick = not has_waited

    @contextmanager
    def _counted(self, service: Service) -> Iterator[None]:
        before = service.held()
        yield
        self.held += service.held() - before
