"""Calls things when the lab's clock gets there: one sleeper for all, so 10,000 waiting commands cost no tasks."""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable
from datetime import datetime
from typing import Any

from heliograph_lab.clock import LabClock

Action = Callable[[], None]


class Timeline:
    """Actions run in the order of their times, on the event loop; they must not block."""

    def __init__(self, clock: LabClock) -> None:
        self._clock = clock
        self._due: list[tuple[datetime, int, Action]] = []
        self._order = itertools.count()
        self._earlier = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def at(self, when: datetime, action: Action) -> None:
        """Run `action` once the clock has reached `when`."""
        heapq.heappush(self._due, (when, next(self._order), action))
        if self._due[0][0] is when:
            self._earlier.set()

    def run_due(self) -> bool:
        """Run what is due now; whether there was anything."""
        now = self._clock.now()
        any_due = bool(self._due) and self._due[0][0] <= now
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()
        return any_due

    def start(self) -> None:
        """Begin; what is overdue runs at once."""
        self._task = asyncio.create_task(self._run(), name="amapi-timeline")

    async def stop(self) -> None:
        """Forget everything."""
        self._due.clear()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            self.run_due()
            self._earlier.clear()
            await self._sleep()

    async def _sleep(self) -> None:
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(self._earlier.wait())]
        if self._due:
            waits.append(asyncio.create_task(self._clock.sleep_until(self._due[0][0])))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
