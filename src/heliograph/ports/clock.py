"""Time, ids, wake-ups and encryption: the small ports that everything above the edges needs."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol


class Clock(Protocol):
    """Time that never goes back, also when the machine's wall clock does."""

    def now(self) -> int:
        """Microseconds since the epoch (UTC)."""
        ...

    def elapsed(self) -> int:
        """Microseconds of a clock that nobody sets: for how long something has been so, in this process."""
        ...


class IdFactory(Protocol):
    """Mints record ids."""

    def __call__(self) -> str:
        """A new id; ids of one process sort in the order of minting."""
        ...


class Waiter(Protocol):
    """One subscription to a topic."""

    async def wait(self, timeout: float) -> bool:
        """True once notified since the last call, False after `timeout` seconds."""
        ...


class Wakeups(Protocol):
    """Tells the parts of the system, in every process, that something waits. A hint only: truth is in the store."""

    def notify(self, topics: Iterable[str]) -> None:
        """Wake whoever waits for one of the topics; returns at once."""
        ...

    def notify_all(self) -> None:
        """Wake everybody in this process."""
        ...

    def watch(self, topic: str, call: Callable[[], None]) -> AbstractContextManager[object]:
        """Have a function called at each notification of the topic (not by `notify_all`)."""
        ...

    def subscribe(self, topic: str) -> AbstractContextManager[Waiter]:
        """Begin to listen; what happens after this call is not missed."""
        ...


class SecretBox(Protocol):
    """Encrypts what lies in the database."""

    def seal(self, plain: bytes) -> bytes:
        """The sealed form of `plain`."""
        ...

    def open(self, sealed: bytes) -> bytes:
        """The plain bytes again; raises ValueError when the key is another or the bytes were changed."""
        ...
