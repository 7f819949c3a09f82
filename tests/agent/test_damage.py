"""A disk that loses a line of the journal: whatever it said, nothing runs twice and nothing runs that was cancelled."""

import asyncio
import time
from pathlib import Path

import pytest

from heliograph_agent import Result
from tests.agent.conftest import Device, Running
from tests.agent.fake_server import Command, FakeServer

OUTCOMES = [(True, None), (False, "JOURNAL_DAMAGED"), (None, "OUTCOME_UNKNOWN")]


def spoil(journal: Path, words: str) -> None:
    """Damage the last line that has these words."""
    head, found, tail = journal.read_bytes().rpartition(words.encode())
    assert found
    journal.write_bytes(head + b"\xff" + found[1:] + tail)


def code(command: Command) -> str | None:
    error = command.reports[-1].error
    return error.code if error else None


async def interrupted(server: FakeServer, device: Device, running: Running) -> Command:
    """A command that has begun when the agent ends."""
    device.gates["c1"] = asyncio.Event()
    command = await server.command("c1")
    async with running():
        await server.until(lambda: command.path == ["acknowledged"])
        await device.began.wait()
    return command


@pytest.mark.parametrize(("knows", "outcome"), OUTCOMES)
async def test_a_command_whose_beginning_is_lost_is_not_run_again(
    knows: bool | None, outcome: str | None, server: FakeServer, device: Device, running: Running, journal: Path
) -> None:
    command = await interrupted(server, device, running)
    spoil(journal, '"id":"c1","stage":"started"')
    device.knows["c1"] = knows
    async with running():
        await server.until(lambda: command.over)
    assert code(command) == outcome
    assert device.executed == ["c1"]


async def test_a_line_break_that_is_lost_counts_as_damage(
    server: FakeServer, device: Device, running: Running, journal: Path
) -> None:
    command = await interrupted(server, device, running)
    data = journal.read_bytes()
    assert data.splitlines()[-1].startswith(b'{"of":"command","id":"c1","stage":"started"')
    journal.write_bytes(data[:-1] + b"\x8a")
    async with running():
        await server.until(lambda: command.over)
    assert code(command) == "OUTCOME_UNKNOWN"
    assert device.executed == ["c1"]


async def test_a_doubt_outlives_a_crash_right_after_the_journal_was_mended(
    server: FakeServer, device: Device, running: Running, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = await interrupted(server, device, running)
    spoil(journal, '"id":"c1","stage":"started"')
    with monkeypatch.context() as patch:
        patch.setattr("heliograph_agent.agent.Runner.run", lambda _: asyncio.sleep(30))
        async with running():
            await asyncio.to_thread(_wait_for, journal, b'"doubtful":true')
    async with running():
        await server.until(lambda: command.over)
    assert code(command) == "OUTCOME_UNKNOWN"
    assert device.executed == ["c1"]


def _wait_for(path: Path, words: bytes) -> None:
    for _ in range(1000):
        if words in path.read_bytes():
            return
        time.sleep(0.01)
    raise AssertionError(f"{words!r} never came")


async def test_a_confirmed_cancel_that_is_lost_still_holds(
    server: FakeServer, device: Device, running: Running, journal: Path
) -> None:
    device.gates["first"] = asyncio.Event()
    device.knows = {"first": True, "second": False}
    await server.command("first")
    second = await server.command("second")
    async with running():
        await server.until(lambda: second.path == ["acknowledged"])
        await device.began.wait()
        await server.cancel("second")
        await server.until(lambda: second.answers[:1] == ["confirmed"])
    while b'"id":"second","stage":"cancelled"' in journal.read_bytes():  # told, then confirmed
        spoil(journal, '"id":"second","stage":"cancelled"')
    second.answers.clear()  # so that the server takes what is said now
    second.cancel_asked = False
    async with running():
        await server.until(lambda: second.over)
    assert code(second) == "JOURNAL_DAMAGED"
    assert device.executed == ["first"]


async def forgotten(server: FakeServer, device: Device, running: Running, journal: Path) -> Command:
    """A command that has run, and of which the journal has lost every line."""
    command = await interrupted(server, device, running)
    for stage in ("started", "received"):
        spoil(journal, f'"id":"c1","stage":"{stage}"')
    device.knows["c1"] = True
    device.gates["c1"].set()
    return command


async def live_on(server: FakeServer, running: Running, name: str) -> None:
    """Another life of the agent, to the end of a command of its own."""
    async with running():
        marker = await server.command(name)
        await server.until(lambda: marker.over)


async def test_a_command_of_which_every_line_is_lost_is_asked_for_when_it_comes_again(
    server: FakeServer, device: Device, running: Running, journal: Path
) -> None:
    command = await forgotten(server, device, running, journal)
    command.claimed_by = ""  # the server keeps no names
    command.reports.clear()  # the acknowledgement was lost, too
    async with running():
        await server.until(lambda: command.over)
    await live_on(server, running, "marker")
    assert command.rungs[-1] == "succeeded"
    assert device.executed == ["c1", "marker"]


async def test_a_command_of_which_every_line_is_lost_does_not_come_again_however_often_the_agent_starts(
    server: FakeServer, device: Device, running: Running, journal: Path
) -> None:
    command = await forgotten(server, device, running, journal)
    await live_on(server, running, "marker")
    command.reports.clear()  # the acknowledgement was lost, too
    await live_on(server, running, "another")
    assert device.executed == ["c1", "marker", "another"]


async def test_the_cancel_of_a_command_of_which_every_line_is_lost_is_not_confirmed(
    server: FakeServer, device: Device, running: Running, journal: Path
) -> None:
    command = await forgotten(server, device, running, journal)
    command.cancel_asked = True
    await live_on(server, running, "marker")
    await live_on(server, running, "another")
    assert command.answers == []
    assert len({name for _, name in server.journals}) == 2


@pytest.mark.parametrize(("knows", "outcome"), OUTCOMES)
async def test_a_command_that_was_put_off_ends_since_it_never_comes_again(
    knows: bool | None, outcome: str | None, server: FakeServer, device: Device, running: Running, journal: Path
) -> None:
    """It was handed out again, perhaps, and had begun: those lines may be the lost ones."""
    device.results["c1"] = Result(ok=False, deferred=True, retry_after=600.0)
    command = await server.command("c1")
    async with running():
        await server.until(lambda: command.path == ["acknowledged", "deferred"])
    command.claimed = True  # its pause lasts
    spoil(journal, '"id":"c1","stage":"received"')
    device.knows["c1"] = knows
    async with running():
        await server.until(lambda: command.over)
    assert code(command) == outcome
    assert device.executed == ["c1"]


async def put_off_and_lost(
    server: FakeServer, device: Device, running: Running, journal: Path, *stages: str
) -> Command:
    """A command that the device put off, its beginning the last that the journal still has of it."""
    device.results["c1"] = Result(ok=False, deferred=True, retry_after=600.0)
    device.knows["c1"] = False
    command = await server.command("c1")
    async with running():
        await server.until(lambda: command.path == ["acknowledged", "deferred"])
        if "cancelled" in stages:
            await server.cancel("c1")
            await server.until(lambda: command.answers[:1] == ["confirmed"])
    command.claimed = True
    for stage in stages:
        while f'"id":"c1","stage":"{stage}"'.encode() in journal.read_bytes():
            spoil(journal, f'"id":"c1","stage":"{stage}"')
    device.results.clear()
    return command


async def test_what_was_put_off_and_cancelled_does_not_run_when_both_are_lost(
    server: FakeServer, device: Device, running: Running, journal: Path
) -> None:
    """It seems to have begun, and the device knows for certain that nothing happened: that is how it was put off."""
    command = await put_off_and_lost(server, device, running, journal, "deferred", "cancelled")
    command.answers.clear()  # so that the server takes what is said now
    command.cancel_asked = False
    await live_on(server, running, "marker")
    await live_on(server, running, "another")
    assert code(command) == "JOURNAL_DAMAGED"
    assert device.executed == ["c1", "marker", "another"]


async def test_what_seems_to_have_begun_ends_once_lines_are_lost(
    server: FakeServer, device: Device, running: Running, journal: Path
) -> None:
    command = await put_off_and_lost(server, device, running, journal, "deferred")
    async with running():
        await server.until(lambda: command.over)
    assert code(command) == "JOURNAL_DAMAGED"
    assert device.executed == ["c1"]


@pytest.mark.parametrize("at", ["1e300", "-1e300", "253402300800.5"])
async def test_a_time_that_no_calendar_has_does_not_end_the_agent(
    at: str, server: FakeServer, running: Running, journal: Path
) -> None:
    name = "0" * 32
    journal.write_text(
        f'{{"of":"journal","version":1,"name":"{name}"}}\n'
        f'{{"of":"push","id":"p1","stage":"done","at":{at},"owed":true}}\n'
    )
    async with running():
        await server.until(lambda: server.acked == ["p1"])
