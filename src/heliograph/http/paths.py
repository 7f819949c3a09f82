"""The contract's paths, and what several areas share."""

from heliograph.domain.devices import Device
from heliograph.domain.errors import NotFound
from heliograph.domain.fields import MAX_TEXT
from heliograph.domain.ids import is_id
from heliograph.http.operations import Call

ORGANIZATIONS = "/v1/organizations"
ORGANIZATION = f"{ORGANIZATIONS}/{{organizationId}}"
MDM = f"{ORGANIZATION}/mdm"
ANDROID_DEVICES = f"{MDM}/android/enterprise/devices"
AOSP_DEVICES = f"{MDM}/aosp/enterprise/devices"

COMMAND_SORTS = {"createdAt": "created_at", "updatedAt": "updated_at", "type": "type", "status": "rung"}
DEVICE_SORTS = {"createdAt": "created_at", "updatedAt": "updated_at", "displayName": "name", "state": "state"}


async def find_device(call: Call, platform: str, name: str, *, aliases: bool) -> Device:
    """The device that a path segment names: by id, and where `aliases` by serial number, IMEI or enrollment id.

    An alias that fits two devices is no answer, never a guess.
    """
    text = call.path[name]
    if is_id(text):
        found = await call.work.devices.find(platform, text.lower())
        if found is not None:
            return found
    if not aliases or len(text) > MAX_TEXT or not text.isprintable():
        raise NotFound
    fits = await call.work.devices.find_by_alias(platform, text)
    if len(fits) > 1:
        ids = [device.id for device in fits]
        call.api.log.warning("device.alias_ambiguous", organization=call.organization.id, devices=ids)
    if len(fits) != 1:
        raise NotFound
    return fits[0]
