"""The line mqtt: a real broker wakes the agent, and check-ins carry what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from heliograph_agent import AgentConfig, Broker
from heliograph_protocol.messages import PushOffer, Target
from tests.agent.conftest import Device, Running
from tests.agent.fake_server import DEVICE_ID, FakeServer
from tests.agent.test_pushes import offer
from tests.support.mosquitto import PREFIX, SERVER, Mosquitto, mosquitto
from tests.support.mqtt_wire import CONNECTED, read_mqtt
from tests.support.wire import Raw, Wire

TOPIC = f"{PREFIX}/{DEVICE_ID}/mdmAgent"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path, [DEVICE_ID]) as broker:
        yield broker


@pytest.fixture
def line(broker: Mosquitto) -> dict[str, Any]:
    """Settings of an agent that the broker wakes."""
    return {"line": "mqtt", "broker": Broker(url=broker.url, password=broker.passwords[DEVICE_ID])}


async def publish(broker: Mosquitto, payload: PushOffer | bytes, life_s: int = 600) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = life_s
    data = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    async with broker.device(SERVER, clean_start=True) as client:
        await client.publish(TOPIC, data, qos=1, properties=properties)


async def has_session(broker: Mosquitto, count: int = 1) -> None:
    """The agent has subscribed, for the so manieth time."""
    await broker.until_logged(f"Sending SUBACK to {DEVICE_ID}-mdmAgent", count)


async def test_it_names_no_topic(server: FakeServer, running: Running, line: dict[str, Any]) -> None:
    async with running(**line):
        await server.until(lambda: len(server.registered) > 0)
    assert server.registered[0].targets == [Target(provider="mqtt")]


async def test_a_wake_fetches_the_command(
    server: FakeServer, device: Device, running: Running, broker: Mosquitto, line: dict[str, Any]
) -> None:
    async with running(**line):
        await has_session(broker)
        command = await server.command("c1")
        await publish(broker, offer("w1", "wake"))
        await server.until(lambda: command.over and "w1" in server.acked)
    assert device.displayed == []


async def test_what_came_while_it_was_away_is_shown_once(
    server: FakeServer, device: Device, running: Running, broker: Mosquitto, line: dict[str, Any]
) -> None:
    async with running(**line):
        await has_session(broker)
    await publish(broker, offer("p1"))
    await publish(broker, offer("p1"))
    await publish(broker, offer("p2"))
    async with running(**line):
        await server.until(lambda: {"p1", "p2"} <= set(server.acked))
    assert device.displayed == ["p1", "p2"]


async def test_what_is_none_of_ours_is_ignored(
    server: FakeServer, device: Device, running: Running, broker: Mosquitto, line: dict[str, Any]
) -> None:
    async with running(**line):
        await has_session(broker)
        for payload in (b"", b"\xff", b"[]", b'{"id":5}'):
            await publish(broker, payload)
        await publish(broker, offer("p1"))
        await server.until(lambda: server.acked == ["p1"])
    assert device.displayed == ["p1"]


async def test_a_message_that_was_not_put_down_comes_again(
    server: FakeServer, running: Running, broker: Mosquitto, line: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker is told only once the journal has it. Seen to fail with aiomqtt's own acknowledgement."""
    reached, never = asyncio.Event(), asyncio.Event()

    async def die_before_the_journal(self: Any, taken: PushOffer) -> None:
        reached.set()
        await never.wait()

    with monkeypatch.context() as patch:
        patch.setattr("heliograph_agent.talk.Talk.receive", die_before_the_journal)
        async with running(**line):
            await has_session(broker)
            await publish(broker, offer("p1"))
            await reached.wait()
            await asyncio.sleep(0.2)  # an acknowledgement would leave now
    async with running(**line):
        await server.until(lambda: server.acked == ["p1"])


async def test_a_killed_broker_is_found_again_and_its_session_made_anew(
    server: FakeServer, device: Device, running: Running, broker: Mosquitto, line: dict[str, Any]
) -> None:
    async with running(**line):
        await has_session(broker)
        broker.kill()
        command = await server.command("c1")
        broker.start()
        # Its wake was lost with the broker; the check-in that follows a new session finds it.
        await server.until(lambda: command.over)
        await has_session(broker, 2)
        await publish(broker, offer("p1"))
        await server.until(lambda: server.acked == ["p1"])


async def test_without_a_broker_it_still_checks_in(server: FakeServer, running: Running, broker: Mosquitto) -> None:
    refused = {"line": "mqtt", "broker": Broker(url=broker.url, password="wrong")}
    server.check_in_seconds = 1.0
    async with running(**refused):
        command = await server.command("c1")
        await server.until(lambda: command.over)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire().serving() as wire:
        wire.read = read_mqtt
        yield wire


@pytest.mark.parametrize("data", [b"", CONNECTED, b"HTTP/1.1 400 Bad\r\n\r\n", b"\xff" * 30, b"\x20\x02"])
async def test_garbage_in_place_of_a_broker_harms_nothing(
    server: FakeServer, running: Running, wire: Wire, data: bytes
) -> None:
    wire.handler = lambda _: Raw(data)
    url = wire.url.replace("http:", "mqtt:")
    async with running(line="mqtt", broker=Broker(url=url), answer_timeout=2.0):
        command = await server.command("c1")
        await server.until(lambda: command.over)
        async with asyncio.timeout(30):
            while len(wire.seen) < 3:  # noqa: ASYNC110 - it comes again
                await asyncio.sleep(0.02)


def test_the_line_needs_a_broker(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a broker"):
        AgentConfig(server_url="http://x", secret="s", state_path=tmp_path / "j", line="mqtt")
    with pytest.raises(ValueError, match="mqtt://"):
        Broker(url="https://broker.example")
