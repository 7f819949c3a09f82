"""Lists of devices from people."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.cli.exits import Failure
from heliograph.cli.importing import read_devices

TWO = [{"platform": "aosp", "serialNumber": "A1"}, {"platform": "aosp", "name": "desk, left"}]


@pytest.mark.parametrize(
    "text",
    [
        '[{"platform":"aosp","serialNumber":"A1"},\n {"platform":"aosp","name":"desk, left"}]',
        '{"devices":[{"platform":"aosp","serialNumber":"A1"},{"platform":"aosp","name":"desk, left"}]}',
        '{"platform":"aosp","serialNumber":"A1"}\n\n{"platform":"aosp","name":"desk, left"}\n',
        'platform,serialNumber,name\naosp,A1,\n\naosp,,"desk, left"\n',
        'Platform;Serial Number;display name\r\naosp;A1;\r\naosp;;"desk, left"\r\n',
        'platform,serial,name\naosp,A1\naosp,," desk, left "\n',
    ],
)
def test_every_form_says_the_same(text: str) -> None:
    assert read_devices(text) == TWO


@pytest.mark.parametrize(
    ("text", "devices"), [("", []), ("\n", []), ("[]", []), ("platform\n", []), ('{"name":"x"}', [{"name": "x"}])]
)
def test_small_lists(text: str, devices: list[dict[str, Any]]) -> None:
    assert read_devices(text) == devices


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "objects"),
        ('{"devices":{}}', "objects"),
        ('{"platform":"aosp"}\n{oops', "line 2"),
        ('{"platform":"aosp"}\n[]', "line 2"),
        ("platform,colour\naosp,red\n", "colour"),
        ("platform\naosp,A1\n", "line 2"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, words: str) -> None:
    with pytest.raises(Failure, match=words) as caught:
        read_devices(text)
    assert caught.value.exit_code == 2
