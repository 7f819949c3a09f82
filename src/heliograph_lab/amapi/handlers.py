"""The modelled methods of devices and operations: each takes a call and returns the reply's JSON."""

from datetime import datetime, timedelta
from typing import Any

from heliograph_lab.amapi.calls import Call, answered, page
from heliograph_lab.amapi.commands import accept, stamped
from heliograph_lab.amapi.devices import Registry, amapi_of, user_of
from heliograph_lab.amapi.enterprises import Enterprises
from heliograph_lab.amapi.errors import ApiError, Unmodelled
from heliograph_lab.amapi.execution import Executor
from heliograph_lab.amapi.operations import Book, Record
from heliograph_lab.amapi.pages import make_token, page_size, read_token
from heliograph_lab.amapi.settings import EmulatorSettings
from heliograph_lab.amapi.wire import from_milliseconds

_LONGEST_WIPE_REASON = 200
_WIPE_FOR = timedelta(days=30)  # a device that stays away longer never learns that it was deleted
_NOT_CANCELLABLE = "The operation cannot be cancelled in its current state."


class Handlers:
    """What the emulator does for devices."""

    def __init__(
        self,
        book: Book,
        registry: Registry,
        enterprises: Enterprises,
        executor: Executor,
        settings: EmulatorSettings,
    ) -> None:
        self._book = book
        self._enterprises = enterprises
        self._registry = registry
        self._executor = executor
        self._settings = settings

    async def issue_command(self, call: Call) -> dict[str, Any]:
        """devices.issueCommand: the operation is on disk before the answer, and always pending in it."""
        device = self._registry.require_managed(call.name)
        spec = amapi_of(device)
        settings = self._settings
        command = accept(call.body, spec, settings.default_duration, echo_password=settings.echo_new_password)

        def make(number: int) -> Record:
            created = from_milliseconds(number)
            return Record(
                device=spec.name,
                number=number,
                command=stamped(command, spec.name, user_of(spec.name), created),
                expires_at=_after(created, command.duration),
                weak_password=command.weak_password,
            )

        slot = await self._book.add(spec.name, make)
        answer = slot.record.resource()
        self._executor.issued(slot)
        await self._executor.notices.answered(slot.record)
        return answer

    async def get_operation(self, call: Call) -> dict[str, Any]:
        """operations.get."""
        self._registry.require(call.name.partition("/operations/")[0])
        slot = self._book.find(call.name)
        if slot is None or slot.published is None:
            raise ApiError(404)
        return slot.published.resource(success_response=self._settings.success_response)

    async def list_operations(self, call: Call) -> dict[str, Any]:
        """operations.list, oldest first."""
        if call.query.get("filter"):
            raise Unmodelled("filters of operations.list")
        device = call.name.removesuffix("/operations")
        self._registry.require(device)
        settings = self._settings
        size = page_size(call.query.get("pageSize"), settings.operations_page, settings.operations_page_max)
        token = call.query.get("pageToken")
        start = int(read_token(token, "operations", device)) if token else 0
        records, more = page(self._book.after(device, start), size)
        reply: dict[str, Any] = {}
        if records:
            reply["operations"] = [r.resource(success_response=settings.success_response) for r in records]
        if more:
            reply["nextPageToken"] = make_token(str(records[-1].number), "operations", device)
        return reply

    async def cancel_operation(self, call: Call) -> dict[str, Any]:
        """operations.cancel: `{}` says only that the request was taken."""
        if call.body not in (None, {}):
            raise ApiError(400, "Invalid JSON payload received. operations.cancel takes no body.")
        settings = self._settings
        device = self._registry.find(call.name.partition("/operations/")[0])
        if device is None and call.name.partition("/devices/")[0] not in self._enterprises.names():
            return answered(settings.cancel_foreign, _NOT_CANCELLABLE)
        slot = self._book.find(call.name)
        if device is None or slot is None or slot.published is None:
            return answered(settings.cancel_unknown, _NOT_CANCELLABLE)
        fate = device.outcome.cancel
        if fate == "400" or fate == "404" or fate == "501":  # noqa: PLR1714 - mypy narrows by == only
            return answered(fate, _NOT_CANCELLABLE)
        if slot.published.done:
            answer = settings.cancel_expired if slot.published.expired else settings.cancel_finished
            return answered(answer, _NOT_CANCELLABLE)
        await self._executor.cancel(slot, fate)
        return {}

    async def get_device(self, call: Call) -> dict[str, Any]:
        """devices.get."""
        return self._registry.resource(self._registry.require(call.name))

    async def list_devices(self, call: Call) -> dict[str, Any]:
        """devices.list, by name."""
        self._enterprises.require(call.name)
        settings = self._settings
        size = page_size(call.query.get("pageSize"), settings.devices_page, settings.devices_page_max)
        token = call.query.get("pageToken")
        start = read_token(token, "devices", call.name) if token else ""
        devices, more = page(iter(self._registry.after(call.name, start)), size)
        reply: dict[str, Any] = {}
        if devices:
            reply["devices"] = [self._registry.resource(device) for device in devices]
        if more:
            reply["nextPageToken"] = make_token(amapi_of(devices[-1]).name, "devices", call.name)
        return reply

    async def patch_device(self, call: Call) -> dict[str, Any]:
        """devices.patch."""
        patched = await self._registry.patch(call.name, call.body, call.query.get("updateMask"))
        self._executor.notices.reports(call.name)
        return patched

    async def delete_device(self, call: Call) -> dict[str, Any]:
        """devices.delete: the record goes at once; the device wipes itself when it is online in the next 30 days."""
        self._registry.require_managed(call.name)
        if len(call.query.get("wipeReasonMessage", "")) > _LONGEST_WIPE_REASON:
            raise ApiError(400, f"wipe_reason_message is longer than {_LONGEST_WIPE_REASON} characters.")
        await self._registry.drop(call.name, _WIPE_FOR)
        self._executor.kick(call.name)
        return {}


def _after(created: datetime, duration: timedelta) -> datetime | None:
    # Ten-year durations are common; one past the end of the calendar never expires.
    try:
        return created + duration
    except OverflowError:
        return None
