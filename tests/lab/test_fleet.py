from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heliograph_lab.fleet import AmapiSpec, DeviceSpec, DeviceState, Fleet, FleetError, PushySpec, UnknownDeviceError
from heliograph_lab.kernel import Kernel


def spec(device_id: str = "d1", **more: Any) -> DeviceSpec:
    return DeviceSpec(**{"device_id": device_id, "name": device_id, "platform": "aosp", **more})


async def test_patches_are_subsets_and_merge(kernel: Kernel) -> None:
    fleet = Fleet(kernel)
    await fleet.put_all([spec()])
    await fleet.update("d1", {"latencyMs": 5, "outcome": {"result": "error", "errorCode": "LOW_BATTERY"}})
    device = await fleet.update("d1", {"outcome": {"cancel": "loses"}, "online": False})
    assert (device.online, device.latency_ms) == (False, 5)
    assert (device.outcome.result, device.outcome.error_code, device.outcome.cancel) == (
        "error",
        "LOW_BATTERY",
        "loses",
    )
    device = await fleet.update("d1", {"outcome": {"result": "ok", "errorCode": None, "cancel": 501}})
    assert (device.outcome.result, device.outcome.error_code, device.outcome.cancel) == ("ok", None, "501")


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ([], "object"),
        ({"online": 1}, "online"),
        ({"latencyMs": -1}, "latencyMs"),
        ({"latencyMs": 1.5}, "latencyMs"),
        ({"outcome": {"result": "maybe"}}, "outcome"),
        ({"outcome": {"cancel": 500}}, "outcome"),
        ({"outcome": {"mood": "good"}}, "mood"),
        ({"colour": "red"}, "colour"),
        ({"online": False, "outcome": None}, "outcome"),
    ],
)
async def test_bad_patches_change_nothing(kernel: Kernel, patch: Any, message: str) -> None:
    fleet = Fleet(kernel)
    await fleet.put_all([spec()])
    before = fleet.get("d1")
    with pytest.raises(FleetError, match=message):
        await fleet.update("d1", patch)
    assert fleet.get("d1") == before


async def test_put_all_keeps_the_state_and_survives_a_restart(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    fleet = Fleet(kernel)
    amapi = AmapiSpec(name="enterprises/e/devices/a")
    await fleet.put_all([spec("z"), spec("a", amapi=amapi, online=False), spec("gone")])
    await fleet.update("z", {"online": False, "outcome": {"result": "never"}})
    kernel.close()

    kernel = Kernel(tmp_path)
    fleet = Fleet(kernel)
    assert [device.spec.device_id for device in fleet.devices()] == ["z", "a", "gone"]
    await fleet.put_all([spec("z", server_url="http://127.0.0.1:1"), spec("a", amapi=amapi)])
    z, a = fleet.devices()
    assert (z.online, z.outcome.result, z.spec.server_url) == (False, "never", "http://127.0.0.1:1")
    assert not a.online
    assert fleet.by_amapi_name("enterprises/e/devices/a") == a
    assert fleet.by_amapi_name("enterprises/e/devices/b") is None
    with pytest.raises(UnknownDeviceError):
        fleet.get("gone")
    kernel.close()


async def test_listeners_hear_changes_only(kernel: Kernel) -> None:
    fleet = Fleet(kernel)
    heard: list[DeviceState] = []
    fleet.subscribe(heard.append)
    await fleet.put_all([spec("a"), spec("b")])
    await fleet.put_all([spec("a"), spec("b")])
    await fleet.update("a", {"online": True})
    await fleet.update("a", {"online": False})
    await fleet.put_all([spec("a")])
    assert [(d.spec.device_id, d.online, d.removed) for d in heard] == [
        ("a", True, False),
        ("b", True, False),
        ("a", False, False),
        ("b", False, True),
    ]


@pytest.mark.parametrize(
    "specs",
    [
        [spec("a"), spec("a")],
        [spec("")],
        [spec("a", provider="pushy")],
        [spec("a", amapi=AmapiSpec(name="x")), spec("b", amapi=AmapiSpec(name="x"))],
    ],
)
async def test_impossible_fleets_are_refused(kernel: Kernel, specs: list[DeviceSpec]) -> None:
    fleet = Fleet(kernel)
    with pytest.raises(FleetError):
        await fleet.put_all(specs)
    assert fleet.devices() == []


async def test_pushy_devices_name_their_app(kernel: Kernel) -> None:
    fleet = Fleet(kernel)
    await fleet.put_all([spec("a", provider="pushy", pushy=PushySpec(api_key="k1"))])
    assert fleet.get("a").spec.pushy == PushySpec(api_key="k1")
