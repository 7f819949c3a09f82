"""What a connection gives for a request, from a coroutine of a test's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

from heliograph.ports.transport import Outcome


class Flight:
    """As `wire.Flight`: begins when it is awaited, and can be awaited again by whoever was cancelled meanwhile."""

    def __init__(self, run: Coroutine[Any, Any, Outcome]) -> None:
        self._run = run
        self._task: asyncio.Task[Outcome] | None = None

    def __await__(self) -> Generator[Any, None, Outcome]:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run)
        return asyncio.shield(self._task).__await__()
