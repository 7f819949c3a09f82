"""The command line as tests use it: run in this process, or as a process of its own beside a real server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from heliograph.cli.main import run

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The only document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error on stderr with `--json`."""
        found: dict[str, Any] = json.loads(self.err)["error"]
        return found


@dataclass
class Cli:
    """Runs command lines in this process."""

    capsys: pytest.CaptureFixture[str]
    seen: list[str] = field(default_factory=list)

    def __call__(self, *arguments: object) -> Result:
        self.capsys.readouterr()
        code = run([str(a) for a in arguments])
        out, err = self.capsys.readouterr()
        self.seen += [out, err]
        assert "Traceback" not in err
        return Result(int(code), out, err)

    def ok(self, *arguments: object) -> Any:
        """The document of a command that has to work."""
        result = self(*arguments, "--json")
        assert result.code == 0, result.err
        return result.json


def plain_environment(**more: str) -> dict[str, str]:
    """This process's environment without what would steer the command line."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HELIOGRAPH_")}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), **more}


def command(*arguments: object) -> list[str]:
    """The command line of a process of its own."""
    return [sys.executable, "-m", "heliograph", *(str(a) for a in arguments)]


def outside(*arguments: object, folder: Path, text: str = "", **environment: str) -> Result:
    """Run a command as a process of its own."""
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        input=text,
        capture_output=True,
        text=True,
        env=plain_environment(**environment),
        timeout=120,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def until(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def signed_up(url: str) -> str:
    """Complete a sign-up in the lab; answers the enterprise token that its page ends with."""
    [token] = re.findall(r"\bE[0-9a-f]{32}\b", httpx2.get(url, trust_env=False).text)
    return str(token)


@contextmanager
def process(folder: Path, *arguments: object, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command as a process in `folder`, ended at the end. Its output goes to files `stdout` and `stderr` in there."""
    with (folder / "stdout").open("ab") as out, (folder / "stderr").open("ab") as err:
        running = subprocess.Popen(
            command(*arguments), cwd=folder, stdout=out, stderr=err, env=plain_environment(**environment)
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
        running.wait(PATIENCE_S)


@contextmanager
def serving(folder: Path, *arguments: object, **environment: str) -> Iterator[dict[str, Any]]:
    """`heliograph …` with a ready file; gives what that says."""
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    with process(folder, *arguments, "--ready-file", ready, **environment) as running:
        until(lambda: ready.exists() or running.poll() is not None, "the server did not get ready")
        assert running.poll() is None, (folder / "stderr").read_text()
        yield json.loads(ready.read_text())


@dataclass(frozen=True)
class Site:
    """A running server with an organization, a key, and devices."""

    data_dir: Path
    url: str
    organization: dict[str, Any]
    key: dict[str, Any]
    kiosk: dict[str, Any]
    """An AOSP device whose agent is running."""
    shelf: dict[str, Any]
    """An AOSP device without an agent."""
    phone: dict[str, Any]
    """An Android device of an enterprise without credentials: nothing is ever issued."""
    signage: dict[str, Any]
    """A device that takes no commands; no agent."""

    @property
    def http(self) -> list[str]:
        """Options that lead there over HTTP."""
        return ["--url", self.url, "--api-key", self.key["secret"], "--org", self.organization["slug"]]

    @property
    def here(self) -> list[str]:
        """Options that lead there through the data directory."""
        return ["--data-dir", str(self.data_dir), "--org", self.organization["slug"]]
