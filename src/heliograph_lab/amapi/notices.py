"""Which of the things that happen to devices and operations Google notifies of, and with what content."""

import itertools
from datetime import datetime
from typing import Any

from heliograph_lab.amapi.devices import Registry
from heliograph_lab.amapi.events import Cause, Event, Outlet
from heliograph_lab.amapi.operations import Record
from heliograph_lab.amapi.settings import EmulatorSettings
from heliograph_lab.amapi.wire import milliseconds, timestamp
from heliograph_lab.clock import LabClock
from heliograph_lab.fleet import DeviceState, Fleet
from heliograph_lab.state import Put

_LEAVES = ("WIPE", "RELINQUISH_OWNERSHIP")


class Notices:
    """Makes the events of an emulator and hands them to its outlet."""

    def __init__(
        self, clock: LabClock, fleet: Fleet, registry: Registry, settings: EmulatorSettings, outlet: Outlet
    ) -> None:
        self._clock = clock
        self._fleet = fleet
        self._registry = registry
        self._settings = settings
        self._outlet = outlet
        self._reports = itertools.count()
        # A start is no news: what was there stays silent.
        self._online = {d.spec.amapi.name: d.online for d in fleet.devices() if d.spec.amapi}
        fleet.subscribe(self._device_changed)

    def ended(self, record: Record) -> list[Put]:
        """An operation is about to end: the rows that have to go to disk in the same commit."""
        cause: Cause = "expired" if record.expired else "done"
        if record.cancel == "wins" and record.error is not None and record.error.get("code") == 1:
            cause = "cancelled"
        operation = record.resource(success_response=self._settings.success_response)
        events = [_event("COMMAND", record.device, record.name, operation, cause=cause)]
        if leaves(record) and (device := self._fleet.by_amapi_name(record.device)) is not None:
            events.append(self._deleted(device, record.device))
        return [put for event in events if (put := self._outlet.owe(event)) is not None]

    def published(self, record: Record) -> None:
        """The end is on disk."""
        self._outlet.pay(_key("COMMAND", record.name), leaving=leaves(record))
        if record.effect and record.command["type"] == "START_LOST_MODE":
            device = self._registry.find(record.device)
            if device is not None:
                logs = usage_logs(self._registry.resource(device), self._clock.now())
                self._outlet.post(_event("USAGE_LOGS", record.device, record.device, logs, key=record.name))

    def left(self, record: Record) -> None:
        """The device of an operation that ended its management is gone."""
        self._outlet.pay(_key("STATUS_REPORT", f"{record.device} DELETED"))
        self._outlet.pay(_key("COMMAND", record.name))

    def wiped(self, device: DeviceState, name: str) -> None:
        """A device that was deleted through the API has acknowledged that."""
        self._outlet.post(self._deleted(device, name))

    def reports(self, name: str) -> None:
        """The device reports its state, if it can."""
        device = self._registry.find(name)
        if device is not None and device.online:
            self._outlet.post(self._report(device, name))

    async def answered(self, record: Record) -> None:
        """Wait for a subscriber's answer to the operation's end, if the API's answer shall come after it."""
        device = self._registry.find(record.device)
        if device is not None and device.online:
            await self._outlet.answered(_key("COMMAND", record.name), record.device.partition("/devices/")[0])

    def _device_changed(self, device: DeviceState) -> None:
        if device.spec.amapi is None:
            return
        name = device.spec.amapi.name
        if device.removed:
            self._online.pop(name, None)
            return
        before, self._online[name] = self._online.get(name), device.online
        if self._registry.leaving(name):
            return
        if before is None:
            self._outlet.post(_event("ENROLLMENT", name, name, self._registry.resource(device)))
        if device.online and not before:
            self.reports(name)

    def _report(self, device: DeviceState, name: str) -> Event:
        shown = {**self._registry.resource(device), "lastStatusReportTime": timestamp(self._clock.now())}
        return _event("STATUS_REPORT", name, name, shown, key=f"{name} {next(self._reports)}")

    def _deleted(self, device: DeviceState, name: str) -> Event:
        shown = {**self._registry.resource(device), "lastStatusReportTime": timestamp(self._clock.now())}
        shown |= {"state": "DELETED", "appliedState": "DELETED"}
        return _event("STATUS_REPORT", name, name, shown, key=f"{name} DELETED")


def usage_logs(device: dict[str, Any], at: datetime) -> dict[str, Any]:
    """A BatchUsageLogEvents with one event: where the lost device is."""
    event = {
        "eventId": str(milliseconds(at)),
        "eventTime": timestamp(at),
        "eventType": "LOST_MODE_LOCATION",
        "lostModeLocationEvent": {"location": {"latitude": 52.5163, "longitude": 13.3777}, "batteryLevel": 80},
    }
    shown = {"device": device["name"], "user": device.get("userName", ""), "retrievalTime": timestamp(at)}
    return {**shown, "usageLogEvents": [event]}


def leaves(record: Record) -> bool:
    """Whether the operation has ended the management of its device."""
    return record.effect and record.command["type"] in _LEAVES


def _key(kind: str, what: str) -> str:
    return f"{kind} {what}"


def _event(
    kind: str, device: str, name: str, resource: dict[str, object], *, cause: Cause = "done", key: str = ""
) -> Event:
    enterprise = device.partition("/devices/")[0]
    return Event(
        key=_key(kind, key or name), kind=kind, enterprise=enterprise, name=name, resource=resource, cause=cause
    )
