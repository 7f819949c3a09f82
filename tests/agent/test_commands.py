"""Commands over each line: run once, in order, told in full, whatever the server repeats."""

import asyncio
from pathlib import Path

import pytest

from heliograph_agent import Result, clock
from heliograph_protocol.messages import CheckIn, ClaimedCommand, Orders
from tests.agent.conftest import Device, Running
from tests.agent.fake_server import FakeServer

LINES = ["websocket", "poll", "none"]


@pytest.mark.parametrize("line", LINES)
async def test_runs_and_reports_commands_in_order(
    line: str, server: FakeServer, device: Device, running: Running
) -> None:
    for number in range(40):
        await server.command(f"c{number}", reason=number)
    async with running(line=line):
        await server.until(lambda: all(command.over for command in server.commands.values()))
    assert device.executed == [f"c{number}" for number in range(40)]
    assert device.params["c7"] == {"reason": 7}
    assert all(server.path(f"c{number}") == ["acknowledged", "succeeded"] for number in range(40))
    assert device.observed.count(("received", "c3")) == device.observed.count(("acknowledged", "c3")) == 1


async def test_checks_in_daily_at_the_least(server: FakeServer, running: Running) -> None:
    server.check_in_seconds = 1e300
    async with running(line="none") as agent:
        await server.until(lambda: len(server.check_ins) > 0)
        assert agent._talk is not None
        assert agent._talk.interval == 86400


@pytest.mark.parametrize("line", ["websocket", "poll"])
async def test_takes_a_command_that_comes_later(
    line: str, server: FakeServer, device: Device, running: Running
) -> None:
    async with running(line=line):
        await server.until(lambda: len(server.check_ins) > 0)
        command = await server.command("late")
        await server.until(lambda: command.over)
    assert device.executed == ["late"]


async def test_without_a_line_a_wake_makes_it_check_in(server: FakeServer, device: Device, running: Running) -> None:
    async with running(line="none") as agent:
        await server.until(lambda: len(server.check_ins) > 0)
        command = await server.command("late")
        agent.wake()
        await server.until(lambda: command.over)


async def test_checks_in_at_the_servers_interval(server: FakeServer, running: Running) -> None:
    server.check_in_seconds = 1.0
    async with running(line="none"):
        await server.until(lambda: len(server.check_ins) > 0)
        command = await server.command("late")
        await server.until(lambda: command.over)


async def test_a_command_handed_out_twice_runs_once(server: FakeServer, device: Device, running: Running) -> None:
    command = await server.command("twice")
    async with running():
        await server.until(lambda: command.over)
        marker = await server.command("marker")
        await server.until(lambda: marker.over)
        offer = ClaimedCommand(id="twice", type="LOCK", expires_in_ms=600_000)
        await server.say(Orders(commands=[offer, offer]))
        # It repeats what became of the command.
        await server.until(lambda: command.rungs.count("succeeded") >= 2)
    assert device.executed == ["twice", "marker"]
    async with running():
        await server.until(lambda: len(server.connections) > 0)
        await server.say(Orders(commands=[offer]))
        await server.until(lambda: command.rungs.count("succeeded") >= 3)
    assert device.executed == ["twice", "marker"]


@pytest.mark.parametrize("line", ["websocket", "poll"])
@pytest.mark.parametrize("rung", ["acknowledged", "succeeded"])
async def test_repeats_a_report_that_never_arrived(
    line: str, rung: str, server: FakeServer, device: Device, running: Running
) -> None:
    lost: list[int] = []

    def lose(message: CheckIn) -> bool:
        if len(lost) < 2 and any(report.rung == rung for report in message.reports):
            lost.append(message.seq)
            return True
        return False

    server.losing = lose
    command = await server.command("c1")
    async with running(line=line):
        await server.until(lambda: command.over)
    assert len(lost) == 2
    assert device.executed == ["c1"]


@pytest.mark.parametrize("line", ["websocket", "poll"])
@pytest.mark.parametrize("rung", ["acknowledged", "succeeded"])
async def test_repeats_a_report_whose_answer_never_came(
    line: str, rung: str, server: FakeServer, device: Device, running: Running
) -> None:
    dropped: list[int] = []

    def drop(message: CheckIn) -> bool:
        if len(dropped) < 2 and any(report.rung == rung for report in message.reports):
            dropped.append(message.seq)
            return True
        return False

    server.dropping = drop
    command = await server.command("c1")
    async with running(line=line):
        await server.until(lambda: command.rungs.count(rung) >= 3 and command.over)
    assert device.executed == ["c1"]


async def test_repeats_reports_over_a_restart_until_they_are_answered(
    server: FakeServer, device: Device, running: Running
) -> None:
    command = await server.command("c1")
    server.dropping = lambda message: any(report.rung == "succeeded" for report in message.reports)
    async with running(backoff_base=60, backoff_cap=60):
        await server.until(lambda: command.over)
    server.dropping = lambda _: False
    async with running():
        await server.until(lambda: command.rungs.count("succeeded") >= 2)
        marker = await server.command("marker")
        await server.until(lambda: marker.over)
    async with running():
        marker = await server.command("marker2")
        await server.until(lambda: marker.over)
    assert device.executed == ["c1", "marker", "marker2"]
    assert command.rungs.count("succeeded") == 2


async def test_tells_failures_with_their_code(server: FakeServer, device: Device, running: Running) -> None:
    device.results = {
        "bad": Result(ok=False, code="NO_SPACE", message="no space left", detail={"freeBytes": 0}),
        "crash": RuntimeError("pin 4711"),
        "harmless": RuntimeError("pin 4711"),
    }
    device.knows = {"harmless": False}
    for name in device.results:
        await server.command(name)
    async with running():
        await server.until(lambda: all(command.over for command in server.commands.values()))
    report = server.commands["bad"].reports[-1]
    assert report.error is not None
    assert (report.error.code, report.detail) == ("NO_SPACE", {"freeBytes": 0})
    codes = {name: command.reports[-1].error for name, command in server.commands.items()}
    assert [error.code for error in codes.values() if error] == ["NO_SPACE", "OUTCOME_UNKNOWN", "EFFECTOR_ERROR"]
    assert "4711" not in str(codes)


async def test_a_detail_too_large_is_left_out(server: FakeServer, device: Device, running: Running) -> None:
    device.results["huge"] = Result(ok=True, detail={"text": "x" * 300_000})
    huge = await server.command("huge")
    async with running():
        await server.until(lambda: huge.over)
    assert huge.reports[-1].detail == {"omitted": "300011 bytes"}


async def test_a_deferred_command_runs_when_it_is_handed_out_anew(
    server: FakeServer, device: Device, running: Running
) -> None:
    device.results["c1"] = Result(ok=False, deferred=True, code="IN_USE")
    command = await server.command("c1", newPassword="hunter22")
    async with running():
        await server.until(lambda: "deferred" in command.rungs)
        device.results["c1"] = Result(ok=True)
        await server.say(Orders(waiting=True))
        await server.until(lambda: command.over)
    assert device.executed.count("c1") >= 2
    assert command.rungs[-2:] == ["acknowledged", "succeeded"]
    assert device.params["c1"] == {"newPassword": "hunter22"}


async def test_reports_running_when_an_effect_lasts(server: FakeServer, device: Device, running: Running) -> None:
    device.gates["c1"] = asyncio.Event()
    command = await server.command("c1")
    async with running(running_after=0.0):
        await server.until(lambda: "running" in command.rungs)
        device.gates["c1"].set()
        await server.until(lambda: command.over)
    assert command.path == ["acknowledged", "running", "succeeded"]


async def test_what_came_too_late_never_starts(server: FakeServer, device: Device, running: Running) -> None:
    late = await server.command("late", life_ms=0)
    async with running():
        await server.until(lambda: late.over)
    error = late.reports[-1].error
    assert error is not None
    assert error.code == "EXPIRED_BEFORE_START"
    assert device.executed == []


@pytest.mark.parametrize(("passed", "wall", "runs"), [(61.0, 0.0, False), (59.0, 4e9, True)])
async def test_time_runs_out_behind_another_command_by_the_clock_that_nobody_sets(
    passed: float,
    wall: float,
    runs: bool,
    server: FakeServer,
    device: Device,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device.gates["first"] = asyncio.Event()
    await server.command("first")
    second = await server.command("second", life_ms=60_000)
    async with running():
        await server.until(lambda: second.path == ["acknowledged"])
        await device.began.wait()
        real = clock.elapsed
        jump = real() + passed
        monkeypatch.setattr(clock, "elapsed", lambda: jump if runs else real() + passed)
        monkeypatch.setattr(clock, "wall", lambda: wall)
        device.gates["first"].set()
        await server.until(lambda: second.over)
    assert device.executed == (["first", "second"] if runs else ["first"])


@pytest.mark.parametrize(("seconds", "runs"), [(30.0, True), (61.0, False), (-61.0, False)])
async def test_after_a_restart_the_wall_clock_decides(
    seconds: float,
    runs: bool,
    server: FakeServer,
    device: Device,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device.gates["first"] = asyncio.Event()
    device.knows["first"] = True
    await server.command("first")
    second = await server.command("second", life_ms=60_000)
    async with running():
        await server.until(lambda: second.path == ["acknowledged"])
        await device.began.wait()
    real = clock.wall
    monkeypatch.setattr(clock, "wall", lambda: real() + seconds)
    async with running():
        await server.until(lambda: second.over)
    assert device.executed == (["first", "second"] if runs else ["first"])


async def test_params_leave_the_journal_with_the_end_of_the_command(
    server: FakeServer, device: Device, running: Running, journal: Path
) -> None:
    device.gates["c1"] = asyncio.Event()
    await server.command("c1", newPassword="hunter22")
    await server.command("c2", newPassword="hunter23")
    async with running(durable=True):
        await server.until(lambda: server.path("c2") == ["acknowledged"])
        await device.began.wait()
        assert b"hunter22" in journal.read_bytes()
        device.gates["c1"].set()
        await server.until(lambda: server.commands["c2"].over)
        assert b"hunter" not in journal.read_bytes()
    assert device.params == {"c1": {"newPassword": "hunter22"}, "c2": {"newPassword": "hunter23"}}
    assert b"hunter" not in journal.read_bytes()
    assert journal.stat().st_mode & 0o077 == 0


async def test_params_that_were_read_back_leave_the_journal_too(
    server: FakeServer, device: Device, running: Running, journal: Path
) -> None:
    device.gates["first"] = asyncio.Event()
    device.knows["first"] = True
    await server.command("first")
    command = await server.command("c2", newPassword="hunter23")
    async with running():
        await server.until(lambda: command.path == ["acknowledged"])
        await device.began.wait()
    assert b"hunter23" in journal.read_bytes()
    async with running():
        await server.until(lambda: command.over)
        assert b"hunter23" not in journal.read_bytes()
    assert device.params["c2"] == {"newPassword": "hunter23"}
