"""The control API's part for APNs and FCM, on the whole lab, and across a restart."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from cryptography import x509

from heliograph_lab.http2 import Authority
from heliograph_lab.serve import Lab, LabOptions
from tests.lab.apns.conftest import Sender as ApnsSender

TOKEN = "ab" * 32
FCM_TOKEN = "c" * 22 + ":APA91b" + "x" * 134


class World:
    """A lab, and its control API."""

    def __init__(self, lab: Lab, control: httpx2.AsyncClient) -> None:
        self.lab = lab
        self.control = control
        self.sender = ApnsSender(lab.apns, lab.authority)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.control.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refused(self, method: str, path: str, body: Any, word: str) -> None:
        answer = await self.control.request(method, path, json=body)
        assert (answer.status_code, word in answer.text) == (400, True), answer.text


@contextlib.asynccontextmanager
async def running(state_dir: Path) -> AsyncIterator[World]:
    lab = Lab(LabOptions(state_dir=state_dir))
    await lab.start()
    try:
        async with httpx2.AsyncClient(base_url=lab.urls["controlUrl"], trust_env=False, timeout=60) as control:
            world = World(lab, control)
            yield world
            await world.sender.client.aclose()
    finally:
        await lab.stop()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path / "lab") as world:
        yield world


async def test_addresses(world: World) -> None:
    addresses = await world.ask("GET", "/addresses")
    assert addresses["apnsUrl"] == world.lab.apns.server.url
    assert addresses["fcmUrl"] == world.lab.fcm.server.url
    x509.load_pem_x509_certificate(Path(addresses["caPath"]).read_bytes())


async def test_apns(world: World, tmp_path: Path) -> None:
    sender = world.sender
    key = {"keyId": sender.key.key_id, "teamId": sender.key.team_id, "publicKey": sender.private_key}
    (kept,) = (await world.ask("PUT", "/apns/keys", [key]))["items"]
    assert kept["publicKey"].startswith("-----BEGIN PUBLIC KEY-----")
    shown = await world.ask("PUT", f"/apns/tokens/{TOKEN}", {"topic": "com.example.agent"})
    assert shown == {
        "token": TOKEN,
        "topic": "com.example.agent",
        "state": "active",
        "online": False,
        "stored": None,
    }
    message = "0197f0f0-0000-7000-8000-000000000001"
    for _ in range(2):
        answer = await sender.push(TOKEN, apns_id=message, apns_expiration="9999999999")
        assert answer.status_code == 200
    assert (await world.ask("GET", "/apns/tokens"))["items"][0]["stored"] == message
    counts = await world.ask("GET", "/connections/apns")
    assert (counts["processed"], counts["ids"], counts["duplicates"]) == (2, 1, {message: 2})
    assert await world.ask("GET", "/apns") == {"delivered": 0, "stored": 2, "dropped": 0, "providerTokens": 1}
    assert len((await world.ask("GET", "/requests?service=apns"))["items"]) == 2
    ended = await world.ask("PUT", f"/apns/tokens/{TOKEN}", {"topic": "com.example.agent", "state": "unregistered"})
    assert (ended["state"], ended["stored"]) == ("unregistered", None)
    assert (await sender.push(TOKEN)).status_code == 410
    await world.ask("PUT", f"/apns/tokens/{TOKEN}", {"topic": "com.example.agent"})
    assert (await sender.push(TOKEN)).status_code == 200
    await world.refused("PUT", "/apns/tokens/xyz", {"topic": "t"}, "hexadecimal")
    await world.refused("PUT", f"/apns/tokens/{TOKEN}", {"topic": "t", "state": "asleep"}, "state")
    await world.refused("PUT", "/apns/keys", [{**key, "publicKey": "x"}], "PEM")
    await world.refused("PUT", "/apns/certificates", {"pem": "x"}, "pem")


async def test_certificates_are_kept(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "foreign.pem").write_bytes(Authority(tmp_path / "other").client_certificate(uid="com.example.agent"))
    foreign = (tmp_path / "foreign.pem").read_text()
    async with running(tmp_path / "lab") as world:
        own = await world.ask("POST", "/apns/certificates", {"topic": "com.example.agent"})
        (tmp_path / "own.pem").write_text(own["pem"])
        await world.ask("PUT", "/apns/certificates", {"pem": foreign[foreign.index("-----BEGIN CERTIFICATE") :]})
        await world.ask("PUT", f"/apns/tokens/{TOKEN}", {"topic": "com.example.agent"})
    async with running(tmp_path / "lab") as world:
        for name in ("own.pem", "foreign.pem"):
            async with world.sender.new_client(str(tmp_path / name)) as client:
                answer = await world.sender.push(TOKEN, client=client, without=("authorization", "apns-topic"))
                assert answer.status_code == 200


async def test_fcm(world: World) -> None:
    shown = await world.ask("PUT", f"/fcm/registrations/{FCM_TOKEN}", {"project": "my-project"})
    assert shown == {
        "address": FCM_TOKEN,
        "kind": "token",
        "project": "my-project",
        "state": "active",
        "online": False,
        "waiting": [],
    }
    ended = await world.ask(
        "PUT", f"/fcm/registrations/{FCM_TOKEN}", {"project": "my-project", "state": "unregistered"}
    )
    assert ended["state"] == "unregistered"
    assert (await world.ask("GET", "/fcm/registrations"))["items"] == [ended]
    assert await world.ask("GET", "/fcm") == {"delivered": 0, "stored": 0, "dropped": 0}
    await world.refused("PUT", f"/fcm/registrations/{FCM_TOKEN}", {"kind": "token"}, "project")


async def test_connections(world: World) -> None:
    await world.ask("PUT", "/settings", {"apns": {"unknownTokens": True}})
    goaway = {"after": 2, "code": "ENHANCE_YOUR_CALM", "debug": "slow", "times": 1}
    await world.ask("PUT", "/connections/apns", {"goAway": goaway})
    sender = world.sender
    assert (await sender.push(TOKEN)).status_code == 200
    with pytest.raises(httpx.RemoteProtocolError, match="error_code:11, last_stream_id:3"):
        await sender.push(TOKEN)  # the answer comes too, but is lost on this library
    for _ in range(3):  # on another connection, which does not leave
        assert (await sender.push(TOKEN)).status_code == 200
    counts = await world.ask("GET", "/connections/apns")
    assert (counts["connections"], counts["goaways"], counts["answered"]) == (2, 1, 5)
    frozen = await world.ask("PUT", "/connections/apns", {"frozen": True})
    assert frozen["seen"] == 5
    with pytest.raises(httpx.ReadTimeout):
        await sender.client.post(f"/3/device/{TOKEN}", timeout=0.2)
    cleared = await world.ask("DELETE", "/connections/apns")
    assert cleared["processed"] == 0
    async with asyncio.timeout(30):
        assert (await sender.push(TOKEN)).status_code == 200
    await world.refused("PUT", "/connections/apns", {"initialWindowSize": 5, "goAway": {"code": "x"}}, "code")
    assert world.lab.apns.server.limits.initial_window_size == 65_535
    await world.refused("PUT", "/connections/pushy", {}, "apns or fcm")
    await world.refused("PUT", "/connections/apns", {"initialWindowSize": -1}, "initialWindowSize")
