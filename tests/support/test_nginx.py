"""A real nginx can be had, or the message says what to install."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import debian, nginx


def test_one_that_speaks_http2_is_found() -> None:
    shown = subprocess.run([nginx.find(), "-V"], capture_output=True, text=True, check=True).stderr
    assert "--with-http_v2_module" in shown


def test_without_one_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx, "PLACES", ())
    monkeypatch.setattr(nginx, "ensure", debian.ensure.__wrapped__)
    monkeypatch.setattr(debian, "PLACES", ())
    monkeypatch.setattr(debian, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install nginx"):
        nginx.find.__wrapped__()
