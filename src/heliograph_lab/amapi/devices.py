"""Devices and enterprises as Google shows them: what the fleet says, and what the API has changed."""

import asyncio
from typing import Any

import msgspec

from heliograph_lab.amapi.discovery import field_names
from heliograph_lab.amapi.errors import ApiError, Violations
from heliograph_lab.amapi.operations import Book
from heliograph_lab.amapi.outcomes import digits
from heliograph_lab.amapi.settings import EmulatorSettings
from heliograph_lab.amapi.validate import parse_message
from heliograph_lab.fleet import AmapiSpec, DeviceState, Fleet
from heliograph_lab.kernel import Kernel

_NAMESPACE = "amapi.devices"
_WRITABLE = ("state", "disabledReason", "policyName")
_SETTABLE_STATES = ("ACTIVE", "DISABLED")


class Overlay(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What differs from the fleet's own account of a device."""

    dropped: bool = False
    state: str = "ACTIVE"
    disabled_reason: dict[str, Any] | None = None
    policy_name: str = ""


class Registry:
    """Answers the API's questions about devices and enterprises."""

    def __init__(self, kernel: Kernel, fleet: Fleet, book: Book, settings: EmulatorSettings) -> None:
        self._kernel = kernel
        self._fleet = fleet
        self._book = book
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
            self.require_enterprise(name.partition("/devices/")[0])
            raise ApiError(404)
        return device

    def require_enterprise(self, name: str) -> None:
        """403 for an enterprise of somebody else, or of nobody: Google does not tell which."""
        if name not in self.enterprises():
            raise ApiError(403)

    def enterprises(self) -> list[str]:
        """All names, sorted. An enterprise stays when its last device goes."""
        names = {d.spec.amapi.name.partition("/devices/")[0] for d in self._fleet.devices() if d.spec.amapi}
        return sorted(names.union(self._settings.enterprises))

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
        }
        return {key: value for key, value in shown.items() if value not in (None, "", 0)}

    async def patch(self, name: str, body: Any, mask: str | None) -> dict[str, Any]:
        """Change state (ACTIVE or DISABLED), disabledReason or policyName; nothing else can be changed."""
        found = Violations()
        given = parse_message("Device", body, found)
        found.raise_if_any()
        device = self.require(name)
        fields = _masked(mask, given)
        state = given.get("state") if "state" in fields else None
        if "state" in fields and state not in _SETTABLE_STATES:
            raise ApiError(400, "Device state can only be set to ACTIVE or DISABLED.")
        async with self._lock:
            before = self._overlays.get(name, Overlay())
            after = Overlay(
                state=state or before.state,
                disabled_reason=given.get("disabledReason") if "disabledReason" in fields else before.disabled_reason,
                policy_name=given.get("policyName", "") if "policyName" in fields else before.policy_name,
            )
            self.require(name)  # it may have gone while this waited
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
        """Whether Google has forgotten the device."""
        overlay = self._overlays.get(name)
        return overlay is not None and overlay.dropped

    async def drop(self, name: str) -> None:
        """Forget the device and its operations, on disk in one commit."""
        self.leave(name)
        async with self._lock:
            gone = Overlay(dropped=True)
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
