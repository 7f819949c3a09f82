"""Turns on one connection: how many requests may be in flight, and one alone as long as it is not proved.

A fresh connection of APNs allows one stream until the first valid token has been accepted
(https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns).
"""

import asyncio
import contextlib
from collections import deque

from heliograph.domain.record import record
from heliograph.ports.transport import Cause, NotProcessed


@record
class Turn:
    """The right to have one request in flight. `probe`: nobody else is, on a connection that is not proved yet."""

    probe: bool


Admission = Turn | NotProcessed

PROBE, FOLLOWING = Turn(probe=True), Turn(probe=False)


class _Place(asyncio.Future[Admission]):
    """One place in the queue. `until`: when its turn must have come, by the clock of the loop."""

    until: float | None = None


class Streams:
    """First come, first served, `limit` at once."""

    def __init__(self, limit: int) -> None:
        self._limit = max(1, limit)
        self._busy = 0
        self._proved = False
        self._probing = False
        self._closed = False
        self._waiting: deque[_Place] = deque()
        # One timer for all who wait: a timer each would cost several times as much as the waiting itself.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def take(self) -> Turn | None:
        """A turn, where nobody need wait for one; `leave` must give it back."""
        return None if self._waiting or self._closed or not self._free() else self._grant()

    async def enter(self, until: float | None = None) -> Admission:
        """Wait for a turn, which `leave` must give back; `NotProcessed` where there will be none.

        `until`: in seconds of the loop's clock, when it must have come; None waits for ever.
        """
        if self.is_closed():
            return NotProcessed(Cause.CLOSED)
        if (now := self.take()) is not None:
            return now
        place = _Place()
        place.until = until
        self._waiting.append(place)
        self._wake_by(until)
        try:
            admission = await place
        except asyncio.CancelledError:
            if place.cancelled():
                with contextlib.suppress(ValueError):  # already passed over
                    self._waiting.remove(place)
            elif isinstance(given := place.result(), Turn):  # given in the same round
                self.leave(given)
            raise
        if self.is_closed() and isinstance(admission, Turn):  # closed in the same round: nobody waits for us any more
            self.leave(admission)
            return NotProcessed(Cause.CLOSED)
        return admission

    def leave(self, turn: Turn) -> None:
        """Give a turn back."""
        self._busy -= 1
        if turn.probe:
            self._probing = False
        while self._waiting and self._free():
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(self._grant())

    def prove(self, turn: Turn) -> None:
        """The probe was answered well: let the others follow."""
        if turn.probe:
            self._proved = True

    def doubt(self) -> None:
        """The connection has gone: the next request goes alone. Those in flight do not count, they are of the old."""
        self._proved = False

    def turn_away(self, why: NotProcessed) -> None:
        """Nobody who waits now gets a turn."""
        waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            if not turn.done():
                turn.set_result(why)

    def close(self) -> None:
        """No turns any more."""
        self._closed = True
        self.turn_away(NotProcessed(Cause.CLOSED))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def is_closed(self) -> bool:
        """Whether there are no turns any more."""
        return self._closed

    def _free(self) -> bool:
        return self._busy < self._limit and (self._proved or not self._probing)

    def _grant(self) -> Turn:
        self._busy += 1
        if self._proved:
            return FOLLOWING
        self._probing = True
        return PROBE

    def _wake_by(self, until: float | None) -> None:
        """Have the timer go off at that time, or earlier."""
        if until is None:
            return
        if self._timer is not None:
            if self._timer_at <= until:
                return
            self._timer.cancel()
        self._timer_at = until
        self._timer = asyncio.get_running_loop().call_at(until, self._expire)

    def _expire(self) -> None:
        """Turn away those whose time is over. The timer may have been set for one who waits no more."""
        self._timer = None
        now, left = asyncio.get_running_loop().time(), deque[_Place]()
        for place in self._waiting:
            if place.until is not None and place.until <= now:
                if not place.done():
                    place.set_result(NotProcessed(Cause.NO_TURN))
            else:
                left.append(place)
        self._waiting = left
        self._wake_by(min((place.until for place in left if place.until is not None), default=None))
