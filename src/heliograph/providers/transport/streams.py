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


class Streams:
    """First come, first served, `limit` at once."""

    def __init__(self, limit: int) -> None:
        self._limit = max(1, limit)
        self._busy = 0
        self._proved = False
        self._probing = False
        self._closed = False
        self._waiting: deque[asyncio.Future[Admission]] = deque()

    def take(self) -> Turn | None:
        """A turn, where nobody need wait for one; `leave` must give it back."""
        return self._grant() if not self._closed and not self._waiting and self._free() else None

    async def enter(self) -> Admission:
        """Wait for a turn, which `leave` must give back; `NotProcessed` where there will be none."""
        if self._closed:
            return NotProcessed(Cause.CLOSED)
        if (now := self.take()) is not None:
            return now
        turn: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):  # already passed over
                    self._waiting.remove(turn)
            elif isinstance(given := turn.result(), Turn):  # given in the same round
                self.leave(given)
            raise

    def leave(self, turn: Turn) -> None:
        """Give a turn back."""
        self._busy -= 1
        if turn.probe:
            self._probing = False
        self._hand_out()

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

    def _free(self) -> bool:
        return self._busy < self._limit and (self._proved or not self._probing)

    def _grant(self) -> Turn:
        self._busy += 1
        turn = Turn(probe=not self._proved)
        self._probing = self._probing or turn.probe
        return turn

    def _hand_out(self) -> None:
        while self._waiting and self._free():
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(self._grant())
