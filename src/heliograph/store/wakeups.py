"""Wake-ups inside one process: topics and those who wait for them. A hint only, truth is in the database."""

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType


class Subscription:
    """One subscription to a topic; a context manager that answers itself as the waiter."""

    __slots__ = ("_fired", "_future", "_hub", "_topic")

    def __init__(self, hub: "Hub", topic: str) -> None:
        self._hub = hub
        self._topic = topic
        self._fired = False
        self._future: asyncio.Future[None] | None = None

    def __enter__(self) -> "Subscription":
        self._hub.add(self._topic, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hub.remove(self._topic, self)

    def fire(self) -> None:
        """Note a notification, and wake the waiter if there is one."""
        self._fired = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def rouse(self) -> None:
        """Something may have been missed: as if it had been notified."""
        self.fire()

    async def wait(self, timeout: float) -> bool:
        """True once notified since the last call, False after `timeout` seconds."""
        if not self._fired and timeout > 0:
            loop = asyncio.get_running_loop()
            self._future = loop.create_future()
            timer = loop.call_later(timeout, _time_out, self._future)
            try:
                await self._future
            finally:
                timer.cancel()
                self._future = None
        fired, self._fired = self._fired, False
        return fired


class Watch(Subscription):
    """A subscription that calls a function instead of waking a waiter."""

    __slots__ = ("_call",)

    def __init__(self, hub: "Hub", topic: str, call: Callable[[], None]) -> None:
        super().__init__(hub, topic)
        self._call = call

    def fire(self) -> None:
        """Call."""
        self._call()

    def rouse(self) -> None:
        """Nothing is known to have happened."""


def _time_out(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class Hub:
    """Implements ports.clock.Wakeups for one process. All calls come from the event loop's thread."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[Subscription]] = {}

    def notify(self, topics: Iterable[str]) -> None:
        """Wake whoever waits for one of the topics."""
        for topic in topics:
            for waiter in tuple(self._waiting.get(topic, ())):
                waiter.fire()

    def notify_all(self) -> None:
        """Wake everybody: something may have been missed."""
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.rouse()

    def subscribe(self, topic: str) -> Subscription:
        """Begin to listen, as a context manager."""
        return Subscription(self, topic)

    def watch(self, topic: str, call: Callable[[], None]) -> Watch:
        """Call a function at each notification, as a context manager."""
        return Watch(self, topic, call)

    async def close(self) -> None:
        """Nothing to let go of within one process."""

    def add(self, topic: str, waiter: Subscription) -> None:
        """Enter a subscription."""
        self._waiting.setdefault(topic, set()).add(waiter)

    def remove(self, topic: str, waiter: Subscription) -> None:
        """End a subscription."""
        waiters = self._waiting.get(topic)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._waiting[topic]
