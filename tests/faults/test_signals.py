"""SIGINT and SIGTERM end `up` with exit code 0 at any moment of its life, without a complaint, and nothing is left."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.child import SERVER, START_S, STOP_S, Child

INT, TERM = signal.SIGINT, signal.SIGTERM
Json = dict[str, Any]


class Up:
    """`heliograph up --demo` in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "var"
        self.ready = folder / "ready.json"
        command = [*SERVER, "up", "--demo", "--port", "0", "--data-dir", str(self.data_dir)]
        self.child = Child("up", folder, [*command, "--ready-file", str(self.ready)], ready=self.ready)

    def launch(self) -> None:
        """Start it, and return as soon as it decides itself what a signal means."""
        self.child.launch()
        self.until(self._listens)

    def until(self, holds: Callable[[], object]) -> None:
        """Return at the very moment at which something holds."""
        deadline = time.monotonic() + START_S
        while not holds():
            assert self.child.process is not None
            assert self.child.process.poll() is None, self.child.complaints()
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def has(self, pattern: str) -> bool:
        """Whether there is such a file in its data directory."""
        return any(self.data_dir.glob(pattern))

    def end(self, number: signal.Signals, *, again: bool = False) -> None:
        """Signal it, which must be its proper end; or again and again until it is gone."""
        process = self.child.process
        assert process is not None
        deadline = time.monotonic() + STOP_S
        while again and process.poll() is None and time.monotonic() < deadline:
            process.send_signal(number)
            time.sleep(0.002)
        code = self.child.end(number)
        assert (code, self.child.complaints(), self.left()) == (0, "", [])

    def left(self) -> list[list[str]]:
        """The processes that still work on its directory."""
        lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
        return [line for line in lines if any(str(self.folder) in part for part in line)]

    def _listens(self) -> bool:
        """Whether it catches SIGTERM, as the kernel says."""
        status = Path(f"/proc/{self.child.pid}/status").read_text().splitlines()
        [mask] = [line.split()[1] for line in status if line.startswith("SigCgt:")]
        return bool(int(mask, 16) >> (TERM - 1) & 1)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    made = Up(tmp_path)
    yield made
    made.child.kill()


@pytest.mark.parametrize(("module", "number"), [("typer", INT), ("typer", TERM), ("uvloop", INT), ("uvloop", TERM)])
def test_while_the_program_is_read(up: Up, module: str, number: signal.Signals) -> None:
    """Before it has begun anything. A module of that name makes the reading last.

    In short sleeps: a signal that comes just before one begins is heard only when that is over.
    """
    slow = up.folder / "slow"
    slow.mkdir()
    reading = f"import time\nopen({str(slow / 'reading')!r}, 'w')\nfor _ in range(6000):\n    time.sleep(0.01)\n"
    (slow / f"{module}.py").write_text(reading)
    up.child.env["PYTHONPATH"] = str(slow)
    up.launch()
    up.until((slow / "reading").exists)
    up.end(number)


@pytest.mark.parametrize(
    ("pattern", "number", "again"),
    [
        ("secret.key", INT, False),
        ("heliograph.db-wal", TERM, True),
        ("operator.sock", INT, True),
        ("demo.json", TERM, False),
        ("lab", INT, True),
        ("lab/lab.lock", TERM, False),
        ("lab/ready.*.json", INT, False),
    ],
)
def test_while_it_starts(up: Up, pattern: str, number: signal.Signals, again: bool) -> None:
    """At the moment at which it has made this file."""
    up.launch()
    up.until(lambda: up.has(pattern))
    up.end(number, again=again)


def test_a_start_that_was_ended_is_finished_by_the_next(up: Up) -> None:
    up.launch()
    up.until(lambda: up.has("lab/ready.*.json"))
    up.end(TERM)
    plan: Json = json.loads((up.data_dir / "lab/plan.json").read_text())
    first = up.child.start()
    assert first["organization"]["id"] == plan["organization"]["id"]
    assert [d["deviceId"] for d in first["devices"]] == [d["deviceId"] for d in plan["devices"]]
    up.end(INT, again=True)
    again = up.child.start()
    up.end(TERM, again=True)
    assert again | {"pids": {}} == first | {"pids": {}}
