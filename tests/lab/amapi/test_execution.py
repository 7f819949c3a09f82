"""Delivery, outcomes and expiry."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.lab.amapi.rig import ENTERPRISE, Rig

BODIES: dict[str, dict[str, Any]] = {
    "LOCK": {"type": "LOCK"},
    "RESET_PASSWORD": {"type": "RESET_PASSWORD", "newPassword": "hunter2-secret", "resetPasswordFlags": ["LOCK_NOW"]},
    "REBOOT": {"type": "REBOOT"},
    "RELINQUISH_OWNERSHIP": {"type": "RELINQUISH_OWNERSHIP"},
    "CLEAR_APP_DATA": {"clearAppsDataParams": {"packageNames": ["a.b", "c.d"]}},
    "START_LOST_MODE": {"startLostModeParams": {"lostMessage": {"defaultMessage": "Lost"}}},
    "STOP_LOST_MODE": {"stopLostModeParams": {}},
    "REQUEST_DEVICE_INFO": {"requestDeviceInfoParams": {"deviceInfo": "EID"}},
    "ADD_ESIM": {"addEsimParams": {"activationCode": "LPA:1$secret", "activationState": "ACTIVATED"}},
    "REMOVE_ESIM": {"removeEsimParams": {"iccId": "8901"}},
    "WIPE": {"wipeParams": {}},
}
STATUS = {
    "CLEAR_APP_DATA": "clearAppsDataStatus",
    "START_LOST_MODE": "startLostModeStatus",
    "STOP_LOST_MODE": "stopLostModeStatus",
    "REQUEST_DEVICE_INFO": "requestDeviceInfoStatus",
    "ADD_ESIM": "esimStatus",
    "REMOVE_ESIM": "esimStatus",
}


@pytest.mark.parametrize("kind", BODIES)
async def test_every_type_runs_once_and_writes_its_own_status(rig: Rig, kind: str) -> None:
    rig.settings.drop_delay = 3600
    issued = await rig.issue(body=BODIES[kind])
    assert "done" not in issued
    assert issued["metadata"]["type"] == kind
    assert issued["metadata"]["duration"] == "600s"
    assert issued["metadata"]["userName"].startswith(f"{ENTERPRISE}/users/")
    operation = await rig.done(issued["name"])
    assert operation["done"] is True
    assert "error" not in operation
    assert "errorCode" not in operation["metadata"]
    assert operation["response"]["@type"].endswith("v1.IssueCommandResponse")
    statuses = {name for name in operation["metadata"] if name.endswith("Status")}
    assert statuses == ({STATUS[kind]} if kind in STATUS else set())
    assert rig.executed() == [issued["name"]]


async def test_the_name_is_the_creation_time_and_never_taken_twice(rig: Rig) -> None:
    await rig.set(online=False)
    names = [(await rig.issue())["name"] for _ in range(20)]
    assert len(set(names)) == 20
    assert names == sorted(names)
    for name in names:
        created = datetime.fromisoformat((await rig.get(name))["metadata"]["createTime"])
        assert name == f"{ENTERPRISE}/devices/d1/operations/{round(created.timestamp() * 1000)}"


async def test_offline_commands_wait_and_run_in_order(rig: Rig) -> None:
    await rig.set(online=False)
    names = [(await rig.issue())["name"] for _ in range(10)]
    await rig.quiet()
    assert rig.executed() == []
    await rig.set(online=True)
    await rig.done(names[-1])
    assert rig.executed() == names


async def test_latency_is_waited_for_on_the_labs_clock(rig: Rig) -> None:
    await rig.set(latencyMs=3_600_000)
    names = [(await rig.issue(body={"type": "LOCK", "duration": "86400s"}))["name"] for _ in range(3)]
    await rig.quiet()
    assert rig.executed() == []
    await rig.kernel.clock.advance(3600)
    await rig.done(names[-1])
    assert rig.executed() == names


async def test_a_shorter_latency_counts_at_once(rig: Rig) -> None:
    await rig.set(latencyMs=3_600_000)
    name = (await rig.issue())["name"]
    await rig.set(latencyMs=0)
    await rig.done(name)


async def test_never_means_pending_until_expiry(rig: Rig) -> None:
    await rig.set(outcome={"result": "never"})
    first, second = (await rig.issue())["name"], (await rig.issue(body={"type": "LOCK", "duration": "9000s"}))["name"]
    await rig.quiet()
    assert "done" not in await rig.get(first)
    await rig.kernel.clock.advance(601)
    assert (await rig.done(first))["error"]["code"] == 4
    await rig.set(outcome={"result": "ok"})
    await rig.done(second)
    assert rig.executed() == [second]


@pytest.mark.parametrize("code", [4, 10, 13, None])
async def test_expiry_has_the_code_that_was_asked_for(rig: Rig, code: int | None) -> None:
    rig.settings.expiry_code = code
    await rig.set(online=False)
    short = (await rig.issue(body={"type": "LOCK", "duration": "60.5s"}))["name"]
    long = (await rig.issue(body={"type": "LOCK", "duration": "315360000s"}))["name"]
    endless = (await rig.issue(body={"type": "LOCK", "duration": "315576000000s"}))["name"]
    await rig.kernel.clock.advance(61)
    operation = await rig.done(short)
    assert operation["error"].get("code") == code
    assert "response" not in operation
    assert "errorCode" not in operation["metadata"]
    await rig.set(online=True)
    await rig.done(endless)
    assert rig.executed() == [long, endless]


async def test_what_falls_due_has_happened_when_the_clock_has_moved(rig: Rig) -> None:
    await rig.kernel.settings.change({"amapi": {"purgeAfter": 100}})
    await rig.set(online=False)
    expiring = [(await rig.issue(body={"type": "LOCK", "duration": "60s"}))["name"] for _ in range(50)]
    cancelled = (await rig.issue(body={"type": "LOCK", "duration": "3600s"}))["name"]
    await rig.cancel(cancelled)
    await rig.kernel.clock.advance(61)
    codes = [(await rig.get(name))["error"]["code"] for name in [*expiring, cancelled]]
    assert codes == [4] * 50 + [1]
    await rig.kernel.clock.advance(100)
    assert await rig.ask("GET", f"{ENTERPRISE}/devices/d1/operations") == {}


async def test_a_command_that_expired_unnoticed_is_not_run(rig: Rig) -> None:
    await rig.set(online=False)
    name = (await rig.issue(body={"type": "LOCK", "duration": "1s"}))["name"]
    rig.emulator._executor._timeline._due.clear()  # the alarm that would have gone off
    await rig.kernel.clock.advance(2)
    await rig.set(online=True)
    assert (await rig.done(name))["error"]["code"] == 4
    assert rig.executed() == []


@pytest.mark.parametrize(
    ("scripted", "error_code", "code"),
    [(None, "UNKNOWN", None), ("INVALID_VALUE", "INVALID_VALUE", None), ("INTERNAL", None, 13), ("8", None, 8)],
)
async def test_a_scripted_error(rig: Rig, scripted: str | None, error_code: str | None, code: int | None) -> None:
    await rig.set(outcome={"result": "error", "errorCode": scripted})
    operation = await rig.done((await rig.issue())["name"])
    assert operation["metadata"].get("errorCode") == error_code
    assert operation.get("error", {}).get("code") == code
    assert rig.executed() == []
    assert [item.event for item in rig.kernel.journal.items("id-d1")] == ["acknowledged"]


async def test_scripted_statuses(rig: Rig) -> None:
    statuses = {
        "CLEAR_APP_DATA": {"c.d": "APP_PROTECTED"},
        "START_LOST_MODE": "ALREADY_IN_LOST_MODE",
        "ADD_ESIM": {"status": "PENDING_USER_ACTION"},
    }
    await rig.set(outcome={"statuses": statuses})
    cleared = await rig.done((await rig.issue(body=BODIES["CLEAR_APP_DATA"]))["name"])
    results = cleared["metadata"]["clearAppsDataStatus"]["results"]
    assert results == {"a.b": {"clearingResult": "SUCCESS"}, "c.d": {"clearingResult": "APP_PROTECTED"}}
    lost = await rig.done((await rig.issue(body=BODIES["START_LOST_MODE"]))["name"])
    assert lost["metadata"]["startLostModeStatus"] == {"status": "ALREADY_IN_LOST_MODE"}
    esim = await rig.done((await rig.issue(body=BODIES["ADD_ESIM"]))["name"])
    assert esim["metadata"]["esimStatus"] == {"status": "PENDING_USER_ACTION"}
    assert rig.executed() == [cleared["name"]]


async def test_api_level_and_android_14_passwords(rig: Rig) -> None:
    reboot = await rig.done((await rig.issue("old", BODIES["REBOOT"]))["name"])
    assert reboot["metadata"]["errorCode"] == "API_LEVEL"
    assert reboot["done"] is True
    await rig.done((await rig.issue("old", {"type": "LOCK"}))["name"])
    weak = {"type": "RESET_PASSWORD", "newPassword": "1234"}
    assert (await rig.done((await rig.issue("d1", weak))["name"]))["metadata"]["errorCode"] == "INVALID_VALUE"
    assert "errorCode" not in (await rig.done((await rig.issue("old", weak))["name"]))["metadata"]


async def test_reboot_of_a_work_profile_looks_fine_and_does_nothing(rig: Rig) -> None:
    operation = await rig.done((await rig.issue("profile", BODIES["REBOOT"]))["name"])
    assert operation["done"] is True
    assert "error" not in operation
    assert "errorCode" not in operation["metadata"]
    assert rig.executed("profile") == []


@pytest.mark.parametrize("kind", ["WIPE", "RELINQUISH_OWNERSHIP"])
async def test_a_wiped_device_is_dropped_after_the_acknowledgement(rig: Rig, kind: str) -> None:
    rig.settings.drop_delay = 3600
    await rig.set(online=False)
    wipe = (await rig.issue(body={"type": kind}))["name"]
    behind = (await rig.issue())["name"]
    await rig.set(online=True)
    assert (await rig.done(wipe))["done"] is True
    late = (await rig.issue())["name"]
    await rig.kernel.clock.advance(3601)
    await rig.until(lambda: rig.emulator.registry.dropped(f"{ENTERPRISE}/devices/d1"))
    for path in (wipe, behind, late, f"{ENTERPRISE}/devices/d1", f"{ENTERPRISE}/devices/d1/operations"):
        await rig.ask("GET", path, status=404)
    await rig.issue(status=404)
    await rig.cancel(late, status=404)
    listed = await rig.ask("GET", f"{ENTERPRISE}/devices")
    assert f"{ENTERPRISE}/devices/d1" not in [item["name"] for item in listed["devices"]]
    assert rig.executed() == [wipe]


async def test_deleting_a_device_ends_its_commands(rig: Rig) -> None:
    await rig.set(online=False)
    name = (await rig.issue())["name"]
    assert await rig.ask("DELETE", f"{ENTERPRISE}/devices/d1", wipeDataFlags="WIPE_ESIMS") == {}
    await rig.ask("GET", name, status=404)
    await rig.quiet()
    assert rig.executed() == []
    await rig.kernel.clock.advance(29 * 86_400)
    await rig.set(online=True)
    await rig.until(lambda: rig.executed() != [])
    (wipe,) = rig.kernel.journal.items("id-d1")
    assert (wipe.event, wipe.type, wipe.operation) == ("executed", "WIPE", None)
    await rig.set(online=False)
    await rig.set(online=True)
    await rig.quiet()
    assert len(rig.executed()) == 1


async def test_a_deleted_device_that_stays_away_for_a_month_is_never_wiped(rig: Rig) -> None:
    await rig.set(online=False)
    await rig.ask("DELETE", f"{ENTERPRISE}/devices/d1")
    await rig.kernel.clock.advance(30 * 86_400)
    await rig.set(online=True)
    await rig.quiet()
    assert rig.executed() == []


async def test_a_device_that_is_online_is_wiped_when_it_is_deleted(rig: Rig) -> None:
    await rig.ask("DELETE", f"{ENTERPRISE}/devices/d1")
    await rig.until(lambda: rig.executed() == [None])


@pytest.mark.parametrize("status", [None, 400, 404, 410])
async def test_the_words_about_a_device_that_is_gone(rig: Rig, status: int | None) -> None:
    await rig.kernel.settings.change({"amapi": {"unmanagedStatus": status}})
    d1 = f"{ENTERPRISE}/devices/d1"
    await rig.ask("DELETE", d1)
    text = "Requested entity was not found." if status is None else "Device is no longer being managed"
    answers = [
        await rig.issue(status=status or 404),
        await rig.ask("PATCH", d1, {"state": "DISABLED"}, status=status or 404),
        await rig.ask("DELETE", d1, status=status or 404),
    ]
    assert [answer["error"]["message"] for answer in answers] == [text] * 3
    assert (await rig.ask("GET", d1, status=404))["error"]["message"] == "Requested entity was not found."


async def test_purge_after_the_end(rig: Rig) -> None:
    rig.settings.purge_after = 86_400
    name = (await rig.issue())["name"]
    await rig.done(name)
    await rig.kernel.clock.advance(86_401)
    await rig.until(lambda: rig.emulator.book.find(name) is None)
    await rig.ask("GET", name, status=404)
    assert await rig.ask("GET", f"{ENTERPRISE}/devices/d1/operations") == {}
    await rig.cancel(name, status=404)


async def test_thousands_for_one_device(rig: Rig) -> None:
    await rig.set(online=False)
    names = [(await rig.issue())["name"] for _ in range(2000)]
    seen: list[str] = []
    query: dict[str, Any] = {"pageSize": 500}
    while True:
        page = await rig.ask("GET", f"{ENTERPRISE}/devices/d1/operations", **query)
        seen += [item["name"] for item in page["operations"]]
        if "nextPageToken" not in page:
            break
        query["pageToken"] = page["nextPageToken"]
    assert seen == names
    await rig.set(online=True)
    await rig.done(names[-1])
    assert rig.executed() == names
