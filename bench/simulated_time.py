"""An event loop whose time is simulated: where everybody sleeps, it goes on to the next moment at once.

Work is real (statements, commits) and takes no simulated time. What runs in a thread is waited for, so that time never
passes anything by: whoever hands work to a thread counts it in `SimulatedLoop.under_way`.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_EPOCH_US = 1_800_000_000_000_000
_LOOK_S = 0.05  # a thread that ends wakes the loop by itself; this only bounds a mistake


class SimulatedLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self.under_way = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Simulated seconds since the start."""
        return self._now_s

    def idle(self, seconds: float | None) -> float:
        """Nothing is to be done for so long: how many real seconds to wait for what threads do."""
        if self.under_way or seconds is None:
            return _LOOK_S
        self._now_s += seconds
        return 0.0


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if found or timeout == 0:
            return found
        return super().select(self._loop.idle(timeout))


class SimulatedClock:
    """The server's clock on simulated time. Implements `ports.clock.Clock`."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def now(self) -> int:
        """Microseconds since the epoch."""
        return _EPOCH_US + self.elapsed()

    def elapsed(self) -> int:
        """Microseconds since the start."""
        return round(self._loop.time() * 1_000_000)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)
