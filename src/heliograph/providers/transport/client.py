"""Requests over one connection. Each runs to its end, whoever is cancelled.

A caller awaits the first try itself: a task each would cost more than the rest of this file. One that is cancelled is
free at once, and a task takes over what it has left behind; `close` waits for that. What the service surely did not
process is sent again, a few times, within the request's time, by a task that nobody cancels.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
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

    def exchange(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Awaitable[Outcome]:
        """One try. Whose wait for it is cancelled can await it again, and loses nothing; the try goes on meanwhile."""
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
        self._flying = 0
        self._landed = asyncio.Event()  # set when nothing flies any more; looked at by `close` alone
        self._tasks: set[asyncio.Task[Outcome]] = set()
        self._broken: tuple[NotProcessed, int] | None = None  # why, and until when (of `Clock.elapsed`)

    @property
    def busy(self) -> bool:
        """Whether a request is in flight."""
        return self._flying > 0

    async def post(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Outcome:
        """See `ports.transport.Transport`."""
        if self._broken is not None and (broken := self._break()) is not None:
            return broken
        loop = asyncio.get_running_loop()
        turn = self._streams.take()
        if turn is None:
            admission = await self._streams.enter(loop.time() + timeout_s)
            if isinstance(admission, NotProcessed):
                return admission
            turn = admission
        began = loop.time()
        self._flying += 1
        mine = True  # to give back, the turn and the place in the count; else the task's that takes over
        try:
            flight = self._wire.exchange(path, headers, body, timeout_s)
            try:
                outcome = await flight
            except asyncio.CancelledError:
                mine = False
                _ = self._hand_over(_Request(path, headers, body), turn, began + timeout_s, flight)
                raise
            if isinstance(outcome, Answered) and not turn.probe:  # as nearly always: nothing new is learnt
                self._broken = None
                return outcome
            self._learn(outcome, turn)
            if isinstance(outcome, NotProcessed) and outcome.cause in SEND_AGAIN:
                mine = False
                request = _Request(path, headers, body)
                return await asyncio.shield(self._hand_over(request, turn, began + timeout_s, outcome))
            self._break_after(outcome)
            return outcome
        finally:
            if mine:
                self._streams.leave(turn)
                self._land()

    async def close(self) -> None:
        """Send nothing new, wait for what is in flight, then close the connection."""
        self._streams.close()
        while self._flying:
            self._landed.clear()
            await self._landed.wait()
        await self._wire.close()

    def _land(self) -> None:
        self._flying -= 1
        if not self._flying:
            self._landed.set()

    def _hand_over(
        self, request: _Request, turn: Turn, deadline: float, first: Awaitable[Outcome] | NotProcessed
    ) -> asyncio.Task[Outcome]:
        """Have a task end what was begun. `first`: the try that is under way, or how it ended."""
        task = asyncio.get_running_loop().create_task(self._end(request, turn, deadline, first))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _end(
        self, request: _Request, turn: Turn, deadline: float, first: Awaitable[Outcome] | NotProcessed
    ) -> Outcome:
        loop = asyncio.get_running_loop()
        held: Turn | None = turn
        try:
            if isinstance(first, NotProcessed):
                outcome: Outcome = first
            else:
                outcome = await first
                self._learn(outcome, turn)
            for number in range(TRIES - 1):
                if not isinstance(outcome, NotProcessed) or outcome.cause not in SEND_AGAIN or self._break():
                    break
                if outcome.cause not in UNREACHABLE or not turn.probe:  # else nobody would fare better meanwhile
                    self._streams.leave(turn)
                    held = None
                if not await self._paused(number, deadline):
                    break
                if held is None:
                    again = await self._streams.enter(deadline)
                    if isinstance(again, NotProcessed):
                        break
                    turn = held = again
                left_s = deadline - loop.time()
                outcome = await self._wire.exchange(request.path, request.headers, request.body, left_s)
                self._learn(outcome, turn)
            self._break_after(outcome)
            return outcome
        finally:
            if held is not None:
                self._streams.leave(held)
            self._land()

    def _learn(self, outcome: Outcome, turn: Turn) -> None:
        """What an outcome says of the connection."""
        if isinstance(outcome, Answered):
            if outcome.status not in DENIED:
                self._streams.prove(turn)
        elif outcome.cause in DOUBTS:
            self._streams.doubt()

    async def _paused(self, number: int, deadline: float) -> bool:
        """Wait before another try; False where there is no time for one."""
        low, high = PAUSE_S
        pause = self._jitter(low, high) * 2**number
        if asyncio.get_running_loop().time() + pause >= deadline:
            return False
        await asyncio.sleep(pause)
        return True

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
