"""The emulators' time: real time plus an offset that only grows."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

_LONGEST_NAP = 3600.0  # a real clock may be set while we sleep: look again now and then


class LabClock:
    """Time of the emulated services. It can be advanced, never turned back; the offset survives a restart."""

    def __init__(self, offset: float, save: Callable[[float], Awaitable[None]]) -> None:
        self._offset = timedelta(seconds=offset)
        self._save = save
        self._last = datetime.min.replace(tzinfo=UTC)
        self._moved = asyncio.Event()
        self._settlers: list[Callable[[], Awaitable[None]]] = []

    @property
    def offset(self) -> float:
        """Seconds by which the lab is ahead of real time."""
        return self._offset.total_seconds()

    def now(self) -> datetime:
        """The lab's time, aware, in UTC. It stands still while the machine's clock is set back."""
        self._last = max(self._last, datetime.now(UTC) + self._offset)
        return self._last

    async def advance(self, seconds: float) -> datetime:
        """Move ahead and wake whoever sleeps on this clock. Durable, and what fell due has happened, on return."""
        if not seconds >= 0 or seconds == float("inf"):
            raise ValueError("the lab's clock only moves ahead: advanceSeconds must be a finite number, 0 or more")
        try:
            offset = self._offset + timedelta(seconds=seconds)
            _ = datetime.now(UTC) + offset + timedelta(days=366 * 10)  # room for what the emulators add
        except OverflowError:
            raise ValueError("the lab's clock cannot go past the year 9989") from None
        self._offset = offset
        await self._save(offset.total_seconds())
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        for settled in self._settlers:
            await settled()
        return self.now()

    def on_settle(self, settled: Callable[[], Awaitable[None]]) -> None:
        """Await `settled` in each advance: it returns once everything that is due has happened."""
        self._settlers.append(settled)

    async def sleep_until(self, when: datetime) -> None:
        """Return once the lab's time has reached `when`, be it by waiting or by an advance."""
        while True:
            moved = self._moved
            left = (when - self.now()).total_seconds()
            if left <= 0:
                return
            try:
                async with asyncio.timeout(min(left, _LONGEST_NAP)):
                    await moved.wait()
            except TimeoutError:
                continue
