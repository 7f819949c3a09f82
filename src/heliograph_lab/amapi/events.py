"""What the AMAPI emulator and its publisher say to each other."""

from typing import Any, Literal, Protocol

import msgspec

from heliograph_lab.state import Put

Cause = Literal["done", "cancelled", "expired"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that Google would notify of. `key` names it: two events with one key are the same."""

    key: str
    kind: str
    enterprise: str
    name: str
    """The resource that it is about."""
    resource: Any = None
    cause: Cause = "done"


class Channel(msgspec.Struct, frozen=True):
    """Where an enterprise wants its notifications, and which."""

    topic: str
    types: frozenset[str]


class Outlet(Protocol):
    """Where the emulator's events go."""

    def owe(self, event: Event) -> Put | None:
        """The row that, once on disk, obliges the outlet to publish the event; None when nobody wants it."""
        ...

    def pay(self, key: str, *, leaving: bool = False) -> None:
        """Publish what is owed under this key; nothing when nothing is. `leaving`: the device's record goes soon."""
        ...

    def post(self, event: Event) -> None:
        """Publish an event that no other commit depends on."""
        ...

    async def answered(self, key: str, enterprise: str) -> None:
        """Wait, within bounds, until a subscriber has answered to a COMMAND, if answers shall wait for that."""
        ...


class Source(Protocol):
    """What the publisher asks the emulator."""

    def channel(self, enterprise: str) -> Channel | None:
        """Where the enterprise's notifications go; None when it has no topic."""
        ...

    def resource(self, name: str) -> dict[str, Any] | None:
        """A device or an operation as the API shows it; None when there is none."""
        ...


class Silent:
    """An outlet for an emulator that notifies nobody."""

    def owe(self, _event: Event) -> Put | None:
        """Nobody wants it."""
        return None

    def pay(self, _key: str, *, leaving: bool = False) -> None:
        """Nothing is owed."""

    def post(self, _event: Event) -> None:
        """Nobody wants it."""

    async def answered(self, _key: str, _enterprise: str) -> None:
        """Nobody answers."""
