"""What waits to be told to the server, and what was told but not confirmed yet."""

import asyncio
from typing import TypeVar

import msgspec

from heliograph_agent import clock
from heliograph_protocol.messages import MAX_ITEMS, MAX_MESSAGE_BYTES, CancelAnswer, CheckIn, PushAck, Report

_MAX_BYTES = MAX_MESSAGE_BYTES * 3 // 4
_K = TypeVar("_K", str, tuple[str, str])
_T = TypeVar("_T", PushAck, Report, CancelAnswer)
_encoder = msgspec.json.Encoder()


class Signal:
    """Wakes all who wait. Whoever waits checks its condition first, without an await in between."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake all who wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Return at the next `notify`."""
        await self._event.wait()


class Outbox:
    """Batches of acknowledgements, reports and cancel answers, numbered so that their receipt can be matched."""

    def __init__(self, changed: Signal) -> None:
        self._changed = changed
        self._acks: dict[str, PushAck] = {}
        self._reports: dict[tuple[str, str], Report] = {}
        self._answers: dict[str, CancelAnswer] = {}
        self._flight: dict[int, tuple[CheckIn, float]] = {}
        self.next_seq = 1

    def __bool__(self) -> bool:
        """Whether something waits to be told."""
        return bool(self._acks or self._reports or self._answers)

    def add(self, item: PushAck | Report | CancelAnswer) -> None:
        """Tell this next, unless it is under way; another of the same kind for the same id takes its place."""
        if any(_holds(message, item) for message, _ in self._flight.values()):
            return
        if isinstance(item, PushAck):
            self._acks[item.id] = item
        elif isinstance(item, CancelAnswer):
            self._answers[item.command_id] = item
        else:
            # To the end: a result must not overtake the acknowledgement that is repeated with it.
            self._reports.pop((item.command_id, item.rung), None)
            self._reports[item.command_id, item.rung] = item
        self._drop_overtaken()
        self._changed.notify()

    def take(self, *, claim: int, wait: float = 0.0, items: bool = True) -> CheckIn:
        """The next check-in, with what waits as far as one message holds it. It counts as sent from now on."""
        room = [_MAX_BYTES if items else 0]
        message = CheckIn(
            seq=self.next_seq,
            claim=claim,
            push_acks=_draw(self._acks, room),
            reports=_draw(self._reports, room),
            cancel_answers=_draw(self._answers, room),
        )
        if wait:
            message = msgspec.structs.replace(message, wait_seconds=wait)
        self.next_seq += 1
        self._flight[message.seq] = (message, clock.elapsed() + wait)
        return message

    def settle(self, seq: int) -> CheckIn | None:
        """The check-in that the server has answered; None if it is not one that is under way."""
        message, _ = self._flight.pop(seq, (None, 0.0))
        if message is not None:
            self._changed.notify()
        return message

    def requeue(self) -> None:
        """The line is gone: what was under way must be told again, before anything newer."""
        lost = [message for message, _ in self._flight.values()]
        self._flight.clear()
        self._acks = {ack.id: ack for message in lost for ack in message.push_acks} | self._acks
        self._reports = {(r.command_id, r.rung): r for message in lost for r in message.reports} | self._reports
        self._answers = {a.command_id: a for message in lost for a in message.cancel_answers} | self._answers
        self._drop_overtaken()

    def _drop_overtaken(self) -> None:
        """A cancel was rejected because the command had begun; put off since, it is asked about again. Told later than
        that, the rejection would say that it runs.
        """
        for command_id in [answer.command_id for answer in self._answers.values() if answer.outcome == "rejected"]:
            if (command_id, "deferred") in self._reports:
                del self._answers[command_id]

    @property
    def under_way(self) -> int:
        """Check-ins without an answer."""
        return len(self._flight)

    @property
    def claims_under_way(self) -> int:
        """Commands that they ask for."""
        return sum(message.claim for message, _ in self._flight.values())

    @property
    def waiting_since(self) -> float | None:
        """`clock.elapsed()` since which the oldest of them could have been answered."""
        return min((since for _, since in self._flight.values()), default=None)


def _holds(message: CheckIn, item: PushAck | Report | CancelAnswer) -> bool:
    return item in message.reports or item in message.push_acks or item in message.cancel_answers


def _draw(waiting: dict[_K, _T], room: list[int]) -> list[_T]:
    """Take items from the front, at most MAX_ITEMS and as many as fit into `room` bytes, which shrinks."""
    drawn: list[_T] = []
    while waiting and len(drawn) < MAX_ITEMS:
        key = next(iter(waiting))
        size = len(_encoder.encode(waiting[key])) + 1
        if size > room[0]:
            break
        room[0] -= size
        drawn.append(waiting.pop(key))
    return drawn
