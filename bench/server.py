"""The server under test: `heliograph serve` as its users run it, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.processes import start, stop, wait_for_file

PROGRAM = [sys.executable, "-m", "heliograph"]
START_S = 30


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it listens, and the processes that make it up."""

    url: str
    pids: Sequence[int]


@contextlib.contextmanager
def running(data_dir: Path, database: str | None, part: str = "all") -> Iterator[Server]:
    """Run one part of a server (`all`: API, agent gateway and dispatcher; `api`: no dispatcher) on a data directory."""
    log, ready = data_dir.parent / f"{data_dir.name}.log", data_dir.parent / f"{data_dir.name}.ready"
    ready.unlink(missing_ok=True)
    command = [*PROGRAM, "serve", part, "--data-dir", str(data_dir), "--port", "0", "--ready-file", str(ready)]
    command += ["--requests-per-minute", "0", "--log-level", "WARNING"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HELIOGRAPH_")}
    # One organization sends all of it here.
    environment |= {"HELIOGRAPH_ORGANIZATION_REQUESTS_PER_MINUTE": "0", "HELIOGRAPH_CHECK_INS_PER_MINUTE": "0"}
    if database is not None:
        environment["HELIOGRAPH_DATABASE"] = database
    process = start(command, log, env=environment)
    try:
        document = msgspec.json.decode(wait_for_file(ready, process, log, START_S))
        yield Server(document["baseUrl"], [process.pid])
    finally:
        stop(process)
