"""A device comes in by an enrollment token, and again under another name."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from heliograph_lab.amapi.enrolment import EnrolmentError
from heliograph_lab.amapi.side import add_routes
from heliograph_lab.control import control_app
from heliograph_lab.fleet import DeviceSpec, DeviceState
from tests.lab.amapi.rig import ENTERPRISE, FLEET, Json, Rig, running
from tests.lab.serving import client_of

TOKENS = f"{ENTERPRISE}/enrollmentTokens"


async def _token(rig: Rig, **body: Any) -> Json:
    return await rig.ask("POST", TOKENS, body)


async def _enrol(rig: Rig, token: Json, **body: Any) -> str:
    _, name = await rig.emulator.enrolment.enrol({"enrollmentToken": token["value"], **body})
    return name


async def test_a_device_comes_in(rig: Rig) -> None:
    token = await _token(rig, additionalData="unit 7", policyName="kiosk")
    name = await _enrol(rig, token, serialNumber="SN-new", apiLevel=36)
    shown = await rig.ask("GET", name)
    assert name.startswith(f"{ENTERPRISE}/devices/")
    assert shown["enrollmentTokenName"] == token["name"]
    assert shown["enrollmentTokenData"] == "unit 7"
    assert shown["policyName"] == f"{ENTERPRISE}/policies/kiosk"
    assert shown["hardwareInfo"]["serialNumber"] == "SN-new"
    assert (shown["managementMode"], shown["ownership"], shown["apiLevel"]) == ("DEVICE_OWNER", "COMPANY_OWNED", 36)
    assert "previousDeviceNames" not in shown
    entered = datetime.fromisoformat(shown["enrollmentTime"])
    assert abs((rig.kernel.clock.now() - entered).total_seconds()) < 60
    issued = await rig.ask("POST", f"{name}:issueCommand", {"type": "LOCK"})
    assert (await rig.done(issued["name"]))["done"] is True


@pytest.mark.parametrize(
    ("usage", "ownership", "mode"),
    [
        ("PERSONAL_USAGE_ALLOWED", "COMPANY_OWNED", "PROFILE_OWNER"),
        ("PERSONAL_USAGE_ALLOWED", "PERSONALLY_OWNED", "PROFILE_OWNER"),
        ("PERSONAL_USAGE_DISALLOWED", "COMPANY_OWNED", "DEVICE_OWNER"),
        ("PERSONAL_USAGE_DISALLOWED_USERLESS", "COMPANY_OWNED", "DEVICE_OWNER"),
        ("PERSONAL_USAGE_DISALLOWED", "PERSONALLY_OWNED", None),
        (None, "COMPANY_OWNED", "DEVICE_OWNER"),
        (None, "PERSONALLY_OWNED", "PROFILE_OWNER"),
    ],
)
async def test_the_token_decides_on_the_mode(rig: Rig, usage: str | None, ownership: str, mode: str | None) -> None:
    token = await _token(rig, allowPersonalUsage=usage)
    if mode is None:
        with pytest.raises(EnrolmentError, match="personally-owned"):
            await _enrol(rig, token, ownership=ownership)
        return
    assert (await rig.ask("GET", await _enrol(rig, token, ownership=ownership)))["managementMode"] == mode


async def test_the_same_serial_number_gets_a_new_name(rig: Rig) -> None:
    token = await _token(rig)
    await rig.set(online=False)
    pending = (await rig.issue())["name"]
    names = [f"{ENTERPRISE}/devices/d1"]
    for _ in range(3):
        names.append(await _enrol(rig, token, serialNumber="SN-d1"))
        shown = await rig.ask("GET", names[-1])
        assert shown["previousDeviceNames"] == names[:-1]
        for old in names[:-1]:
            await rig.ask("GET", old, status=404)
    await rig.ask("GET", pending, status=404)
    await rig.quiet()
    assert rig.executed() == []  # the phone was reset: what waited for it under the old name does not run
    assert [device.spec.device_id for device in rig.fleet.devices()] == [spec.device_id for spec in FLEET]
    listed = (await rig.ask("GET", f"{ENTERPRISE}/devices"))["devices"]
    assert names[-1] in [item["name"] for item in listed]
    assert not set(names[:-1]).intersection(item["name"] for item in listed)


async def test_a_phone_that_changes_hands_does_not_take_its_past_along(rig: Rig) -> None:
    await rig.kernel.settings.change({"amapi": {"enterprises": ["enterprises/LC2"]}})
    token = await rig.ask("POST", "enterprises/LC2/enrollmentTokens", {})
    name = await _enrol(rig, token, serialNumber="SN-d1")
    assert name.startswith("enterprises/LC2/devices/")
    assert "previousDeviceNames" not in await rig.ask("GET", name)
    await rig.ask("GET", f"{ENTERPRISE}/devices/d1", status=404)


async def test_a_wiped_phone_comes_in_again(rig: Rig) -> None:
    token = await _token(rig)
    first = await _enrol(rig, token, serialNumber="S")
    await rig.ask("DELETE", first)
    second = await _enrol(rig, token, serialNumber="S")
    assert (await rig.ask("GET", second))["previousDeviceNames"] == [first]
    issued = await rig.ask("POST", f"{second}:issueCommand", {"type": "LOCK"})
    assert (await rig.done(issued["name"]))["done"] is True


async def test_a_token_for_one_admits_one(rig: Rig) -> None:
    token = await _token(rig, oneTimeOnly=True)
    results = await asyncio.gather(*(_enrol(rig, token) for _ in range(5)), return_exceptions=True)
    assert len([result for result in results if isinstance(result, str)]) == 1
    assert all(isinstance(result, str | EnrolmentError) for result in results)
    await rig.ask("GET", token["name"], status=404)
    assert await rig.ask("GET", TOKENS) == {}


@pytest.mark.parametrize("once", [True, False])
async def test_a_token_that_is_deleted_meanwhile_stays_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, once: bool
) -> None:
    async with running(tmp_path) as rig:
        token = await _token(rig, oneTimeOnly=once)
        enrol = rig.fleet.enrol

        async def slow(*arguments: Any) -> DeviceState:
            await rig.ask("DELETE", token["name"])
            return await enrol(*arguments)

        monkeypatch.setattr(rig.fleet, "enrol", slow)
        await _enrol(rig, token)
    async with running(tmp_path) as rig:
        await rig.ask("GET", token["name"], status=404)
        assert await rig.ask("GET", TOKENS) == {}


async def test_tokens_that_admit_nobody(rig: Rig) -> None:
    deleted, expired = await _token(rig), await _token(rig, duration="60s")
    await rig.ask("DELETE", deleted["name"])
    await rig.kernel.clock.advance(60)
    for token in (deleted, expired, {"value": "none"}, {"value": expired["name"]}):
        with pytest.raises(EnrolmentError, match="enrollmentToken"):
            await _enrol(rig, token)
    orphan = await _token(rig)
    await rig.kernel.settings.change({"amapi": {"deleteCustomerManaged": "ok"}})
    await rig.ask("DELETE", ENTERPRISE)
    with pytest.raises(EnrolmentError, match="enrollmentToken"):
        await _enrol(rig, orphan)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"zz": 1}, "zz"),
        ({"enrollmentToken": 1}, "enrollmentToken"),
        ({"ownership": "MINE"}, "ownership"),
        ({"apiLevel": "34"}, "apiLevel"),
        ({"deviceId": "a/b"}, "deviceId"),
        ({"serialNumber": ""}, "serialNumber"),
        ({"deviceId": "id-d1", "serialNumber": "other"}, "id-d1"),
        ({"deviceId": "another", "serialNumber": "SN-d1"}, "SN-d1"),
        ({"deviceId": "kiosk"}, "kiosk"),
    ],
)
async def test_applications_that_cannot_be_meant(rig: Rig, body: Json, word: str) -> None:
    await rig.fleet.put_all([*FLEET, DeviceSpec(device_id="kiosk", name="kiosk", platform="aosp")])
    before = rig.fleet.devices()
    token = await _token(rig, oneTimeOnly=True)
    with pytest.raises(EnrolmentError, match=word):
        await rig.emulator.enrolment.enrol({"enrollmentToken": token["value"], **body})
    assert rig.fleet.devices() == before
    await rig.ask("GET", token["name"])


async def test_who_enrolled_outlives_restarts_and_new_fleets(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        token = await _token(rig, oneTimeOnly=True)
        fresh = await _enrol(rig, token, deviceId="fresh", serialNumber="S", online=False)
        again = await _enrol(rig, await _token(rig), deviceId="id-d1", online=False)
        issued = (await rig.ask("POST", f"{fresh}:issueCommand", {"type": "LOCK"}))["name"]
    async with running(tmp_path) as rig:  # which puts its fleet again
        assert (await rig.ask("GET", fresh))["enrollmentTokenName"] == token["name"]
        assert (await rig.ask("GET", again))["previousDeviceNames"] == [f"{ENTERPRISE}/devices/d1"]
        assert "done" not in await rig.get(issued)
        with pytest.raises(EnrolmentError):
            await _enrol(rig, token)
        await rig.fleet.remove("fresh")
        await rig.ask("GET", fresh, status=404)


async def test_by_the_control_api(tmp_path: Path) -> None:
    async def settled(_: str | None) -> None:
        return

    async with running(tmp_path) as rig:
        router = control_app(rig.kernel, rig.fleet, settled)
        add_routes(router, rig.emulator)
        async with client_of(router) as control:
            value = (await _token(rig))["value"]
            body = {"enrollmentToken": value, "deviceId": "phone", "name": "phone", "online": False}
            shown = (await control.post("/devices", json=body)).json()
            assert (shown["deviceId"], shown["platform"], shown["online"]) == ("phone", "android", False)
            assert (await rig.ask("GET", shown["amapiName"]))["state"] == "ACTIVE"
            assert (await control.get("/devices/phone")).json()["name"] == "phone"
            refused = await control.post("/devices", json={"enrollmentToken": "none"})
            assert (refused.status_code, set(refused.json())) == (400, {"error"})
            assert (await control.delete("/devices/phone")).json() == {}
            assert (await control.delete("/devices/phone")).status_code == 404
