"""Time that goes by over an attempt, look by look."""

from __future__ import annotations

import asyncio

from tests.app.conftest import Clock, Desk


class Theirs(Clock):
    """Google's clock: that of the desk, and what goes by without being counted there."""

    def __init__(self, ours: Clock) -> None:
        super().__init__()
        self._ours = ours

    def now(self) -> int:
        return self._ours.now() + self.ahead


def absence_s(desk: Desk) -> float:
    """For how long an attempt must be absent to count as not accepted."""
    return desk.services.limits.issue_timeout_s + desk.services.limits.uncertainty_window_s + 2


async def look_for(desk: Desk, seconds: float, until: int = 0) -> None:
    """Let time go by, looking each second; ends early once `until` commands were issued."""
    for _ in range(int(seconds)):
        desk.clock.advance(1)
        await desk.pay(times=5)
        if until and len(desk.google.issued) >= until:
            return


async def until_issued(desk: Desk, count: int) -> None:
    async with asyncio.timeout(10):
        await desk.google.issues[count].wait()
