"""An event loop whose time is simulated: nothing is waited for, the clock goes to what is due next."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class Stuck(AssertionError):
    """Everybody waits and nothing is due: somebody waits for ever."""


class _NoWaiting(selectors.SelectSelector):
    """Lets time go by in place of waiting for it. There is no I/O to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Stuck
        if timeout > 0:
            self.now += max(timeout, 1e-6)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Begins at the time 0."""

    def __init__(self) -> None:
        self._simulated = _NoWaiting()
        super().__init__(self._simulated)

    def time(self) -> float:
        """Seconds since the beginning."""
        return self._simulated.now
