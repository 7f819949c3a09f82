"""The devices' end of a push service: who is connected, and what is on its way to each."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)
_PAUSE_AFTER_FAILURE = 1.0


class _Line(Generic[T]):
    def __init__(self) -> None:
        self.waiting: deque[T] = deque()
        self.woken = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.settling: asyncio.Future[None] | None = None


class Lines(Generic[T]):
    """One line a device token, in memory. `taken` is called with what a device has got."""

    def __init__(self, taken: Callable[[str, T], Awaitable[None]]) -> None:
        self._taken = taken
        self._lines: dict[str, _Line[T]] = {}

    def is_online(self, token: str) -> bool:
        """Whether the device is connected."""
        return token in self._lines

    def connect(self, token: str, deliver: Callable[[T], Awaitable[None]]) -> None:
        """The device comes online; `deliver` returns once it has one, and is called again when it fails."""
        line = self._lines[token] = _Line()
        line.task = asyncio.create_task(self._pump(token, line, deliver))

    def offer(self, token: str, item: T) -> bool:
        """Put it on the device's line, in order; False when the device is offline."""
        line = self._lines.get(token)
        if line is None:
            return False
        line.waiting.append(item)
        line.woken.set()
        return True

    async def disconnect(self, token: str) -> list[T]:
        """The device goes offline: what it has not got, oldest first."""
        line = self._lines.pop(token, None)
        if line is None:
            return []
        if line.task is not None:
            line.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await line.task
        if line.settling is not None:
            await line.settling
        return list(line.waiting)

    async def stop(self) -> dict[str, list[T]]:
        """Disconnect every device; what each has not got."""
        return {token: await self.disconnect(token) for token in list(self._lines)}

    async def _pump(self, token: str, line: _Line[T], deliver: Callable[[T], Awaitable[None]]) -> None:
        while True:
            line.woken.clear()
            if not line.waiting:
                await line.woken.wait()
                continue
            try:
                await deliver(line.waiting[0])
            except Exception:  # noqa: BLE001 - the device's end failed: it is offered again
                _log.exception("a delivery to %s failed", token)
                await asyncio.sleep(_PAUSE_AFTER_FAILURE)
                continue
            # What the device has is noted, even if it goes offline at this moment.
            line.settling = asyncio.ensure_future(self._taken(token, line.waiting.popleft()))
            await asyncio.shield(line.settling)
