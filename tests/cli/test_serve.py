"""Processes that serve until they are told to stop."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from heliograph.cli.exits import Failure
from heliograph.cli.node import read_settings
from heliograph.store import Hub, PostgresStore, migrate
from tests.cli.rig import ROOT, Cli, outside, plain_environment, process, serving, until
from tests.support.postgres import Databases, Postgres


async def _migrated(dsn: str) -> None:
    store = await PostgresStore.open(dsn, Hub())
    await migrate(store)
    await store.close()


@pytest.fixture(scope="session")
def databases(postgres: Postgres) -> Databases:
    return postgres.template("cli", _migrated)


@pytest.fixture
async def dsn(databases: Databases) -> AsyncIterator[str]:
    dsn = await databases()
    yield dsn
    await databases.drop(dsn)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_normal_end(tmp_path: Path, number: signal.Signals) -> None:
    ready = tmp_path / "ready.json"
    arguments = ["serve", "all", "--port", 0, "--data-dir", "data", "--ready-file", ready]
    with process(tmp_path, *arguments) as running:
        until(lambda: ready.exists() or running.poll() is not None, "not ready")
        said = json.loads(ready.read_text())
        assert said["pids"] == {"server": running.pid}
        assert httpx2.get(f"{said['baseUrl']}/readyz", trust_env=False).json()["status"] is True
        running.send_signal(number)
        assert running.wait(60) == 0
    assert "Traceback" not in (tmp_path / "stderr").read_text()
    assert said["baseUrl"] in (tmp_path / "stdout").read_text()


def test_one_process_has_a_directory(tmp_path: Path) -> None:
    with serving(tmp_path, "serve", "all", "--port", 0, "--data-dir", "data"):
        second = outside("serve", "all", "--port", 0, "--data-dir", "data", folder=tmp_path)
    assert (second.code, "in use" in second.err, "Traceback" in second.err) == (6, True, False)


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = outside("serve", "all", "--port", port, "--data-dir", "data", folder=tmp_path)
    assert (result.code, "--port" in result.err, "Traceback" in result.err) == (1, True, False)


@pytest.mark.parametrize("part", ["api", "gateway", "dispatcher"])
def test_parts_of_their_own_need_postgresql(cli: Cli, part: str) -> None:
    result = cli("serve", part, "--data-dir", "data")
    assert (result.code, "serve all" in result.err, Path("data").exists()) == (2, True, False)


@pytest.mark.parametrize(
    ("host", "words"), [("no-such-host.invalid", "no such host"), ("203.0.113.7", "Choose another with --host")]
)
def test_an_address_that_is_not_ours_is_told(cli: Cli, host: str, words: str) -> None:
    result = cli("serve", "all", "--host", host, "--port", 0, "--data-dir", "data")
    assert (result.code, words in result.err, "--port" in result.err) == (1, True, False)


@pytest.mark.parametrize("command", [["serve", "all"], ["up"], ["up", "--demo"], ["lab", "up"]])
@pytest.mark.parametrize("path", ["missing/ready.json", "."])
def test_a_ready_file_that_cannot_be_written_is_told_at_once(cli: Cli, command: list[str], path: str) -> None:
    result = cli(*command, "--data-dir", "data", "--ready-file", path)
    assert (result.code, "--ready-file" in result.err, Path("data").exists()) == (2, True, False)


def test_a_demo_does_not_move_in_with_real_organizations(cli: Cli) -> None:
    cli.ok("org", "create", "acme", "--data-dir", "data")
    result = cli("up", "--demo", "--port", 0, "--data-dir", "data")
    assert (result.code, "acme" in result.err, "another --data-dir" in result.err) == (1, True, True)
    assert not Path("data/demo.json").exists()


def test_ctrl_c_is_quiet_while_the_program_is_being_loaded(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import signal\nprint('loading', flush=True)\nsignal.pause()\n")
    code = "from heliograph.__main__ import main; main()"
    environment = {**plain_environment(), "PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"}
    with subprocess.Popen(
        [sys.executable, "-c", code, "--version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"loading\n"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (130, b"")


def test_settings_are_checked(cli: Cli) -> None:
    result = cli("serve", "all", "--port", 99999)
    assert (result.code, "--port" in result.err) == (2, True)
    assert cli("serve", "all", "--log-format", "poem").code == 2


@pytest.mark.parametrize("name", ["host", "data_dir"])
def test_what_is_empty_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An empty host would be every address of this machine, and an empty directory whichever is the present one."""
    with pytest.raises(Failure, match=f"--{name.replace('_', '-')}: is empty"):
        read_settings(**{name: ""})
    monkeypatch.setenv(f"HELIOGRAPH_{name.upper()}", "")
    with pytest.raises(Failure, match=f"HELIOGRAPH_{name.upper()}: is empty"):
        read_settings()


def test_parts_of_their_own_on_postgresql(cli: Cli, dsn: str, tmp_path: Path) -> None:
    here = ["--database", dsn, "--data-dir", "data"]
    cli.ok("org", "create", "acme", *here)
    key = cli.ok("key", "create", "--permission", "*", *here)
    cli.ok("device", "add", "--platform", "aosp", "--name", "kiosk", *here)
    assert cli.ok("db", "status", *here)["database"] == "postgresql"
    assert cli.ok("db", "migrate", *here) == {"applied": []}
    folder = tmp_path / "dispatcher"
    folder.mkdir()
    parts = ["--database", dsn, "--data-dir", tmp_path / "data"]
    with (
        serving(tmp_path, "serve", "api", "--port", 0, *parts) as api,
        process(folder, "serve", "dispatcher", *parts) as dispatcher,
    ):
        where = ["--url", api["baseUrl"], "--api-key", key["secret"], "--org", "acme"]
        assert cli.ok("command", "send", "kiosk", "LOCK", *where)["status"] == "PENDING"
        until(lambda: "is up" in (folder / "stdout").read_text() or dispatcher.poll() is not None, "not up")
        cli.ok("key", "revoke", key["id"], *here)
        until(lambda: cli("device", "list", *where).code == 4, "the key still works")
        dispatcher.send_signal(signal.SIGTERM)
        assert dispatcher.wait(60) == 0


def test_a_database_that_is_away_is_told_without_its_password(cli: Cli) -> None:
    away = "postgresql://u:canary@127.0.0.1:1/x"
    for arguments in (["org", "list"], ["db", "status"], ["serve", "api", "--port", "0"]):
        result = cli(*arguments, "--database", away, "--data-dir", "data")
        assert (result.code, "canary" in result.out + result.err) == (3, False)


async def test_what_postgresql_refuses_is_told_once(postgres: Postgres, tmp_path: Path) -> None:
    missing = postgres.dsn("no_such_database")
    for arguments in (["org", "list"], ["db", "status"], ["serve", "api", "--port", "0"]):
        result = outside(*arguments, "--database", missing, "--data-dir", "data", folder=tmp_path)
        assert (result.code, result.err.count("\n")) == (3, 1), result.err
        assert "createdb no_such_database" in result.err
    parts = urlsplit(postgres.url)
    stranger = parts._replace(netloc=f"stranger:canary@{parts.netloc.rpartition('@')[2]}").geturl()
    result = outside("serve", "api", "--database", stranger, "--data-dir", "data", folder=tmp_path)
    assert (result.code, "'stranger'" in result.err, "canary" in result.err) == (3, True, False)
    assert not (tmp_path / "data").exists()
