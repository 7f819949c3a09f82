"""Devices: Android, AOSP, and all platforms together."""

from collections.abc import Callable
from functools import partial
from typing import Any

from heliograph.domain.devices import Device
from heliograph.domain.errors import NotFound
from heliograph.http.filters import ANDROID_FILTERS, AOSP_FILTERS
from heliograph.http.operations import Call, Handler, Operation
from heliograph.http.pages import page_of
from heliograph.http.paths import ANDROID_DEVICES, AOSP_DEVICES, DEVICE_SORTS, MDM, find_device
from heliograph.http.wire import AnyDevice, AosDevice, EmmDevice, PageOf, any_device, aos_device, emm_device


def _lister(platform: str | None, shown: Callable[[Device], Any]) -> Handler:
    async def all_shown(devices: list[Device]) -> list[Any]:
        return [shown(device) for device in devices]

    async def list_devices(call: Call) -> PageOf[Any]:
        return await page_of(
            call, partial(call.work.devices.list, platform, call.query.page, call.query.devices), all_shown
        )

    return list_devices


async def get_android(call: Call) -> EmmDevice:
    return emm_device(await find_device(call, "android", "emmDeviceId", aliases=True))


async def get_aosp(call: Call) -> AosDevice:
    return aos_device(await find_device(call, "aosp", "aosDeviceId", aliases=False))


async def get_any(call: Call) -> AnyDevice:
    device = await call.work.devices.find(None, call.id("deviceId"))
    if device is None:
        raise NotFound
    return any_device(device)


OPERATIONS = (
    Operation(
        method="GET",
        path=ANDROID_DEVICES,
        id="listEmmDevices",
        summary="Android Enterprise devices",
        tag="Android devices",
        permission="mdm.android.device.list",
        answer=PageOf[EmmDevice],
        handler=_lister("android", emm_device),
        sorts=DEVICE_SORTS,
        filters=ANDROID_FILTERS,
        refusals=(5209,),
    ),
    Operation(
        method="GET",
        path=f"{ANDROID_DEVICES}/{{emmDeviceId}}",
        id="getEmmDevice",
        summary="One Android Enterprise device, by id or by an alias",
        tag="Android devices",
        permission="mdm.android.device.get",
        answer=EmmDevice,
        handler=get_android,
    ),
    Operation(
        method="GET",
        path=AOSP_DEVICES,
        id="listAosDevices",
        summary="AOSP devices",
        tag="AOSP devices",
        permission="mdm.aosp.device.list",
        answer=PageOf[AosDevice],
        handler=_lister("aosp", aos_device),
        sorts=DEVICE_SORTS,
        filters=AOSP_FILTERS,
        refusals=(5209,),
    ),
    Operation(
        method="GET",
        path=f"{AOSP_DEVICES}/{{aosDeviceId}}",
        id="getAosDevice",
        summary="One AOSP device",
        tag="AOSP devices",
        permission="mdm.aosp.device.get",
        answer=AosDevice,
        handler=get_aosp,
    ),
    Operation(
        method="GET",
        path=f"{MDM}/devices",
        id="listDevices",
        summary="Devices of all platforms",
        tag="Devices",
        permission="mdm.global.device.list",
        answer=PageOf[AnyDevice],
        handler=_lister(None, any_device),
        sorts=DEVICE_SORTS,
        extension=True,
        refusals=(5209,),
    ),
    Operation(
        method="GET",
        path=f"{MDM}/devices/{{deviceId}}",
        id="getDevice",
        summary="One device of any platform, by its all-platform or platform id",
        tag="Devices",
        permission="mdm.global.device.get",
        answer=AnyDevice,
        handler=get_any,
        extension=True,
    ),
)
