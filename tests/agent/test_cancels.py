"""Cancel orders: the journal decides, and the answer never has to be taken back."""

import asyncio
from pathlib import Path

import pytest

from heliograph_agent import AgentConfig, Result, clock
from heliograph_agent.journal import Journal
from heliograph_agent.ledger import Ledger
from heliograph_agent.outbox import Signal
from heliograph_agent.runner import report_of
from heliograph_agent.talk import Talk
from heliograph_protocol.messages import CheckIn, ClaimedCommand, Orders
from tests.agent.conftest import Device, Running
from tests.agent.fake_server import FakeServer

LINES = ["websocket", "poll"]


@pytest.mark.parametrize("line", LINES)
async def test_a_command_that_has_not_begun_is_confirmed_and_never_runs(
    line: str, server: FakeServer, device: Device, running: Running
) -> None:
    device.gates["first"] = asyncio.Event()
    first = await server.command("first")
    second = await server.command("second", newPassword="hunter22")
    async with running(line=line):
        await server.until(lambda: second.path == ["acknowledged"])
        await server.cancel("second")
        # While the first still runs.
        await server.until(lambda: second.answers[:1] == ["confirmed"])
        device.gates["first"].set()
        await server.until(lambda: first.over)
        marker = await server.command("marker")
        await server.until(lambda: marker.over)
    assert device.executed == ["first", "marker"]
    assert second.path == ["acknowledged"]


@pytest.mark.parametrize("line", LINES)
async def test_a_command_that_runs_is_rejected_and_its_result_follows(
    line: str, server: FakeServer, device: Device, running: Running
) -> None:
    device.gates["c1"] = asyncio.Event()
    command = await server.command("c1")
    async with running(line=line):
        await server.until(lambda: command.path == ["acknowledged"])
        await device.began.wait()
        await server.cancel("c1")
        await server.until(lambda: command.answers[:1] == ["rejected"])
        device.gates["c1"].set()
        await server.until(lambda: command.over)
    assert command.path == ["acknowledged", "succeeded"]


async def test_a_command_that_is_over_is_rejected_and_its_result_repeated(
    server: FakeServer, device: Device, running: Running
) -> None:
    command = await server.command("c1")
    async with running():
        await server.until(lambda: command.over)
    async with running():
        await server.until(lambda: len(server.connections) > 0)
        await server.cancel("c1")
        await server.until(lambda: "rejected" in command.answers and command.rungs.count("succeeded") >= 2)


async def test_an_unknown_id_is_confirmed_and_never_runs_later(
    server: FakeServer, device: Device, running: Running
) -> None:
    async with running():
        await server.until(lambda: len(server.connections) > 0)
        await server.cancel("unseen")
        await server.until(lambda: any(c.cancel_answers for c in server.check_ins))
    command = await server.command("unseen")
    async with running():
        await server.until(lambda: command.answers[:1] == ["confirmed"])
        marker = await server.command("marker")
        await server.until(lambda: marker.over)
    assert device.executed == ["marker"]
    assert command.path == []


async def test_a_command_and_its_cancel_in_one_frame(server: FakeServer, device: Device, running: Running) -> None:
    command = await server.command("c1")
    command.claimed = True
    async with running():
        await server.until(lambda: len(server.connections) > 0)
        offer = ClaimedCommand(id="c1", type="LOCK", expires_in_ms=600_000)
        await server.say(Orders(commands=[offer], cancels=["c1"]))
        await server.until(lambda: "confirmed" in command.answers)
        marker = await server.command("marker")
        await server.until(lambda: marker.over)
    assert device.executed == ["marker"]


async def test_a_confirmation_is_repeated_over_a_restart_until_it_is_answered(
    server: FakeServer, device: Device, running: Running
) -> None:
    device.gates["first"] = asyncio.Event()
    device.knows["first"] = True
    await server.command("first")
    second = await server.command("second")
    server.dropping = lambda message: bool(message.cancel_answers)
    async with running(backoff_base=60, backoff_cap=60):
        await server.until(lambda: second.path == ["acknowledged"])
        await device.began.wait()
        await server.cancel("second")
        await server.until(lambda: second.answers[:1] == ["confirmed"])
    server.dropping = lambda _: False
    async with running():
        await server.until(lambda: second.answers[:2] == ["confirmed"] * 2)
    assert device.executed == ["first"]


class Life:
    """What one run of an agent has of the conversation."""

    def __init__(self, device: Device, path: Path) -> None:
        self.ledger = Ledger(1e9, 1000)
        self.journal = Journal(path, self.ledger.snapshot)
        self.ledger.load(self.journal, self.journal.open())
        config = AgentConfig(server_url="http://127.0.0.1:1", secret="s", state_path=path)
        self.talk = Talk(config, device, self.ledger, self.journal, Signal())

    async def says(self) -> tuple[CheckIn, list[str], list[str]]:
        message = await self.talk.next_message()
        return message, [r.rung for r in message.reports], [a.outcome for a in message.cancel_answers]


async def test_a_deferral_is_told_before_the_cancel_that_crossed_it(device: Device, journal: Path) -> None:
    life = Life(device, journal)
    record = life.ledger.take_on(ClaimedCommand(id="c1", type="LOCK", expires_in_ms=600_000), clock.elapsed())
    life.ledger.ready(record)
    assert life.ledger.begin_next() is record
    await life.journal.commit()
    life.talk.tell_running(record)
    # "Not now" is not on disk yet, so it was not told.
    life.ledger.finish(record, report_of("c1", Result(ok=False, deferred=True)))
    await life.talk.handle(Orders(cancels=["c1"]), clock.elapsed(), ordered=True)
    _, rungs, answers = await life.says()
    assert (rungs, answers) == (["running", "acknowledged", "deferred"], ["confirmed"])
    await life.journal.close()

    life = Life(device, journal)
    await life.talk.resume()
    message, rungs, answers = await life.says()
    assert (rungs, answers) == (["acknowledged", "deferred"], ["confirmed"])
    life.ledger.settle(message, next_seq=2)
    assert life.ledger.commands["c1"].owed == []
    await life.journal.close()
