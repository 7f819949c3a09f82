"""AOSP particulars: types, durations, devices without a push target, provider accounts (DECISIONS 28, 29)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.client import Json, Lab, data_of, error_of, fields_of
from tests.support.demo import Demo

TYPES: dict[str, Json] = {
    "LOCK": {},
    "REBOOT": {},
    "CLEAR_APP_DATA": {"packageNames": ["org.example.app"]},
    "RESET_PASSWORD": {"newPassword": "correct-horse-9"},
    "DISENROLL": {"wipeDataFlags": ["PRESERVE_RESET_PROTECTION_DATA"], "wipeReasonMessage": "sold"},
}
DAY = 86_400


@pytest.fixture(autouse=True)
def put_back(lab: Lab) -> Iterator[None]:
    """Tests here change the lab."""
    yield
    lab.restore()


@pytest.mark.parametrize("name", TYPES)
def test_every_type_reaches_the_agent_as_it_was_given(name: str, demo: Demo) -> None:
    agent = demo.api.new_device("aosp")
    params = {**TYPES[name], "free": [1, {"x": None}]}
    record = demo.api.create(agent.device, {"command": name, "params": params, "duration": 90})
    assert (record["command"], record["duration"], record["status"]) == (name, 90, "PENDING")
    [claimed] = agent.claim()
    assert (claimed["id"], claimed["type"], claimed["params"]) == (record["id"], name, params)
    assert 0 < claimed["expiresInMs"] <= 90_000


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("device", ["aosp-builtin-online", "aosp-pushy-online"])
def test_every_type_runs_once(name: str, device: str, demo: Demo, lab: Lab) -> None:
    where = demo[device]
    record = demo.api.over(where, demo.api.create(where, {"command": name, "params": TYPES[name]})["id"])
    assert (record["status"], record["aosDevice"]) == ("DONE", where.id)
    ran = [item["type"] for item in lab.journal(where, "executed") if item["commandId"] == record["id"]]
    assert ran == [name]


@pytest.mark.parametrize("name", ["START_LOST_MODE", "WIPE", "ADD_ESIM", "RELINQUISH_OWNERSHIP"])
def test_types_of_android_alone_are_refused(name: str, demo: Demo) -> None:
    assert fields_of(demo.api.post(demo["aosp-builtin-online"].commands, {"command": name})) == ["command"]


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"command": "CLEAR_APP_DATA"}, ["params.packageNames"]),
        ({"command": "CLEAR_APP_DATA", "params": {"packageNames": []}}, ["params.packageNames"]),
        ({"command": "CLEAR_APP_DATA", "params": {"packageNames": "org.example"}}, ["params.packageNames"]),
        ({"command": "RESET_PASSWORD"}, ["params.newPassword"]),
        ({"command": "DISENROLL", "params": {"wipeDataFlags": "X"}}, ["params.wipeDataFlags"]),
        ({"command": "LOCK", "params": {"d": "x" * 70_000}}, ["params"]),
    ],
)
def test_parameters_that_a_type_needs(body: Json, named: list[str], demo: Demo) -> None:
    assert fields_of(demo.api.post(demo["aosp-builtin-offline"].commands, body)) == named


# ---------------------------------------------------------------- durations


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("absent", [{}, {"duration": 0}, {"duration": 0.0}, {"duration": None}, {"duration": 1e-9}])
def test_no_duration_or_zero_is_the_default_of_the_type(name: str, absent: Json, demo: Demo) -> None:
    agent = demo.api.new_device("aosp")
    record = demo.api.create(agent.device, {"command": name, "params": TYPES[name], **absent})
    expected = {"REBOOT": 600, "RESET_PASSWORD": 3600, "DISENROLL": 7 * DAY}.get(name, DAY)
    assert record["duration"] == expected
    assert life(record) == timedelta(seconds=expected)


def life(record: Json) -> timedelta:
    return datetime.fromisoformat(record["expiresAt"]) - datetime.fromisoformat(record["createdAt"])


@pytest.mark.parametrize("duration", [1, 60, 0.25, 1.5, 1e3, 31_536_000, 3_153_600_000])
def test_durations_are_seconds(duration: float, demo: Demo) -> None:
    agent = demo.api.new_device("aosp")
    record = demo.api.create(agent.device, {"command": "LOCK", "duration": duration})
    assert record["duration"] == duration
    assert life(record) == timedelta(seconds=duration)


@pytest.mark.sqlite_only
@pytest.mark.parametrize("duration", ["60", "60s", True, False, -1, -0.001, [], {}, 1e12, 1e300, 10**30])
def test_what_is_no_duration(duration: Any, demo: Demo) -> None:
    body = {"command": "LOCK", "duration": duration}
    assert fields_of(demo.api.post(demo["aosp-builtin-offline"].commands, body)) == ["duration"]


@pytest.mark.sqlite_only
@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"0x10", b"1_000", b"+1", b".5"])
def test_what_is_no_number(text: bytes, demo: Demo) -> None:
    body = b'{"command":"LOCK","duration":' + text + b"}"
    assert error_of(demo.api.post(demo["aosp-builtin-offline"].commands, body)) == (400, 5209)


# ---------------------------------------------------------------- devices


def test_a_device_without_a_push_target_takes_commands(demo: Demo) -> None:
    agent = demo.api.new_device("aosp")
    ids = [demo.api.create(agent.device, "LOCK")["id"] for _ in range(3)]
    claimed = agent.check_in(claim=10)["commands"]
    assert [found["id"] for found in claimed] == ids


def test_aosp_devices_have_ids_only(demo: Demo) -> None:
    device = demo["aosp-builtin-online"]
    parent = "mdm/aosp/enterprise/devices"
    for path in ("", "/commands"):
        for name in (device.id, device.all_platform_id):
            assert demo.api.get(f"{parent}/{name}{path}").status_code == 200
        assert error_of(demo.api.get(f"{parent}/{device.serial_number}{path}")) == (404, 3001)


def test_a_command_belongs_to_its_device(demo: Demo) -> None:
    one, other = demo["aosp-builtin-offline"], demo["aosp-pushy-offline"]
    command = demo.api.create(one, "LOCK")["id"]
    for path in (f"{other.commands}/{command}", f"{other.commands}/{command}/push-status"):
        assert error_of(demo.api.get(path)) == (404, 3001)
    assert error_of(demo.api.post(f"{other.commands}/{command}/cancel")) == (404, 3001)
    android = demo["android-offline"]
    assert error_of(demo.api.get(f"{android.commands}/{command}")) == (404, 3001)
    assert demo.api.command(one, command)["status"] == "PENDING"


# ---------------------------------------------------------------- providers


def test_a_device_names_its_account(demo: Demo, lab: Lab) -> None:
    """Device over default: the account of the device is the one that is used."""
    key = "1" * 40
    account = demo.api.setup(
        "provider.add", provider="pushy", config={"apiKey": key, "baseUrl": demo.ready["lab"]["pushyUrl"]}
    )
    agent = demo.api.new_device("aosp", providerAccount=account["id"].upper())
    shown = data_of(demo.api.get(f"mdm/aosp/enterprise/devices/{agent.device.id}"))
    assert shown["pushNotificationProvider"] == account["id"]
    agent.register(provider="pushy", token="2" * 30)
    sent = data_of(demo.api.send("aosp", agent.device.id))
    assert demo.api.push(sent["id"], 30)["status"] == "rejected"  # no such token under that key
    used = {r["query"] for r in lab.requests("pushy") if sent["id"] in r["body"]}
    assert used == {f"api_key={key}"}


def test_the_account_of_another_organization_is_none(demo: Demo) -> None:
    foreign = demo.new_organization().setup("provider.add", provider="pushy", config={"apiKey": "a1"})["id"]
    answers = [
        demo.api.post("setup/device.add", {"platform": "aosp", "providerAccount": account})
        for account in (foreign, "0" * 24)
    ]
    assert [fields_of(answer) for answer in answers] == [["providerAccount"]] * 2
    assert answers[0].content == answers[1].content


def test_parameters_never_travel_with_the_push(demo: Demo, lab: Lab) -> None:
    """However large they are, the wake-up is small, and Pushy sees nothing of them."""
    device = demo["aosp-pushy-online"]
    params = {"packageNames": ["org.example.app"], "note": "n" * 20_000}
    record = demo.api.over(device, demo.api.create(device, {"command": "CLEAR_APP_DATA", "params": params})["id"])
    assert (record["status"], record["params"]) == ("DONE", params)
    bodies = [json.loads(r["body"])["data"] for r in lab.requests("pushy") if record["id"] in r["body"]]
    assert bodies
    assert all(set(body) == {"id", "kind", "expiresInMs", "commandId"} for body in bodies)
