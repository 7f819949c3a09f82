"""Devices as Google shows them: what the fleet says, and what the API has changed."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import msgspec

from heliograph_lab.amapi.discovery import field_names
from heliograph_lab.amapi.enterprises import Enterprises
from heliograph_lab.amapi.errors import ApiError, Violations
from heliograph_lab.amapi.operations import Book
from heliograph_lab.amapi.outcomes import digits
from heliograph_lab.amapi.settings import EmulatorSettings
from heliograph_lab.amapi.tokens import policy_name
from heliograph_lab.amapi.validate import parse_message
from heliograph_lab.fleet import AmapiSpec, DeviceState, Fleet
from heliograph_lab.kernel import Kernel
from heliograph_lab.state import Entry, Key, Put

_NAMESPACE = "amapi.devices"
_WRITABLE = ("state", "disabledReason", "policyName")
_SETTABLE_STATES = ("ACTIVE", "DISABLED")


class Enrolled(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """How a device came in: `before` holds the names that it had earlier, oldest first."""

    token_name: str
    at: str
    policy_name: str
    token_data: str = ""
    before: tuple[str, ...] = ()


class Overlay(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What differs from the fleet's own account of a device."""

    dropped: bool = False
    state: str = "ACTIVE"
    disabled_reason: dict[str, Any] | None = None
    policy_name: str = ""
    enrolled: Enrolled | None = None
    wipe_until: datetime | None = None


class Registry:
    """Answers the API's questions about devices."""

    def __init__(
        self, kernel: Kernel, fleet: Fleet, book: Book, enterprises: Enterprises, settings: EmulatorSettings
    ) -> None:
        self._kernel = kernel
        self._fleet = fleet
        self._book = book
        self._enterprises = enterprises
        self._settings = settings
        stored = kernel.state.all(_NAMESPACE)
        self._overlays = {name: msgspec.convert(value, Overlay) for name, value in stored.items()}
        self._leaving: set[str] = set()
        self._lock = asyncio.Lock()

    def find(self, name: str) -> DeviceState | None:
        """The device, unless Google has dropped it."""
        return None if self.dropped(name) else self._fleet.by_amapi_name(name)

    def require(self, name: str) -> DeviceState:
        """The device, or the error that Google gives."""
        device = self.find(name)
        if device is None:
            self._enterprises.require(name.partition("/devices/")[0])
            raise ApiError(404)
        return device

    def require_managed(self, name: str) -> DeviceState:
        """The same for commands and changes: to a device that is gone Google may answer in other words."""
        status = self._settings.unmanaged_status
        if status is not None and self.dropped(name):
            raise ApiError(status, "Device is no longer being managed")
        return self.require(name)

    def after(self, enterprise: str, name: str) -> list[DeviceState]:
        """The enterprise's devices whose names sort behind this one."""
        prefix = f"{enterprise}/devices/"
        found = {d.spec.amapi.name: d for d in self._fleet.devices() if d.spec.amapi}
        return [found[key] for key in sorted(found) if key > name and key.startswith(prefix) and not self.dropped(key)]

    def resource(self, device: DeviceState) -> dict[str, Any]:
        """The Device as the API shows it."""
        spec, amapi = device.spec, amapi_of(device)
        overlay = self._overlays.get(amapi.name, Overlay())
        hardware = {"serialNumber": spec.serial_number}
        if amapi.ownership == "PERSONALLY_OWNED" and amapi.api_level >= 31:
            # Documented: on these the serial number is the enterprise-specific id.
            hardware["enterpriseSpecificId"] = spec.serial_number
        shown: dict[str, Any] = {
            "name": amapi.name,
            "userName": f"{amapi.name.partition('/devices/')[0]}/users/{user_of(amapi.name)}",
            "managementMode": amapi.management_mode,
            "ownership": amapi.ownership,
            "apiLevel": amapi.api_level,
            "state": overlay.state,
            "appliedState": overlay.state,
            "hardwareInfo": {key: value for key, value in hardware.items() if value},
            "policyName": overlay.policy_name,
            "disabledReason": overlay.disabled_reason,
            **_enrolment(overlay.enrolled),
        }
        return {key: value for key, value in shown.items() if value not in (None, "", 0, ())}

    async def patch(self, name: str, body: Any, mask: str | None) -> dict[str, Any]:
        """Change state (ACTIVE or DISABLED), disabledReason or policyName; nothing else can be changed."""
        found = Violations()
        given = parse_message("Device", body, found)
        found.raise_if_any()
        device = self.require_managed(name)
        fields = _masked(mask, given)
        state = given.get("state") if "state" in fields else None
        if "state" in fields and state not in _SETTABLE_STATES:
            raise ApiError(400, "Device state can only be set to ACTIVE or DISABLED.")
        async with self._lock:
            before = self._overlays.get(name, Overlay())
            after = msgspec.structs.replace(
                before,
                state=state or before.state,
                disabled_reason=given.get("disabledReason") if "disabledReason" in fields else before.disabled_reason,
                policy_name=_policy(name, given) if "policyName" in fields else before.policy_name,
            )
            self.require_managed(name)  # it may have gone while this waited
            await self._kernel.state.put(_NAMESPACE, name, after)
            self._overlays[name] = after
        return self.resource(device)

    def leave(self, name: str) -> None:
        """From now on the device runs nothing: it is being erased."""
        self._leaving.add(name)

    def leaving(self, name: str) -> bool:
        """Whether the device runs nothing any more."""
        return name in self._leaving or self.dropped(name)

    def dropped(self, name: str) -> bool:
        """Whether Google has forgotten the device, or all of its enterprise."""
        overlay = self._overlays.get(name)
        gone = overlay is not None and overlay.dropped
        return gone or self._enterprises.deleted(name.partition("/devices/")[0])

    def admit(self, name: str, enrolled: Enrolled, old: str) -> tuple[list[Put], list[Key]]:
        """A device has come in, perhaps one that had another name; returns what has to go to disk with it."""
        overlay = Overlay(enrolled=enrolled, policy_name=enrolled.policy_name)
        self._overlays[name] = overlay
        puts: list[Put] = [(_NAMESPACE, name, overlay)]
        if not old:
            return puts, []
        self.leave(old)
        self._overlays[old] = Overlay(dropped=True)
        return [*puts, (_NAMESPACE, old, Overlay(dropped=True))], self._book.drop(old)

    def names_before(self, name: str) -> tuple[str, ...]:
        """The names that a device had before this one, oldest first."""
        enrolled = self._overlays.get(name, Overlay()).enrolled
        return enrolled.before if enrolled is not None else ()

    def to_be_wiped(self, name: str) -> bool:
        """Whether a wipe waits for this device, which the API has deleted."""
        overlay = self._overlays.get(name)
        return overlay is not None and overlay.wipe_until is not None and self._kernel.clock.now() < overlay.wipe_until

    async def wiped(self, name: str, journal: Entry) -> None:
        """The wipe has reached the device: in its journal and done with, in one commit."""
        before = self._overlays[name]
        after = msgspec.structs.replace(before, wipe_until=None)
        self._overlays[name] = after  # at once: nobody else may begin it
        try:
            await self._kernel.commit(journal=[journal], puts=[(_NAMESPACE, name, after)])
        except Exception:
            self._overlays[name] = before
            raise

    async def drop(self, name: str, wipe_for: timedelta | None = None) -> None:
        """Forget the device and its operations, on disk in one commit. A wipe may follow it for so long."""
        self.leave(name)
        async with self._lock:
            before = self._overlays.get(name, Overlay())
            until = self._kernel.clock.now() + wipe_for if wipe_for is not None else None
            # The names that it had are needed when it comes in again.
            gone = Overlay(dropped=True, enrolled=before.enrolled, wipe_until=until)
            deletes = self._book.drop(name)
            await self._kernel.commit(puts=[(_NAMESPACE, name, gone)], deletes=deletes)
            self._overlays[name] = gone


def amapi_of(device: DeviceState) -> AmapiSpec:
    """What Google knows of a device that was found by its name at Google."""
    if device.spec.amapi is None:
        raise LookupError(f"device {device.spec.device_id} is not one of Google's")
    return device.spec.amapi


def user_of(device_name: str) -> str:
    """The id of the user that Google would have made for this device."""
    return digits(device_name, 18)


def _enrolment(enrolled: Enrolled | None) -> dict[str, Any]:
    if enrolled is None:
        return {}
    return {
        "enrollmentTokenName": enrolled.token_name,
        "enrollmentTokenData": enrolled.token_data,
        "enrollmentTime": enrolled.at,
        "previousDeviceNames": enrolled.before,
    }


def _policy(device_name: str, given: dict[str, Any]) -> str:
    policy = given.get("policyName", "")
    if not policy:
        return ""
    found = Violations()
    name = policy_name(device_name.partition("/devices/")[0], policy, found)
    found.raise_if_any()
    return name


def _masked(mask: str | None, given: dict[str, Any]) -> set[str]:
    if not mask:
        return set(given).intersection(_WRITABLE)  # a client may send back all that it has read
    names = field_names("Device")
    fields = {names.get(path.strip(), path.strip()) for path in mask.split(",")}
    found = Violations()
    for name in sorted(fields.difference(_WRITABLE)):
        found.add("update_mask", f"Field '{name}' cannot be updated.")
    found.raise_if_any()
    return fields
