"""`heliograph up` refuses to start where it must not, in one line, and leaves what is there alone."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx2
import pytest

from tests.cli.rig import Cli, Result, outside, serving


def refusal(result: Result) -> str:
    """The only line of a command that was refused."""
    assert result.out == ""
    [line] = result.err.splitlines()
    return line


@pytest.mark.parametrize("more", [[], ["--demo"]])
def test_a_directory_in_use(tmp_path: Path, more: list[str]) -> None:
    with serving(tmp_path, "up", "--port", 0, "--data-dir", "data") as first:
        second = outside("up", *more, "--port", 0, "--data-dir", "data", folder=tmp_path)
        assert httpx2.get(f"{first['baseUrl']}/readyz", trust_env=False).status_code == 200
    assert second.code == 6
    assert f"data is in use by process {first['pids']['server']}" in refusal(second)


@pytest.mark.parametrize("more", [[], ["--demo"]])
def test_a_port_that_is_taken(tmp_path: Path, more: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = outside("up", *more, "--port", port, "--ready-file", "ready", folder=tmp_path)
    assert result.code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use. Choose another with --port" in refusal(result)
    assert not (tmp_path / "ready").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_a_demo_is_for_this_machine_alone(cli: Cli, host: str) -> None:
    Path("data").write_text("no directory: should it try after all, it does not get far")
    result = cli("up", "--demo", "--host", host, "--data-dir", "data")
    assert result.code == 2
    assert f"listens on loopback only, not on {host}" in refusal(result)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_every_loopback_address_may_have_a_demo(cli: Cli, host: str) -> None:
    Path("data").write_text("no directory")
    result = cli("up", "--demo", "--host", host, "--data-dir", "data")
    assert (result.code, "loopback" in result.err) == (3, False)
