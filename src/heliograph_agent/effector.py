"""What touches the device, and a sandbox that only pretends to."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from heliograph_agent import clock
from heliograph_protocol.messages import PushOffer

Event = Literal["received", "acknowledged"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """How an execution ended. `code` is upper case and stable, `message` for people; neither may hold a secret.

    `deferred` means "not now": nothing was done, and the server hands the command out again later; not before
    `retry_after` seconds, or as it thinks fit.
    `detail` is JSON; what is over 64 KiB, or nested deeper than 100 levels, is left out of the report.
    """

    ok: bool
    code: str = ""
    message: str = ""
    detail: dict[str, Any] | None = None
    deferred: bool = False
    retry_after: float | None = None


class Effector(Protocol):
    """The device, seen from the agent.

    The agent calls `execute` at most once per command id, unless `already_executed` answered False for it after a
    crash, a fault of the journal's disk or a stop of `Agent.run`. Commands come one at a time; `display` and `observe`
    may be called while one runs, and should be quick.

    When `Agent.run` ends while an effect lasts, `execute` is cancelled after `AgentConfig.grace`, and the agent may run
    again in the same process (it does so by itself when its journal has failed). Cancelling stops no thread and no
    process, so an effect that works in one (`asyncio.to_thread`) must either end before `execute` lets the
    CancelledError out, or `already_executed` must answer None (or True) for it until it has ended: after a False the
    command runs beside what is left of it.
    """

    async def execute(self, command_id: str, type: str, params: dict[str, Any]) -> Result:  # noqa: A002
        """Carry the command out. An exception counts as `already_executed` then says."""
        ...

    def already_executed(self, command_id: str) -> bool | None:
        """After a crash: whether the effect happened; None if nobody can tell (the command is never run again).

        False promises more than "not yet": it has not happened and nothing that still runs will make it happen. After
        damage to the journal it is asked for ids that never began, too.
        """
        ...

    async def display(self, push: PushOffer) -> None:
        """Show a notification. Called again for the same id only if a crash or an exception cut the first call."""
        ...

    async def observe(
        self,
        event: Event,
        *,
        command_id: str | None = None,
        push_id: str | None = None,
        type: str | None = None,  # noqa: A002
    ) -> None:
        """Note what the agent is about to tell the server, before it does. Repeated only after a crash."""
        ...


class SimulatedEffector:
    """`--simulate`: writes what it would do to `out` and, durably, to the file `path` (JSON lines).

    Its effect is the line itself, so that it can always tell what it has executed. It never writes params' values.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._executed: set[str] = set()
        self._displayed: set[str] = set()
        for line in path.read_bytes().split(b"\n") if path.exists() else []:
            self._remember(line)

    async def execute(self, command_id: str, type: str, params: dict[str, Any]) -> Result:  # noqa: A002
        """Write that the command would run now."""
        self._note({"event": "executed", "commandId": command_id, "type": type, "params": sorted(params)})
        return Result(ok=True, detail={"simulated": True})

    def already_executed(self, command_id: str) -> bool | None:
        """True or False, never None: the file knows."""
        return command_id in self._executed

    async def display(self, push: PushOffer) -> None:
        """Write the notification, once per id."""
        if push.id not in self._displayed:
            self._note({"event": "displayed", "pushId": push.id, "title": push.title, "body": push.body})

    async def observe(
        self,
        event: Event,
        *,
        command_id: str | None = None,
        push_id: str | None = None,
        type: str | None = None,  # noqa: A002
    ) -> None:
        """Write the event."""
        members = {"commandId": command_id, "pushId": push_id, "type": type}
        self._note({"event": event} | {name: value for name, value in members.items() if value is not None})

    def _note(self, item: Mapping[str, Any]) -> None:
        line = json.dumps({"at": clock.rfc3339(clock.wall()), **item}, ensure_ascii=False)
        # The leading line break ends a line that a crash has torn.
        data = f"\n{line}\n".encode()
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(file, left) :]
                # What a next start would read has happened, whatever the disk says afterwards.
                if len(left) <= len(b"\n"):
                    self._remember(line.encode())
            os.fsync(file)
        finally:
            os.close(file)
        sys.stdout.write(f"simulated: {line}\n")
        sys.stdout.flush()

    def _remember(self, line: bytes) -> None:
        try:
            item = json.loads(line)
        except ValueError:
            return
        if item.get("event") == "executed":
            self._executed.add(item["commandId"])
        elif item.get("event") == "displayed":
            self._displayed.add(item["pushId"])
