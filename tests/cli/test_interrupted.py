"""Ctrl-C in the middle of a command: it ends at once."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from tests.cli.rig import process

INTERRUPTED = 130


@pytest.mark.parametrize(
    "command", [["key", "list"], ["provider", "test", "x"], ["device", "list"], ["push", "test", "x"]]
)
def test_a_server_that_hangs_is_not_waited_for(command: list[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = ["--url", f"http://127.0.0.1:{silent.getsockname()[1]}", "--api-key", "hlg_x"]
        with process(tmp_path, *command, *where) as running:
            silent.settimeout(60)
            with silent.accept()[0] as line:
                line.recv(1)
                begun = time.monotonic()
                running.send_signal(signal.SIGINT)
                assert running.wait(60) == INTERRUPTED
                assert time.monotonic() - begun < 5
    assert (tmp_path / "stderr").read_text() == ""
