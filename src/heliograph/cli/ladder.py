"""A command or push on its way: which states are final, how it is shown, how it is followed."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from heliograph.cli.client import Api
from heliograph.cli.exits import ExitCode, Failure
from heliograph.cli.output import ago, as_json, clean, console, local_time, note, pairs, style_of
from heliograph.domain.deliveries import PUSH_FINAL
from heliograph.domain.ladder import TERMINAL

Json = dict[str, Any]
_GOOD = ("succeeded", "acknowledged", "executed")
_POLL_S = 1.0
_FINAL = {str(rung) for rung in TERMINAL}
_PUSH_FINAL = {str(rung) for rung in PUSH_FINAL}


def is_over(command: Json) -> bool:
    """Whether a command's state is final."""
    return command["progress"]["rung"] in _FINAL


def is_push_over(push: Json) -> bool:
    """Whether nothing more is expected of a push."""
    return push["status"] in _PUSH_FINAL


def kind_of(command: Json) -> str:
    """A command's type, on either platform."""
    return str(command.get("command") or command["config"]["metadata"].get("type", ""))


def why(command: Json) -> str:
    """What a command says of its failure."""
    if "errorMessage" in command:
        return str(command["errorMessage"])
    error = command.get("config", {}).get("error")
    if not isinstance(error, dict):
        return ""
    return ": ".join(str(error[name]) for name in ("code", "message") if error.get(name))


def check(rung: str, final: bool, reason: str, seconds: float) -> None:
    """What the exit code says after waiting. Raises Failure unless it went well."""
    if not final:
        raise Failure(ExitCode.TIMED_OUT, f"still {rung} after {seconds:g} s; it goes on by itself")
    if rung not in _GOOD:
        raise Failure(ExitCode.REFUSED, f"it ended as {rung}" + (f": {reason}" if reason else ""))


def check_command(command: Json, seconds: float) -> None:
    """As `check`."""
    check(command["progress"]["rung"], is_over(command), why(command), seconds)


def show_command(command: Json) -> None:
    """A command with its history."""
    progress = command["progress"]
    pairs(
        {
            "command": kind_of(command),
            "id": command["id"],
            "status": command["status"],
            "rung": progress["rung"],
            "reason": why(command),
            "queue": turn_text(progress),
            "cancel requested": ago(progress.get("cancelRequestedAt")),
            "asked": ago(command["createdAt"]),
            "valid until": ago(command["expiresAt"]) if "expiresAt" in command and not is_over(command) else None,
        }
    )
    show_history(progress["history"])


def turn_text(progress: Json) -> str | None:
    """Where a command stands that waits for its turn at Google."""
    queue = progress.get("queue")
    return queue and f"number {queue['position']}, its turn comes in about {queue['expectedSeconds']} s"


def show_history(history: Iterable[Json]) -> None:
    """Each rung with its time and evidence."""
    out = console()
    for entry in history:
        out.print(line_of(entry), style=style_of(entry["rung"]) or None, soft_wrap=True)


def line_of(entry: Json) -> str:
    """One line of a history."""
    evidence = f"  {clean(as_json(entry['evidence']))}" if entry["evidence"] else ""
    return f"{local_time(entry['at'])}  {clean(entry['rung']):<19}  {clean(entry['source'])}{evidence}"


def follow(
    api: Api,
    path: str,
    what: str,
    timeout: float | None,
    is_quiet: bool,
    is_final: Callable[[Json], bool] = is_over,
) -> Json:
    """Read a command or push until it is final, or the time is up, and show each rung as it comes."""
    deadline = None if timeout is None else time.monotonic() + timeout
    shown = 0
    turns = _Turns()
    while True:
        left = _POLL_S if deadline is None else deadline - time.monotonic()
        # The server answers as soon as the state is final; in between we look once a second.
        command = api.get(path, what, wait=1 if left >= 1 and shown else 0)
        history = command["progress"]["history"]
        if not is_quiet:
            show_history(history[shown:])
            sys.stdout.flush()
            turns.show(command["progress"])
        shown = len(history)
        if is_final(command) or (deadline is not None and time.monotonic() >= deadline):
            return command
        if 0 < left < 1:
            time.sleep(left)


class _Turns:
    """Says where a command stands in the queue: at first, and whenever half of what was before it is gone."""

    def __init__(self) -> None:
        self._last: int | None = None

    def show(self, progress: Json) -> None:
        position = progress.get("queue", {}).get("position")
        if position is not None and (self._last is None or position <= self._last / 2):
            self._last = position
            note(f"In the queue: {turn_text(progress)}")
