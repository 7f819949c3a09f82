"""How one connection comes to say GOAWAY, and what it may still process then."""

from enum import Enum

from heliograph_lab.http2.model import HIGHEST_STREAM, GoAway


class Fate(Enum):
    """What becomes of a stream."""

    SERVED = 1
    UNANSWERED = 2  # processed, never answered
    WITHHELD = 3  # not processed: it will lie above the last id
    IGNORED = 4  # not processed: it lies above the last id that was sent


class Leaving:
    """The plan of one connection, and how far it has come. It counts streams as their headers come."""

    def __init__(self, plan: GoAway | None) -> None:
        self.plan = plan
        self.opened = 0
        self.limit = HIGHEST_STREAM  # the last id that was sent
        self.said = False  # the final GOAWAY is out
        self.warned = False  # the first one of two is out
        self._highest_taken = 0  # of the streams that may be processed
        self.unanswered: set[int] = set()  # of those that are to be processed without an answer: the incomplete ones

    def fate(self, stream_id: int) -> Fate:
        """Decide about a new stream."""
        if stream_id > self.limit:
            return Fate.IGNORED
        self.opened += 1
        plan = self.plan
        if plan is not None and plan.below and self.holding and self.opened > plan.after - plan.below:
            return Fate.WITHHELD
        self._highest_taken = stream_id
        if self.holding:
            self.unanswered.add(stream_id)
            return Fate.UNANSWERED
        return Fate.SERVED

    @property
    def due(self) -> bool:
        """Whether the plan's number of requests has come."""
        return self.plan is not None and not self.said and self.opened >= self.plan.after

    @property
    def holding(self) -> bool:
        """Whether streams are withheld, or unanswered, for a GOAWAY that is not due yet."""
        plan = self.plan
        if plan is None or self.said or plan.graceful or not (plan.below or plan.unanswered):
            return False
        return self.opened > plan.after - plan.below - plan.unanswered

    def give_back(self, stream_id: int) -> bool:
        """Whether this stream, not processed after all, can lie above the last id: it is the highest taken."""
        if self.said or stream_id != self._highest_taken:
            return False
        self._highest_taken = max(0, stream_id - 2)  # a client's ids are odd
        return True

    def say(self) -> int:
        """The final GOAWAY goes out now: its last stream id."""
        self.said = True
        self.limit = self._highest_taken
        return self.limit
