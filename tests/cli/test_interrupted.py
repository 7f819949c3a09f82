"""Ctrl-C in the middle of a command: it ends at once, and what was done until then is told."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.rig import outside, process, serving, until

INTERRUPTED = 130
DEVICES = 3_000
BATCH = 50


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


@pytest.mark.parametrize("way", ["http", "socket", "here"])
def test_an_import_tells_the_secrets_of_what_it_has_added(way: str, tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").write_text("platform,serial\n" + "".join(f"aosp,S{n}\n" for n in range(DEVICES)))
    data = tmp_path / "data"
    here = ["--data-dir", str(data)]
    outside("org", "create", "acme", *here, folder=tmp_path)
    key = outside("key", "create", "--permission", "*", *here, "--json", folder=tmp_path).json["secret"]
    (tmp_path / "import").mkdir()
    with ExitStack() as stack:
        where = here
        if way != "here":
            ready = stack.enter_context(serving(tmp_path, "serve", "all", "--port", 0, *here))
            where = ["--url", ready["baseUrl"], "--api-key", key] if way == "http" else here
        with process(tmp_path / "import", "device", "import", tmp_path / "fleet.csv", "--json", *where) as running:
            until(lambda: len(added(data)) > BATCH, "nothing was added")
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == INTERRUPTED
    items: list[dict[str, Any]] = json.loads((tmp_path / "import/stdout").read_text())["items"]
    told = {item["serialNumber"] for item in items if "agentSecret" in item}
    doubted = {f"S{item['index']}" for item in items if "broke off" in item.get("error", "")}
    there = added(data)
    assert BATCH <= len(told) < DEVICES
    assert told <= there <= told | doubted
    error = json.loads((tmp_path / "import/stderr").read_text())["error"]
    assert error["exitCode"] == INTERRUPTED
    assert error["message"] == f"{DEVICES - len(told)} of {DEVICES} devices were not added"


def added(data: Path) -> set[str]:
    """Serial numbers of the devices in a database."""
    with closing(sqlite3.connect(f"file:{data / 'heliograph.db'}?mode=ro", uri=True)) as database:
        return {str(serial) for (serial,) in database.execute("SELECT serial_number FROM devices")}
