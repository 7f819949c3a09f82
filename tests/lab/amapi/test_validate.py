"""Request bodies: valid ones made from the schema pass, one mutation each fails, and the texts are Google's."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from heliograph_lab.amapi.commands import PARAMS, accept
from heliograph_lab.amapi.discovery import SCHEMAS, Schema, snake
from heliograph_lab.amapi.errors import ApiError, Violations
from heliograph_lab.amapi.validate import parse_message
from heliograph_lab.amapi.wire import duration_text, is_timestamp, parse_duration
from heliograph_lab.fleet import AmapiSpec

DEVICE = AmapiSpec(name="enterprises/e/devices/d")
PERSONAL = AmapiSpec(name="enterprises/e/devices/d", ownership="PERSONALLY_OWNED", management_mode="PROFILE_OWNER")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
BARE = ["LOCK", "RESET_PASSWORD", "REBOOT", "RELINQUISH_OWNERSHIP", "STOP_LOST_MODE", "WIPE", "CLEAR_APP_DATA"]
DURATIONS = st.one_of(
    st.integers(1, 10**9).map(lambda n: f"{n}s"),
    st.integers(1, 999_999_999).map(lambda n: f"1.{n:09}s"),
)
Body = dict[str, Any]


def _value(field: Schema) -> st.SearchStrategy[Any]:
    if field.ref is not None:
        return _message(field.ref)
    if field.type == "array":
        assert field.items is not None
        return st.lists(_value(field.items), min_size=1, max_size=3)
    if field.type == "object":
        assert field.additional_properties is not None
        return st.dictionaries(TEXT, _value(field.additional_properties), max_size=2)
    if field.enum:
        return st.sampled_from(field.enum[1:])
    assert field.type == "string"
    return TEXT


def _message(name: str) -> st.SearchStrategy[Body]:
    # All members: what is required and what excludes what is the business of the rules, tested one by one below.
    return st.fixed_dictionaries({key: _value(field) for key, field in SCHEMAS[name].properties.items()})


@st.composite
def commands(draw: st.DrawFn) -> Body:
    """A valid Command as a client may write it."""
    params = draw(st.sampled_from([None, *PARAMS]))
    body: Body = {}
    if params is None:
        body["type"] = draw(st.sampled_from(BARE))
    else:
        body[params] = draw(_value(SCHEMAS["Command"].properties[params]))
        if draw(st.booleans()):
            body["type"] = PARAMS[params]
    if draw(st.booleans()):
        body["duration"] = draw(DURATIONS)
    if body.get("type") == "RESET_PASSWORD":
        body["newPassword"] = draw(TEXT)
        body["resetPasswordFlags"] = draw(_value(SCHEMAS["Command"].properties["resetPasswordFlags"]))
    if draw(st.booleans()):  # output only, or the server's: ignored
        body |= {
            "errorCode": "UNKNOWN",
            "createTime": "2026-01-02T03:04:05.6+02:00",
            "esimStatus": {"status": "SUCCESS"},
        }
    return _respelled(draw, "Command", body)


def _respelled(draw: Callable[..., Any], schema: str, body: Body) -> Body:
    """snake_case here and there, and a null where nothing is set."""
    spelled: Body = {}
    for name, value in body.items():
        field = SCHEMAS[schema].properties[name]
        inner = _respelled(draw, field.ref, value) if field.ref is not None else value
        spelled[snake(name) if draw(st.booleans()) else name] = inner
    missing = [name for name in SCHEMAS[schema].properties if not {name, snake(name)}.intersection(spelled)]
    if draw(st.booleans()) and missing:
        spelled[draw(st.sampled_from(missing))] = None
    return spelled


@given(commands())
def test_valid_bodies_pass(body: Body) -> None:
    accepted = accept(body, DEVICE, 600)
    assert accepted.echo["type"] in SCHEMAS["Command"].properties["type"].enum[1:]
    assert parse_duration(accepted.echo["duration"]) == accepted.duration
    assert set(accepted.echo) <= {"type", "duration", "resetPasswordFlags", *PARAMS}
    assert "newPassword" not in str(accepted.echo)
    assert "activationCode" not in accepted.echo.get("addEsimParams", {})


class Place(NamedTuple):
    """A field that is set: its message, its spelling there, its type, and where Google says it is."""

    message: Body
    key: str
    field: Schema
    path: str

    @property
    def parent(self) -> str:
        return self.path.rpartition(".")[0]


def _places(schema: str, body: Body, at: str = "") -> list[Place]:
    """Every field that is set, however deep."""
    fields = SCHEMAS[schema].properties
    found = []
    for key, value in body.items():
        name, field = next((name, field) for name, field in fields.items() if key in {name, snake(name)})
        path = f"{at}.{snake(name)}" if at else snake(name)
        if value is not None:
            found.append(Place(body, key, field, path))
            if field.ref is not None:
                found += _places(field.ref, value, path)
    return found


def _wrong(field: Schema) -> list[Any]:
    if field.ref is not None:
        return ["text", 5, [], True, {"zz": 1}]
    if field.type == "array":
        return ["text", {}, 5, *_wrong_items(field.items)]
    if field.type == "object":
        return ["text", [], 5, {"key": {"zz": 1}}]
    if field.enum:
        return ["NO_SUCH", -1, 99, {}, [], True, 1.5]
    return _WRONG.get(field.format or "", _WRONG.get(field.type, [5, 1.5, True, {}, []]))


_NO_NUMBER: list[Any] = ["many", True, {}, [], 2**70]
_WRONG: dict[str, list[Any]] = {
    "google-duration": ["5", "s", "-1s", "0s", "1.1234567890s", "99999999999999s", 5, {}, []],
    "google-datetime": ["yesterday", "2026-13-01T00:00:00Z", "2026-01-01", 5, []],
    "boolean": ["true", 1, {}, []],
    "byte": ["x", "a b=", "é", 5, {}, []],
    "int32": _NO_NUMBER,
    "int64": _NO_NUMBER,
    "number": ["many", True, {}, []],
}


def _wrong_items(item: Schema | None) -> list[Any]:
    assert item is not None
    if item.ref is not None:
        return [["text"], [5], [None]]
    return [["NO_SUCH"] if item.enum else [[5]], [None], [{}]]


def _violated(refuse: Callable[[], Any]) -> list[tuple[str, str]]:
    with pytest.raises(ApiError) as caught:
        refuse()
    assert caught.value.status == 400
    error = caught.value.body["error"]
    assert error["status"] == "INVALID_ARGUMENT"
    assert error["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    return [(item.get("field", ""), item["description"]) for item in error["details"][0]["fieldViolations"]]


def _mutate(data: st.DataObject, places: list[Place]) -> tuple[Place, bool]:
    """Make one field wrong; returns which, and whether it is its name that is wrong now."""
    place = data.draw(st.sampled_from(places))
    renamed: bool = data.draw(st.booleans())
    if renamed:
        place.message[f"{place.key}_zz"] = place.message.pop(place.key)
    else:
        place.message[place.key] = data.draw(st.sampled_from(_wrong(place.field)))
    return place, renamed


def _check_named(place: Place, renamed: bool, violations: list[tuple[str, str]]) -> None:
    if renamed:
        wanted = f'Unknown name "{place.key}_zz"'
        assert any(field == place.parent and wanted in text for field, text in violations)
    elif _list_where_none_belongs(place):
        assert any(field in {place.parent, place.path} for field, _ in violations)
    else:
        # What is inside the wrong value has the field's path as its beginning.
        assert any(f"{field}.".startswith((f"{place.path}.", f"{place.path}[")) for field, _ in violations)


def _list_where_none_belongs(place: Place) -> bool:
    """A fault of the message around the field, as Google tells it; of a map, its own."""
    value = place.message[place.key]
    if place.field.type == "array":
        return bool(value == [[5]])
    return value == [] and place.field.ref is None


@given(commands(), st.data())
def test_one_mutated_field_fails_and_is_named(body: Body, data: st.DataObject) -> None:
    place, renamed = _mutate(data, _places("Command", body))
    _check_named(place, renamed, _violated(lambda: accept(body, DEVICE, 600)))


def _any_value(field: Schema) -> st.SearchStrategy[Any]:
    if field.ref is not None:
        return _any_message(field.ref)
    if field.type == "array":
        assert field.items is not None
        return st.lists(_any_value(field.items), min_size=1, max_size=2)
    plain = _PLAIN.get(field.format or "", _PLAIN.get(field.type))
    return plain if plain is not None else _value(field)


_PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "any": st.one_of(TEXT, st.integers(), st.lists(st.booleans(), max_size=2)),
    "boolean": st.booleans(),
    "integer": st.integers(0, 0xFFFFFF),
    "number": st.integers(0, 0xFFFFFF),
    "int64": st.integers(0, 2**63 - 1) | st.integers(0, 2**63 - 1).map(str),
    "byte": st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode().rstrip("=")),
    "google-duration": DURATIONS,
    "google-datetime": st.datetimes().map(lambda at: f"{at:%Y-%m-%dT%H:%M:%S}Z".rjust(20, "0")),
}


@cache
def _any_message(schema: str) -> st.SearchStrategy[Body]:
    fields = {name: _deferred(field) for name, field in SCHEMAS[schema].properties.items()}
    return st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: fields[name] for name in names})
    )


def _deferred(field: Schema) -> st.SearchStrategy[Any]:
    return st.deferred(lambda: _any_value(field))


@pytest.mark.parametrize("schema", ["Enterprise", "EnrollmentToken", "Device"])
@given(data=st.data())
def test_other_bodies_pass_and_fail_by_the_field(schema: str, data: st.DataObject) -> None:
    body = _respelled(data.draw, schema, data.draw(_any_message(schema)))
    found = Violations()
    parse_message(schema, body, found)
    found.raise_if_any()
    places = _places(schema, body)
    assume(places)
    place, renamed = _mutate(data, places)
    # Which durations are too short is the business of each method; and where anything goes, nothing is wrong.
    assume(renamed or (place.field.type != "any" and place.message[place.key] not in ("-1s", "0s")))

    def refuse() -> None:
        found = Violations()
        parse_message(schema, body, found)
        found.raise_if_any()

    _check_named(place, renamed, _violated(refuse))


def _refusal(body: Any, device: AmapiSpec = DEVICE) -> Body:
    with pytest.raises(ApiError) as caught:
        accept(body, device, 600)
    error: Body = caught.value.body["error"]
    return error


def _fields(body: Any, device: AmapiSpec = DEVICE) -> list[str]:
    return [item.get("field", "") for item in _refusal(body, device)["details"][0]["fieldViolations"]]


def test_googles_words() -> None:
    package = "type.googleapis.com/google.android.devicemanagement.v1"
    error = _refusal({"zz": 1, "type": "NOPE", "wipeParams": {"zz": 1, "wipeDataFlags": ["X"]}, "duration": "5"})
    assert error["message"].split("\n") == [
        'Invalid JSON payload received. Unknown name "zz": Cannot find field.',
        f"Invalid value at 'type' ({package}.Command.CommandType), \"NOPE\"",
        "Invalid JSON payload received. Unknown name \"zz\" at 'wipe_params': Cannot find field.",
        f"Invalid value at 'wipe_params.wipe_data_flags[0]' ({package}.WipeDataFlag), \"X\"",
        (
            "Invalid value at 'duration' (type.googleapis.com/google.protobuf.Duration), "
            "Field 'duration', Illegal duration format; duration must end with 's'"
        ),
    ]
    violations = error["details"][0]["fieldViolations"]
    assert "field" not in violations[0]
    assert violations[2]["field"] == "wipe_params"
    assert [item["description"] for item in violations] == error["message"].split("\n")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["type"]),
        ({"type": "COMMAND_TYPE_UNSPECIFIED"}, ["type"]),
        ({"type": 0}, ["type"]),
        ({"newPassword": "1"}, ["type"]),
        ({"type": "LOCK", "wipeParams": {}}, ["type"]),
        ({"wipeParams": {}, "stopLostModeParams": {}}, ["command"]),
        ({"type": "ADD_ESIM"}, ["add_esim_params.activation_code", "add_esim_params.activation_state"]),
        ({"addEsimParams": {"activationCode": "x", "activationState": 0}}, ["add_esim_params.activation_state"]),
        ({"type": "REMOVE_ESIM"}, ["remove_esim_params.icc_id"]),
        ({"removeEsimParams": {"iccId": ""}}, ["remove_esim_params.icc_id"]),
        ({"type": "REQUEST_DEVICE_INFO"}, ["request_device_info_params.device_info"]),
        (
            {"requestDeviceInfoParams": {"deviceInfo": "DEVICE_INFO_UNSPECIFIED"}},
            ["request_device_info_params.device_info"],
        ),
        ({"type": "START_LOST_MODE"}, ["start_lost_mode_params"]),
        ({"startLostModeParams": {"lostOrganization": {"defaultMessage": "x"}}}, ["start_lost_mode_params"]),
        (
            {"startLostModeParams": {"lostMessage": {"defaultMessage": "x" * 4097}}},
            ["start_lost_mode_params.lost_message"],
        ),
        (
            {"startLostModeParams": {"lostMessage": {"localizedMessages": {"en": "x"}}}},
            ["start_lost_mode_params.lost_message.default_message"],
        ),
        ({"wipeParams": {"wipeReason": {"defaultMessage": "x" * 201}}}, ["wipe_params.wipe_reason"]),
        ({"type": "LOCK", "duration": "-1s"}, ["duration"]),
        ({"type": "LOCK", "duration": "0s"}, ["duration"]),
        ([], [""]),
        ("LOCK", [""]),
        (None, [""]),
    ],
)
def test_rules_that_the_document_cannot_say(body: Any, fields: list[str]) -> None:
    assert _fields(body) == fields


def test_activated_is_refused_on_personal_devices_only() -> None:
    body = {"addEsimParams": {"activationCode": "x", "activationState": "ACTIVATED"}}
    assert _fields(body, PERSONAL) == ["add_esim_params.activation_state"]
    assert accept(body, DEVICE, 600).echo["addEsimParams"] == {"activationState": "ACTIVATED"}


def test_lost_mode_with_a_plain_string_is_enough() -> None:
    accept({"startLostModeParams": {"lostEmailAddress": "a@b.c"}}, DEVICE, 600)


def test_enums_by_number_and_defaults_left_out() -> None:
    wipe = {"type": 12, "wipeParams": {"wipeDataFlags": [], "wipeReason": {"defaultMessage": ""}}}
    wipe["type"] = SCHEMAS["Command"].properties["type"].enum.index("WIPE")
    assert accept(wipe, DEVICE, 600).echo == {"type": "WIPE", "wipeParams": {"wipeReason": {}}, "duration": "600s"}


def test_times_and_durations() -> None:
    assert [duration_text(text) for text in ("007s", "1.50s", "1.000001s", "1.0000000s", "-0.1s")] == [
        "7s",
        "1.500s",
        "1.000001s",
        "1s",
        "-0.100s",
    ]
    for good in ("2026-01-02T03:04:05Z", "2026-01-02t03:04:05.123456789-08:00"):
        assert is_timestamp(good)
    for bad in ("2026-01-02T03:04:05", "2026-02-30T00:00:00Z", "2026-01-02 03:04:05Z", ""):
        assert not is_timestamp(bad)
