"""The calls that a demo prints, as somebody pastes them: all at once, into a shell, exactly as printed."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.rig import plain_environment, serving
from tests.support.debian import ensure
from tests.support.demo import STORES, new_database

_CALL = re.compile(r"^(?:curl |[A-Z]+=\$\()", re.MULTILINE)
_CAPTION = "# "
CALLS = 6


def printed(text: str) -> list[str]:
    """The calls in what the demo has said, without their captions."""
    calls = [line for line in text.splitlines() if _CALL.match(line)]
    assert text.count("\n" + _CAPTION) == len(calls) == CALLS
    return calls


def answers(said: str) -> list[Any]:
    """The data of the answers in an output, in their order."""
    return [json.loads(line)["data"] for line in said.splitlines()]


@pytest.mark.parametrize("store", STORES)
def test_they_work_as_printed(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "curl").symlink_to(ensure("curl", "curl"))
    environment = plain_environment()
    environment["PATH"] = f"{tmp_path / 'bin'}:{environment['PATH']}"
    with new_database(store, request) as database:
        more = [] if database is None else ["--database", database]
        with serving(tmp_path, "up", "--demo", "--port", 0, "--data-dir", "data", *more):
            pasted = "\n".join(printed((tmp_path / "stdout").read_text()))
            bash = subprocess.run(
                ["bash"], input=pasted, env=environment, capture_output=True, text=True, timeout=120, check=True
            )
    reboot, lock, sent = answers(bash.stderr)
    arrived, rebooted, cancelled, read = answers(bash.stdout)
    assert arrived["delivered"] is True
    assert (rebooted["id"], rebooted["status"]) == (reboot["id"], "DONE")
    assert (cancelled["id"], cancelled["status"]) == (lock["id"], "CANCEL")
    assert (read["id"], read["status"]) == (sent["id"], "acknowledged")
