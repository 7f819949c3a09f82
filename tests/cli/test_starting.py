"""What is being started is waited for as long as it lives, and no longer."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heliograph.cli import lab_credentials, local, starting
from heliograph.cli.exits import ExitCode, Failure
from heliograph.cli.lab_credentials import NotUp, once_up
from tests.cli.rig import PATIENCE_S, Cli, process, until
from tests.cli.test_terminal import watched


@pytest.fixture
def lives(tmp_path: Path) -> Callable[[], bool]:
    return lambda: starting.lives(tmp_path)


def answers(*steps: Callable[[], object]) -> Callable[[], str]:
    """A lab that is not up yet at each of the steps, and up after them."""
    left = iter(steps)

    def ask() -> str:
        for step in left:
            step()
            raise NotUp(ExitCode.USAGE, "no lab is known")
        return "up"

    return ask


def test_it_lives_as_long_as_anybody_holds_it(tmp_path: Path, lives: Callable[[], bool]) -> None:
    assert not lives()
    first, second = starting.hold(tmp_path), starting.hold(tmp_path)
    assert lives()
    os.close(first)
    assert lives()
    os.close(second)
    assert not lives()


def test_a_lab_lives_from_its_command_to_its_end(tmp_path: Path) -> None:
    """Through the exec in between."""
    with process(tmp_path, "lab", "up", "--data-dir", "data"):
        until((tmp_path / "data/lab/ready.json").exists, "the lab is up")
        assert starting.lives(tmp_path / "data/lab")
    assert not starting.lives(tmp_path / "data/lab")


def test_a_lab_that_lives_is_waited_for(
    tmp_path: Path, lives: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_credentials, "SIGN_S", 0.0)
    living = starting.hold(tmp_path)
    assert once_up(answers(*[lambda: None] * 3), lives) == "up"
    os.close(living)


def test_a_lab_that_ends_while_it_starts_is_told_at_once(
    tmp_path: Path, lives: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_credentials, "SIGN_S", PATIENCE_S)
    living = starting.hold(tmp_path)
    with pytest.raises(Failure, match="has ended: what it printed says why"):
        once_up(answers(lambda: None, lambda: os.close(living), lambda: None), lives)


def test_a_lab_that_lives_and_never_listens_is_given_up(
    tmp_path: Path, lives: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_credentials, "LONGEST_S", 0.0)
    living = starting.hold(tmp_path)
    with pytest.raises(NotUp):
        once_up(answers(*[lambda: None] * 3), lives)
    os.close(living)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """A data directory that a process holds which does not listen yet; call it to end that."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lambda: fcntl.flock(lock, fcntl.LOCK_UN)


def test_a_server_that_holds_its_directory_is_waited_for(tmp_path: Path, held: Callable[[], None]) -> None:
    def seen(shown: str) -> None:
        if "Waiting until the server on data listens" in shown:
            held()

    result = watched(seen, "org", "create", "acme", "--data-dir", "data", folder=tmp_path)
    assert result.code == 0, result.out
    assert [result.out.count(words) for words in ("Waiting", "begins a new one")] == [1, 1]


@pytest.mark.usefixtures("held")
def test_a_server_that_never_listens_is_given_up(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "LONGEST_S", 0.0)
    result = cli("org", "create", "acme", "--data-dir", "data")
    assert (result.code, "in use by another process" in result.err) == (6, True)
    assert "begins a new one" not in result.err


def test_a_server_waits_for_a_command_that_works_in_its_directory(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    ready, said = tmp_path / "ready.json", tmp_path / "stderr"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711 briefly")
        lock.flush()
        serve = ("serve", "all", "--port", 0, "--data-dir", folder, "--ready-file", ready)
        with process(tmp_path, *serve) as server:
            until(lambda: "in use by process 4711" in said.read_text() or server.poll() is not None, "it does not wait")
            fcntl.flock(lock, fcntl.LOCK_UN)
            until(lambda: ready.exists() or server.poll() is not None, "it does not start")
            assert server.poll() is None, said.read_text()


def test_something_else_in_the_place_of_the_operators_socket_is_named(tmp_path: Path) -> None:
    (tmp_path / "data" / "operator.sock").mkdir(parents=True)
    with process(tmp_path, "serve", "all", "--port", 0, "--data-dir", tmp_path / "data") as server:
        assert server.wait(30) == 1
    said = (tmp_path / "stderr").read_text()
    assert ("Traceback" in said, said.rstrip().endswith("operator.sock: Is a directory")) == (False, True)


def test_a_server_that_hangs_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection, or the kernel does for it, and says nothing: the doctor is called for exactly that."""
    monkeypatch.setattr(local, "_SIGN_OF_LIFE_S", 0.1)
    Path("data").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind("data/operator.sock")
        silent.listen()
        result = cli("org", "list", "--data-dir", "data")
        assert (result.code, "the server on data has not answered" in result.err) == (3, True)
        examined = cli("doctor", "--json", "--data-dir", "data")
    [failed] = examined.json["checks"]
    assert (examined.code, failed["step"], "has not answered" in failed["detail"]) == (1, "server", True)
