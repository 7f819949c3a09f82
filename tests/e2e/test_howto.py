"""The how-to of docs/android.md, command by command as it is written, in a fresh directory against the lab.

What the page prints is what comes, ids and times apart. `TOKEN` and its kin are what a person copies on the way.
"""

from __future__ import annotations

import re
import shlex
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests.arch.files import ROOT
from tests.cli.rig import plain_environment, signed_up
from tests.support.ports import free_port

PAGE = ROOT / "docs/android.md"
PATIENCE_S = 60
_VOLATILE = (
    (r"https?://[^\s/]+(/signup/\w+)?", "URL"),
    (r"\b127\.0\.0\.1:\d+", "HOST"),
    (r"\bLC[0-9a-f]{8}\b", "LC"),
    (r"\bhlg_\S+", "KEY"),
    (r"\b[0-9a-fA-F]{16,32}\b", "ID"),
    (r"\b\d{4}-\d\d-\d\dT[\d:.]+Z\b", "TIME"),
    (r"\b\d{4}-\d\d-\d\d [\d:.]+\b", "TIME"),
    (r"\b\d{13}\b", "MILLIS"),
    (r"\b(now|\d+ s ago)\b", "AGO"),
    (r"\b(\d+) migrations\b", "N migrations"),
    (r" {2,}", "  "),
)


def steps_of(page: str) -> list[tuple[str, str]]:
    """Every command of the how-to, with what the page says that it prints."""
    part = page.partition("<!-- howto: begin -->")[2].partition("<!-- howto: end -->")[0]
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", part, re.DOTALL):
        for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = entry.partition("\n")
            found.append((command, printed))
    return found


def masked(text: str) -> list[str]:
    """Lines without what differs from run to run."""
    for pattern, name in _VOLATILE:
        text = re.sub(pattern, name, text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def agrees(command: str, said: str, came: str) -> bool:
    """Whether the page says what came. How far the device and Google have got differs, what it comes to does not."""
    told, seen = masked(said), masked(came)
    if command.startswith("heliograph command cancel"):
        return told[0] == seen[0] and {"status CANCEL", "rung cancelled"} <= {" ".join(line.split()) for line in seen}
    if command.startswith("heliograph doctor"):
        told, seen = (
            [line for line in lines if "last heard" not in line and "->" not in line] for lines in (told, seen)
        )
    return told == seen


class Shell:
    """One shell in which a person works."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        tools = folder / "bin"
        tools.mkdir()
        (tools / "heliograph").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m heliograph "$@"\n')
        (tools / "heliograph").chmod(0o755)
        environment = plain_environment(NO_PROXY="127.0.0.1")
        environment["PATH"] = f"{tools}:{environment['PATH']}"
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> str:
        """Give a command; answers all that it prints."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        # From /dev/null, because the shell itself reads the commands from its standard input.
        self._bash.stdin.write(f"eval {shlex.quote(command)} < /dev/null\necho '<<<end'\n")
        self._bash.stdin.flush()
        lines: list[str] = []
        while (line := self._bash.stdout.readline()) != "<<<end\n":
            assert line, f"the shell ended after: {command}"
            lines.append(line)
        return "".join(lines)

    def close(self) -> None:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write("kill $(jobs -p) 2> /dev/null; wait\n")
        self._bash.stdin.close()
        self._bash.stdout.read()
        self._bash.stdout.close()
        self._bash.wait(PATIENCE_S)


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def is_up(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def is_known(shell: Shell, serial: str) -> bool:
    """Whether the server knows a device."""
    with sqlite3.connect(f"file:{shell.folder / 'var/heliograph.db'}?mode=ro", uri=True) as database:
        [[count]] = database.execute("SELECT count(*) FROM devices WHERE serial_number = ?", (serial,)).fetchall()
    return bool(count)


def copied(name: str, printed: str) -> str:
    """What a person copies from what was printed."""
    patterns = {
        "ENROLLMENT-TOKEN": r"^enrollment token +(\S+)",
        "SECRET": r"^secret +(\S+)",
        "COMMAND-ID": r"^(?:id|command) +([0-9a-f]{24})",
    }
    found = re.findall(patterns[name], printed, re.MULTILINE)
    assert found, f"{name} was not printed"
    return str(found[-1])


def test_the_how_to_leads_to_the_first_cancelled_lock(tmp_path: Path) -> None:
    shell = Shell(tmp_path, free_port())
    printed = ""
    differing: list[tuple[str, list[str], list[str]]] = []
    try:
        for written, said in steps_of(PAGE.read_text()):
            command = written.replace("8080", str(shell.port))
            for name in ("ENROLLMENT-TOKEN", "SECRET", "COMMAND-ID"):
                if name in command:
                    command = command.replace(name, copied(name, printed))
            if "TOKEN" in command.split():
                page = re.findall(r"sign-up +(http\S+)", printed)[-1]
                command = command.replace(" TOKEN", f" {signed_up(page)}")
            came = shell.run(command)
            printed += came
            if not agrees(command, said, came):
                differing.append((written, masked(said), masked(came)))
                print(f"$ {written}\n{came}")  # what belongs on the page
            if command.startswith("heliograph lab up"):
                until((tmp_path / "var/lab/ready.json").exists, "the lab is up")
            if command.startswith("heliograph key"):
                until(lambda: is_known(shell, "TILL7"), "the phone told of its enrollment")
            if command.startswith("heliograph up"):
                until(lambda: is_up(shell.port), "the server is up")
    finally:
        shell.close()
    assert differing == []
    assert (tmp_path / "code.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_ends_with_the_proof() -> None:
    by_command = dict(steps_of(PAGE.read_text()))
    [cancelled] = [said for command, said in by_command.items() if command.startswith("heliograph command cancel")]
    assert "cancelled" in cancelled


@pytest.mark.parametrize("name", ["TOKEN", "ENROLLMENT-TOKEN", "SECRET", "COMMAND-ID"])
def test_what_is_copied_is_printed_before(name: str) -> None:
    assert any(name in command for command, _ in steps_of(PAGE.read_text()))
