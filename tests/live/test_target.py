"""What the tester has to say before a real project is asked, and that nobody's is asked by the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.channels.google import account_file
from tests.live.questions import QUESTIONS
from tests.live.target import (
    ALLOW,
    CREDENTIALS,
    DEVICE,
    ENTERPRISE,
    GONE_DEVICE,
    OPTIONAL,
    REQUIRED,
    SUBSCRIPTION,
    CannotAskError,
    target_of,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    """A complete environment."""
    key = tmp_path / "key.json"
    key.write_bytes(account_file("https://oauth2.googleapis.com/token"))
    return {CREDENTIALS: str(key), ENTERPRISE: "enterprises/LC1", DEVICE: "enterprises/LC1/devices/d1"}


def test_a_complete_environment_is_a_target(given: dict[str, str]) -> None:
    found = target_of(given | {ALLOW: "quota, reset-password", GONE_DEVICE: ""})
    assert (found.enterprise, found.device, found.gone_device) == (
        "enterprises/LC1",
        "enterprises/LC1/devices/d1",
        None,
    )
    assert found.allow == {"quota", "reset-password"}
    assert found.amapi_url == "https://androidmanagement.googleapis.com"


@pytest.mark.parametrize("name", REQUIRED)
def test_what_is_missing_is_named(given: dict[str, str], name: str) -> None:
    with pytest.raises(CannotAskError, match=f"Set {name} "):
        target_of(given | {name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (ENTERPRISE, "LC1"),
        (DEVICE, "enterprises/LC2/devices/d1"),
        (DEVICE, "d1"),
        (GONE_DEVICE, "enterprises/LC2/devices/d1"),
        (SUBSCRIPTION, "mine"),
        (ALLOW, "wipe"),
        (CREDENTIALS, "/nowhere/key.json"),
        (CREDENTIALS, os.devnull),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, str], name: str, value: str) -> None:
    with pytest.raises(CannotAskError, match=name):
        target_of(given | {name: value})


def pytest_of(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in REQUIRED | OPTIONAL}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_without_variables_it_fails_and_says_what_to_set() -> None:
    done = pytest_of("-m", "live", "tests/live/test_live.py")
    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout
    assert all(f"{name} ({meaning})" in done.stdout for name, meaning in REQUIRED.items())


@pytest.mark.parametrize("marks", [(), ("-m", "soak")])
def test_it_is_left_out_of_every_other_run(marks: tuple[str, ...]) -> None:
    done = pytest_of(*marks, "tests/live/test_live.py")
    assert "1 deselected" in done.stdout
    assert done.returncode == 5, done.stdout  # nothing was left to run


def test_the_page_says_what_each_question_does_and_what_to_set() -> None:
    page = (ROOT / "docs/lab.md").read_text()
    for question in QUESTIONS:
        settings = ", ".join(f"`{setting}`" for setting in question.settings)
        assert f"| `{question.name}` | {question.does} | {settings} |" in page
    for name, meaning in (REQUIRED | OPTIONAL).items():
        assert f"| `{name}` | {meaning} |" in page
