"""An agent process that kills itself with SIGKILL at a point given on the command line.

    python doomed.py URL SECRET FOLDER LINE KNOWS POINT

POINT is `received`, `acknowledged`, `before-effect`, `after-effect`, `before-display`, `after-display`, or
`write-N` / `torn-N`: after the Nth write to the journal, or in the middle of it; `never` lets it live. With KNOWS =
`yes` the device can tell after a crash whether the effect happened.
"""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from heliograph_agent import Agent, AgentConfig, Result, journal
from heliograph_protocol.messages import PushOffer


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DoomedDevice:
    """Its effects are lines in files, which outlive the process."""

    def __init__(self, folder: Path, point: str, *, knows: bool) -> None:
        self._folder = folder
        self._point = point
        self._knows = knows

    async def execute(self, command_id: str, type: str, params: dict[str, Any]) -> Result:  # noqa: A002
        self._at("before-effect")
        assert params == {"newPassword": "hunter22"}
        self._append("executed", command_id)
        self._at("after-effect")
        return Result(ok=True)

    def already_executed(self, command_id: str) -> bool | None:
        if not self._knows:
            return None
        path = self._folder / "executed"
        return path.exists() and command_id in path.read_text().split()

    async def display(self, push: PushOffer) -> None:
        self._at("before-display")
        self._append("displayed", push.id)
        self._at("after-display")

    async def observe(
        self,
        event: str,
        *,
        command_id: str | None = None,
        push_id: str | None = None,
        type: str | None = None,  # noqa: A002
    ) -> None:
        if command_id is not None:
            self._append(event, command_id)
            self._at(event)

    def _append(self, name: str, text: str) -> None:
        with (self._folder / name).open("a") as file:
            file.write(f"{text}\n")

    def _at(self, point: str) -> None:
        if point == self._point:
            die()


def doom_writes(kind: str, number: int) -> None:
    """Let the `number`th write to the journal be the last thing this process does."""
    count = 0
    write = journal._pwrite_all

    def doomed(file: int, data: bytes, at: int) -> None:
        nonlocal count
        count += 1
        if count == number and kind == "torn":
            write(file, data[: len(data) // 2], at)
            die()
        write(file, data, at)
        if count == number:
            die()

    journal._pwrite_all = doomed


async def main() -> None:
    url, secret, folder, line, knows, point = sys.argv[1:]
    kind, _, number = point.partition("-")
    if number.isdecimal():
        doom_writes(kind, int(number))
    config = AgentConfig(
        server_url=url,
        secret=secret,
        state_path=Path(folder, "agent.journal"),
        line=line,  # type: ignore[arg-type]
        backoff_base=0.01,
        backoff_cap=0.05,
    )
    task = asyncio.ensure_future(Agent(config, DoomedDevice(Path(folder), point, knows=knows == "yes")).run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    asyncio.run(main())
