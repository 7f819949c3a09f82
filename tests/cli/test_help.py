"""Every command explains itself, and quickly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heliograph.cli.exits import TABLE, ExitCode
from heliograph.cli.main import NOUNS, whole
from tests.cli.rig import Cli, outside

ENDLESS = {"up", "serve all", "serve api", "serve gateway", "serve dispatcher", "lab up", "agent run"}
HEAVY = ("httpx2", "asyncpg", "litestar", "uvicorn", "pydantic", "heliograph.bootstrap", "heliograph.domain.catalog")


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in (whole() if group is None else group).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


PATHS = [path for path, _ in commands()]


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_has_help(cli: Cli, path: tuple[str, ...]) -> None:
    result = cli(*path, "--help")
    assert result.code == 0
    assert "Usage: heliograph " + " ".join(path) in result.out


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_has_help(cli: Cli, noun: str) -> None:
    assert cli(noun, "--help").code == 0


def test_every_command_and_option_says_what_it_does() -> None:
    silent = [path for path, command in commands() if not command.help]
    silent += [(*path, p.name) for path, command in commands() for p in command.params if not getattr(p, "help", None)]
    assert silent == []


def test_every_command_that_ends_by_itself_takes_json() -> None:
    without = [" ".join(path) for path, c in commands() if not any("--json" in p.opts for p in c.params)]
    assert set(without) == ENDLESS


def test_exit_codes_are_documented(cli: Cli) -> None:
    assert set(TABLE) == set(ExitCode)
    shown = cli("--help").out
    assert [code for code in ExitCode if f"\n {int(code):>3}  " not in shown] == []


def test_defaults_of_up_are_shown(cli: Cli) -> None:
    assert "[default: 8080]" in cli("up", "--help").out


def test_version(cli: Cli) -> None:
    result = cli("--version")
    assert (result.code, result.out.startswith("heliograph ")) == (0, True)


def test_help_loads_none_of_the_server(tmp_path: Path) -> None:
    done = outside("--help", folder=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip() for line in done.err.splitlines()}
    assert "heliograph.cli.main" in loaded
    assert [name for name in HEAVY if name in loaded] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [("heliograph ke", "key"), ("heliograph key cr", "create"), ("heliograph key create --per", "--permission")],
)
def test_the_shell_completes(tmp_path: Path, words: str, expected: str) -> None:
    completing = {"_HELIOGRAPH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert outside(folder=tmp_path, **completing).out.split() == [expected]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["kye"], "Did you mean 'key'"),
        (["key", "create"], "--permission"),
        (["key", "create", "--nonsense"], "--nonsense"),
        (["command", "send", "x", "LOCK", "--wait", "-1"], "--wait"),
        (["device", "add", "--platform", "toaster"], "toaster"),
        (["agent", "run", "--server", "http://127.0.0.1:1", "--line", "pigeon"], "pigeon"),
    ],
)
def test_wrong_use_is_code_2_and_says_what(cli: Cli, arguments: list[str], words: str) -> None:
    result = cli(*arguments)
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert result.err.count("\n") == 1


def test_wrong_use_is_json_where_json_was_asked_for(cli: Cli) -> None:
    result = cli("key", "create", "--json", "--nonsense")
    assert (result.code, result.out, result.error["exitCode"]) == (2, "", 2)
