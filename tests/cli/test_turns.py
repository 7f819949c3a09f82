"""How the command line shows where a command stands in the queue."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.cli.ladder import follow, show_command
from heliograph.cli.output import Mode

ENTRY = {"rung": "queued", "at": "2026-01-01T00:00:00Z", "source": "key:1", "evidence": {}}


def command(position: int | None, rung: str = "queued") -> dict[str, Any]:
    queue = {} if position is None else {"queue": {"position": position, "expectedSeconds": position * 2}}
    progress = {"rung": rung, "at": ENTRY["at"], "history": [ENTRY], **queue}
    return {
        "id": "c",
        "status": "PENDING",
        "config": {"metadata": {"type": "LOCK"}},
        "createdAt": ENTRY["at"],
        "progress": progress,
    }


class Api:
    """Answers one state after the other."""

    def __init__(self, *states: dict[str, Any]) -> None:
        self._states = list(states)

    def get(self, *_: object, **__: object) -> dict[str, Any]:
        return self._states.pop(0)


def test_get_shows_the_turn(capsys: pytest.CaptureFixture[str]) -> None:
    show_command(command(12))
    assert "queue    number 12, its turn comes in about 24 s" in capsys.readouterr().out
    show_command(command(None))
    assert "queue " not in capsys.readouterr().out


def test_watch_says_it_again_when_half_of_the_queue_is_gone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mode, "as_json", False)
    states = [command(n) for n in (100, 99, 60, 50, 49, 3)]
    follow(Api(*states, command(None, "succeeded")), "", "", None, is_quiet=False)  # type: ignore[arg-type]
    said = [line for line in capsys.readouterr().err.splitlines() if "In the queue" in line]
    assert [line.split(",")[0].split()[-1] for line in said] == ["100", "50", "3"]
