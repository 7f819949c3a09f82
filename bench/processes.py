"""Child processes that cannot outlive us, and the CPU time that processes use."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

from tests.support.postgres import end_with_parent

STOP_S = 10
START_S = 60
_HOST = "127.0.0.1"


class ChildFailed(Exception):
    """A child ended by itself, or said nothing; the message holds what it complained about."""


def start(command: Sequence[str], log: Path, **streams: Any) -> subprocess.Popen[bytes]:
    """A child in a session of its own, so that Ctrl-C reaches us alone; the kernel ends it when we are gone."""
    with log.open("ab") as complaints:
        return subprocess.Popen(
            command,
            stderr=complaints,
            start_new_session=True,
            preexec_fn=functools.partial(end_with_parent, signal.SIGKILL),
            **({"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL} | streams),
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and make it."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Client:
    """A load generator: a module of ours as a process, which answers each line of JSON with another."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log
        self.pid = process.pid

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise ChildFailed(f"a load generator ended:\n{self._log.read_text(errors='replace')[-4000:]}")
        answer: dict[str, Any] = msgspec.json.decode(line)
        return answer


@contextlib.contextmanager
def client(module: str, folder: Path, **environment: str) -> Iterator[Client]:
    """Run `bench.<module>` as a load generator."""
    log = folder / f"{module}.log"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = start([sys.executable, "-m", f"bench.{module}"], log, env={**os.environ, **environment}, **pipes)
    try:
        yield Client(process, log)
    finally:
        stop(process)


@dataclass(slots=True)
class CpuMeter:
    """CPU seconds that processes have used since the meter was made; processes that ended meanwhile are not counted."""

    processes: list[psutil.Process]
    _before: dict[int, float]

    @classmethod
    def of(cls, *pids: int) -> CpuMeter:
        """A meter of some processes."""
        found = [psutil.Process(pid) for pid in pids]
        return cls(found, {process.pid: _seconds(process) for process in found})

    def seconds(self) -> float:
        """What they have used so far."""
        return sum(_seconds(process) - self._before[process.pid] for process in self.processes)


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


class PostgresMeter:
    """CPU seconds of a PostgreSQL on this machine: the postmaster, with its ended children, and the rest."""

    def __init__(self, backend_pid: int) -> None:
        self._postmaster = self._find(backend_pid)
        self._before = self._now()

    @staticmethod
    def _find(backend_pid: int) -> psutil.Process | None:
        try:
            return psutil.Process(backend_pid).parent()
        except psutil.NoSuchProcess:  # it runs on another machine
            return None

    def _now(self) -> float:
        if self._postmaster is None:
            return 0.0
        own = self._postmaster.cpu_times()
        ended = float(own.children_user + own.children_system) if hasattr(own, "children_user") else 0.0
        return float(own.user + own.system) + ended + sum(_seconds(child) for child in self._postmaster.children())

    def seconds(self) -> float | None:
        """What it has used since, None where that cannot be seen."""
        return None if self._postmaster is None else self._now() - self._before


def wait_for_file(path: Path, process: subprocess.Popen[bytes], log: Path, within_s: float) -> bytes:
    """The content of a file that a child writes once it is ready."""
    deadline = time.monotonic() + within_s
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise ChildFailed(f"the server did not start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.02)
    return path.read_bytes()


def free_port() -> int:
    """A port of this machine that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a child listens."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection((_HOST, port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ChildFailed(f"a server did not start:\n{log.read_text(errors='replace')[-4000:]}") from None
            time.sleep(0.05)
        else:
            return
