"""A PostgreSQL of its own that a test may stop and start again."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.postgres import PREFIX, Account, is_ready, running


class RestartablePostgres:
    """A running server. What it has acknowledged survives its immediate shutdown (not one of the machine)."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        self._home = home
        self._data = home / "data"
        self._command = shlex.split((self._data / "postmaster.opts").read_text())
        self._process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Pull the plug: the server does not even flush its memory."""
        for pid in _postmaster(self._home)[:1]:
            os.kill(int(pid), signal.SIGQUIT)
        deadline = time.monotonic() + 20
        while _postmaster(self._home):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        if self._process is not None:
            self._process.wait()

    def start(self) -> None:
        """Start it again, on the same port: it replays the log. The kernel ends it with the thread that calls this."""
        with (self._home / "log").open("ab") as log:
            self._process = Account(self._home).start([*self._command], log)
        assert is_ready(self._process, self._data)


@contextlib.contextmanager
def restartable() -> Iterator[RestartablePostgres]:
    with running(("fsync=off",)) as server:
        port = str(urlsplit(server.url).port)
        homes = Path(tempfile.gettempdir()).glob(f"{PREFIX}*")
        [home] = [home for home in homes if _postmaster(home)[3:4] == [port]]
        restarting = RestartablePostgres(server.url, home)
        try:
            yield restarting
        finally:
            restarting.stop()


def _postmaster(home: Path) -> list[str]:
    """What the server says about itself: its process, its folder, its start and its port; nothing once it is gone."""
    try:
        return (home / "data" / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []
