"""`python -m heliograph_agent`."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from heliograph_agent.cli import SECRET_VARIABLE, default_state_dir, main
from tests.agent.fake_server import SECRET, FakeServer

ROOT = Path(__file__).parents[2]


def test_refuses_to_act_on_this_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--server", "http://127.0.0.1:1", "--state-dir", str(tmp_path / "state")]) == 2
    assert "--simulate" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--server", "http://127.0.0.1:1"], "no secret"),
        (["--server", "127.0.0.1:1"], "http://"),
        (["--server", "http://127.0.0.1:1", "--app", "../x"], "name"),
        (["--server", "http://127.0.0.1:1", "--secret-file", "missing"], "missing"),
    ],
)
def test_says_what_is_wrong(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, "" if words == "no secret" else "x")
    assert main([*arguments, "--simulate", "--state-dir", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err


def test_the_journal_is_the_users_wherever_the_agent_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(SECRET_VARIABLE, "x")
    for given, expected in [
        (str(tmp_path / "xdg"), tmp_path / "xdg"),
        ("relative", tmp_path / "home/.local/state"),
        ("", tmp_path / "home/.local/state"),
    ]:
        monkeypatch.setenv("XDG_STATE_HOME", given)
        for place in ("a", "b"):
            (tmp_path / place).mkdir(exist_ok=True)
            monkeypatch.chdir(tmp_path / place)
            assert default_state_dir() == expected / "heliograph-agent"
            # Ends at the wrong address, after the directory was made.
            assert main(["--server", "nowhere", "--simulate"]) == 2
            assert default_state_dir().is_dir()
            assert list(Path().iterdir()) == []


def test_a_journal_of_earlier_versions_is_used_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agent-state").mkdir()
    assert default_state_dir() == tmp_path / "agent-state"
    assert f"using {tmp_path / 'agent-state'}" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_simulates_until_a_signal_ends_it(number: signal.Signals, server: FakeServer, tmp_path: Path) -> None:
    command = await server.command("c1", newPassword="hunter22")
    await server.push("p1")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *["-m", "heliograph_agent", "--server", server.url, "--state-dir", str(tmp_path), "--simulate"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), SECRET_VARIABLE: SECRET, "NO_PROXY": "*"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await server.until(lambda: command.over and "p1" in server.acked)
    process.send_signal(number)
    out, err = await process.communicate()
    assert process.returncode == 0, err
    assert f"connected to {server.url}".encode() in err
    assert err.rstrip().endswith(b"stopped")
    assert b"Traceback" not in err
    items = [json.loads(line.removeprefix("simulated: ")) for line in out.decode().splitlines()]
    assert [item["commandId"] for item in items if item["event"] == "executed"] == ["c1"]
    assert [item["pushId"] for item in items if item["event"] == "displayed"] == ["p1"]
    left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (b"hunter22", SECRET.encode()):
        assert secret not in out + err + left
