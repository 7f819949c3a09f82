"""Runs commands on the virtual devices: delivery, expiry, cancels and their races, all on the lab's clock."""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import msgspec

from heliograph_lab.amapi.devices import Registry, amapi_of
from heliograph_lab.amapi.events import Outlet
from heliograph_lab.amapi.notices import Notices, leaves
from heliograph_lab.amapi.operations import Book, CancelFate, Record, Slot
from heliograph_lab.amapi.outcomes import Verdict, decide
from heliograph_lab.amapi.settings import EmulatorSettings
from heliograph_lab.amapi.timeline import Timeline
from heliograph_lab.fleet import DeviceState, Fleet, Outcome
from heliograph_lab.kernel import Kernel
from heliograph_lab.state import Entry, Event, entry

_log = logging.getLogger("heliograph_lab.amapi")
_MOST_ROUNDS = 100
T = TypeVar("T")


class Executor:
    """One worker for each device that has something to do; operations of one device run in order."""

    def __init__(
        self,
        kernel: Kernel,
        fleet: Fleet,
        book: Book,
        registry: Registry,
        settings: EmulatorSettings,
        outlet: Outlet,
    ) -> None:
        self._kernel = kernel
        self._fleet = fleet
        self._book = book
        self._registry = registry
        self._settings = settings
        self.notices = Notices(kernel.clock, fleet, registry, settings, outlet)
        self._timeline = Timeline(kernel.clock)
        self._busy: set[str] = set()
        self._online_since: dict[str, datetime] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._background: set[asyncio.Task[Any]] = set()  # those of them that answer no request
        self._running = False

    async def start(self) -> None:
        """Take up everything that an earlier run has left."""
        for slot in self._book.load():
            await self._resume(slot)
        self._running = True
        self._timeline.start()
        for device in self._fleet.devices():
            self.device_changed(device)

    async def stop(self) -> None:
        """Stop at once; what is on disk is enough to go on from."""
        self._running = False
        await self._timeline.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Return once everything that is due has happened, and what follows from it; under load, after a while."""
        for _ in range(_MOST_ROUNDS):
            if not self._running or not (self._timeline.run_due() or self._background):
                return
            await asyncio.gather(*self._background, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run apart from the caller, who may go away; ended by `stop`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def issued(self, slot: Slot) -> None:
        """A new operation is on disk."""
        self._await_expiry(slot)
        self.kick(slot.record.device)

    async def cancel(self, slot: Slot, fate: CancelFate) -> None:
        """Note the wish, durably; its outcome follows after the delay. No effect on what is already decided."""
        if not slot.open or slot.race_lost:
            return
        await self._book.commit(slot, msgspec.structs.replace(slot.record, cancel=fate))
        self._await_settlement(slot)

    def device_changed(self, device: DeviceState) -> None:
        """A device came, went, or behaves differently now."""
        if device.spec.amapi is None:
            return
        name = device.spec.amapi.name
        if not device.online:
            self._online_since.pop(name, None)
            return
        self._online_since.setdefault(name, self._kernel.clock.now())
        self.kick(name)

    def kick(self, device: str) -> None:
        """Let the device look for work."""
        if self._running and device not in self._busy:
            self._busy.add(device)
            self._start(self._work(device))

    async def _resume(self, slot: Slot) -> None:
        record = slot.record
        if self._registry.dropped(record.device):
            await self._book.purge(slot)  # taken in while its device was going
            return
        if record.done:
            self._after_end(slot)
            return
        device = self._fleet.by_amapi_name(record.device)
        if device is not None and self._kernel.journal.executed(device.spec.device_id, operation=record.name):
            # Journal and state are written in one commit, so this cannot be; were it so, once is enough.
            self._book.claim(slot)
            await self._end(slot, self._verdict(slot, device))
            return
        self._await_expiry(slot)
        if record.cancel is not None:
            self._await_settlement(slot)

    async def _work(self, device: str) -> None:
        try:
            while (slot := self._next(device)) is not None:
                await self._run(slot)
            await self._wipe(device)
        finally:
            self._busy.discard(device)

    async def _wipe(self, name: str) -> None:
        # Deleted by the API, the device erases itself once it hears of that; there is no operation for it.
        device = self._fleet.by_amapi_name(name)
        if device is not None and device.online and self._registry.to_be_wiped(name):
            await self._registry.wiped(name, entry(device.spec.device_id, "executed", type="WIPE"))
            self.notices.wiped(device, name)

    def _next(self, name: str) -> Slot | None:
        device = self._fleet.by_amapi_name(name)
        if device is None or not device.online or self._registry.leaving(name):
            return None
        slot = self._book.next_loser(name)
        if slot is not None or device.outcome.result == "never":
            return slot
        slot = self._book.next_open(name)
        if slot is None:
            return None
        since = max(slot.arrived, self._online_since.get(name, slot.arrived))
        ready = since + timedelta(milliseconds=device.latency_ms)
        if ready > self._kernel.clock.now():
            self._timeline.at(ready, partial(self.kick, name))
            return None
        return slot

    async def _run(self, slot: Slot) -> None:
        device = self._fleet.by_amapi_name(slot.record.device)
        expires = slot.record.expires_at
        if expires is not None and expires <= self._kernel.clock.now():
            await self._expire(slot)
        elif device is not None and self._book.claim(slot):
            # From here to the queue of the disk's writer there is no await: the claim and the journal are one.
            verdict = self._verdict(slot, device)
            event: Event = "executed" if verdict.effect else "acknowledged"
            fields = {"operation": slot.record.name, "type": slot.record.command["type"]}
            await self._end(slot, verdict, entry(device.spec.device_id, event, **fields))

    def _verdict(self, slot: Slot, device: DeviceState) -> Verdict:
        outcome = device.outcome if device.outcome.result != "never" else Outcome(statuses=device.outcome.statuses)
        return decide(slot.record.command, slot.record.weak_password, amapi_of(device), outcome)

    async def _end(self, slot: Slot, verdict: Verdict, *journal: Entry, expired: bool = False) -> None:
        record = msgspec.structs.replace(
            slot.record,
            command={**slot.record.command, **verdict.fields},
            done=True,
            error=verdict.error,
            effect=verdict.effect,
            expired=expired,
            ended_at=self._kernel.clock.now(),
        )
        await self._book.commit(slot, record, journal, self.notices.ended(record))
        self.notices.published(record)
        self._after_end(slot)

    def _after_end(self, slot: Slot) -> None:
        record = slot.record
        ended = record.ended_at or self._kernel.clock.now()
        if leaves(record):
            self._registry.leave(record.device)
            self._at(ended, self._settings.drop_delay, self._drop, record)
        elif self._settings.purge_after is not None:
            self._at(ended, self._settings.purge_after, self._book.purge, slot)

    async def _drop(self, record: Record) -> None:
        await self._registry.drop(record.device)
        self.notices.left(record)

    def _await_expiry(self, slot: Slot) -> None:
        if slot.record.expires_at is not None:
            self._timeline.at(slot.record.expires_at, lambda: self._start(self._expire(slot)))

    async def _expire(self, slot: Slot) -> None:
        if self._book.claim(slot):
            code = self._settings.expiry_code
            error = {} if code is None else {"code": code, "message": self._settings.expiry_message}
            await self._end(slot, Verdict(error=error), expired=True)

    def _await_settlement(self, slot: Slot) -> None:
        now = self._kernel.clock.now()
        self._timeline.at(now + timedelta(seconds=self._settings.cancel_delay), partial(self._settle, slot))

    def _settle(self, slot: Slot) -> None:
        if slot.record.cancel == "wins":
            self._start(self._cancelled(slot))
        elif slot.record.cancel == "loses" and slot.open and not slot.race_lost:
            self._book.lose_race(slot)
            self.kick(slot.record.device)

    async def _cancelled(self, slot: Slot) -> None:
        if self._book.claim(slot):
            await self._end(slot, Verdict(error={"code": 1, "message": "The operation was cancelled."}))

    def _at(self, since: datetime, seconds: float, action: Any, argument: Any) -> None:
        self._timeline.at(since + timedelta(seconds=seconds), lambda: self._start(action(argument)))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.spawn(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(_report)


def _report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("background work of the emulator failed", exc_info=error)
