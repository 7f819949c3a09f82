"""On a terminal: questions, colours, progress."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.rig import Result, Site, command, plain_environment


def on_terminal(*arguments: object, folder: Path, typed: str = "", **environment: str) -> Result:
    """Run a command with a terminal as its standard input, output and error."""
    return watched(lambda shown: None, *arguments, folder=folder, typed=typed, **environment)


def watched(
    seen: Callable[[str], None], *arguments: object, folder: Path, typed: str = "", **environment: str
) -> Result:
    """The same; `seen` is given all that was shown until then, each time that there is more."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        command(*arguments),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=plain_environment(**{"TERM": "xterm", "COLUMNS": "200"} | environment),
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # the other side is gone
            break
        if not part:
            break
        shown += part
        seen(shown.decode(errors="replace"))
    os.close(ours)
    return Result(running.wait(60), shown.decode(), "")


@pytest.mark.parametrize(
    ("typed", "code", "words"), [("n\n", 1, "nothing was done"), ("\n", 1, "nothing was done"), ("y\n", 0, "queued")]
)
def test_what_destroys_asks(site: Site, tmp_path: Path, typed: str, code: int, words: str) -> None:
    for kind in ("RELINQUISH_OWNERSHIP", "WIPE"):
        asked = ["command", "send", "P1", kind, *site.http]
        result = on_terminal(*asked, folder=tmp_path, typed=typed)
        assert (result.code, words in result.out) == (code, True)
        assert f"{kind} for phone (android, serial P1) cannot be undone. Go on? [y/N]" in result.out


def test_ctrl_c_at_a_question_is_no_answer(site: Site, tmp_path: Path) -> None:
    asked = ["command", "send", "P1", "RELINQUISH_OWNERSHIP", *site.http]
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        command(*asked), stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=plain_environment(TERM="xterm")
    )
    os.close(theirs)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(ours, 65_536)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    assert os.read(ours, 65_536) == b"\r\n"
    os.close(ours)


def test_colours_are_for_terminals_that_want_them(site: Site, tmp_path: Path) -> None:
    listing = ["device", "list", *site.http]
    assert "\x1b[32mACTIVE" in on_terminal(*listing, folder=tmp_path).out
    assert "\x1b[32m" not in on_terminal(*listing, folder=tmp_path, NO_COLOR="1").out


def test_an_import_shows_how_far_it_is(site: Site, tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").write_text("platform\n" + "package\n" * 60)
    shown = on_terminal("device", "import", "fleet.csv", *site.here, folder=tmp_path).out
    assert ("Importing devices" in shown, "60/60" in shown) == (True, True)
    quiet = on_terminal("device", "import", "fleet.csv", "--json", *site.here, folder=tmp_path).out
    assert "Importing" not in quiet


def test_a_secret_on_the_command_line_is_remarked_on(site: Site, tmp_path: Path) -> None:
    asked = ["command", "send", "shelf", "RESET_PASSWORD", "--yes", "--param", "newPassword=canary", *site.http]
    shown = on_terminal(*asked, folder=tmp_path).out
    assert ("newPassword=@FILE" in shown, "canary" in shown) == (True, False)
