"""What one subscription still has to deliver: leases, deadlines and redelivery. In memory only; no I/O."""

import asyncio
import heapq
from collections import deque
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

from heliograph_lab.clock import LabClock
from heliograph_lab.pubsub.model import Message


class Pending:
    """One message that is not acknowledged. `turn` changes whenever it is handed out or put back."""

    __slots__ = ("at", "attempts", "deliveries", "message", "turn")

    def __init__(self, message: Message, deliveries: int) -> None:
        self.message = message
        self.at = message.due
        self.deliveries = deliveries
        self.attempts = 0
        self.turn = 0


class Backlog:
    """Messages in the order in which they may be handed out next."""

    def __init__(self) -> None:
        self._pending: dict[str, Pending] = {}
        self._queue: list[tuple[datetime, int, int, str]] = []
        self._oldest: deque[tuple[datetime, str]] = deque()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._pending

    def ids(self) -> list[str]:
        """Everything that is not acknowledged."""
        return list(self._pending)

    def add(self, message: Message, deliveries: int) -> None:
        """One more message."""
        pending = self._pending[message.id] = Pending(message, deliveries)
        self._oldest.append((message.due, message.id))
        self._queue_up(pending)

    def take(self, now: datetime, most: int, until: datetime) -> list[Pending]:
        """Hand out up to `most` messages; each is due again at `until` unless it is acknowledged before."""
        taken: list[Pending] = []
        while len(taken) < most and (pending := self._first()) is not None and pending.at <= now:
            pending.attempts += 1
            self._put(pending, until)
            taken.append(pending)
        return taken

    def has_due(self, now: datetime) -> bool:
        """Whether `take` would hand something out."""
        first = self._first()
        return first is not None and first.at <= now

    def leased(self, message_id: str, turn: int, now: datetime) -> Pending | None:
        """The message, if this is its newest lease and the deadline is not over."""
        pending = self._pending.get(message_id)
        return pending if pending is not None and pending.turn == turn and pending.at > now else None

    def acknowledge(self, pending: Pending, now: datetime) -> bool:
        """True when the message is done with, false when it was to be delivered again all the same."""
        pending.deliveries -= 1
        if pending.deliveries > 0:
            self._put(pending, now)
            return False
        del self._pending[pending.message.id]
        return True

    def put_off(self, pending: Pending, until: datetime) -> None:
        """Hand it out again from `until` on, and to nobody who has it now."""
        self._put(pending, until)

    def extend(self, pending: Pending, until: datetime) -> None:
        """Move the deadline; the lease stays good."""
        pending.at = until
        self._queue_up(pending)

    def bring_forward(self, message_id: str, now: datetime) -> None:
        """Hand out at once what was being held back."""
        pending = self._pending.get(message_id)
        if pending is not None and pending.attempts == 0:
            self._put(pending, now)

    def forget_before(self, due: datetime) -> list[str]:
        """Drop what is past its retention, which begins when a message may first be handed out."""
        gone: list[str] = []
        while self._oldest and (self._oldest[0][0] <= due or self._oldest[0][1] not in self._pending):
            _, message_id = self._oldest.popleft()
            if self._pending.pop(message_id, None) is not None:
                gone.append(message_id)
        return gone

    def wake(self) -> None:
        """Whoever waits shall look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def ready(self, clock: LabClock) -> None:
        """Return when a message may be handed out, or after a `wake`."""
        changed = self._changed
        if self.has_due(clock.now()):
            return
        first = self._first()
        waits: list[Coroutine[Any, Any, Any]] = [changed.wait()]
        if first is not None:
            waits.append(clock.sleep_until(first.at))
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _put(self, pending: Pending, at: datetime) -> None:
        pending.at = at
        pending.turn += 1
        self._queue_up(pending)

    def _queue_up(self, pending: Pending) -> None:
        heapq.heappush(self._queue, (pending.at, int(pending.message.id), pending.turn, pending.message.id))
        self.wake()

    def _first(self) -> Pending | None:
        while self._queue:
            at, _, turn, message_id = self._queue[0]
            pending = self._pending.get(message_id)
            if pending is not None and pending.turn == turn and pending.at == at:
                return pending
            heapq.heappop(self._queue)  # it was acknowledged, or has another time now
        return None
