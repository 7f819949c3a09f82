"""The emulated WNS: token services, channels, what waits for a device, and the control API's part."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from heliograph_lab.control import control_app
from heliograph_lab.devices import Devices
from heliograph_lab.fleet import DeviceSpec, Fleet, FleetError, WnsSpec
from heliograph_lab.kernel import Kernel
from heliograph_lab.push_lines import push_lines
from heliograph_lab.wns import Notification, WnsEmulator
from heliograph_lab.wns.control import WnsControl
from tests.lab.agent_server import AgentServer, agent_server
from tests.lab.serving import serving, until
from tests.support.direct import direct

SID = "ms-app://s-1-15-2-1-2-3-4-5-6-7"
OTHER_SID = "ms-app://s-1-15-2-7-6-5-4-3-2-1"
CLIENT = "66666666-7777-8888-9999-000000000000"
STORE, ENTRA = "/accesstoken.srf", "/my-tenant/oauth2/v2.0/token"
DAY = 86_400
FORM = {"grant_type": "client_credentials", "client_id": SID, "client_secret": "s", "scope": "notify.windows.com"}
ENTRA_FORM = {**FORM, "client_id": CLIENT, "scope": "https://wns.windows.com/.default"}
RAW = {"X-WNS-Type": "wns/raw", "Content-Type": "application/octet-stream"}
TOAST = {"X-WNS-Type": "wns/toast", "Content-Type": "text/xml"}
CACHED = {**RAW, "X-WNS-Cache-Policy": "cache"}


@dataclass
class Device:
    """Takes what arrives, once it is let."""

    got: list[Notification] = field(default_factory=list)
    works: bool = True

    async def __call__(self, notification: Notification) -> None:
        if not self.works:
            raise ConnectionError
        self.got.append(notification)

    @property
    def bodies(self) -> list[str]:
        return [notification.body for notification in self.got]


@dataclass
class World:
    """An emulator that is served, and a caller with an access token of `SID`."""

    kernel: Kernel
    wns: WnsEmulator
    http: httpx2.AsyncClient
    control: httpx2.AsyncClient
    bearer: str = ""

    async def login(self, path: str = STORE, **form: str) -> httpx2.Response:
        return await self.http.post(path, data=(FORM if path == STORE else ENTRA_FORM) | form)

    async def push(
        self, uri: str, headers: dict[str, str] = RAW, body: str = "hello", *, bearer: str | None = None, **more: str
    ) -> httpx2.Response:
        named = {f"X-WNS-{name}": value for name, value in more.items()}
        token = self.bearer if bearer is None else bearer
        sent = {"Authorization": f"Bearer {token}", "X-WNS-RequestForStatus": "true", **headers, **named}
        return await self.http.post(uri, content=body.encode(), headers=sent)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    kernel = Kernel(tmp_path / "lab")
    wns = WnsEmulator(kernel)

    async def settled(_: str | None) -> None:
        return

    control = control_app(kernel, Fleet(kernel), settled)
    WnsControl(wns).add_to(control)
    async with serving(wns.app) as url:
        wns.base_url = url
        async with (
            direct(url) as http,
            httpx2.AsyncClient(base_url="http://lab", transport=httpx2.ASGITransport(app=control)) as controls,
        ):
            world = World(kernel, wns, http, controls)
            world.bearer = (await world.login()).json()["access_token"]
            yield world
    await wns.stop()
    kernel.close()


def said(answer: httpx2.Response) -> tuple[int, str | None, str | None]:
    """Status, what became of the notification, and the device's connection."""
    headers = answer.headers
    return answer.status_code, headers.get("x-wns-status"), headers.get("x-wns-deviceconnectionstatus")


# ---------------------------------------------------------------- access tokens


@pytest.mark.parametrize(("path", "life"), [(STORE, DAY), (ENTRA, DAY - 1)])
async def test_a_token(world: World, path: str, life: int) -> None:
    answer = await world.login(path)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["token_type"], body["expires_in"]) == ("bearer", life)
    assert body["access_token"] != (await world.login(path)).json()["access_token"]


@pytest.mark.parametrize(
    ("path", "form", "status", "error"),
    [
        (STORE, {"grant_type": "password"}, 400, "unsupported_grant_type"),
        (STORE, {"client_id": ""}, 400, "unauthorized_client"),
        (STORE, {"client_id": CLIENT}, 400, "unauthorized_client"),
        (STORE, {"client_secret": ""}, 400, "invalid_client"),
        (STORE, {"scope": "https://wns.windows.com/.default"}, 400, "invalid_scope"),
        (ENTRA, {"client_id": SID}, 400, "unauthorized_client"),
        (ENTRA, {"client_secret": ""}, 401, "invalid_client"),
        (ENTRA, {"scope": "notify.windows.com"}, 400, "invalid_scope"),
    ],
)
async def test_no_token(world: World, path: str, form: dict[str, str], status: int, error: str) -> None:
    answer = await world.login(path, **form)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert ("error_codes" in answer.json()) == (path == ENTRA)


async def test_an_app_with_a_secret_of_its_own(world: World) -> None:
    apps = [{"clientId": SID, "clientSecret": "right"}]
    assert (await world.control.put("/wns/apps", json=apps)).json() == apps
    assert (await world.login(client_secret="wrong")).json()["error"] == "invalid_client"
    assert (await world.login(client_secret="right")).status_code == 200
    assert WnsEmulator(world.kernel).store.apps == {SID: "right"}
    await world.control.put("/wns/apps", json=[])
    assert (await world.login(client_secret="wrong")).status_code == 200


async def test_a_token_ends_with_its_life_on_the_labs_clock(world: World) -> None:
    uri = await world.wns.register(SID, "d1")
    await world.kernel.clock.advance(DAY - 60)
    assert (await world.push(uri)).status_code == 200
    await world.kernel.clock.advance(60)
    answer = await world.push(uri)
    assert answer.status_code == 401
    assert "expired" in answer.headers["x-wns-error-description"]


@pytest.mark.parametrize("token", ["x", f"EgLab.store.%%.ffffffff.{'a' * 43}", f"EgLab.store._w.ffffffffff.{'a' * 43}"])
async def test_what_is_no_token(world: World, token: str) -> None:
    assert (await world.push(await world.wns.register(SID, "d1"), bearer=token)).status_code == 401


async def test_tokens_do_not_mix(world: World) -> None:
    entra = (await world.login(ENTRA)).json()["access_token"]
    mine, foreign, theirs = [await world.wns.register(app, "d1") for app in (SID, OTHER_SID, CLIENT)]
    assert (await world.push(mine)).status_code == 200
    assert (await world.push(foreign)).status_code == 403
    assert (await world.push(theirs)).status_code == 403
    assert (await world.push(theirs, bearer=entra)).status_code == 200
    assert (await world.push(mine, bearer=entra)).status_code == 403


# ---------------------------------------------------------------- channels and requests


async def test_a_channel_lives_thirty_days_and_survives_a_restart(world: World) -> None:
    uri = await world.wns.register(SID, "d1")
    assert uri.startswith(f"{world.wns.base_url}/?token=")
    assert await world.wns.register(SID, "d1") == uri
    again = WnsEmulator(world.kernel)
    again.base_url = world.wns.base_url
    assert await again.register(SID, "d1") == uri
    assert len({uri, await world.wns.register(SID, "d2"), await world.wns.register(OTHER_SID, "d1")}) == 3
    await world.kernel.clock.advance(30 * DAY)
    world.bearer = (await world.login()).json()["access_token"]
    assert (await world.push(uri)).status_code == 410
    fresh = await world.wns.register(SID, "d1")
    assert fresh != uri
    assert (await world.push(fresh)).status_code == 200


async def test_what_every_answer_carries(world: World) -> None:
    uri = await world.wns.register(SID, "d1")
    for answer in [await world.push(uri), await world.push(f"{world.wns.base_url}/?token=none")]:
        assert len(answer.headers["x-wns-msg-id"]) == 16
        assert answer.headers["x-wns-debug-trace"]
        assert answer.headers["ms-cv"].endswith(".0")
        assert answer.content == b""


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"X-WNS-Type": ""}, "x", 400),
        ({"X-WNS-Type": "raw"}, "x", 400),
        ({"X-WNS-Type": "wns/tile"}, "x", 501),
        ({"Content-Type": "text/xml"}, "x", 400),
        ({**TOAST, "Content-Type": "application/octet-stream"}, "x", 400),
        ({"X-WNS-TTL": "-1"}, "x", 400),
        ({"X-WNS-TTL": "soon"}, "x", 400),
        ({"X-WNS-Cache-Policy": "yes"}, "x", 400),
        ({"X-WNS-RequestForStatus": "1"}, "x", 400),
        ({"X-WNS-SuppressPopup": "true"}, "x", 400),
        ({}, "", 400),
        ({}, "x" * 5001, 413),
        ({}, "x" * 5000, 200),
    ],
)
async def test_what_a_request_must_be(world: World, headers: dict[str, str], body: str, status: int) -> None:
    uri = await world.wns.register(SID, "d1")
    answer = await world.push(uri, RAW | headers, body)
    assert answer.status_code == status
    assert ("x-wns-error-description" in answer.headers) == (status != 200)


async def test_unknown_channels_methods_and_chunks(world: World) -> None:
    uri = await world.wns.register(SID, "d1")
    assert (await world.push(f"{world.wns.base_url}/?token=x")).status_code == 404
    assert (await world.push(f"{world.wns.base_url}/elsewhere")).status_code == 404
    assert (await world.http.get(uri)).status_code == 405

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"

    headers = {"Authorization": f"Bearer {world.bearer}", **RAW}
    assert (await world.http.post(uri, content=chunks(), headers=headers)).status_code == 400


# ---------------------------------------------------------------- delivery


async def test_a_connected_device_gets_everything_in_order(world: World) -> None:
    uri, device = await world.wns.register(SID, "d1"), Device()
    await world.wns.connect(uri, device)
    for number in range(5):
        answer = await world.push(uri, RAW if number % 2 else TOAST, f"{number}")
        assert said(answer) == (200, "received", "connected")
    await until(lambda: len(device.got) == 5)
    assert device.bodies == ["0", "1", "2", "3", "4"]
    assert (await world.control.get("/wns")).json() == {"delivered": 5, "stored": 0, "dropped": 0}


@pytest.mark.parametrize(
    ("headers", "word", "kept"),
    [
        (RAW, "dropped", []),
        ({**RAW, "X-WNS-Cache-Policy": "no-cache"}, "dropped", []),
        (CACHED, "received", ["2"]),
        (TOAST, "received", ["2"]),
    ],
)
async def test_what_waits_for_a_device(world: World, headers: dict[str, str], word: str, kept: list[str]) -> None:
    uri, device = await world.wns.register(SID, "d1"), Device()
    for number in range(3):
        assert said(await world.push(uri, headers, f"{number}")) == (200, word, "disconnected")
    await world.wns.connect(uri, device)
    await until(lambda: len(device.got) == len(kept))
    assert device.bodies == kept
    assert world.wns.store.waiting(device.got[0].channel if kept else "") == []


async def test_one_toast_and_one_raw_wait_and_outlive_the_lab(world: World) -> None:
    uri, device = await world.wns.register(SID, "d1"), Device()
    for headers, body in ((TOAST, "t1"), (CACHED, "r1"), (TOAST, "t2"), (CACHED, "r2")):
        await world.push(uri, headers, body)
    again = WnsEmulator(world.kernel)
    await again.connect(uri, device)
    await until(lambda: len(device.got) == 2)
    assert device.bodies == ["t2", "r2"]
    await again.stop()
    assert WnsEmulator(world.kernel).store.waiting(device.got[0].channel) == []


@pytest.mark.parametrize(("kept", "word", "bodies"), [(0, "dropped", []), (2, "received", ["1", "2"])])
async def test_how_many_toasts_wait_is_a_setting(world: World, kept: int, word: str, bodies: list[str]) -> None:
    await world.control.put("/settings", json={"wns": {"toastsKept": kept}})
    uri, device = await world.wns.register(SID, "d1"), Device()
    for number in range(3):
        assert said(await world.push(uri, TOAST, f"{number}"))[1] == word
    await world.wns.connect(uri, device)
    await until(lambda: len(device.got) == len(bodies))
    assert device.bodies == bodies


async def test_what_has_ended_is_not_delivered(world: World) -> None:
    uri, device = await world.wns.register(SID, "d1"), Device()
    await world.push(uri, CACHED, "short", TTL="60")
    await world.push(uri, TOAST, "long", TTL="3600")
    await world.kernel.clock.advance(61)
    await world.wns.connect(uri, device)
    await until(lambda: bool(device.got))
    assert device.bodies == ["long"]


async def test_what_was_on_its_way_waits_if_it_may(world: World) -> None:
    uri, device = await world.wns.register(SID, "d1"), Device(works=False)
    await world.wns.connect(uri, device)
    for headers, body in ((RAW, "gone"), (CACHED, "r1"), (CACHED, "r2"), (TOAST, "t1")):
        assert said(await world.push(uri, headers, body)) == (200, "received", "connected")
    await world.wns.disconnect(uri)
    device.works = True
    await world.wns.connect(uri, device)
    await world.wns.disconnect(uri)  # at once: what it has not got is still there, and once only
    await world.wns.connect(uri, device)
    await until(lambda: len(device.got) == 2)
    assert device.bodies == ["r2", "t1"]


async def test_the_status_is_told_where_it_is_asked_for(world: World) -> None:
    uri = await world.wns.register(SID, "d1")
    assert said(await world.push(uri, CACHED, RequestForStatus="false")) == (200, "received", None)
    await world.control.put("/settings", json={"wns": {"statusUnasked": False}})
    assert said(await world.push(uri, CACHED, RequestForStatus="false")) == (200, None, None)
    assert said(await world.push(uri, CACHED)) == (200, "received", "disconnected")


def test_what_an_app_makes_of_a_notification() -> None:
    def payload(kind: Any, body: str) -> dict[str, Any]:
        return Notification(id="n", channel="c", order=1, kind=kind, body=body, expiration=None, cached=False).payload

    toast = '<toast launch=\'{"id":"p1"}\'><visual><binding><text>T</text><text>B</text></binding></visual></toast>'
    assert payload("toast", toast) == {"id": "p1", "title": "T", "body": "B"}
    assert payload("raw", '{"id":"p1"}') == {"id": "p1"}
    for garbage in ("", "[]", "{", "<toast", "<toast launch='x'/>", "<toast launch='[]'/>", "\ufffd"):
        assert payload("raw", garbage) == payload("toast", garbage) == {}


# ---------------------------------------------------------------- limits, scripts and faults


async def test_limits(world: World) -> None:
    uri, other = await world.wns.register(SID, "d1"), await world.wns.register(SID, "d2")
    await world.control.put("/settings", json={"wns": {"channelPerMinute": 1, "appPerMinute": 3, "retryAfter": 7}})
    await world.kernel.clock.advance(60)
    assert [said(await world.push(to, CACHED))[:2] for to in (uri, uri, other)] == [
        (200, "received"),
        (200, "channelthrottled"),
        (200, "received"),
    ]
    refused = await world.push(other, CACHED)
    assert (refused.status_code, refused.headers["retry-after"]) == (406, "7")
    await world.kernel.clock.advance(60)
    assert said(await world.push(uri, CACHED))[:2] == (200, "received")


async def test_a_script_answers_first(world: World) -> None:
    channel = (await world.control.post("/wns/channels", json={"app": SID})).json()
    script = [
        {"wnsStatus": "dropped", "times": 2},
        {"status": 410, "description": "Domain Blocked"},
        {"status": 503, "retryAfter": 9},
        {},
    ]
    shown = (await world.control.put(f"/wns/channels/{channel['id']}", json={"script": script})).json()
    assert len(shown["script"]) == 4
    answers = [await world.push(channel["uri"], CACHED) for _ in range(6)]
    assert [said(answer)[:2] for answer in answers] == [
        (200, "dropped"),
        (200, "dropped"),
        (410, None),
        (503, None),
        (200, None),
        (200, "received"),
    ]
    assert answers[2].headers["x-wns-error-description"] == "Domain Blocked"
    assert answers[3].headers["retry-after"] == "9"
    (kept,) = (await world.control.get("/wns/channels")).json()["items"]
    assert (kept["waiting"], kept["online"], kept["script"]) == (["raw"], False, [])


async def test_a_channel_ends_before_its_time(world: World) -> None:
    channel = (await world.control.post("/wns/channels", json={"app": SID})).json()
    await world.push(channel["uri"], CACHED)
    shown = (await world.control.put(f"/wns/channels/{channel['id']}", json={"state": "expired"})).json()
    assert (shown["state"], shown["waiting"]) == ("expired", [])
    assert (await world.push(channel["uri"])).status_code == 410


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/wns/channels/none", {}),
        ("POST", "/wns/channels", {"app": ""}),
        ("PUT", "/wns/apps", [{"clientId": "x"}]),
        ("PUT", "/settings", {"wns": {"toastsKept": -1}}),
    ],
)
async def test_wrong_requests_change_nothing(world: World, method: str, path: str, body: Any) -> None:
    answer = await world.control.request(method, path, json=body)
    assert answer.status_code == 400
    assert "error" in answer.json()
    assert (await world.control.get("/wns/channels")).json() == {"items": []}


@pytest.mark.parametrize("step", [{"status": 99}, {"times": 0}, {"wnsStatus": "lost"}, {"description": "a\r\nb"}])
async def test_wrong_scripts(world: World, step: dict[str, Any]) -> None:
    channel = (await world.control.post("/wns/channels", json={"app": SID})).json()
    answer = await world.control.put(f"/wns/channels/{channel['id']}", json={"script": [step]})
    assert answer.status_code == 400


async def test_faults_and_the_record_of_requests(world: World) -> None:
    uri = await world.wns.register(SID, "d1")
    rules = [
        {"service": "wns", "match": {"path": "^/$"}, "action": {"status": 406, "retryAfter": 3}, "times": 1},
        {"service": "wns", "match": {"path": "accesstoken"}, "action": {"status": 503}, "times": 1},
        {"service": "wns", "action": {"cut": "after"}, "times": 1},
    ]
    assert (await world.control.put("/faults", json=rules)).status_code == 200
    refused = await world.push(uri)
    assert (refused.status_code, refused.headers["retry-after"]) == (406, "3")
    assert (await world.login()).json()["error"] == "temporarily_unavailable"
    with pytest.raises(httpx2.TransportError):
        await world.push(uri, CACHED)
    assert len(world.wns.store.waiting(uri.partition("=")[2])) == 1
    items = (await world.control.get("/requests?service=wns")).json()["items"]
    assert [item["path"] for item in items] == [STORE, "/", STORE, "/"]
    assert items[-1]["headers"]["authorization"] == f"Bearer {world.bearer}"


# ---------------------------------------------------------------- simulated devices


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
