"""Simulated devices with a channel of WNS."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from heliograph_lab.devices import Devices
from heliograph_lab.fleet import DeviceSpec, Fleet, FleetError, WnsSpec
from heliograph_lab.kernel import Kernel
from heliograph_lab.push_lines import push_lines
from tests.lab.agent_server import AgentServer, agent_server
from tests.lab.serving import until
from tests.lab.wns.conftest import CACHED, DAY, SID, TOAST, World, said


@pytest.fixture
async def server() -> AsyncIterator[AgentServer]:
    async with agent_server() as server:
        yield server


async def test_a_device_registers_its_channel_and_gets_what_was_sent(world: World, server: AgentServer) -> None:
    fleet = Fleet(world.kernel)
    devices = Devices(world.kernel, fleet, push_lines(world.kernel.clock, wns=world.wns))
    await devices.start()
    spec = DeviceSpec(
        device_id="w1",
        name="w1",
        platform="windows",
        server_url=server.url,
        secret="secret-w1",
        provider="wns",
        wns=WnsSpec(app=SID),
    )
    agent = ("secret-w1", "mdmAgent")
    await fleet.put_all([spec])
    await until(lambda: agent in server.registered)
    (target,) = server.registered[agent].targets
    assert target.provider == "wns"
    offer = {"id": "p1", "kind": "silent", "expiresInMs": 60_000, "body": "B"}
    await world.push(target.token, CACHED, json.dumps(offer), TTL="60")
    await until(lambda: server.acknowledged == ["p1"])
    await fleet.update("w1", {"online": False})
    await devices.settled("w1")
    launch = json.dumps({"id": "p2", "kind": "notification", "expiresInMs": 60_000}).replace('"', "&quot;")
    toast = f'<toast launch="{launch}"><visual><binding><text>T</text><text>B</text></binding></visual></toast>'
    assert said(await world.push(target.token, TOAST, toast)) == (200, "received", "disconnected")
    await fleet.update("w1", {"online": True})
    await until(lambda: set(server.acknowledged) == {"p1", "p2"})  # p1 again, where the answer came too late
    (shown,) = [item for item in world.kernel.journal.items("w1") if item.event == "displayed"]
    assert (shown.push_id, shown.title, shown.body) == ("p2", "T", "B")
    assert server.registered[agent].targets == [target]
    await fleet.update("w1", {"online": False})
    await devices.settled("w1")
    await world.kernel.clock.advance(30 * DAY)
    await fleet.update("w1", {"online": True})
    await until(lambda: server.registered[agent].targets != [target])  # a new channel for the one that has ended
    await devices.stop()


async def test_a_device_needs_an_app(kernel: Kernel) -> None:
    spec = DeviceSpec(device_id="w1", name="w1", platform="windows", provider="wns")
    with pytest.raises(FleetError, match=r"wns\.app"):
        await Fleet(kernel).put_all([spec])
