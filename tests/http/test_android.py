"""Android particulars: types, parameters, durations, aliases (DECISIONS 5, 24, 26, 27)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import Device, HandDevice, Json, Lab, data_of, error_of, fields_of
from tests.support.demo import Demo

MESSAGE = {"defaultMessage": "Call me", "localizedMessages": {"de": "Ruf an"}}
# Each documented type: the body, and what Google must get besides `type` and `duration`.
TYPES: dict[str, tuple[Json, Json]] = {
    "LOCK": ({}, {}),
    "REBOOT": ({}, {}),
    "RESET_PASSWORD": (
        {"newPassword": "correct-horse-9", "resetPasswordFlags": ["REQUIRE_ENTRY", "LOCK_NOW"]},
        {"newPassword": "correct-horse-9", "resetPasswordFlags": ["REQUIRE_ENTRY", "LOCK_NOW"]},
    ),
    "START_LOST_MODE": (
        {"startLostModeParams": {"lostMessage": MESSAGE, "lostEmailAddress": "a@example.org"}},
        {"startLostModeParams": {"lostMessage": MESSAGE, "lostEmailAddress": "a@example.org"}},
    ),
    "STOP_LOST_MODE": ({"stopLostModeParams": {}}, {"stopLostModeParams": {}}),
    "CLEAR_APP_DATA": (
        {"clearAppsDataParams": {"packageNames": ["org.example.app"]}},
        {"clearAppsDataParams": {"packageNames": ["org.example.app"]}},
    ),
    "ADD_ESIM": (
        {"addEsimParams": {"carrierName": "Carrier", "activationCode": "LPA:1$x$y"}},
        {"addEsimParams": {"activationCode": "LPA:1$x$y", "activationState": "NOT_ACTIVATED"}},
    ),
    "REMOVE_ESIM": (
        {"removeEsimParams": {"iccid": "8949000000000000001"}},
        {"removeEsimParams": {"iccId": "8949000000000000001"}},
    ),
}
# The demo's devices are fully managed; one of these works on other devices only.
DOCUMENTED = {**TYPES, "RELINQUISH_OWNERSHIP": ({}, {})}


@pytest.fixture(autouse=True)
def put_back(lab: Lab) -> Iterator[None]:
    """Tests here change the lab."""
    yield
    lab.restore()


def sent_to_google(lab: Lab, record: Json) -> Json:
    """The body of the request that made the record's operation."""
    name = record["_config"]["name"].partition("/operations/")[0]
    bodies = [json.loads(r["body"]) for r in lab.requests("amapi") if r["path"] == f"/v1/{name}:issueCommand"]
    body: Json = bodies[-1]
    return body


def issued(demo: Demo, device: Device, body: Json) -> Json:
    """The record once Google has accepted it."""
    command = data_of(demo.api.post(device.commands, body))
    return demo.api.until(device, command["id"], lambda found: found["_config"] != {})


# ---------------------------------------------------------------- 24


@pytest.mark.parametrize("name", TYPES)
def test_every_documented_type_reaches_google_as_it_should(name: str, demo: Demo, lab: Lab) -> None:
    device = demo["android-offline"]
    body, expected = TYPES[name]
    record = issued(demo, device, {"type": name, "duration": "120s", **body})
    assert sent_to_google(lab, record) == {"type": name, "duration": "120s", **expected}
    assert record["config"]["metadata"]["type"] == name
    data_of(demo.api.cancel(device, record["id"]))


@pytest.mark.parametrize("name", TYPES)
def test_every_documented_type_runs(name: str, demo: Demo, lab: Lab) -> None:
    device = demo["android-online"]
    body, _ = TYPES[name]
    record = demo.api.over(device, data_of(demo.api.post(device.commands, {"type": name, **body}))["id"])
    assert (record["status"], record["progress"]["rung"]) == ("DONE", "succeeded")
    assert [i["operation"] for i in lab.journal(device, "executed")].count(record["_config"]["name"]) == 1


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_device_of_which_nothing_is_known_takes_every_documented_type(name: str, demo: Demo) -> None:
    device = new_device(demo, f"unknown-{name.lower()}").device
    record = data_of(demo.api.post(device.commands, {"type": name, **DOCUMENTED[name][0]}))
    assert record["status"] == "PENDING"
    assert record["config"]["metadata"]["type"] == name


@pytest.mark.parametrize("name", ["COMMAND_TYPE_UNSPECIFIED", "DISENROLL"])
def test_other_types_are_refused(name: str, demo: Demo, lab: Lab) -> None:
    device = demo["android-online"]
    before = len(lab.requests("amapi"))
    assert fields_of(demo.api.post(device.commands, {"type": name})) == ["type"]
    assert not [r for r in lab.requests("amapi")[before:] if name in r["body"]]


@pytest.mark.parametrize("spelling", ["iccid", "iccId"])
def test_both_spellings_of_an_icc_id_work(spelling: str, demo: Demo, lab: Lab) -> None:
    device = demo["android-offline"]
    record = issued(demo, device, {"removeEsimParams": {spelling: "8949000000000000002"}})
    assert sent_to_google(lab, record)["removeEsimParams"] == {"iccId": "8949000000000000002"}


@pytest.mark.parametrize("state", ["ACTIVATED", "NOT_ACTIVATED"])
def test_the_activation_state_is_passed_on(state: str, demo: Demo, lab: Lab) -> None:
    params = {"activationCode": "LPA:1$x$z", "activationState": state}
    record = issued(demo, demo["android-offline"], {"type": "ADD_ESIM", "addEsimParams": params})
    assert sent_to_google(lab, record)["addEsimParams"] == params


# ---------------------------------------------------------------- 26


@pytest.mark.parametrize("name", [n for n in TYPES if TYPES[n][0]])
def test_without_a_type_the_parameters_name_it(name: str, demo: Demo) -> None:
    record = data_of(demo.api.post(demo["android-offline"].commands, TYPES[name][0]))
    assert record["config"]["metadata"]["type"] == name
    data_of(demo.api.cancel(demo["android-offline"], record["id"]))


@pytest.mark.parametrize("name", TYPES)
def test_parameters_of_another_type_are_refused(name: str, demo: Demo) -> None:
    for other in (n for n in TYPES if n != name and TYPES[n][0]):
        body = {"type": name, **TYPES[name][0], **TYPES[other][0]}
        assert fields_of(demo.api.post(demo["android-offline"].commands, body)) == list(TYPES[other][0])


@pytest.mark.sqlite_only
def test_without_a_type_two_sets_of_parameters_are_refused(demo: Demo) -> None:
    body = {**TYPES["STOP_LOST_MODE"][0], **TYPES["CLEAR_APP_DATA"][0]}
    assert "type" in fields_of(demo.api.post(demo["android-offline"].commands, body))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"type": "LOCK", "wipeParams": {}}, ["wipeParams"]),
        ({"type": "WIPE", "requestDeviceInfoParams": {}}, ["requestDeviceInfoParams"]),
        ({"type": "WIPE", "wipeParams": {"wipeDataFlag": ["WIPE_ESIMS"]}}, ["wipeParams.wipeDataFlag"]),
        ({"type": "LOCK", "wipeParams": {"wipeDataFlags": ["WIPE_EXTERNAL_STORAGE"]}}, ["wipeParams"]),
        ({"type": "REBOOT", "requestDeviceInfoParams": {"deviceInfo": "EID"}}, ["requestDeviceInfoParams"]),
        ({"wipeParams": {}, "stopLostModeParams": {}}, ["type", "wipeParams", "stopLostModeParams"]),
    ],
)
def test_a_wipe_does_not_slip_past(body: Json, named: list[str], demo: Demo, lab: Lab) -> None:
    before = len(lab.requests("amapi"))
    key = demo.key("*", "mdm.android.command.wipe", "mdm.android.command.requestDeviceInfo")
    assert fields_of(key.post(demo["android-online"].commands, body)) == named
    assert fields_of(demo.api.post(demo["android-online"].commands, body))[0] in (*named, "type")
    assert not [r for r in lab.requests("amapi")[before:] if "wipe" in r["body"].lower()]


@pytest.mark.parametrize(
    "more",
    [
        {"wipe_params": {}},
        {"wipeParams": None},
        {"errorCode": "X"},
        {"userName": "x"},
        {"createTime": "x", "@type": "y"},
    ],
)
def test_only_what_was_checked_is_sent(more: Json, demo: Demo, lab: Lab) -> None:
    """Google would read some of these; whatever is not ours is not passed on."""
    record = issued(demo, demo["android-offline"], {"type": "LOCK", "duration": "60s", **more})
    assert sent_to_google(lab, record) == {"type": "LOCK", "duration": "60s"}


@pytest.mark.sqlite_only
def test_unknown_members_inside_parameters_are_not_sent(demo: Demo, lab: Lab) -> None:
    params = {"lostMessage": {**MESSAGE, "extra": 1}, "wipeParams": {}, "unknown": [1]}
    record = issued(demo, demo["android-offline"], {"type": "START_LOST_MODE", "startLostModeParams": params})
    assert sent_to_google(lab, record)["startLostModeParams"] == {"lostMessage": MESSAGE}


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "params", [{}, {"lostOrganization": MESSAGE}, {"lostMessage": {}}, {"lostEmailAddress": None}, {"unknown": 1}]
)
def test_lost_mode_needs_something_to_show(params: Json, demo: Demo) -> None:
    body = {"type": "START_LOST_MODE", "startLostModeParams": params}
    assert fields_of(demo.api.post(demo["android-offline"].commands, body)) == ["startLostModeParams"]


@pytest.mark.sqlite_only
def test_a_lost_message_may_be_longer_than_other_texts(demo: Demo) -> None:
    """UserFacingMessage takes 4096 characters."""
    for size, status in ((4096, 200), (4097, 400)):
        body = {"startLostModeParams": {"lostMessage": {"defaultMessage": "🛰" * size}}}
        assert demo.api.post(demo["android-offline"].commands, body).status_code == status


# ---------------------------------------------------------------- 27


@pytest.mark.parametrize("duration", ["1s", "3600s", "0.5s", "1.000000001s", "007s", "315360000s", "315576000000s"])
def test_durations(duration: str, demo: Demo, lab: Lab) -> None:
    device = demo["android-offline"]
    record = data_of(demo.api.post(device.commands, {"type": "LOCK", "duration": duration}))
    assert record["config"]["metadata"]["duration"] == duration
    after = demo.api.until(device, record["id"], lambda found: found["_config"] != {} or found["status"] != "PENDING")
    if after["_config"]:
        assert sent_to_google(lab, after)["duration"] == duration


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "duration",
    [
        "",
        "s",
        "1",
        "1h",
        "1 s",
        " 1s",
        "1s ",
        "-1s",
        "+1s",
        "1.s",
        ".5s",
        "1.0000000001s",
        "1e3s",
        "1S",
        "١s",
        "1s\n",
        "315576000001s",
        "9" * 300 + "s",
        60,
        True,
        {},
    ],
)
def test_what_is_no_duration(duration: Any, demo: Demo) -> None:
    assert fields_of(demo.api.post(demo["android-offline"].commands, {"type": "LOCK", "duration": duration})) == [
        "duration"
    ]


@pytest.mark.parametrize("name", TYPES)
def test_a_duration_is_always_sent(name: str, demo: Demo, lab: Lab) -> None:
    """With a default for each type."""
    device = demo["android-offline"]
    record = issued(demo, device, {"type": name, **TYPES[name][0]})
    duration = sent_to_google(lab, record)["duration"]
    assert duration.endswith("s")
    assert int(duration[:-1]) >= 600
    assert record["config"]["metadata"]["duration"] == duration
    data_of(demo.api.cancel(device, record["id"]))


def test_a_restart_that_is_late_is_not_wanted(demo: Demo) -> None:
    """The default of REBOOT is short, that of the others at least an hour."""
    device = demo["android-offline"]
    lives = {}
    for name, (body, _) in TYPES.items():
        record = data_of(demo.api.post(device.commands, {"type": name, **body}))
        lives[name] = int(record["config"]["metadata"]["duration"][:-1])
        data_of(demo.api.cancel(device, record["id"]))
    assert lives.pop("REBOOT") == 600
    assert min(lives.values()) >= 3600


# ---------------------------------------------------------------- 5


def new_device(demo: Demo, suffix: str, **more: str) -> HandDevice:
    return demo.api.new_device("android", externalName=f"enterprises/LC0demo0001/devices/alias-{suffix}", **more)


@pytest.fixture(scope="session")
def aliased(demo: Demo) -> HandDevice:
    """A device with every alias."""
    aliases = {"serialNumber": "SER1AL_0001", "imei": "356938035643809", "enrollmentSpecificId": "ESID_0001"}
    return new_device(demo, "a", **aliases)


class TestAliases:
    """`{emmDeviceId}` is an id or an alias; two devices of one alias are none."""

    def test_each_names_the_device(self, demo: Demo, aliased: HandDevice) -> None:
        device = aliased.device
        command = demo.api.create(device, "LOCK")["id"]
        parent = "mdm/android/enterprise/devices"
        names = [device.id, device.id.upper(), device.all_platform_id, "SER1AL_0001", "356938035643809", "ESID_0001"]
        for path in ("", "/commands", f"/commands/{command}"):
            answers = {data_of(demo.api.get(f"{parent}/{name}{path}")).get("id", "a list") for name in names}
            assert len(answers) == 1
        for name in names:
            created = data_of(demo.api.post(f"{parent}/{name}/commands", {"type": "LOCK"}))
            assert demo.api.command(device, created["id"])["id"] == created["id"]
            cancelled = demo.api.post(f"{parent}/{name}/commands/{created['id']}/cancel")
            assert cancelled.status_code == 200 or error_of(cancelled) == (400, 5052)

    @pytest.mark.sqlite_only
    @pytest.mark.parametrize(
        "name", ["ser1al_0001", "SER1AL_000", "SER1AL_0001%20", "SER1AL%", "%25", "SER1AL_0001%00", "35693803564380"]
    )
    def test_is_read_exactly(self, name: str, demo: Demo, aliased: HandDevice) -> None:
        assert error_of(demo.api.get(f"mdm/android/enterprise/devices/{name}")) == (404, 3001)

    def test_of_two_devices_is_none_and_says_so_in_the_log(self, demo: Demo) -> None:
        first = new_device(demo, "b", serialNumber="TWICE_0001")
        second = new_device(demo, "c", imei="TWICE_0001")
        for path in ("", "/commands"):
            assert error_of(demo.api.get(f"mdm/android/enterprise/devices/TWICE_0001{path}")) == (404, 3001)
        assert error_of(demo.api.post("mdm/android/enterprise/devices/TWICE_0001/commands", {"type": "LOCK"})) == (
            404,
            3001,
        )
        said = [line for line in demo.stderr().splitlines() if "alias_ambiguous" in line]
        assert len(said) == 3
        assert all(first.device.id in line and second.device.id in line for line in said)
        for device in (first.device, second.device):
            assert data_of(demo.api.get(f"mdm/android/enterprise/devices/{device.id}"))["id"] == device.id

    def test_that_one_device_has_twice_names_it(self, demo: Demo) -> None:
        device = new_device(demo, "d", serialNumber="BOTH_0001", enrollmentSpecificId="BOTH_0001").device
        assert data_of(demo.api.get("mdm/android/enterprise/devices/BOTH_0001"))["id"] == device.id

    def test_that_looks_like_an_id_is_found(self, demo: Demo) -> None:
        device = new_device(demo, "e", serialNumber="ABCDEFABCDEFABCDEFABCDEF").device
        assert data_of(demo.api.get("mdm/android/enterprise/devices/ABCDEFABCDEFABCDEFABCDEF"))["id"] == device.id

    def test_of_another_organization_or_platform_is_none(self, demo: Demo, aliased: HandDevice) -> None:
        answer = demo.other.get("mdm/android/enterprise/devices/SER1AL_0001")
        assert error_of(answer) == (404, 3001)
        serial = demo["aosp-builtin-online"].serial_number
        assert error_of(demo.api.get(f"mdm/android/enterprise/devices/{serial}")) == (404, 3001)
        assert error_of(demo.api.get(f"mdm/aosp/enterprise/devices/{serial}")) == (404, 3001)
        assert error_of(demo.api.get("mdm/devices/SER1AL_0001")) == (404, 3001)

    def test_the_demo_devices_have_serial_numbers(self, demo: Demo) -> None:
        device = demo["android-online"]
        assert data_of(demo.api.get(f"mdm/android/enterprise/devices/{device.serial_number}"))["id"] == device.id


def test_a_device_of_another_platform_takes_no_android_command(demo: Demo) -> None:
    for name in ("aosp-builtin-online", "package-online"):
        for identifier in (demo[name].id, demo[name].all_platform_id):
            path = f"mdm/android/enterprise/devices/{identifier}/commands"
            assert error_of(demo.api.post(path, {"type": "LOCK"})) == (404, 3001)
