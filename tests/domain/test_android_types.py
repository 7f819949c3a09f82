"""The catalog of Android types: what is asked, on which devices it works, and how its outcome is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from heliograph.domain.catalog import ANDROID_TYPES, TYPES, android_type
from heliograph.domain.command_types import AmapiForm, read_operation
from heliograph.domain.devices import Device
from heliograph.domain.errors import FieldError
from heliograph.domain.fields import Fields
from heliograph.domain.ladder import Cancelled, Event, Expired, Failed, Succeeded
from heliograph.domain.management import Mode, depends_on_mode, mode_of, refusal_of
from heliograph.domain.permissions import PERMISSIONS, allows

FULL, COMPANY, PERSONAL = Mode
NOW, LATER = 1_000, 60_000_000


def a_device(mode: Mode | None = None, level: int | None = None) -> Device:
    told = {
        FULL: ("DEVICE_OWNER", "COMPANY_OWNED"),
        COMPANY: ("PROFILE_OWNER", "COMPANY_OWNED"),
        PERSONAL: ("PROFILE_OWNER", "PERSONALLY_OWNED"),
        None: (None, None),
    }[mode]
    return Device(
        id="d", organization_id="o", all_platform_id="a", platform="android", enterprise_id="e", name="",
        state="ACTIVE", created_at=0, updated_at=0, management_mode=told[0], ownership=told[1],
        facts={} if level is None else {"apiLevel": level},
    )  # fmt: skip


def form_of(name: str) -> AmapiForm:
    form = TYPES[name].amapi
    assert form is not None
    return form


def code_of(name: str, device: Device, **params: Any) -> tuple[str, str] | None:
    form = form_of(name)
    found = refusal_of(name, form.works, form.limits, params, device)
    return None if found is None else (found.member, found.code)


# The whole table, written a second time: mode → lowest API level; a mode that is not there is refused.
WORKS: dict[str, dict[Mode, int]] = {
    "LOCK": {FULL: 0, COMPANY: 0, PERSONAL: 0},
    "RESET_PASSWORD": {FULL: 0, COMPANY: 0, PERSONAL: 0},
    "REBOOT": {FULL: 24},
    "RELINQUISH_OWNERSHIP": {FULL: 26, COMPANY: 26},
    "CLEAR_APP_DATA": {FULL: 28, COMPANY: 28, PERSONAL: 28},
    "START_LOST_MODE": {FULL: 30, COMPANY: 33},
    "STOP_LOST_MODE": {FULL: 30, COMPANY: 33},
    "REQUEST_DEVICE_INFO": {PERSONAL: 33},
    "ADD_ESIM": {FULL: 35, COMPANY: 35, PERSONAL: 35},
    "REMOVE_ESIM": {FULL: 35, COMPANY: 35, PERSONAL: 35},
    "WIPE": {FULL: 0, COMPANY: 0, PERSONAL: 0},
}


def test_there_are_eleven() -> None:
    assert sorted(WORKS) == sorted(ANDROID_TYPES)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("name", WORKS)
def test_where_each_works(name: str, mode: Mode) -> None:
    lowest = WORKS[name].get(mode)
    if lowest is None:
        for level in (None, 1, 99):
            assert code_of(name, a_device(mode, level)) == ("type", "MANAGEMENT_MODE")
        return
    assert code_of(name, a_device(mode)) is None
    assert code_of(name, a_device(mode, max(lowest, 1))) is None
    if lowest:
        assert code_of(name, a_device(mode, lowest - 1)) == ("type", "API_LEVEL")


@pytest.mark.parametrize("name", WORKS)
def test_of_an_unknown_device_only_what_is_true_of_all_is_refused(name: str) -> None:
    assert code_of(name, a_device()) is None
    least = min(WORKS[name].values())
    assert code_of(name, a_device(level=max(least, 1))) is None
    if least:
        assert code_of(name, a_device(level=least - 1)) == ("type", "API_LEVEL")


@pytest.mark.parametrize("name", WORKS)
def test_which_need_the_mode_to_be_known(name: str) -> None:
    form = form_of(name)
    assert depends_on_mode(form.works, form.limits, {}) == (len(WORKS[name]) < 3)


def test_an_activated_esim_is_not_for_personal_devices() -> None:
    where = ("addEsimParams.activationState", "MANAGEMENT_MODE")
    assert code_of("ADD_ESIM", a_device(PERSONAL), activationState="ACTIVATED") == where
    assert code_of("ADD_ESIM", a_device(PERSONAL), activationState="NOT_ACTIVATED") is None
    for mode in (FULL, COMPANY, None):
        assert code_of("ADD_ESIM", a_device(mode, 35), activationState="ACTIVATED") is None
    form = form_of("ADD_ESIM")
    assert depends_on_mode(form.works, form.limits, {"activationState": "ACTIVATED"})
    assert not depends_on_mode(form.works, form.limits, {"activationState": "NOT_ACTIVATED"})


@pytest.mark.parametrize(
    ("password", "level", "is_refused"),
    [("12345", 34, True), ("12345", 36, True), ("12345", 33, False), ("123456", 34, False), ("1234a", 34, False),
     ("", 34, False), ("12345", None, False)],
)  # fmt: skip
def test_a_short_pin_is_not_for_android_14(password: str, level: int | None, is_refused: bool) -> None:
    found = code_of("RESET_PASSWORD", a_device(FULL, level), newPassword=password)
    assert found == (("newPassword", "INVALID_VALUE") if is_refused else None)


def test_a_refusal_says_what_it_is_in_words() -> None:
    form = form_of("REBOOT")
    mode = refusal_of("REBOOT", form.works, form.limits, {}, a_device(PERSONAL))
    level = refusal_of("REBOOT", form.works, form.limits, {}, a_device(FULL, 23))
    assert mode is not None
    assert level is not None
    assert mode.reason == (
        "REBOOT works only on a device that is fully managed; this one is personally owned with a work profile"
    )
    assert level.reason == "REBOOT needs Android 7.0 (API level 24) or later; this device has API level 23"


@pytest.mark.parametrize(
    ("mode", "ownership", "expected"),
    [
        ("DEVICE_OWNER", None, FULL), ("DEVICE_OWNER", "COMPANY_OWNED", FULL), ("PROFILE_OWNER", None, None),
        ("PROFILE_OWNER", "OWNERSHIP_UNSPECIFIED", None), (None, "PERSONALLY_OWNED", None),
        ("MANAGEMENT_MODE_UNSPECIFIED", "COMPANY_OWNED", None), (None, None, None),
    ],
)  # fmt: skip
def test_the_mode_is_known_or_it_is_not(mode: str | None, ownership: str | None, expected: Mode | None) -> None:
    assert mode_of(replace(a_device(), management_mode=mode, ownership=ownership)) is expected


# ---------------------------------------------------------------- what is asked


def read(name: str, body: dict[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
    form, fields = form_of(name), Fields(body)
    params = form.parse(fields)
    return ({} if fields.errors else form.encode(params.public | params.secret)), fields.errors


@pytest.mark.parametrize(
    ("name", "body", "sent"),
    [
        ("WIPE", {}, {"wipeParams": {}}),
        ("WIPE", {"wipeParams": None}, {"wipeParams": {}}),
        ("WIPE", {"wipeParams": {}}, {"wipeParams": {}}),
        ("WIPE", {"wipeParams": {"wipeDataFlags": [], "wipeReason": None}}, {"wipeParams": {}}),
        (
            "WIPE",
            {
                "wipeParams": {
                    "wipeDataFlags": ["PRESERVE_RESET_PROTECTION_DATA", "WIPE_ESIMS", "WIPE_EXTERNAL_STORAGE"]
                }
            },
            {
                "wipeParams": {
                    "wipeDataFlags": ["PRESERVE_RESET_PROTECTION_DATA", "WIPE_ESIMS", "WIPE_EXTERNAL_STORAGE"]
                }
            },
        ),
        (
            "WIPE",
            {"wipeParams": {"wipeReason": {"defaultMessage": "x" * 200, "localizedMessages": {"de": "y" * 200}}}},
            {"wipeParams": {"wipeReason": {"defaultMessage": "x" * 200, "localizedMessages": {"de": "y" * 200}}}},
        ),
        ("REQUEST_DEVICE_INFO", {}, {"requestDeviceInfoParams": {"deviceInfo": "EID"}}),
        (
            "REQUEST_DEVICE_INFO",
            {"requestDeviceInfoParams": {"deviceInfo": "EID"}},
            {"requestDeviceInfoParams": {"deviceInfo": "EID"}},
        ),
    ],
)
def test_what_is_sent_of_the_extensions(name: str, body: dict[str, Any], sent: dict[str, Any]) -> None:
    assert read(name, body) == (sent, [])


@pytest.mark.parametrize(
    ("name", "params", "named"),
    [
        ("WIPE", [], [""]),
        ("WIPE", "x", [""]),
        ("WIPE", {"wipeDataFlag": ["WIPE_ESIMS"]}, [".wipeDataFlag"]),
        ("WIPE", {"wipeDataFlags": ["WIPE_DATA_FLAG_UNSPECIFIED"]}, [".wipeDataFlags[0]"]),
        ("WIPE", {"wipeDataFlags": "WIPE_ESIMS"}, [".wipeDataFlags"]),
        ("WIPE", {"wipeReason": "bye"}, [".wipeReason"]),
        ("WIPE", {"wipeReason": {"text": "bye"}}, [".wipeReason.text"]),
        ("WIPE", {"wipeReason": {"defaultMessage": "x" * 201}}, [".wipeReason.defaultMessage"]),
        ("WIPE", {"wipeReason": {"localizedMessages": {"de": "y"}}}, [".wipeReason.defaultMessage"]),
        (
            "WIPE",
            {"wipeReason": {"defaultMessage": "x", "localizedMessages": {"de": "y" * 201, "d e": "z"}}},
            [".wipeReason.localizedMessages.de", ".wipeReason.localizedMessages.d e"],
        ),
        (
            "WIPE",
            {"wipeReason": {"defaultMessage": "x", "localizedMessages": {f"l{n}": "z" for n in range(201)}}},
            [".wipeReason.localizedMessages"],
        ),
        ("REQUEST_DEVICE_INFO", {"deviceInfo": "DEVICE_INFO_UNSPECIFIED"}, [".deviceInfo"]),
        ("REQUEST_DEVICE_INFO", {"deviceInfo": "IMEI"}, [".deviceInfo"]),
        ("REQUEST_DEVICE_INFO", {"deviceInfo": ["EID"]}, [".deviceInfo"]),
        ("REQUEST_DEVICE_INFO", {"eid": 1}, [".eid"]),
        ("REQUEST_DEVICE_INFO", 1, [""]),
    ],
)
def test_what_the_extensions_refuse(name: str, params: Any, named: list[str]) -> None:
    member = form_of(name).members[0]
    assert [error.path for error in read(name, {member: params})[1]] == [member + path for path in named]


@pytest.mark.parametrize("absent", [{}, {"type": None}])
@pytest.mark.parametrize("name", [n for n in WORKS if form_of(n).members])
def test_the_type_is_read_from_each_member_of_its_own(name: str, absent: dict[str, Any]) -> None:
    others = {member: None for n in WORKS if n != name for member in form_of(n).members}
    for member in form_of(name).members:
        values: tuple[Any, ...] = ({}, [], "", 0, False)
        for value in values:  # present, whatever it is: Google would take it for this type
            fields = Fields({**others, **absent, member: value})
            found = android_type(fields)
            assert found is not None
            assert found[0].name == name
            assert fields.errors == []


def test_two_members_or_none_leave_the_type_open() -> None:
    for body, named in (
        ({}, ["type"]),
        ({"type": None, "wipeParams": None}, ["type"]),
        ({"wipeParams": {}, "stopLostModeParams": {}}, ["type", "wipeParams", "stopLostModeParams"]),
    ):
        fields = Fields(body)
        assert android_type(fields) is None
        assert [error.path for error in fields.errors] == named


@pytest.mark.parametrize("name", WORKS)
def test_permissions_of_their_own(name: str) -> None:
    expected = {
        "WIPE": "mdm.android.command.wipe",
        "REQUEST_DEVICE_INFO": "mdm.android.command.requestDeviceInfo",
    }.get(name)
    assert form_of(name).permission == expected
    if expected is not None:
        assert expected in PERMISSIONS
        assert allows((expected,), expected)
        assert not any(allows((grant,), expected) for grant in ("*", "mdm.*", "mdm.android.*", "mdm.android.command.*"))
        assert not allows(("mdm.android.command.create", "mdm.aosp.*", "mdm.android.device.*"), expected)


def test_what_destroys_is_marked() -> None:
    destroys = {"WIPE", "RELINQUISH_OWNERSHIP", "RESET_PASSWORD", "CLEAR_APP_DATA", "REMOVE_ESIM"}
    assert {name for name in WORKS if TYPES[name].danger} == destroys
    assert {name for name in WORKS if form_of(name).ends_record} == {"WIPE", "RELINQUISH_OWNERSHIP"}
    assert form_of("WIPE").default_duration_s >= 30 * 24 * 3600


# ---------------------------------------------------------------- how the outcome is read

OWN = {
    "START_LOST_MODE": "startLostModeStatus",
    "STOP_LOST_MODE": "stopLostModeStatus",
    "REQUEST_DEVICE_INFO": "requestDeviceInfoStatus",
    "ADD_ESIM": "esimStatus",
    "REMOVE_ESIM": "esimStatus",
}
_ESIM_ERRORS = (
    "ERROR_SETUP_IN_PROGRESS", "ERROR_USER_DENIED", "INTERNAL_ERROR", "ERROR_ICC_ID_NOT_FOUND",
    "ERROR_MULTIPLE_ACTIVE_ESIMS_NO_AVAILABLE_SLOT",
)  # fmt: skip
GOOD = [
    ("START_LOST_MODE", "SUCCESS"), ("START_LOST_MODE", "ALREADY_IN_LOST_MODE"), ("STOP_LOST_MODE", "SUCCESS"),
    ("STOP_LOST_MODE", "NOT_IN_LOST_MODE"), ("REQUEST_DEVICE_INFO", "SUCCEEDED"), ("ADD_ESIM", "SUCCESS"),
    ("REMOVE_ESIM", "SUCCESS"),
]  # fmt: skip
BAD = [
    ("START_LOST_MODE", "RESET_PASSWORD_RECENTLY"), ("START_LOST_MODE", "USER_EXIT_LOST_MODE_RECENTLY"),
    ("REQUEST_DEVICE_INFO", "USER_DECLINED"), ("REQUEST_DEVICE_INFO", "UNSUPPORTED"),
    *((kind, status) for kind in ("ADD_ESIM", "REMOVE_ESIM") for status in _ESIM_ERRORS),
]  # fmt: skip
WAITING = [
    ("REQUEST_DEVICE_INFO", "PENDING_USER_ACTION"), ("ADD_ESIM", "IN_PROGRESS"), ("ADD_ESIM", "PENDING_USER_ACTION"),
    ("REMOVE_ESIM", "IN_PROGRESS"), ("REMOVE_ESIM", "PENDING_USER_ACTION"),
]  # fmt: skip


def outcome(name: str, now: int = NOW, done: bool = True, asked: Sequence[str] = (), **operation: Any) -> Event | None:
    """What an operation says; `asked` = the apps that CLEAR_APP_DATA was asked for."""
    params = {"packageNames": list(asked)} if asked else {}
    found = {"name": "o", "done": done, **operation}
    return read_operation(TYPES[name], found, params=params, now=now, expires_at=LATER)


def says(name: str, status: str, **more: Any) -> dict[str, Any]:
    return {"type": name, OWN[name]: {"status": status}, **more}


def reason_of(event: Event | None) -> str:
    assert isinstance(event, Failed)
    return event.reason.code


@pytest.mark.parametrize(("name", "status"), GOOD)
def test_its_own_word_of_success_goes_before_errors(name: str, status: str) -> None:
    found = outcome(name, metadata=says(name, status, errorCode="UNKNOWN"), error={"code": 13})
    assert isinstance(found, Succeeded)
    assert found.evidence["status"] == status


@pytest.mark.parametrize(("name", "status"), BAD)
def test_its_own_word_of_failure_is_the_reason(name: str, status: str) -> None:
    metadata = says(name, status, errorCode="UNKNOWN")
    assert reason_of(outcome(name, metadata=metadata)) == status
    assert reason_of(outcome(name, metadata=metadata, error={"code": 1})) == status


@pytest.mark.parametrize(("name", "status"), WAITING)
def test_what_waits_is_not_over_whatever_done_says(name: str, status: str) -> None:
    assert outcome(name, metadata=says(name, status)) is None
    assert outcome(name, metadata=says(name, status), done=False, now=LATER) is None
    # But it does not wait for ever, and an error ends it.
    assert isinstance(outcome(name, metadata=says(name, status), now=LATER), Expired)
    assert isinstance(outcome(name, metadata=says(name, status), error={"code": 1}), Cancelled)
    assert reason_of(outcome(name, metadata=says(name, status, errorCode="API_LEVEL"))) == "API_LEVEL"


@pytest.mark.parametrize("name", OWN)
def test_an_unspecified_status_says_nothing(name: str) -> None:
    metadata = says(name, "STATUS_UNSPECIFIED")
    assert isinstance(outcome(name, metadata=metadata), Succeeded)
    assert reason_of(outcome(name, metadata={**metadata, "errorCode": "UNSUPPORTED"})) == "UNSUPPORTED"


@pytest.mark.parametrize("name", WORKS)
def test_then_the_error_code_then_the_error_then_done(name: str) -> None:
    for code in ("UNKNOWN", "API_LEVEL", "MANAGEMENT_MODE", "INVALID_VALUE", "UNSUPPORTED"):
        assert reason_of(outcome(name, metadata={"errorCode": code}, error={"code": 13})) == code
    plain = {"errorCode": "COMMAND_ERROR_CODE_UNSPECIFIED"}
    assert isinstance(outcome(name, metadata=plain, error={"code": 1}), Cancelled)
    assert isinstance(outcome(name, metadata=plain, error={"code": 4}), Expired)
    assert isinstance(outcome(name, metadata=plain, error={}, now=LATER), Expired)
    assert reason_of(outcome(name, metadata=plain, error={"code": 13})) == "RPC_13"
    assert isinstance(outcome(name, metadata=plain), Succeeded)
    assert outcome(name, metadata=plain, done=False) is None


def cleared(**results: str) -> dict[str, Any]:
    return {"clearAppsDataStatus": {"results": {app: {"clearingResult": r} for app, r in results.items()}}}


def test_mixed_results_are_told_app_by_app() -> None:
    found = outcome("CLEAR_APP_DATA", metadata=cleared(a="SUCCESS", b="APP_NOT_FOUND", c="APP_PROTECTED"))
    assert reason_of(found) == "SOME_APPS_NOT_CLEARED"
    assert isinstance(found, Failed)
    assert found.reason.message == "b: APP_NOT_FOUND, c: APP_PROTECTED"
    assert found.evidence["apps"] == {"a": "SUCCESS", "b": "APP_NOT_FOUND", "c": "APP_PROTECTED"}


def test_all_or_none_cleared() -> None:
    assert reason_of(outcome("CLEAR_APP_DATA", metadata=cleared(a="API_LEVEL"))) == "APPS_NOT_CLEARED"
    all_cleared = outcome("CLEAR_APP_DATA", metadata=cleared(a="SUCCESS", b="SUCCESS"), error={"code": 13})
    assert isinstance(all_cleared, Succeeded)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("ab", "outcome_unknown"),
        ("abc", "SOME_APPS_NOT_CLEARED"),
        ("c", "APPS_NOT_CLEARED"),
        ("cb", "SOME_APPS_NOT_CLEARED"),
    ],
)
def test_an_app_without_a_result_is_not_taken_for_cleared(asked: str, code: str) -> None:
    told = {app: result for app, result in {"a": "SUCCESS", "c": "APP_PROTECTED"}.items() if app in asked}
    # Something ran: neither an error nor a cancel of the rest undoes that.
    for error in (None, {"code": 1}, {"code": 13}):
        found = outcome("CLEAR_APP_DATA", asked=asked, metadata=cleared(**told), error=error)
        assert reason_of(found) == code
        assert isinstance(found, Failed)
        assert found.executed
        missing = {app: "missing" for app in asked if app not in told}
        assert found.evidence["apps"] == told | missing
        assert ("b: missing" in found.reason.message) == bool(missing)


def test_a_result_that_is_left_out_is_none() -> None:
    metadata = {"clearAppsDataStatus": {"results": {"a": {"clearingResult": "SUCCESS"}, "b": {}}}}
    found = outcome("CLEAR_APP_DATA", asked="ab", metadata=metadata)
    assert reason_of(found) == "outcome_unknown"


@pytest.mark.parametrize("status", [None, {}, {"results": None}, {"results": []}, "x", []])
def test_results_that_are_none_leave_the_word_to_the_rest(status: Any) -> None:
    metadata = {"clearAppsDataStatus": status}
    for asked in ((), ("a", "b")):
        assert reason_of(outcome("CLEAR_APP_DATA", asked=asked, metadata=metadata, error={"code": 13})) == "RPC_13"
        assert isinstance(outcome("CLEAR_APP_DATA", asked=asked, metadata=metadata, error={"code": 1}), Cancelled)
        failed = outcome("CLEAR_APP_DATA", asked=asked, metadata=metadata | {"errorCode": "API_LEVEL"})
        assert reason_of(failed) == "API_LEVEL"
    found = outcome("CLEAR_APP_DATA", asked=("a", "b"), metadata=metadata)
    assert reason_of(found) == "outcome_unknown"
    assert isinstance(found, Failed)
    assert (found.reason.message, found.executed) == ("no result for a, b", False)


@pytest.mark.parametrize("results", [["a"], "SUCCESS", {"a": None}, {"a": "SUCCESS"}])
def test_results_of_another_shape_are_not_taken_for_success(results: Any) -> None:
    with pytest.raises(AttributeError):
        outcome("CLEAR_APP_DATA", metadata={"clearAppsDataStatus": {"results": results}})


@pytest.mark.parametrize("name", ["LOCK", "WIPE"])
def test_an_error_at_the_very_end_of_its_life_is_its_expiry(name: str) -> None:
    """Google counts whole seconds, and clocks differ."""
    second = 1_000_000
    assert isinstance(outcome(name, error={"code": 13}, now=LATER - 2 * second), Expired)
    assert isinstance(outcome(name, error={"code": 13}, now=LATER - 5 * second), Failed)
    assert isinstance(outcome(name, error={"code": 1}, now=LATER - 2 * second), Cancelled)
