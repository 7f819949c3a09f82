"""A clock that stands until the test moves it."""

from __future__ import annotations


class StandingClock:
    """Both clocks of `ports.clock.Clock`, in microseconds."""

    def __init__(self, now: int = 1_800_000_000_000_000) -> None:
        self.time = now

    def now(self) -> int:
        return self.time

    def elapsed(self) -> int:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += int(seconds * 1_000_000)
