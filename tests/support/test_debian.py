"""A program from Debian can be had, or the message says what to install."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import debian


def test_a_program_runs() -> None:
    # mosquitto ends with 3 after its help.
    shown = subprocess.run([debian.ensure("mosquitto", "mosquitto"), "-h"], capture_output=True, text=True, check=False)
    assert shown.stdout.startswith("mosquitto version 2.")


def test_without_a_way_to_get_it_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install mosquitto"):
        debian.ensure.__wrapped__("mosquitto", "no-such-program")
