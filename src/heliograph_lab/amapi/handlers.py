"""The modelled methods: each takes a call and returns the reply's JSON."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

import msgspec

from heliograph_lab.amapi.commands import accept, stamped
from heliograph_lab.amapi.devices import Registry, amapi_of, user_of
from heliograph_lab.amapi.errors import ApiError
from heliograph_lab.amapi.execution import Executor
from heliograph_lab.amapi.operations import Book, Record
from heliograph_lab.amapi.pages import make_token, page_size, read_token
from heliograph_lab.amapi.settings import CancelAnswer, EmulatorSettings
from heliograph_lab.amapi.wire import from_milliseconds

_LONGEST_WIPE_REASON = 200
T = TypeVar("T")


class Call(msgspec.Struct, frozen=True):
    """One request: parameters of the path, of the query (checked, by JSON name), and the decoded body."""

    path: dict[str, str]
    query: dict[str, Any]
    body: Any = None

    @property
    def name(self) -> str:
        """The resource that the call is about."""
        return self.path.get("name") or self.path["parent"]


Handler = Callable[[Call], Awaitable[dict[str, Any]]]


class Handlers:
    """What the emulator does; `table` has a method's id for each."""

    def __init__(self, book: Book, registry: Registry, executor: Executor, settings: EmulatorSettings) -> None:
        self._book = book
        self._registry = registry
        self._executor = executor
        self._settings = settings
        prefix = "androidmanagement.enterprises"
        self.table: dict[str, Handler] = {
            f"{prefix}.get": self.get_enterprise,
            f"{prefix}.list": self.list_enterprises,
            f"{prefix}.devices.get": self.get_device,
            f"{prefix}.devices.list": self.list_devices,
            f"{prefix}.devices.patch": self.patch_device,
            f"{prefix}.devices.delete": self.delete_device,
            f"{prefix}.devices.issueCommand": self.issue_command,
            f"{prefix}.devices.operations.get": self.get_operation,
            f"{prefix}.devices.operations.list": self.list_operations,
            f"{prefix}.devices.operations.cancel": self.cancel_operation,
        }

    async def issue_command(self, call: Call) -> dict[str, Any]:
        """devices.issueCommand: the operation is on disk before the answer, and always pending in it."""
        device = self._registry.require(call.name)
        spec = amapi_of(device)
        command = accept(call.body, spec, self._settings.default_duration)

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
            raise ApiError(501, "The emulator does not model filters of operations.list.")
        device = call.name.removesuffix("/operations")
        self._registry.require(device)
        settings = self._settings
        size = page_size(call.query.get("pageSize"), settings.operations_page, settings.operations_page_max)
        token = call.query.get("pageToken")
        start = int(read_token(token, "operations", device)) if token else 0
        records, more = _page(self._book.after(device, start), size)
        reply: dict[str, Any] = {}
        if records:
            reply["operations"] = [r.resource(success_response=settings.success_response) for r in records]
        if more:
            reply["nextPageToken"] = make_token(str(records[-1].number), "operations", device)
        return reply

    async def cancel_operation(self, call: Call) -> dict[str, Any]:
        """operations.cancel: `{}` says only that the request was taken."""
        device = self._registry.require(call.name.partition("/operations/")[0])
        if call.body not in (None, {}):
            raise ApiError(400, "Invalid JSON payload received. operations.cancel takes no body.")
        fate = device.outcome.cancel
        if fate == "400" or fate == "404" or fate == "501":  # noqa: PLR1714 - mypy narrows by == only
            return _answered(fate)
        slot = self._book.find(call.name)
        if slot is None or slot.published is None:
            return _answered(self._settings.cancel_unknown)
        if slot.published.done:
            return _answered(self._settings.cancel_finished)
        await self._executor.cancel(slot, fate)
        return {}

    async def get_device(self, call: Call) -> dict[str, Any]:
        """devices.get."""
        return self._registry.resource(self._registry.require(call.name))

    async def list_devices(self, call: Call) -> dict[str, Any]:
        """devices.list, by name."""
        self._registry.require_enterprise(call.name)
        settings = self._settings
        size = page_size(call.query.get("pageSize"), settings.devices_page, settings.devices_page_max)
        token = call.query.get("pageToken")
        start = read_token(token, "devices", call.name) if token else ""
        devices, more = _page(iter(self._registry.after(call.name, start)), size)
        reply: dict[str, Any] = {}
        if devices:
            reply["devices"] = [self._registry.resource(device) for device in devices]
        if more:
            reply["nextPageToken"] = make_token(amapi_of(devices[-1]).name, "devices", call.name)
        return reply

    async def patch_device(self, call: Call) -> dict[str, Any]:
        """devices.patch."""
        self._registry.require(call.name)
        return await self._registry.patch(call.name, call.body, call.query.get("updateMask"))

    async def delete_device(self, call: Call) -> dict[str, Any]:
        """devices.delete: the record goes at once. The wipe that follows on a real device is not modelled."""
        self._registry.require(call.name)
        if len(call.query.get("wipeReasonMessage", "")) > _LONGEST_WIPE_REASON:
            raise ApiError(400, f"wipe_reason_message is longer than {_LONGEST_WIPE_REASON} characters.")
        await self._registry.drop(call.name)
        return {}

    async def get_enterprise(self, call: Call) -> dict[str, Any]:
        """enterprises.get: little more than that it exists."""
        self._registry.require_enterprise(call.name)
        return {"name": call.name, "enterpriseDisplayName": "Heliograph lab"}

    async def list_enterprises(self, _: Call) -> dict[str, Any]:
        """enterprises.list, on one page."""
        names = self._registry.enterprises()
        return {"enterprises": [{"name": name, "enterpriseDisplayName": "Heliograph lab"} for name in names]}


def _page(items: Iterator[T], size: int) -> tuple[list[T], bool]:
    found = list(islice(items, size + 1))
    return found[:size], len(found) > size


def _after(created: datetime, duration: timedelta) -> datetime | None:
    # Ten-year durations are common; one past the end of the calendar never expires.
    try:
        return created + duration
    except OverflowError:
        return None


def _answered(answer: CancelAnswer) -> dict[str, Any]:
    if answer == "ok":
        return {}
    if answer == "400":
        raise ApiError(400, "The operation cannot be cancelled in its current state.", rpc="FAILED_PRECONDITION")
    raise ApiError(int(answer))
