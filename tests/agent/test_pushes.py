"""Pushes: shown once, acknowledged once they are in the journal, whichever way they come."""

import pytest

from heliograph_protocol.messages import Orders, PushOffer
from tests.agent.conftest import Device, Running
from tests.agent.fake_server import FakeServer

LINES = ["websocket", "poll"]


def offer(push_id: str, kind: str = "notification", life_ms: int = 600_000) -> PushOffer:
    return PushOffer(id=push_id, kind=kind, expires_in_ms=life_ms, title="Title", body="Body")  # type: ignore[arg-type]


@pytest.mark.parametrize("line", LINES)
async def test_only_notifications_are_shown_and_all_are_acknowledged(
    line: str, server: FakeServer, device: Device, running: Running
) -> None:
    await server.push("before")
    async with running(line=line):
        await server.until(lambda: "before" in server.acked)
        await server.push("silent", "silent")
        await server.push("wake", "wake")
        await server.push("shown")
        await server.until(lambda: {"silent", "wake", "shown"} <= set(server.acked))
    assert device.displayed == ["before", "shown"]
    assert ("received", "silent") in device.observed
    assert ("acknowledged", "silent") in device.observed


@pytest.mark.parametrize("line", LINES)
async def test_a_push_whose_acknowledgement_was_lost_is_not_shown_again(
    line: str, server: FakeServer, device: Device, running: Running
) -> None:
    await server.push("p1")
    server.dropping = lambda message: bool(message.push_acks)
    async with running(line=line, backoff_base=60, backoff_cap=60):
        await server.until(lambda: "p1" in server.acked)
    # The server has lost it, too.
    server.acked.clear()
    server.dropping = lambda _: False
    async with running(line=line):
        await server.until(lambda: "p1" in server.acked)
    assert device.displayed == ["p1"]


async def test_a_push_of_another_provider_and_ours_are_one(
    server: FakeServer, device: Device, running: Running
) -> None:
    async with running(line="none") as agent:
        await server.until(lambda: len(server.check_ins) > 0)
        server.pushes["p1"] = offer("p1")
        await agent.receive(offer("p1"))
        await agent.receive(offer("p1"))
        await server.until(lambda: "p1" in server.acked)
    assert device.displayed == ["p1"]


async def test_a_wake_of_another_provider_fetches_the_command(
    server: FakeServer, device: Device, running: Running
) -> None:
    async with running(line="none") as agent:
        await server.until(lambda: len(server.check_ins) > 0)
        command = await server.command("c1")
        await agent.receive(offer("w1", "wake"))
        await server.until(lambda: command.over and "w1" in server.acked)
    assert device.displayed == []


async def test_an_expired_push_is_left_to_expire(server: FakeServer, device: Device, running: Running) -> None:
    async with running():
        await server.until(lambda: len(server.connections) > 0)
        await server.say(Orders(pushes=[offer("old", life_ms=0), offer("new")]))
        await server.until(lambda: "new" in server.acked)
    assert device.displayed == ["new"]
    assert server.acked == ["new"]


async def test_what_cannot_be_shown_is_not_acknowledged_and_tried_again(
    server: FakeServer, device: Device, running: Running
) -> None:
    class Broken(Device):
        async def display(self, push: PushOffer) -> None:
            self.displayed.append(push.id)
            raise RuntimeError("no screen")

    broken = Broken()
    await server.push("p1")
    async with running(broken):
        await server.until(lambda: len(server.connections) > 0)
        marker = await server.command("marker")
        await server.until(lambda: marker.over)
    assert broken.displayed == ["p1"]
    assert server.acked == []
    async with running():
        await server.until(lambda: server.acked == ["p1"])
    assert device.displayed == ["p1"]
