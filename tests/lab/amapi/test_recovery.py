"""What survives a restart and a SIGKILL."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from heliograph_lab.amapi import EmulatorSettings
from tests.lab.amapi.rig import ENTERPRISE, Rig, running

ROOT = Path(__file__).parents[3]


async def test_open_operations_go_on_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.set(online=False)
        runs, cancelled, expires = [(await rig.issue())["name"] for _ in range(3)]
        before = await rig.get(runs)
        rig.settings.cancel_delay = 3600
        await rig.cancel(cancelled)
    async with running(tmp_path) as rig:
        assert await rig.get(runs) == before
        assert (await rig.done(cancelled))["error"]["code"] == 1
        await rig.set(online=True)
        await rig.done(runs)
        await rig.done(expires)
        assert rig.executed() == [runs, expires]
    async with running(tmp_path) as rig:
        await rig.quiet()
        assert rig.executed() == [runs, expires]
        listed = await rig.ask("GET", f"{ENTERPRISE}/devices/d1/operations")
        assert [item["name"] for item in listed["operations"]] == [runs, cancelled, expires]


async def test_what_the_journal_says_was_executed_is_not_executed_again(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.set(online=False)
        name = (await rig.issue())["name"]
        await rig.kernel.journal.write("id-d1", "executed", operation=name, type="LOCK")
    async with running(tmp_path) as rig:
        operation = await rig.done(name)
        assert "error" not in operation
        await rig.set(online=True)
        await rig.quiet()
        assert rig.executed() == [name]


async def test_expiry_while_the_lab_was_down(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.set(online=False)
        name = (await rig.issue())["name"]
        await rig.emulator.stop()
        await rig.kernel.clock.advance(3600)
        await rig.set(online=True)
    async with running(tmp_path) as rig:
        assert (await rig.done(name))["error"]["code"] == 4
        assert rig.executed() == []


async def test_a_drop_that_was_due_is_made_up_for(tmp_path: Path) -> None:
    async with running(tmp_path, EmulatorSettings(drop_delay=3600)) as rig:
        wipe = (await rig.issue(body={"type": "WIPE"}))["name"]
        await rig.done(wipe)
        await rig.issue()
    async with running(tmp_path, EmulatorSettings(drop_delay=0)) as rig:
        await rig.until(lambda: rig.emulator.registry.dropped(f"{ENTERPRISE}/devices/d1"))
        assert rig.executed() == [wipe]
        left = rig.kernel.state.all("amapi.operations")
        assert left == {}
        # One that was taken in at that very moment:
        orphan = {"device": f"{ENTERPRISE}/devices/d1", "number": 1, "command": {"type": "LOCK"}}
        await rig.kernel.state.put("amapi.operations", f"{ENTERPRISE}/devices/d1/operations/1", orphan)
    async with running(tmp_path) as rig:
        await rig.ask("GET", wipe, status=404)
        await rig.quiet()
        assert rig.kernel.state.all("amapi.operations") == {}
        assert rig.executed() == [wipe]


async def test_a_disk_that_fails_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_next() -> None:
        good = rig.kernel.commit

        async def failing(**_: Any) -> None:
            monkeypatch.setattr(rig.kernel, "commit", good)
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(rig.kernel, "commit", failing)

    fail_next()
    assert (await rig.issue(status=500))["error"]["status"] == "INTERNAL"
    assert await rig.ask("GET", f"{ENTERPRISE}/devices/d1/operations") == {}
    await rig.set(online=False)
    name = (await rig.issue())["name"]
    fail_next()
    await rig.cancel(name, status=500)
    fail_next()
    await rig.set(online=True)
    await rig.quiet()
    assert "done" not in await rig.get(name)
    assert rig.executed() == []
    await rig.issue()  # the device looks for work again
    assert "error" not in await rig.done(name)
    assert rig.executed()[0] == name
    assert len([record for record in caplog.records if record.exc_info]) == 3


@pytest.mark.parametrize("lines", [1, 40, 333])
async def test_kill_at_any_instant(tmp_path: Path, lines: int) -> None:
    facts = _run_and_kill(tmp_path, lines) + _run_and_kill(tmp_path, lines)
    async with running(tmp_path) as rig:
        issued = [name for fact, name in facts if fact == "issued"]
        ended = {name: await rig.done(name) for name in issued}  # none is lost, and all come to an end
        for fact, name in facts:
            assert fact == "issued" or (fact == "cancelled") == (ended[name].get("error", {}).get("code") == 1)
        await rig.quiet()
        executed = [str(name) for name in rig.executed("d1") + rig.executed("d2")]
        assert len(executed) == len(set(executed))
        good = {name for name, operation in ended.items() if "error" not in operation}
        assert good == set(executed).intersection(issued)


def _run_and_kill(directory: Path, lines: int) -> list[tuple[str, str]]:
    command = [sys.executable, "-m", "tests.lab.amapi.crash_child", str(directory)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    facts: list[tuple[str, str]] = []
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            fact, name = line.split()
            facts.append((fact, name))
            if len(facts) == lines:
                child.send_signal(signal.SIGKILL)
                break
        # Whole lines that were still in the pipe were told as well; the last one may be torn.
        rest = child.stdout.read().split("\n")[:-1]
        facts += [(fact, name) for fact, name in (line.split() for line in rest)]
    assert child.returncode == -signal.SIGKILL
    return facts
