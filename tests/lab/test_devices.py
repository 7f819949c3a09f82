from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import http_ece  # type: ignore[import-untyped]
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.utils import base64url_decode

from heliograph_lab.devices import Devices
from heliograph_lab.fleet import DeviceSpec, Fleet, PushySpec, WebPushSpec
from heliograph_lab.kernel import Kernel
from heliograph_lab.push_lines import push_lines
from heliograph_lab.pushy import PushyEmulator
from heliograph_lab.webpush import WebPushEmulator
from heliograph_protocol.messages import ClaimedCommand, PushOffer
from tests.lab.agent_server import AgentServer, agent_server
from tests.lab.serving import client_of, until

KEY = "demo1"
MINUTE = 60_000


class Lab:
    """Devices without the HTTP around them."""

    def __init__(self, state_dir: Path) -> None:
        self.kernel = Kernel(state_dir)
        self.fleet = Fleet(self.kernel)
        self.pushy = PushyEmulator(self.kernel)
        self.webpush = WebPushEmulator(self.kernel)
        lines = push_lines(self.kernel.clock, pushy=self.pushy, webpush=self.webpush)
        self.devices = Devices(self.kernel, self.fleet, lines)

    async def patch(self, device_id: str, **patch: Any) -> None:
        await self.fleet.update(device_id, patch)
        await self.devices.settled(device_id)

    def events(self, device_id: str) -> list[str]:
        return [item.event for item in self.kernel.journal.items(device_id)]


@contextlib.asynccontextmanager
async def running(state_dir: Path) -> AsyncIterator[Lab]:
    lab = Lab(state_dir)
    await lab.pushy.start()
    await lab.devices.start()
    try:
        yield lab
    finally:
        await lab.devices.stop()
        await lab.pushy.stop()
        await lab.webpush.stop()
        lab.kernel.close()


@pytest.fixture
async def server() -> AsyncIterator[AgentServer]:
    async with agent_server() as server:
        yield server


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with running(tmp_path / "lab") as lab:
        yield lab


def spec(server: AgentServer, device_id: str = "d1", **more: Any) -> DeviceSpec:
    known = {"device_id": device_id, "name": device_id, "platform": "aosp", "server_url": server.url}
    return DeviceSpec(**{**known, "secret": f"secret-{device_id}", **more})


def command(command_id: str = "c1") -> ClaimedCommand:
    return ClaimedCommand(id=command_id, type="LOCK", expires_in_ms=10 * MINUTE)


AGENT = ("secret-d1", "mdmAgent")


async def test_a_command_is_journalled_in_order(server: AgentServer, lab: Lab) -> None:
    server.commands[AGENT] = [command()]
    await lab.fleet.put_all([spec(server)])
    await until(lambda: server.rungs("c1")[-1:] == ["succeeded"])
    items = lab.kernel.journal.items("d1")
    assert [(i.event, i.command_id, i.type) for i in items] == [
        ("received", "c1", "LOCK"),
        ("acknowledged", "c1", "LOCK"),
        ("executed", "c1", "LOCK"),
    ]


async def test_an_error_has_no_effect(server: AgentServer, lab: Lab) -> None:
    await lab.fleet.put_all([spec(server, online=False)])
    await lab.patch("d1", outcome={"result": "error", "errorCode": "LOW_BATTERY"}, online=True)
    server.commands[AGENT] = [command()]
    await lab.patch("d1", online=False)
    await lab.patch("d1", online=True)
    await until(lambda: server.rungs("c1")[-1:] == ["failed"])
    error = server.reports[-1].error
    assert error is not None
    assert error.code == "LOW_BATTERY"
    assert "executed" not in lab.events("d1")


async def test_never_hangs_until_changed(server: AgentServer, lab: Lab) -> None:
    server.commands[AGENT] = [command()]
    await lab.fleet.put_all([spec(server, online=False)])
    await lab.patch("d1", outcome={"result": "never"}, online=True)
    await until(lambda: server.rungs("c1") == ["acknowledged", "running"])
    assert "executed" not in lab.events("d1")
    await lab.patch("d1", outcome={"result": "ok"})
    await until(lambda: server.rungs("c1")[-1:] == ["succeeded"])
    assert lab.events("d1").count("executed") == 1


async def test_offline_cuts_every_line_and_online_brings_it_back(server: AgentServer, lab: Lab) -> None:
    await lab.fleet.put_all([spec(server, apps=("mdmAgent", "store"))])
    both = {AGENT, ("secret-d1", "store")}
    await until(lambda: server.lines == both)
    await lab.patch("d1", online=False)
    await until(lambda: server.lines == set())
    await lab.patch("d1", online=True)
    await until(lambda: server.lines == both)
    await lab.fleet.put_all([])
    await until(lambda: server.lines == set())


async def test_a_command_cut_by_going_offline_runs_once(server: AgentServer, lab: Lab) -> None:
    server.commands[AGENT] = [command()]
    await lab.fleet.put_all([spec(server, online=False)])
    await lab.patch("d1", latencyMs=3_600_000, online=True)
    await until(lambda: "acknowledged" in server.rungs("c1"))
    await lab.patch("d1", online=False)
    await lab.patch("d1", latencyMs=0, online=True)
    await until(lambda: server.rungs("c1")[-1:] == ["succeeded"])
    assert lab.events("d1").count("executed") == 1


async def test_notifications_are_shown_and_silent_ones_are_not(server: AgentServer, lab: Lab) -> None:
    data = {"k": [1]}
    server.pushes[AGENT] = [
        PushOffer(id="p1", kind="notification", expires_in_ms=MINUTE, title="T", body="B", data=data),
        PushOffer(id="p2", kind="silent", expires_in_ms=MINUTE, body="B"),
    ]
    await lab.fleet.put_all([spec(server, platform="android")])
    await until(lambda: set(server.acknowledged) == {"p1", "p2"})
    items = lab.kernel.journal.items("d1")
    assert {(i.event, i.push_id) for i in items} == {
        ("received", "p1"),
        ("displayed", "p1"),
        ("acknowledged", "p1"),
        ("received", "p2"),
        ("acknowledged", "p2"),
    }
    (shown,) = [item for item in items if item.event == "displayed"]
    assert (shown.title, shown.body, shown.data) == ("T", "B", data)


async def test_only_the_managed_apps_agent_runs_commands(server: AgentServer, lab: Lab) -> None:
    server.commands[AGENT] = [command()]
    await lab.fleet.put_all([spec(server, platform="android")])
    await until(lambda: server.rungs("c1")[-1:] == ["failed"])
    assert "executed" not in lab.events("d1")


async def test_pushy_wakes_and_the_command_is_claimed_over_http(server: AgentServer, tmp_path: Path) -> None:
    pushy: dict[str, Any] = {"provider": "pushy", "pushy": PushySpec(api_key=KEY)}
    async with running(tmp_path / "lab") as lab:
        await lab.fleet.put_all([spec(server, **pushy)])
        await until(lambda: AGENT in server.registered)
        (target,) = server.registered[AGENT].targets
        assert target.provider == "pushy"
        await lab.patch("d1", online=False)
        server.commands[AGENT] = [command()]
        async with client_of(lab.pushy.app) as api:
            wake = {"id": "p1", "kind": "wake", "commandId": "c1"}
            sent = await api.post("/push", params={"api_key": KEY}, json={"to": target.token, "data": wake})
            assert sent.json()["info"]["devices"] == 1
        assert lab.events("d1") == []
    async with running(tmp_path / "lab") as lab:  # what is pending outlives the lab
        await lab.patch("d1", online=True)
        await until(lambda: server.rungs("c1")[-1:] == ["succeeded"] and server.acknowledged == ["p1"])
        assert ("received", "p1") in {(i.event, i.push_id) for i in lab.kernel.journal.items("d1")}
        assert server.lines == set()
        assert server.registered[AGENT].targets == [target]


async def test_web_push_wakes_and_the_command_is_claimed_over_http(server: AgentServer, lab: Lab) -> None:
    async with client_of(lab.webpush.app) as api:
        lab.webpush.url = str(api.base_url).rstrip("/")
        await lab.fleet.put_all([spec(server, provider="webpush", webpush=WebPushSpec())])
        await until(lambda: AGENT in server.registered)
        (target,) = server.registered[AGENT].targets
        assert target.provider == "webpush"
        await lab.patch("d1", online=False)
        server.commands[AGENT] = [command()]
        for text in (b'{"message":"hello"}', b'{"id":"p1","kind":"wake","expiresInMs":1,"commandId":"c1"}'):
            subscription = msgspec.json.decode(target.token)
            body = http_ece.encrypt(
                text,
                private_key=ec.generate_private_key(ec.SECP256R1()),
                dh=base64url_decode(subscription["keys"]["p256dh"]),
                auth_secret=base64url_decode(subscription["keys"]["auth"]),
            )
            headers = {"TTL": "60", "Content-Encoding": "aes128gcm"}
            sent = await api.post(subscription["endpoint"], content=body, headers=headers)
            assert sent.status_code == 201
        assert lab.events("d1") == []
        await lab.patch("d1", online=True)
        await until(lambda: server.rungs("c1")[-1:] == ["succeeded"] and server.acknowledged == ["p1"])
        assert server.lines == set()
        assert server.registered[AGENT].targets == [target]


async def test_a_strange_push_is_ignored(server: AgentServer, lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    await lab.fleet.put_all([spec(server, provider="pushy", pushy=PushySpec(api_key=KEY))])
    await until(lambda: AGENT in server.registered)
    token = server.registered[AGENT].targets[0].token
    async with client_of(lab.pushy.app) as api:
        await api.post("/push", params={"api_key": KEY}, json={"to": token, "data": {"message": "hello"}})
        await until(lambda: lab.pushy.store.next(token) is None)
    assert "none of Heliograph's" in caplog.text
    assert lab.events("d1") == []
