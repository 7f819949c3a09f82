"""A client for each endpoint: kept while it is used, and bounded in number. Implements `ports.transport.Transports`."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from heliograph.ports.clock import Clock
from heliograph.ports.transport import Answered, Cause, Endpoint, NotProcessed, Outcome
from heliograph.providers.transport.client import Client, Exchanger
from heliograph.providers.transport.wire import Timing, Wire

LIMIT = 300  # clients, about 120 KB each
IDLE_S = 900.0
NEW_S = 60.0

_CLOSED = NotProcessed(Cause.CLOSED)

MakeWire = Callable[[Endpoint], Exchanger]


@dataclass(slots=True, eq=False)
class _Kept:
    """A client, known by itself: endpoints are long, and take long to compare."""

    endpoint: Endpoint
    client: Client
    made_at: int  # of `Clock.elapsed`
    is_renewal: bool = False  # in place of one that was let go for it
    used_at: int = 0
    gone: bool = False  # let go


class Connections:
    """The clients of this process, the least recently used first to go. Belongs to one event loop.

    Nothing is made before the first request, so it may be created before a fork, and used in one process after it.
    A client that is let go ends what it has in flight; meanwhile another one may serve the same endpoint.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        limit: int = LIMIT,
        idle_s: float = IDLE_S,
        proxy: str | None = None,
        timing: Timing | None = None,
        make: MakeWire | None = None,
    ) -> None:
        self._clock, self._limit, self._idle = clock, max(1, limit), int(idle_s * 1_000_000)
        self._make: MakeWire = make or (lambda endpoint: Wire(endpoint, timing or Timing(), proxy))
        self._kept: dict[Endpoint, _Kept] = {}
        self._in_order: OrderedDict[_Kept, None] = OrderedDict()  # of their last use
        self._to_renew: set[Endpoint] = set()  # let go for another, which the next request makes
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._kept)

    def at(self, endpoint: Endpoint) -> "Connection":
        """The transport to an endpoint; costs nothing until the first `post`."""
        return Connection(self, endpoint)

    async def drop(self, endpoint: Endpoint) -> None:
        """Let go of one endpoint, once its requests have ended."""
        kept = self._kept.get(endpoint)
        if kept is not None:
            self._forget(kept)
            await kept.client.close()

    def renew(self, endpoint: Endpoint, began: int) -> bool:
        """See `ports.transport.Transport.renew`."""
        kept = self._kept.get(endpoint)
        if kept is None or (kept.is_renewal and kept.made_at > began):  # else it may have made this one itself
            return not self._closed
        if self._clock.elapsed() - kept.made_at < NEW_S * 1_000_000:
            return False
        self._let_go(kept)
        self._to_renew.add(endpoint)
        return True

    async def close(self) -> None:
        """Let go of all, once their requests have ended. No other follows."""
        self._closed = True
        while self._kept:
            self._let_go(next(iter(self._in_order)))
        while self._ending:
            await asyncio.wait(set(self._ending))

    def use(self, endpoint: Endpoint, last: _Kept | None) -> _Kept | None:
        """The client of an endpoint, for one request; `last` saves looking for it. None after the end."""
        kept, now = last, self._clock.elapsed()
        if kept is None or kept.gone:
            if self._closed:
                return None
            kept = self._kept.get(endpoint)
            if kept is None:
                client = Client(self._make(endpoint), endpoint.streams, self._clock)
                kept = self._kept[endpoint] = _Kept(endpoint, client, now, endpoint in self._to_renew)
                self._to_renew.discard(endpoint)
                self._in_order[kept] = None
        kept.used_at = now
        if len(self._in_order) > 1:
            self._in_order.move_to_end(kept)
            self._tidy(now)
        return kept

    def _tidy(self, now: int) -> None:
        """The newest stays, so the one that is about to be used is never let go."""
        while len(self._in_order) > 1:
            oldest = next(iter(self._in_order))
            idle = now - oldest.used_at >= self._idle and not oldest.client.busy
            if len(self._in_order) <= self._limit and not idle:
                return
            self._let_go(oldest)

    def _forget(self, kept: _Kept) -> None:
        kept.gone = True
        del self._kept[kept.endpoint], self._in_order[kept]

    def _let_go(self, kept: _Kept) -> None:
        self._forget(kept)
        task = asyncio.get_running_loop().create_task(kept.client.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


class Connection:
    """One endpoint among the `Connections`. Implements `ports.transport.Transport`."""

    __slots__ = ("_all", "_endpoint", "_last")

    def __init__(self, all_: Connections, endpoint: Endpoint) -> None:
        self._all, self._endpoint = all_, endpoint
        self._last: _Kept | None = None

    async def post(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Outcome:
        """See `ports.transport.Transport`."""
        while (kept := self._all.use(self._endpoint, self._last)) is not None:
            self._last = kept
            outcome = await kept.client.post(path, headers, body, timeout_s)
            if isinstance(outcome, Answered) or outcome != _CLOSED:
                return outcome
            # Its client was let go while it waited for its turn: the next one takes it.
        return _CLOSED

    def renew(self, began: int) -> bool:
        """See `ports.transport.Transport`."""
        return self._all.renew(self._endpoint, began)

    async def close(self) -> None:
        """See `ports.transport.Transport`."""
        await self._all.drop(self._endpoint)
