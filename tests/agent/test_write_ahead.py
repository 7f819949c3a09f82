"""The journal has each thing before the server is told of it."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from heliograph_agent import journal as module
from heliograph_protocol.messages import CheckIn, Orders, PushOffer
from tests.agent.conftest import Device, Running
from tests.agent.fake_server import FakeServer

Told = list[tuple[str, str, bool]]


def look(journal: Path, told: Told) -> Callable[[CheckIn], bool]:
    """Note of each item that arrives at the server whether the agent's journal has it now."""

    def noted(message: CheckIn) -> bool:
        text = journal.read_text()
        items: list[tuple[str, str, str]] = [
            (r.rung, r.command_id, "received" if r.rung == "acknowledged" else "finished") for r in message.reports
        ]
        items += [("cancel", a.command_id, "cancelled") for a in message.cancel_answers if a.outcome == "confirmed"]
        items += [("push", ack.id, "done") for ack in message.push_acks]
        told.extend((what, item, f'"id":"{item}","stage":"{stage}"' in text) for what, item, stage in items)
        return False

    return noted


async def test_each_answer_comes_after_its_line(
    server: FakeServer, device: Device, running: Running, journal: Path
) -> None:
    told: Told = []
    server.losing = look(journal, told)
    device.gates["first"] = asyncio.Event()
    first = await server.command("first")
    async with running(durable=True):
        # While an effect lasts nothing else writes the journal by chance.
        await device.began.wait()
        second = await server.command("second")
        await server.until(lambda: second.path == ["acknowledged"])
        await server.cancel("second")
        await server.until(lambda: second.answers[:1] == ["confirmed"])
        await server.push("p1")
        await server.push("p2", "silent")
        await server.until(lambda: len(server.acked) == 2)
        device.gates["first"].set()
        await server.until(lambda: first.over)
    assert {what for what, _, _ in told} == {"acknowledged", "succeeded", "cancel", "push"}
    assert all(known for _, _, known in told)


async def test_a_result_is_not_told_while_its_line_is_being_written(
    server: FakeServer, device: Device, running: Running, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: Told = []
    server.losing = look(journal, told)
    writing, written = threading.Event(), threading.Event()
    write = module._pwrite_all

    def slow(file: int, data: bytes, at: int) -> None:
        if b'"of":"push"' in data:
            writing.set()
            written.wait(30)
        write(file, data, at)

    device.gates["c1"] = asyncio.Event()
    command = await server.command("c1")
    async with running(durable=True):
        await server.until(lambda: command.path == ["acknowledged"])
        await device.began.wait()
        monkeypatch.setattr(module, "_pwrite_all", slow)
        push = PushOffer(id="p1", kind="silent", expires_in_ms=600_000)
        await server.say(Orders(cancels=["c1"], pushes=[push]))
        await asyncio.to_thread(writing.wait, 30)
        # The effect ends while the disk is busy with the orders.
        device.gates["c1"].set()
        await device.ended.wait()
        written.set()
        await server.until(lambda: command.over and command.answers[:1] == ["rejected"])
    assert ("succeeded", "c1", True) in told
    assert all(known for _, _, known in told)
