"""The two types behind permissions of their own, and which types work on which devices, through the API."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.support.client import Api, HandDevice, Json, Lab, data_of, error_of, fields_of
from tests.support.demo import Demo

CREATE = "mdm.android.command.create"
WIPE = "mdm.android.command.wipe"
INFO = "mdm.android.command.requestDeviceInfo"
FULL = {"managementMode": "DEVICE_OWNER", "ownership": "COMPANY_OWNED"}
COMPANY = {"managementMode": "PROFILE_OWNER", "ownership": "COMPANY_OWNED"}
PERSONAL = {"managementMode": "PROFILE_OWNER", "ownership": "PERSONALLY_OWNED"}
_numbers = itertools.count(1)

# How a wipe, or a request of device information, can be written.
WRITTEN: list[tuple[str, Json]] = [
    (WIPE, {"type": "WIPE"}),
    (WIPE, {"type": "WIPE", "wipeParams": {}}),
    (WIPE, {"wipeParams": {}}),
    (WIPE, {"type": None, "wipeParams": {"wipeDataFlags": ["PRESERVE_RESET_PROTECTION_DATA"]}}),
    (WIPE, {"wipeParams": {"wipeReason": {"defaultMessage": "bye"}}, "stopLostModeParams": None}),
    (INFO, {"type": "REQUEST_DEVICE_INFO"}),
    (INFO, {"requestDeviceInfoParams": {"deviceInfo": "EID"}}),
]


def a_device(demo: Demo, **told: Any) -> HandDevice:
    """A device that is in the server's books alone: nothing happens to it."""
    name = f"types-{next(_numbers)}"
    return demo.api.new_device("android", name, externalName=f"enterprises/LC0demo0001/devices/{name}", **told)


def commands_of(api: Api, device: HandDevice) -> int:
    total: int = data_of(api.get(device.device.commands))["totalDocs"]
    return total


@pytest.mark.parametrize(("needed", "body"), WRITTEN)
def test_the_right_to_create_is_not_enough(needed: str, body: Json, demo: Demo, lab: Lab) -> None:
    device = a_device(demo)
    others = [p for p in (WIPE, INFO) if p != needed]
    for granted in ((CREATE,), (CREATE, *others), ("*",), ("mdm.android.*",), ("mdm.android.command.*",)):
        assert fields_of(demo.key(*granted).post(device.device.commands, body)) == ["type"]
    # Neither is the type's own: it comes on top.
    assert error_of(demo.key(needed).post(device.device.commands, body)) == (401, 4001)
    assert commands_of(demo.api, device) == 0
    asked = [found["path"] for found in lab.requests("amapi")]
    assert not [path for path in asked if path.endswith(f"/devices/{device.device.name}:issueCommand")]


@pytest.mark.parametrize("granted", [("*", WIPE, INFO), (CREATE, WIPE, INFO)])
def test_with_it_both_are_taken(granted: tuple[str, ...], demo: Demo) -> None:
    key = demo.key(*granted)
    for needed, body in WRITTEN:
        record = data_of(key.post(a_device(demo).device.commands, body))
        kind = "WIPE" if needed == WIPE else "REQUEST_DEVICE_INFO"
        assert (record["status"], record["config"]["metadata"]["type"]) == ("PENDING", kind)


def test_the_permission_comes_before_the_body_and_the_device(demo: Demo) -> None:
    """To a key without it the type is not offered, and nothing else is said."""
    key, full = demo.key(CREATE), demo.key("*", WIPE)
    nobody = "mdm/android/enterprise/devices/65f0c0ffee00000000000000/commands"
    for body in ({"wipeParams": 1}, {"type": "WIPE", "duration": "soon"}, {"type": "WIPE", "wipeParams": {"x": 1}}):
        assert fields_of(key.post(nobody, body)) == ["type"]
        assert "type" not in fields_of(full.post(nobody, body))
    assert error_of(full.post(nobody, {"type": "WIPE"})) == (404, 3001)
    assert error_of(key.post(nobody, {"type": "LOCK"})) == (404, 3001)
    assert fields_of(key.post(nobody, {"type": "LOCK", "wipeParams": {}})) == ["wipeParams"]


@pytest.mark.parametrize("held", [(CREATE,), ("*",), ("mdm.*",), ("mdm.android.command.*",)])
@pytest.mark.parametrize("permission", [WIPE, INFO])
def test_a_key_cannot_hand_on_what_it_does_not_hold(permission: str, held: tuple[str, ...], demo: Demo) -> None:
    """Nor make itself a key that may erase devices: no prefix that it holds is more to its children than to itself."""
    key = demo.key("base.apiKey.create", *held)
    assert error_of(key.post("setup/key.create", {"permissions": [permission]})) == (401, 4001)
    assert error_of(key.post("setup/key.create", {"permissions": [CREATE, permission]})) == (401, 4001)
    for wanted in (CREATE, *held):
        assert data_of(key.post("setup/key.create", {"permissions": [wanted]}))["permissions"] == [wanted]


def test_a_key_hands_on_what_it_holds_by_name(demo: Demo) -> None:
    key = demo.key("*", WIPE)
    assert data_of(key.post("setup/key.create", {"permissions": ["mdm.android.*", WIPE]}))["permissions"][1:] == [WIPE]
    assert error_of(key.post("setup/key.create", {"permissions": [INFO]})) == (401, 4001)


LOST = {"startLostModeParams": {"lostEmailAddress": "a@example.org"}}
ESIM = {"addEsimParams": {"activationCode": "LPA:1$x$y", "activationState": "ACTIVATED"}}
UNFIT: list[tuple[Json, Json, str]] = [
    ({"type": "REBOOT"}, PERSONAL, "type"),
    ({"type": "REBOOT"}, COMPANY, "type"),
    (LOST, PERSONAL, "type"),
    ({"stopLostModeParams": {}}, PERSONAL, "type"),
    ({"type": "RELINQUISH_OWNERSHIP"}, PERSONAL, "type"),
    ({"type": "REQUEST_DEVICE_INFO"}, FULL, "type"),
    ({"type": "REQUEST_DEVICE_INFO"}, COMPANY, "type"),
    ({"type": "REQUEST_DEVICE_INFO"}, PERSONAL | {"apiLevel": 32}, "type"),
    (ESIM, PERSONAL, "addEsimParams.activationState"),
    (ESIM, FULL | {"apiLevel": 34}, "type"),
    ({"removeEsimParams": {"iccid": "1"}}, COMPANY | {"apiLevel": 34}, "type"),
    ({"clearAppsDataParams": {"packageNames": ["a.b"]}}, FULL | {"apiLevel": 27}, "type"),
    ({"type": "RESET_PASSWORD", "newPassword": "80317"}, FULL | {"apiLevel": 34}, "newPassword"),
]


@pytest.mark.parametrize(("body", "told", "member"), UNFIT)
def test_what_cannot_work_is_refused_with_a_reason(body: Json, told: Json, member: str, demo: Demo) -> None:
    device = a_device(demo, **told)
    answer = demo.key("*", INFO).post(device.device.commands, body)
    assert fields_of(answer) == [member]
    reason = answer.json()["error"]["data"]["fields"][0]["reason"]
    assert len(reason.split()) > 4
    assert "80317" not in answer.text
    assert commands_of(demo.api, device) == 0


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"type": "REBOOT"}, FULL | {"apiLevel": 24}),
        (LOST, FULL), (LOST, COMPANY | {"apiLevel": 33}),
        ({"type": "RELINQUISH_OWNERSHIP"}, COMPANY),
        ({"type": "RELINQUISH_OWNERSHIP"}, FULL),
        ({"type": "REQUEST_DEVICE_INFO"}, PERSONAL | {"apiLevel": 33}),
        ({"type": "WIPE"}, PERSONAL), ({"type": "WIPE"}, COMPANY), ({"type": "WIPE"}, FULL | {"apiLevel": 1}),
        (ESIM, COMPANY),
    ],
)  # fmt: skip
def test_what_can_work_is_taken(body: Json, told: Json, demo: Demo) -> None:
    key = demo.key("*", WIPE, INFO)
    assert data_of(key.post(a_device(demo, **told).device.commands, body))["status"] == "PENDING"


def test_an_api_level_is_a_small_number(demo: Demo) -> None:
    a_device(demo, apiLevel=34)
    wrong: tuple[Any, ...] = (0, -1, 1.5, "34", True, 10_001)
    for value in wrong:
        answer = demo.api.post("setup/device.add", {"platform": "android", "apiLevel": value})
        assert fields_of(answer) == ["apiLevel"]
