"""The operations of all devices: in memory for speed, on disk before anybody is told."""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Literal

import msgspec

from heliograph_lab.amapi.errors import TYPE_URL
from heliograph_lab.amapi.wire import milliseconds
from heliograph_lab.kernel import Kernel
from heliograph_lab.state import Entry, Put

NAMESPACE = "amapi.operations"
_TYPES = f"{TYPE_URL}google.android.devicemanagement.v1."
CancelFate = Literal["wins", "loses", "lost"]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One operation as it is on disk. `number` is the creation time in epoch milliseconds, as in Google's names."""

    device: str
    number: int
    command: dict[str, Any]
    expires_at: datetime | None = None
    weak_password: bool = False
    cancel: CancelFate | None = None
    done: bool = False
    error: dict[str, Any] | None = None
    effect: bool = False
    expired: bool = False
    ended_at: datetime | None = None

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.device}/operations/{self.number}"

    def resource(self, *, success_response: bool = True) -> dict[str, Any]:
        """The Operation as the API shows it; `done` is absent while it is pending, as proto3 JSON has it."""
        shown: dict[str, Any] = {"name": self.name, "metadata": {"@type": f"{_TYPES}Command", **self.command}}
        if self.done:
            shown["done"] = True
            if self.error is not None:
                shown["error"] = self.error
            elif success_response:
                shown["response"] = {"@type": f"{_TYPES}IssueCommandResponse"}
        return shown


class Slot:
    """A place for one operation. Whoever claims it decides how it ends, and nobody else can."""

    __slots__ = ("arrived", "claimed", "published", "race_lost", "record")

    def __init__(self, record: Record, arrived: datetime) -> None:
        self.record = record  # the newest, perhaps still on its way to disk
        self.published: Record | None = None  # the newest that is on disk: the only one that is ever shown
        self.claimed = False
        self.race_lost = False  # a cancel came too late for it, by script
        self.arrived = arrived

    @property
    def open(self) -> bool:
        """On disk, and its end is not decided."""
        return self.published is not None and not self.claimed


class _Shelf:
    """The operations of one device."""

    __slots__ = ("last", "losers", "numbers", "slots", "waiting")

    def __init__(self) -> None:
        self.last = 0
        self.numbers: list[int] = []  # ascending
        self.slots: dict[int, Slot] = {}
        self.waiting: deque[Slot] = deque()
        self.losers: deque[Slot] = deque()

    def add(self, slot: Slot) -> None:
        number = slot.record.number
        self.last = number
        self.numbers.append(number)
        self.slots[number] = slot
        self.waiting.append(slot)


class Book:
    """Every operation, by device."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._shelves: dict[str, _Shelf] = {}

    def load(self) -> list[Slot]:
        """Read what an earlier run has left; returns every operation, oldest first."""
        now = self._kernel.clock.now()
        records = [msgspec.convert(value, Record) for value in self._kernel.state.all(NAMESPACE).values()]
        slots = [Slot(record, now) for record in sorted(records, key=lambda record: record.number)]
        for slot in slots:
            slot.published = slot.record
            slot.claimed = slot.record.done
            self._shelf(slot.record.device).add(slot)
        return slots

    async def add(self, device: str, make: Callable[[int], Record]) -> Slot:
        """Take in a new operation; durable, and visible, when this returns.

        `make` gets its number: now in milliseconds, or the next free one when two meet. Ascending for each device.
        """
        now = self._kernel.clock.now()
        shelf = self._shelf(device)
        slot = Slot(make(max(milliseconds(now), shelf.last + 1)), now)
        shelf.add(slot)
        try:
            await self.commit(slot, slot.record)
        except BaseException:
            self._remove(slot)
            raise
        return slot

    def claim(self, slot: Slot) -> bool:
        """Take the right to end this operation. There is no await in here: of two who try, one gets it."""
        if not slot.open:
            return False
        slot.claimed = True
        return True

    async def commit(self, slot: Slot, record: Record, journal: Iterable[Entry] = (), puts: Iterable[Put] = ()) -> None:
        """Put the operation's new form, what its device did and what else belongs to it on disk in one commit; then
        show it."""
        before, slot.record = slot.record, record
        try:
            await self._kernel.commit(journal=journal, puts=[(NAMESPACE, record.name, record), *puts])
        except Exception:
            if slot.record is record:
                slot.record = before
            if record.done:  # not ended after all: the next one to try may have it
                slot.claimed = False
                self._shelf(record.device).waiting.appendleft(slot)
            raise
        slot.published = record  # commits come back in the order in which they were asked for

    def lose_race(self, slot: Slot) -> None:
        """Note that the device is to run this one although it should have been cancelled."""
        slot.race_lost = True
        self._shelf(slot.record.device).losers.append(slot)

    def next_open(self, device: str) -> Slot | None:
        """The oldest operation that waits for the device."""
        return _first_open(self._shelf(device).waiting)

    def next_loser(self, device: str) -> Slot | None:
        """The oldest whose cancel has lost."""
        return _first_open(self._shelf(device).losers)

    def find(self, name: str) -> Slot | None:
        """The operation of this name, if it is on disk."""
        device, _, number = name.rpartition("/operations/")
        shelf = self._shelves.get(device)
        if shelf is None or not (number.isascii() and number.isdecimal()) or len(number) > 18:
            return None
        slot = shelf.slots.get(int(number))
        return slot if slot is not None and slot.published is not None and slot.record.name == name else None

    def after(self, device: str, number: int) -> Iterator[Record]:
        """A device's operations beyond this number, oldest first."""
        shelf = self._shelves.get(device)
        if shelf is None:
            return
        for index in range(bisect_right(shelf.numbers, number), len(shelf.numbers)):
            published = shelf.slots[shelf.numbers[index]].published
            if published is not None:
                yield published

    async def purge(self, slot: Slot) -> None:
        """Forget one operation."""
        self._remove(slot)
        await self._kernel.state.delete(NAMESPACE, slot.record.name)

    def drop(self, device: str) -> list[tuple[str, str]]:
        """Forget a device's operations; returns the keys that have to go from disk."""
        shelf = self._shelves.pop(device, None)
        slots = list(shelf.slots.values()) if shelf is not None else []
        for slot in slots:
            slot.claimed = True  # whoever still holds one cannot run it any more
        return [(NAMESPACE, slot.record.name) for slot in slots]

    def _shelf(self, device: str) -> _Shelf:
        return self._shelves.setdefault(device, _Shelf())

    def _remove(self, slot: Slot) -> None:
        slot.claimed = True
        shelf = self._shelves.get(slot.record.device)
        if shelf is not None and shelf.slots.pop(slot.record.number, None) is not None:
            del shelf.numbers[bisect_left(shelf.numbers, slot.record.number)]


def _first_open(slots: deque[Slot]) -> Slot | None:
    # The ones on their way to disk for the first time are not open yet; whoever adds them calls again.
    while slots and slots[0].claimed:
        slots.popleft()
    return slots[0] if slots and slots[0].open else None
