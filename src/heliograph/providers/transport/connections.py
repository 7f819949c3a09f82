"""A client for each endpoint: kept while it is used, and bounded in number. Implements `ports.transport.Transports`."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from heliograph.ports.clock import Clock
from heliograph.ports.transport import Cause, Endpoint, NotProcessed, Outcome
from heliograph.providers.transport.client import Client, Exchanger
from heliograph.providers.transport.wire import Timing, Wire

LIMIT = 300  # clients, about 120 KB each
IDLE_S = 900.0

_CLOSED = NotProcessed(Cause.CLOSED)

MakeWire = Callable[[Endpoint], Exchanger]


@dataclass(slots=True)
class _Kept:
    client: Client
    used_at: int  # of `Clock.elapsed`


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
        self._kept: OrderedDict[Endpoint, _Kept] = OrderedDict()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._kept)

    def at(self, endpoint: Endpoint) -> "Connection":
        """The transport to an endpoint; costs nothing until the first `post`."""
        return Connection(self, endpoint)

    async def post(
        self, endpoint: Endpoint, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> Outcome:
        """See `ports.transport.Transport`."""
        while not self._closed:
            outcome = await self._client(endpoint).post(path, headers, body, timeout_s)
            if outcome != _CLOSED:
                return outcome
            # Its client was let go while it waited for its turn: the next one takes it.
        return _CLOSED

    async def drop(self, endpoint: Endpoint) -> None:
        """Let go of one endpoint, once its requests have ended."""
        kept = self._kept.pop(endpoint, None)
        if kept is not None:
            await kept.client.close()

    async def close(self) -> None:
        """Let go of all, once their requests have ended. No other follows."""
        self._closed = True
        while self._kept:
            self._let_go(next(iter(self._kept)))
        while self._ending:
            await asyncio.wait(set(self._ending))

    def _client(self, endpoint: Endpoint) -> Client:
        now = self._clock.elapsed()
        kept = self._kept.get(endpoint)
        if kept is None:
            kept = self._kept[endpoint] = _Kept(Client(self._make(endpoint), endpoint.streams, self._clock), now)
        kept.used_at = now
        self._kept.move_to_end(endpoint)
        self._tidy(now)
        return kept.client

    def _tidy(self, now: int) -> None:
        """The newest stays, so the one that is about to be used is never let go."""
        while len(self._kept) > 1:
            oldest, kept = next(iter(self._kept.items()))
            idle = now - kept.used_at >= self._idle and not kept.client.busy
            if len(self._kept) <= self._limit and not idle:
                return
            self._let_go(oldest)

    def _let_go(self, endpoint: Endpoint) -> None:
        task = asyncio.get_running_loop().create_task(self._kept.pop(endpoint).client.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


@dataclass(frozen=True, slots=True)
class Connection:
    """One endpoint among the `Connections`. Implements `ports.transport.Transport`."""

    _all: Connections
    _endpoint: Endpoint

    async def post(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Outcome:
        """See `ports.transport.Transport`."""
        return await self._all.post(self._endpoint, path, headers, body, timeout_s)

    async def close(self) -> None:
        """See `ports.transport.Transport`."""
        await self._all.drop(self._endpoint)
