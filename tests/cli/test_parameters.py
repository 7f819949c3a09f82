"""Types and parameters, for both platforms."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from heliograph.cli.exits import Failure
from heliograph.cli.options import seconds
from heliograph.cli.parameters import body_for, is_dangerous, read_params, type_name
from heliograph.domain.catalog import ANDROID_TYPES, TYPES

MESSAGE = {"startLostModeParams": {"lostMessage": {"defaultMessage": "call us"}}}


@pytest.mark.parametrize(
    ("given", "params"),
    [
        (["a=1"], {"a": "1"}),
        (["a="], {"a": ""}),
        (["a=b=c"], {"a": "b=c"}),
        (["a:=1", 'b:={"c":[true]}'], {"a": 1, "b": {"c": [True]}}),
        (["a=x", "a=y", "a=z"], {"a": ["x", "y", "z"]}),
        (["a.b.c=x", "a.b.d=y"], {"a": {"b": {"c": "x", "d": "y"}}}),
        (["a=@value"], {"a": "from a file"}),
    ],
)
def test_parameters_are_read(tmp_path: Path, given: list[str], params: dict[str, Any]) -> None:
    Path("value").write_text("from a file\n")
    assert read_params(given, None) == params


def test_single_parameters_go_on_top_of_the_document() -> None:
    Path("document").write_text('{"a":1,"b":2}')
    assert read_params(["b=x"], "@document") == {"a": 1, "b": "x"}


def test_a_secret_can_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"geheim\r\n")))
    assert read_params(["newPassword=@-"], None) == {"newPassword": "geheim"}


@pytest.mark.parametrize(
    ("given", "document", "words"),
    [
        (["a"], None, "NAME=VALUE"),
        (["=x"], None, "NAME=VALUE"),
        (["a:=oops"], None, "JSON"),
        (["a=@missing"], None, "missing"),
        (["a=x", "a.b=y"], None, "value of its own"),
        ([], "[]", "JSON object"),
        ([], "{", "JSON object"),
    ],
)
def test_what_cannot_be_read_is_refused(given: list[str], document: str | None, words: str) -> None:
    with pytest.raises(Failure, match=words) as caught:
        read_params(given, document)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "params", "body"),
    [
        ("LOCK", {}, {"type": "LOCK"}),
        ("RESET_PASSWORD", {"newPassword": "x"}, {"type": "RESET_PASSWORD", "newPassword": "x"}),
        (
            "RESET_PASSWORD",
            {"newPassword": "x", "resetPasswordFlags": "LOCK_NOW"},
            {"type": "RESET_PASSWORD", "newPassword": "x", "resetPasswordFlags": ["LOCK_NOW"]},
        ),
        (
            "CLEAR_APP_DATA",
            {"packageNames": "com.example"},
            {"type": "CLEAR_APP_DATA", "clearAppsDataParams": {"packageNames": ["com.example"]}},
        ),
        (
            "CLEAR_APP_DATA",
            {"clearAppsDataParams": {"packageNames": ["com.example"]}},
            {"type": "CLEAR_APP_DATA", "clearAppsDataParams": {"packageNames": ["com.example"]}},
        ),
        ("START_LOST_MODE", MESSAGE["startLostModeParams"], {"type": "START_LOST_MODE", **MESSAGE}),
        ("STOP_LOST_MODE", {}, {"type": "STOP_LOST_MODE", "stopLostModeParams": {}}),
        ("UNKNOWN", {"a": 1}, {"type": "UNKNOWN", "a": 1}),
    ],
)
def test_android_bodies(name: str, params: dict[str, Any], body: dict[str, Any]) -> None:
    assert body_for("android", name, params, None) == body


def test_aosp_bodies() -> None:
    assert body_for("aosp", "REBOOT", {}, None) == {"command": "REBOOT", "params": {}}
    clear = body_for("aosp", "CLEAR_APP_DATA", {"packageNames": "com.example"}, "90m")
    assert clear == {"command": "CLEAR_APP_DATA", "params": {"packageNames": ["com.example"]}, "duration": 5400}


@pytest.mark.parametrize("name", ANDROID_TYPES)
def test_every_android_type_takes_flat_parameters(name: str) -> None:
    form = TYPES[name].amapi
    assert form is not None
    if len(form.members) == 1:
        assert body_for("android", name, {"x": "y"}, None) == {"type": name, form.members[0]: {"x": "y"}}


@pytest.mark.parametrize(
    ("text", "android", "aosp"),
    [
        ("30d", "2592000s", 2_592_000),
        ("1.5h", "5400s", 5400),
        ("90", "90s", 90),
        ("0.25s", "0.25s", 0.25),
        ("100s", "100s", 100),
    ],
)
def test_durations(text: str, android: str, aosp: float) -> None:
    assert body_for("android", "LOCK", {}, text)["duration"] == android
    assert body_for("aosp", "LOCK", {}, text)["duration"] == aosp


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1y", "1 d", "nan", "inf"])
def test_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="--expires"):
        seconds(text, "--expires")


def test_types_are_found_however_they_are_written() -> None:
    assert type_name(" reset-password ") == "RESET_PASSWORD"


def test_what_destroys_is_known() -> None:
    assert {name for name in TYPES if is_dangerous(name)} == {name for name, entry in TYPES.items() if entry.danger}
    assert not is_dangerous("REBOOT")
