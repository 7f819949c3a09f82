"""Every Android type from the API to the device and back, through the emulator, on both stores."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.crash import Client, Json, LabClient, Refused, Rig, Unit, until

FULL: Json = {"managementMode": "DEVICE_OWNER", "ownership": "COMPANY_OWNED"}
COMPANY: Json = {"managementMode": "PROFILE_OWNER", "ownership": "COMPANY_OWNED"}
PERSONAL: Json = {"managementMode": "PROFILE_OWNER", "ownership": "PERSONALLY_OWNED"}
ESIM = {"activationCode": "LPA:1$smdp$canary", "activationState": "NOT_ACTIVATED"}
LOST = {"startLostModeParams": {"lostMessage": {"defaultMessage": "Lost"}}}
APPS = {"clearAppsDataParams": {"packageNames": ["a.b", "c.d"]}}
WIPE = {"wipeParams": {"wipeDataFlags": ["WIPE_ESIMS"], "wipeReason": {"defaultMessage": "bye"}}}

# Where each works, its parameters, and the member of Google's answer in which the type has its own word.
TYPES: list[tuple[str, Json, Json, str | None]] = [
    ("LOCK", PERSONAL, {}, None),
    ("RESET_PASSWORD", FULL, {"newPassword": "canary-123456"}, None),
    ("REBOOT", FULL, {}, None),
    ("RELINQUISH_OWNERSHIP", COMPANY, {}, None),
    ("CLEAR_APP_DATA", COMPANY, APPS, "clearAppsDataStatus"),
    ("START_LOST_MODE", COMPANY, LOST, "startLostModeStatus"),
    ("STOP_LOST_MODE", FULL, {"stopLostModeParams": {}}, "stopLostModeStatus"),
    ("REQUEST_DEVICE_INFO", PERSONAL, {"requestDeviceInfoParams": {}}, "requestDeviceInfoStatus"),
    ("ADD_ESIM", PERSONAL, {"addEsimParams": ESIM}, "esimStatus"),
    ("REMOVE_ESIM", FULL, {"removeEsimParams": {"iccid": "8949000000000000001"}}, "esimStatus"),
    ("WIPE", PERSONAL, WIPE, None),
]
ENDS = ("WIPE", "RELINQUISH_OWNERSHIP")


async def executed(lab: LabClient, unit: Unit) -> list[str]:
    return [item["operation"] for item in await lab.journal(unit) if item["event"] == "executed"]


async def is_dropped(lab: LabClient, unit: Unit) -> bool:
    try:
        await lab.operations(unit)
    except Refused as refused:
        return refused.status == 404
    return False


async def issued(client: Client, unit: Unit, command_id: str) -> Json:
    async def accepted() -> Json | None:
        found = await client.command(unit, command_id)
        return found if found["_config"] else None

    record: Json = await until(accepted, "Google accepts it")
    return record


@pytest.mark.parametrize(("kind", "where", "params", "own"), TYPES)
async def test_it_runs_once_and_the_record_says_so(
    rig: Rig, kind: str, where: Json, params: Json, own: str | None
) -> None:
    [unit] = await rig.add("android", 1, **where)
    async with rig.client() as client, rig.lab_client() as lab:
        made = await client.create(unit, **{"type": kind, **params})
        record = await client.over(unit, made["id"])
        assert (record["status"], record["progress"]["rung"]) == ("DONE", "succeeded"), record
        assert "error" not in record["config"]
        assert await executed(lab, unit) == [record["_config"]["name"]]
        assert "canary" not in str(record)
        if own is not None:
            assert record["config"]["metadata"][own] == record["_config"]["metadata"][own]
        if kind == "REQUEST_DEVICE_INFO":
            [eid] = record["config"]["metadata"]["requestDeviceInfoStatus"]["eidInfo"]["eids"]
            assert len(eid["eid"]) == 32
        if kind in ENDS:
            await until(lambda: is_dropped(lab, unit), "Google drops the device")
            assert (await client.command(unit, made["id"])) == record


@pytest.mark.parametrize(("kind", "where"), [("WIPE", FULL), ("RELINQUISH_OWNERSHIP", COMPANY)])
async def test_a_device_that_went_while_nobody_looked_is_not_a_riddle(rig: Rig, kind: str, where: Json) -> None:
    [unit] = await rig.add("android", 1, online=False, **where)
    async with rig.client() as client, rig.lab_client() as lab:
        command = (await issued(client, unit, (await client.create(unit, type=kind))["id"]))["id"]
        rig.server.kill()
        await lab.put(unit, online=True)
        await until(lambda: is_dropped(lab, unit), "Google drops the device")
    rig.server.start()
    async with rig.client() as client, rig.lab_client() as lab:
        record = await client.over(unit, command)
        assert (record["status"], record["progress"]["rung"]) == ("DONE", "succeeded"), record
        assert record["config"]["done"] is True
        last = record["progress"]["history"][-1]["evidence"]
        assert last == {"deviceGone": True, "operation": "not found", "device": "not found"}
        assert await executed(lab, unit) == [record["_config"]["name"]]


@pytest.mark.parametrize(("kind", "where"), [("WIPE", FULL), ("RELINQUISH_OWNERSHIP", COMPANY)])
async def test_it_can_be_cancelled_while_the_device_is_off(rig: Rig, kind: str, where: Json) -> None:
    [unit] = await rig.add("android", 1, online=False, **where)
    async with rig.client() as client, rig.lab_client() as lab:
        made = await issued(client, unit, (await client.create(unit, type=kind))["id"])
        assert (await client.cancel(unit, made["id"])).status_code == 200
        record = await client.over(unit, made["id"])
        assert (record["status"], record["progress"]["rung"]) == ("CANCEL", "cancelled")
        await lab.put(unit, online=True)
        lock = await client.over(unit, (await client.create(unit))["id"])
        assert lock["progress"]["rung"] == "succeeded"
        assert await executed(lab, unit) == [lock["_config"]["name"]]


@pytest.mark.parametrize(
    ("kind", "params", "where"),
    [
        ("REBOOT", {}, PERSONAL),
        ("REBOOT", {}, COMPANY),
        ("START_LOST_MODE", LOST, PERSONAL),
        ("STOP_LOST_MODE", {}, PERSONAL),
        ("RELINQUISH_OWNERSHIP", {}, PERSONAL),
        ("REQUEST_DEVICE_INFO", {}, FULL),
        ("ADD_ESIM", {"addEsimParams": {**ESIM, "activationState": "ACTIVATED"}}, PERSONAL),
    ],
)
async def test_what_the_device_would_ignore_never_reaches_google(
    rig: Rig, kind: str, params: Json, where: Json
) -> None:
    [unit] = await rig.add("android", 1, **where)
    async with rig.client() as client, rig.lab_client() as lab:
        made = await client.create(unit, type=kind, **params)  # nothing is known of the device yet
        record = await client.over(unit, made["id"])
        assert (record["status"], record["progress"]["rung"]) == ("DONE", "failed")
        assert record["config"]["error"]["code"] == "MANAGEMENT_MODE"
        assert record["_config"] == {}
        assert await lab.requests("amapi", f"{unit.external}:issueCommand") == []
        refused = await client.call("POST", unit.path, json={"type": kind, **params})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, 5209)
        assert await executed(lab, unit) == []


async def test_each_app_has_its_own_result(rig: Rig) -> None:
    [unit] = await rig.add("android", 1)
    async with rig.client() as client, rig.lab_client() as lab:
        await lab.put(unit, outcome={"statuses": {"CLEAR_APP_DATA": {"c.d": "APP_PROTECTED"}}})
        record = await client.over(unit, (await client.create(unit, type="CLEAR_APP_DATA", **APPS))["id"])
        assert record["progress"]["rung"] == "failed"
        assert record["config"]["error"] == {"code": "SOME_APPS_NOT_CLEARED", "message": "c.d: APP_PROTECTED"}
        evidence = record["progress"]["history"][-1]["evidence"]
        assert evidence["apps"] == {"a.b": "SUCCESS", "c.d": "APP_PROTECTED"}


@pytest.mark.parametrize("result", ["APP_PROTECTED", "SUCCESS"])
@pytest.mark.parametrize("beside", [[], ["a.b"]])
async def test_an_app_that_is_called_like_a_secret_has_its_result_too(rig: Rig, beside: list[str], result: str) -> None:
    names = [*beside, "com.onepassword.android"]
    [unit] = await rig.add("android", 1)
    async with rig.client() as client, rig.lab_client() as lab:
        await lab.put(unit, outcome={"statuses": {"CLEAR_APP_DATA": {"com.onepassword.android": result}}})
        made = await client.create(unit, type="CLEAR_APP_DATA", clearAppsDataParams={"packageNames": names})
        record = await client.over(unit, made["id"])
        told = {**dict.fromkeys(beside, "SUCCESS"), "com.onepassword.android": result}
        assert record["progress"]["rung"] == ("succeeded" if result == "SUCCESS" else "failed")
        assert record["progress"]["history"][-1]["evidence"]["apps"] == told
        status = record["_config"]["metadata"]["clearAppsDataStatus"]
        assert status == {"results": {name: {"clearingResult": said} for name, said in told.items()}}


@pytest.mark.parametrize(
    ("kind", "params", "status"),
    [
        ("REQUEST_DEVICE_INFO", {}, "USER_DECLINED"),
        ("REQUEST_DEVICE_INFO", {}, "UNSUPPORTED"),
        ("ADD_ESIM", {"addEsimParams": ESIM}, "ERROR_USER_DENIED"),
    ],
)
async def test_its_own_word_of_failure_is_the_reason(rig: Rig, kind: str, params: Json, status: str) -> None:
    [unit] = await rig.add("android", 1, **PERSONAL)
    async with rig.client() as client, rig.lab_client() as lab:
        await lab.put(unit, outcome={"statuses": {kind: status}})
        record = await client.over(unit, (await client.create(unit, type=kind, **params))["id"])
        assert (record["status"], record["config"]["error"]["code"]) == ("DONE", status)


@pytest.mark.parametrize(
    ("kind", "params", "status"),
    [
        ("REQUEST_DEVICE_INFO", {}, "PENDING_USER_ACTION"),
        ("ADD_ESIM", {"addEsimParams": ESIM}, "IN_PROGRESS"),
        ("REMOVE_ESIM", {"removeEsimParams": {"iccid": "8949000000000000001"}}, "PENDING_USER_ACTION"),
    ],
)
async def test_what_waits_for_its_user_is_pending_until_its_time_is_over(
    rig: Rig, kind: str, params: Json, status: str
) -> None:
    [unit] = await rig.add("android", 1, **PERSONAL)
    async with rig.client() as client, rig.lab_client() as lab:
        await lab.put(unit, outcome={"statuses": {kind: status}})
        made = await client.create(unit, type=kind, duration="6s", **params)

        async def is_done() -> Any:
            return any(operation.get("done") for operation in await lab.operations(unit))

        await until(is_done, "Google calls it done")
        record = await client.command(unit, made["id"], wait=1)
        assert (record["status"], record["progress"]["rung"]) == ("PENDING", "issued")
        record = await client.over(unit, made["id"])
        assert (record["status"], record["progress"]["rung"]) == ("DONE", "expired_undelivered")
        assert record["progress"]["history"][-1]["evidence"]["status"] == status
