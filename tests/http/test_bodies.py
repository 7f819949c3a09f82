"""What a body or query may hold, and how a refusal speaks of it (DECISIONS 8, 9)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.http.routes import LISTS, SETUP, WAITING, WITH_BODY, Known, body_for, request
from tests.support.client import Json, data_of, error_of, fields_of
from tests.support.demo import Demo

SATELLITE = "🛰"  # one code point, two UTF-16 units, four bytes
RIGHT_TO_LEFT = "\u202bשָׁלוֹם مَرْحَبًا\u202c\u200f \u2067א\u2069 "  # with marks of vowels and of direction
CANARY = "sEcReT-cAnArY-1"
DOCUMENTED_WITH_BODY = [name for name in WITH_BODY if name not in SETUP]
ONE_OF_EACH = ("createEmmCommand", "createAosCommand", "sendPushNotification", "setup.key.create")


def nested(levels: int) -> bytes:
    """A valid body of the AOSP create, nested so deep in a member that nobody reads."""
    return b'{"command":"LOCK","unknown":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


# ---------------------------------------------------------------- JSON


@pytest.mark.sqlite_only
@pytest.mark.parametrize("operation", ONE_OF_EACH)
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b"{}}",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":01}',
        b'{"a":1e999}',
        b'{"a":"\n"}',
        b'{"a":"\xff"}',
        b"\xff\xfe{\x00}\x00",
        b'\xef\xbb\xbf{"type":"LOCK","command":"LOCK"}',
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":"\\u12"}',
        b'{"a":1}\x00',
        b"[" * 50,
    ],
)
def test_what_is_not_json_is_refused(operation: str, body: bytes, demo: Demo, known: Known) -> None:
    answer = request(operation, demo.api, known, body=body)
    assert fields_of(answer) == [""]
    assert answer.json()["error"]["data"]["fields"][0]["reason"] == "the body is not valid JSON"


@pytest.mark.sqlite_only
@pytest.mark.parametrize("operation", ONE_OF_EACH)
@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"LOCK"', b"true", b'[{"type":"LOCK"}]'])
def test_a_body_is_an_object(operation: str, body: bytes, demo: Demo, known: Known) -> None:
    assert fields_of(request(operation, demo.api, known, body=body)) == [""]


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("operation", "missing"),
    [
        ("createEmmCommand", ["type"]),
        ("createAosCommand", ["command"]),
        ("sendPushNotification", ["os", "identifier", "app", "type", "notification"]),
        ("setup.key.create", ["permissions"]),
    ],
)
@pytest.mark.parametrize("body", [b"", b"{}"])
def test_nothing_at_all_is_told_what_is_required(
    operation: str, missing: list[str], body: bytes, demo: Demo, known: Known
) -> None:
    assert fields_of(request(operation, demo.api, known, body=body)) == missing


@pytest.mark.sqlite_only
@pytest.mark.parametrize("verb", ["setup.key.list", "setup.enterprise.list", "setup.provider.list"])
def test_a_verb_that_needs_nothing_takes_no_body(verb: str, demo: Demo, known: Known) -> None:
    assert request(verb, demo.api, known, body=None).status_code == 200


@pytest.mark.parametrize("levels", [2, 99, 100])
def test_a_hundred_levels_are_read(levels: int, demo: Demo, known: Known) -> None:
    assert request("createAosCommand", demo.api, known, body=nested(levels)).status_code == 200


@pytest.mark.parametrize("levels", [101, 1000, 500_000])
def test_a_hundred_and_one_are_refused_before_decoding(levels: int, demo: Demo, known: Known) -> None:
    for body in (nested(levels), b"[" * levels, b'{"a":' * levels if levels < 5000 else b"{" * levels):
        answer = request("createAosCommand", demo.api, known, body=body)
        assert fields_of(answer) == [""]
        assert "100 levels" in answer.json()["error"]["data"]["fields"][0]["reason"]


@pytest.mark.sqlite_only
@pytest.mark.parametrize("text", ["[" * 500, '\\"' + "{[" * 300, "\\\\", "]" * 500])
def test_brackets_in_texts_are_no_levels(text: str, demo: Demo, known: Known) -> None:
    body = b'{"command":"LOCK","a":"' + text.encode() + b'","b":' + b"[" * 99 + b"]" * 99 + b"}"
    assert request("createAosCommand", demo.api, known, body=body).status_code == 200


@pytest.mark.sqlite_only
def test_of_a_repeated_member_the_last_counts(demo: Demo, known: Known) -> None:
    body = b'{"command":"DISENROLL","command":"LOCK","duration":"x","duration":60}'
    record = data_of(request("createAosCommand", demo.api, known, body=body))
    assert (record["command"], record["duration"]) == ("LOCK", 60)


def test_numbers_beyond_64_bits_come_back_as_they_went(demo: Demo, known: Known) -> None:
    params = {"n": 2**70, "m": -(10**300), "f": 1.5e300, "z": 0}
    record = data_of(request("createAosCommand", demo.api, known, body={"command": "LOCK", "params": params}))
    assert record["params"] == params
    assert demo.api.command(known.aosp, record["id"])["params"] == params


@pytest.mark.sqlite_only
def test_a_number_too_long_to_convert_is_refused(demo: Demo, known: Known) -> None:
    body = b'{"command":"LOCK","params":{"n":1' + b"0" * 5000 + b"}}"
    assert error_of(request("createAosCommand", demo.api, known, body=body)) == (400, 5209)


def test_odd_characters_in_free_data_come_back_as_they_went(demo: Demo, known: Known) -> None:
    params = {"nul\0": "a\0b", SATELLITE: "\u2028\ufeff\x7f", "": [None, True, {"x": ""}]}
    params[RIGHT_TO_LEFT] = RIGHT_TO_LEFT[::-1]
    record = data_of(request("createAosCommand", demo.api, known, body={"command": "LOCK", "params": params}))
    assert demo.api.command(known.aosp, record["id"])["params"] == params


# ---------------------------------------------------------------- unknown members


@pytest.mark.sqlite_only
@pytest.mark.parametrize("operation", DOCUMENTED_WITH_BODY)
def test_documented_operations_ignore_unknown_members(operation: str, demo: Demo, known: Known) -> None:
    body = {**(body_for(operation, known) or {}), "unknown": {"x": [1]}, "": None, "__proto__": 1}
    assert request(operation, demo.api, known, body=body).status_code == 200


@pytest.mark.sqlite_only
@pytest.mark.parametrize("operation", SETUP)
def test_our_extensions_refuse_unknown_members(operation: str, demo: Demo, known: Known) -> None:
    body = {**(body_for(operation, known) or {}), "unknown": 1, "other": 2}
    assert {"unknown", "other"} <= set(fields_of(request(operation, demo.api, known, body=body)))


@pytest.mark.sqlite_only
def test_unknown_members_are_refused_in_every_device_of_an_import(demo: Demo) -> None:
    items = [{"platform": "ios"}, {"platform": "ios", "unknown": 1}]
    results = demo.api.setup("device.import", devices=items)["items"]
    assert results[0]["platform"] == "ios"
    assert results[1]["index"] == 1
    assert "unknown" in results[1]["error"]


@pytest.mark.sqlite_only
@pytest.mark.parametrize("operation", ["getEmmDevice", "listAosCommands", "getOrganization"])
def test_unknown_query_parameters_are_ignored(operation: str, demo: Demo, known: Known) -> None:
    assert request(operation, demo.api, known, params={"unknown": "1", "": "2"}).status_code == 200


# ---------------------------------------------------------------- every offending field


@pytest.mark.parametrize(
    ("operation", "body", "paths"),
    [
        ("createEmmCommand", {"type": "NOPE", "duration": 5}, ["type", "duration"]),
        ("createEmmCommand", {"type": 1, "duration": "1h"}, ["type", "duration"]),
        ("createEmmCommand", {"duration": []}, ["type", "duration"]),
        ("createEmmCommand", {"type": "LOCK", "duration": 5, "newPassword": CANARY}, ["newPassword", "duration"]),
        (
            "createEmmCommand",
            {"type": "RESET_PASSWORD", "newPassword": 5, "resetPasswordFlags": ["NOPE", 1], "duration": "x"},
            ["newPassword", "resetPasswordFlags[0]", "resetPasswordFlags[1]", "duration"],
        ),
        (
            "createEmmCommand",
            {"startLostModeParams": {"lostMessage": {"defaultMessage": 5, "localizedMessages": {"de": None, "fr": 7}}}},
            [
                "startLostModeParams.lostMessage.defaultMessage",
                "startLostModeParams.lostMessage.localizedMessages.de",
                "startLostModeParams.lostMessage.localizedMessages.fr",
            ],
        ),
        (
            "createEmmCommand",
            {"addEsimParams": {"activationState": "MAYBE", "carrierName": 1}},
            ["addEsimParams.activationCode", "addEsimParams.activationState", "addEsimParams.carrierName"],
        ),
        (
            "createEmmCommand",
            {"clearAppsDataParams": {"packageNames": ["org.example.app", "no package", 7]}},
            ["clearAppsDataParams.packageNames[1]", "clearAppsDataParams.packageNames[2]"],
        ),
        ("createAosCommand", {"command": "NOPE", "duration": "x", "params": []}, ["command", "duration", "params"]),
        ("createAosCommand", {"duration": -1, "params": 5}, ["command", "duration", "params"]),
        (
            "createAosCommand",
            {"command": "RESET_PASSWORD", "duration": True, "params": {"newPassword": {"x": CANARY}}},
            ["duration", "params.newPassword"],
        ),
        (
            "createAosCommand",
            {"command": "DISENROLL", "params": {"wipeDataFlags": ["X"], "wipeReasonMessage": "x" * 201}},
            ["params.wipeDataFlags[0]", "params.wipeReasonMessage"],
        ),
        (
            "sendPushNotification",
            {"os": "symbian", "identifier": "x", "app": 1, "type": None, "notification": {"title": 1, "data": "x"}},
            ["os", "identifier", "app", "type", "notification.title", "notification.body", "notification.data"],
        ),
        ("sendPushNotification", {"notification": "hello"}, ["os", "identifier", "app", "type", "notification"]),
        (
            "setup.key.create",
            {"permissions": "x", "expiresInSeconds": "y", "name": 1},
            ["name", "permissions", "expiresInSeconds"],
        ),
        ("setup.key.create", {"permissions": ["base.apiKey.create"], "expiresInSeconds": 0}, ["expiresInSeconds"]),
        ("setup.key.revoke", {}, ["id"]),
        ("setup.organization.feature", {"feature": 1, "on": "yes"}, ["feature", "on"]),
        ("setup.organization.feature", {"feature": "wipes", "on": True}, ["feature"]),
        ("setup.organization.create", {"slug": "a b", "name": ""}, ["slug"]),
        ("setup.device.add", {"platform": "x", "imei": "a-b", "state": "GONE"}, ["platform", "imei", "state"]),
        ("setup.device.add", {"platform": "ios", "providerAccount": "x"}, ["providerAccount"]),
        ("setup.device.add", {"platform": "ios", "providerAccount": "f" * 24}, ["providerAccount"]),
        ("setup.device.add", {"platform": "android", "enterprise": "enterprises/other"}, ["enterprise"]),
        ("setup.device.import", {"devices": {}}, ["devices"]),
        ("setup.enterprise.add", {"name": "enterprises/x", "credentials": CANARY}, ["credentials"]),
        ("setup.enterprise.add", {"name": 1, "credentials": 2, "apiUrl": "ftp://x"}, ["name", "credentials", "apiUrl"]),
        (
            "setup.provider.add",
            {"provider": "pushy", "config": {"apiKey": f"{CANARY} x", "z": 1}},
            ["config.z", "config.apiKey"],
        ),
        ("setup.provider.add", {"provider": "builtin"}, ["provider"]),
    ],
)
def test_every_offending_field_is_named(operation: str, body: Json, paths: list[str], demo: Demo, known: Known) -> None:
    answer = request(operation, demo.api, known, body=body)
    assert sorted(fields_of(answer)) == sorted(paths)
    assert CANARY not in answer.text


@pytest.mark.parametrize("operation", LISTS)
def test_every_offending_query_parameter_is_named(operation: str, demo: Demo, known: Known) -> None:
    answer = request(operation, demo.api, known, params={"page": "0", "limit": "10001", "sort": "secret"})
    assert sorted(fields_of(answer)) == ["limit", "page", "sort"]


@pytest.mark.sqlite_only
@pytest.mark.parametrize("value", ["", "x", "-1", "31", "1.5", "1e1", "١", "+1", " 1", "0x1", "99999999999999999999"])
@pytest.mark.parametrize("operation", WAITING)
def test_a_wait_that_is_none(operation: str, value: str, demo: Demo, known: Known) -> None:
    assert fields_of(request(operation, demo.api, known, params={"wait": value})) == ["wait"]


@pytest.mark.sqlite_only
def test_a_parameter_that_comes_twice_is_refused(demo: Demo, known: Known) -> None:
    answer = request(
        "listAosCommands", demo.api, known, params=[("page", "1"), ("page", "2"), ("sort", "a"), ("sort", "b")]
    )
    assert sorted(fields_of(answer)) == ["page", "sort"]


# ---------------------------------------------------------------- values


@pytest.mark.sqlite_only
@pytest.mark.parametrize("text", ["x" * 256, SATELLITE * 256, (RIGHT_TO_LEFT * 20)[:256], "é" * 256, ""])
def test_a_text_of_256_code_points_is_taken(text: str, demo: Demo, known: Known) -> None:
    notification = {"title": text, "body": text}
    assert demo.api.send("package", known.package.id, notification=notification).status_code == 200


@pytest.mark.parametrize("text", ["x" * 257, SATELLITE * 257, (RIGHT_TO_LEFT * 20)[:257], "e\u0301" * 129])
def test_a_longer_one_is_refused(text: str, demo: Demo, known: Known) -> None:
    answer = demo.api.send("package", known.package.id, notification={"title": text, "body": text})
    assert fields_of(answer) == ["notification.title", "notification.body"]


@pytest.mark.parametrize("text", ["a\0b", "\0"])
def test_a_text_with_nul_is_refused(text: str, demo: Demo, known: Known) -> None:
    answer = demo.api.send("package", known.package.id, notification={"title": text, "body": text})
    assert fields_of(answer) == ["notification.title", "notification.body"]
    answer = request("createEmmCommand", demo.api, known, body={"type": "RESET_PASSWORD", "newPassword": text})
    assert fields_of(answer) == ["newPassword"]


@pytest.mark.sqlite_only
@pytest.mark.parametrize("wrong", [1, 1.5, True, [], {}, ["LOCK"], {"LOCK": 1}])
def test_wrong_types_are_refused_everywhere(wrong: Any, demo: Demo, known: Known) -> None:
    whole = {"os": wrong, "identifier": wrong, "app": wrong, "type": wrong, "notification": {"body": wrong}}
    assert fields_of(demo.api.post("mdm/push-notifications/send", whole)) == [
        "os",
        "identifier",
        "app",
        "type",
        "notification.body",
    ]
    assert fields_of(request("createEmmCommand", demo.api, known, body={"type": wrong})) == ["type"]
    assert fields_of(request("createAosCommand", demo.api, known, body={"command": wrong})) == ["command"]


@pytest.mark.sqlite_only
@pytest.mark.parametrize("value", ["lock", "LOCK ", "wipe", "WIPE ", "", "LOCK\n", "ＬＯＣＫ"])
def test_values_that_are_not_in_the_list_are_refused(value: str, demo: Demo, known: Known) -> None:
    assert fields_of(request("createEmmCommand", demo.api, known, body={"type": value})) == ["type"]
    assert fields_of(request("createAosCommand", demo.api, known, body={"command": value})) == ["command"]
    answer = demo.api.send(value, known.package.id, app=value, type=value)
    assert fields_of(answer) == ["os", "app", "type"]


@pytest.mark.sqlite_only
def test_null_means_absent(demo: Demo, known: Known) -> None:
    body = {"command": "LOCK", "duration": None, "params": None}
    assert data_of(request("createAosCommand", demo.api, known, body=body))["duration"] == 86400
    answer = demo.api.send("package", known.package.id, notification={"title": None, "body": "x", "data": None})
    assert answer.status_code == 200
    assert fields_of(request("createAosCommand", demo.api, known, body={"command": None})) == ["command"]


@pytest.mark.sqlite_only
def test_a_refusal_repeats_no_value(demo: Demo, known: Known) -> None:
    bodies: list[tuple[str, Any]] = [
        ("createEmmCommand", {"type": CANARY, "newPassword": CANARY}),
        ("createEmmCommand", {"type": "RESET_PASSWORD", "newPassword": CANARY * 50}),
        ("createEmmCommand", {"type": "RESET_PASSWORD", "newPassword": CANARY, "resetPasswordFlags": [CANARY]}),
        (
            "createEmmCommand",
            {"type": "ADD_ESIM", "addEsimParams": {"activationCode": [CANARY], "activationState": CANARY}},
        ),
        ("createEmmCommand", {"type": "LOCK", "duration": CANARY}),
        ("createAosCommand", {"command": "RESET_PASSWORD", "params": {"newPassword": [CANARY]}}),
        ("createAosCommand", {"command": "RESET_PASSWORD", "params": CANARY}),
        ("sendPushNotification", {"os": CANARY, "identifier": CANARY, "app": CANARY, "type": CANARY}),
        ("createAosCommand", json.dumps({"a": CANARY}).encode()[:-1]),
    ]
    answers = [request(operation, demo.api, known, body=body) for operation, body in bodies]
    assert {error_of(answer) for answer in answers} == {(400, 5209)}
    assert [answer.text for answer in answers if CANARY in answer.text] == []


@pytest.mark.sqlite_only
def test_every_wrong_member_is_named_beside_a_type_that_does_not_exist(demo: Demo, known: Known) -> None:
    body = {"type": "BOGUS", "newPassword": 5, "duration": 1, "clearAppsDataParams": {"packageNames": "a.b"}}
    named = fields_of(request("createEmmCommand", demo.api, known, body=body))
    assert {"type", "newPassword", "duration", "clearAppsDataParams.packageNames"} <= set(named)
