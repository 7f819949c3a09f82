"""Requests over one connection. Each is sent by a task of our own that nobody cancels, and runs to its end.

A caller that is cancelled is free at once; `close` waits for what it has left behind. What the service surely did not
process is sent again, a few times, within the request's time.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Protocol

from heliograph.domain.record import record
from heliograph.ports.clock import Clock
from heliograph.ports.transport import Answered, Cause, NotProcessed, Outcome, Unknown
from heliograph.providers.transport.streams import Streams, Turn

TRIES = 4
PAUSE_S = (0.02, 0.1)  # before the second try; doubled for each one more
BREAK_S = 2.0  # after a connection could not be made, nobody else tries for so long

UNREACHABLE = frozenset((Cause.NO_CONNECTION, Cause.NO_CONNECTION_YET, Cause.NO_NAME, Cause.NO_TRUST, Cause.NO_ENTRY))
# Not after a connection that came to nothing in its time: a second one would meet the end of the request's own time,
# which says no more how far it got. And what certificates cause stays.
SEND_AGAIN = frozenset((Cause.NO_CONNECTION, Cause.NO_NAME, Cause.GOING_AWAY, Cause.REFUSED))
# After these the next request meets another connection, or one that allows fewer streams than it is given.
DOUBTS = UNREACHABLE | {Cause.GOING_AWAY, Cause.REFUSED, Cause.LOST, Cause.UNEXPLAINED}
DENIED = (401, 403)  # no valid token has been accepted


class Exchanger(Protocol):
    """One connection, as the library has it: `wire.Wire`."""

    async def exchange(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Outcome:
        """One try, never to be cancelled."""
        ...

    async def close(self) -> None:
        """Close it; nothing may be in flight."""
        ...


@record
class _Request:
    path: str
    headers: Mapping[str, str]
    body: bytes


class Client:
    """One endpoint's connection. `jitter(low, high)` gives a number of seconds between the two."""

    def __init__(
        self, wire: Exchanger, streams: int, clock: Clock, jitter: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._wire, self._clock, self._jitter = wire, clock, jitter
        self._streams = Streams(streams)
        self._tasks: set[asyncio.Task[Outcome]] = set()
        self._broken: tuple[NotProcessed, int] | None = None  # why, and until when (of `Clock.elapsed`)

    @property
    def busy(self) -> bool:
        """Whether a request is in flight."""
        return bool(self._tasks)

    async def post(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Outcome:
        """See `ports.transport.Transport`."""
        if (broken := self._break()) is not None:
            return broken
        loop = asyncio.get_running_loop()
        turn = await self._turn_before(loop.time() + timeout_s)
        if isinstance(turn, NotProcessed):
            return turn
        task = loop.create_task(self._send(_Request(path, headers, body), turn, timeout_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Send nothing new, wait for what is in flight, then close the connection."""
        self._streams.close()
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        await self._wire.close()

    async def _send(self, request: _Request, turn: Turn, timeout_s: float) -> Outcome:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        held: Turn | None = turn
        try:
            outcome = await self._try(request, turn, timeout_s)
            for number in range(TRIES - 1):
                if not isinstance(outcome, NotProcessed) or outcome.cause not in SEND_AGAIN or self._break():
                    break
                if outcome.cause not in UNREACHABLE or not turn.probe:  # else nobody would fare better meanwhile
                    self._streams.leave(turn)
                    held = None
                if not await self._paused(number, deadline):
                    break
                if held is None:
                    again = await self._turn_before(deadline)
                    if isinstance(again, NotProcessed):
                        break
                    turn = held = again
                outcome = await self._try(request, turn, deadline - loop.time())
            self._break_after(outcome)
            return outcome
        finally:
            if held is not None:
                self._streams.leave(held)

    async def _try(self, request: _Request, turn: Turn, timeout_s: float) -> Outcome:
        outcome = await self._wire.exchange(request.path, request.headers, request.body, timeout_s)
        if isinstance(outcome, Answered):
            if outcome.status not in DENIED:
                self._streams.prove(turn)
        elif outcome.cause in DOUBTS:
            self._streams.doubt()
        return outcome

    async def _paused(self, number: int, deadline: float) -> bool:
        """Wait before another try; False where there is no time for one."""
        low, high = PAUSE_S
        pause = self._jitter(low, high) * 2**number
        if asyncio.get_running_loop().time() + pause >= deadline:
            return False
        await asyncio.sleep(pause)
        return True

    async def _turn_before(self, deadline: float) -> Turn | NotProcessed:
        if (turn := self._streams.take()) is not None:
            return turn
        try:
            async with asyncio.timeout_at(deadline):
                return await self._streams.enter()
        except TimeoutError:
            return NotProcessed(Cause.NO_TURN)

    def _break(self) -> NotProcessed | None:
        if self._broken is not None and self._clock.elapsed() < self._broken[1]:
            return self._broken[0]
        return None

    def _break_after(self, outcome: Outcome) -> None:
        """Where a connection cannot be made, all who wait are told so at once, instead of trying one by one."""
        if isinstance(outcome, Answered | Unknown):
            self._broken = None
        elif outcome.cause in UNREACHABLE and self._break() is None:
            self._broken = outcome, self._clock.elapsed() + int(self._jitter(BREAK_S / 2, BREAK_S) * 1_000_000)
            self._streams.turn_away(outcome)
