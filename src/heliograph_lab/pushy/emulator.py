"""The emulator: the API on one side, the devices' connections on the other."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from heliograph_lab.kernel import Kernel
from heliograph_lab.pushy.api import Api, fault_body
from heliograph_lab.pushy.model import Platform, Push
from heliograph_lab.pushy.store import PushyStore
from heliograph_lab.service import ASGIApp

Deliver = Callable[[Push], Awaitable[None]]  # returns once the device has the push durably
_log = logging.getLogger(__name__)
_PAUSE_AFTER_FAILURE = 1.0


class _Line:
    """A connected device."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class PushyEmulator:
    """Every alphanumeric API key is an app of its own; device tokens belong to a key.

    `app` is complete: requests are recorded and faults applied. `requests_per_minute` is off unless given (the real
    service's default is 800).
    """

    def __init__(self, kernel: Kernel, *, requests_per_minute: int | None = None) -> None:
        self._clock = kernel.clock
        self.store = PushyStore(kernel)
        self._lines: dict[str, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        api = Api(self.store, is_online=self.is_online, sent=self._sent, requests_per_minute=requests_per_minute)
        self.app: ASGIApp = kernel.service("pushy", api.router, fault_body)

    async def start(self) -> None:
        """Pick up what was scheduled before a restart."""
        for due, tokens in self.store.scheduled():
            self._sent(due, tokens)

    async def stop(self) -> None:
        """End every device's connection."""
        for token in list(self._lines):
            await self.disconnect(token)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ------------------------------------------------------------ the devices' side

    async def register(self, api_key: str, owner: str, platform: Platform = "android") -> str:
        """A device token under this key; the same for the same owner, also after a restart."""
        return await self.store.register(api_key, owner, platform)

    async def connect(self, token: str, deliver: Deliver) -> None:
        """The device comes online: what is pending is delivered in the order of sending, then what follows."""
        await self.disconnect(token)
        line = self._lines[token] = _Line()
        await self.store.touch(token)
        line.task = asyncio.create_task(self._pump(token, line, deliver))

    async def disconnect(self, token: str) -> None:
        """The device goes offline. A push under way stays pending unless the device has taken it."""
        line = self._lines.pop(token, None)
        if line is None:
            return
        if line.task is not None:
            line.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await line.task
        await self.store.touch(token)

    def is_online(self, token: str) -> bool:
        """Whether the device is connected."""
        return token in self._lines

    # ------------------------------------------------------------ inside

    def _sent(self, due: int, tokens: list[str]) -> None:
        if due <= self.store.now():
            self._wake(tokens)
            return
        task = asyncio.create_task(self._wake_at(due, tokens))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wake_at(self, due: int, tokens: list[str]) -> None:
        await self._clock.sleep_until(datetime.fromtimestamp(due, UTC))
        self._wake(tokens)

    def _wake(self, tokens: list[str]) -> None:
        for token in tokens:
            line = self._lines.get(token)
            if line is not None:
                line.woken.set()

    async def _pump(self, token: str, line: _Line, deliver: Deliver) -> None:
        while True:
            line.woken.clear()
            push = self.store.next(token)
            if push is None:
                await line.woken.wait()
                continue
            try:
                await deliver(push)
            except Exception:  # noqa: BLE001 - the device's end failed: the push stays pending and is offered again
                _log.exception("delivery of push %s to %s failed", push.id, token)
                await asyncio.sleep(_PAUSE_AFTER_FAILURE)
                continue
            await self.store.delivered(push, token)
