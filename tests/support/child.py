"""A program of ours as a child process that a test may kill at any instant."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.postgres import end_with_parent

START_S = 60
STOP_S = 30
SERVER = (sys.executable, "-m", "heliograph")
LAB = (sys.executable, "-m", "heliograph_lab")
AGENT = (sys.executable, "-m", "heliograph_agent")


def plain_environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would steer the program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HELIOGRAPH_")}
    return {**kept, **more}


class Child:
    """One command line, started any number of times. What it says is kept in `<folder>/<name>.out` and `.err`."""

    def __init__(
        self, name: str, folder: Path, command: Sequence[str], *, ready: Path | None = None, **env: str
    ) -> None:
        self.name, self.folder, self.command, self.ready_file, self.env = name, folder, list(command), ready, env
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None, f"{self.name} does not run"
        return self.process.pid

    def complaints(self) -> str:
        """All that it has written to stderr, over all starts."""
        return (self.folder / f"{self.name}.err").read_text(errors="replace")

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        if self.ready_file is not None:
            self.ready_file.unlink(missing_ok=True)
        with (self.folder / f"{self.name}.out").open("ab") as out, (self.folder / f"{self.name}.err").open("ab") as err:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self.folder,
                env=plain_environment(self.env),
                # A session of its own, so that Ctrl-C reaches pytest first; yet it ends with pytest, however that ends.
                start_new_session=True,
                preexec_fn=functools.partial(end_with_parent, signal.SIGKILL),
            )

    def await_ready(self) -> dict[str, Any]:
        """What its ready file says, once that is there."""
        assert self.ready_file is not None
        assert self.process is not None
        deadline = time.monotonic() + START_S
        while not self.ready_file.exists():
            assert self.process.poll() is None, f"{self.name} ended: {self.process.returncode}\n{self.complaints()}"
            assert time.monotonic() < deadline, f"{self.name} is not ready after {START_S} s\n{self.complaints()}"
            time.sleep(0.01)
        said: dict[str, Any] = json.loads(self.ready_file.read_text())
        return said

    def start(self) -> dict[str, Any]:
        """Start it and wait until it is ready."""
        self.launch()
        return self.await_ready()

    def kill(self) -> None:
        """SIGKILL; it is gone when this returns."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it as a user does; answers the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_S)
        finally:
            self.kill()
