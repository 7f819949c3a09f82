from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from heliograph_lab.kernel import Kernel
from heliograph_lab.pushy import Push, PushyEmulator
from tests.lab.serving import client_of, until

KEY = "abc123"
DAY = 86_400


class Device:
    """A registered device that keeps what it gets."""

    def __init__(self, pushy: PushyEmulator, token: str) -> None:
        self.pushy = pushy
        self.token = token
        self.got: list[dict[str, Any]] = []

    async def deliver(self, push: Push) -> None:
        self.got.append(push.payload)

    async def online(self, count: int) -> None:
        """Connect, and wait for so many pushes in all, confirmed."""
        await self.pushy.connect(self.token, self.deliver)
        await until(lambda: len(self.got) >= count and self.pushy.store.next(self.token) is None)


@pytest.fixture
async def pushy(kernel: Kernel) -> AsyncIterator[PushyEmulator]:
    emulator = PushyEmulator(kernel)
    await emulator.start()
    yield emulator
    await emulator.stop()


@pytest.fixture
async def api(pushy: PushyEmulator) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(pushy.app) as client:
        client.params = client.params.set("api_key", KEY)
        yield client


async def device(pushy: PushyEmulator, owner: str = "d1", platform: Any = "android") -> Device:
    return Device(pushy, await pushy.register(KEY, owner, platform))


async def send(api: httpx2.AsyncClient, to: Any, n: int = 1, **more: Any) -> dict[str, Any]:
    answer = await api.post("/push", json={"to": to, "data": {"n": n}, **more})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def refusal(api: httpx2.AsyncClient, body: Any) -> tuple[int, str]:
    answer = await api.post("/push", json=body)
    assert set(answer.json()) == {"code", "error"}
    return answer.status_code, answer.json()["code"]


async def known(api: httpx2.AsyncClient, push_id: str) -> bool:
    answer = await api.get(f"/pushes/{push_id}")
    if answer.status_code == 200:
        return True
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PUSH_ID")
    deleted = await api.delete(f"/pushes/{push_id}")
    assert (deleted.status_code, deleted.json()["code"]) == (400, "INVALID_PUSH_ID")
    return False


async def test_pending_then_delivered_in_order(pushy: PushyEmulator, api: httpx2.AsyncClient) -> None:
    one = await device(pushy)
    ids = [(await send(api, one.token, n))["id"] for n in range(5)]
    status = (await api.get(f"/pushes/{ids[0]}")).json()["push"]
    assert status["pending_devices"] == [one.token]
    assert status["payload"] == {"n": 0}
    assert status["expiration"] == status["date"] + 30 * DAY
    info = (await api.get(f"/devices/{one.token}")).json()
    assert [push["id"] for push in info["pending_notifications"]] == ids
    assert info["presence"]["online"] is False
    await one.online(5)
    assert one.got == [{"n": n} for n in range(5)]
    assert (await api.get(f"/pushes/{ids[4]}")).json()["push"]["pending_devices"] == []
    assert (await api.get(f"/devices/{one.token}")).json()["presence"]["online"] is True
    await send(api, one.token, 5)
    await one.online(6)


async def test_expiry_forgets(kernel: Kernel, pushy: PushyEmulator, api: httpx2.AsyncClient) -> None:
    one = await device(pushy)
    push_id = (await send(api, one.token, time_to_live=3600))["id"]
    await kernel.clock.advance(3500)
    assert await known(api, push_id)
    await kernel.clock.advance(101)
    assert not await known(api, push_id)
    late = (await send(api, one.token, 2))["id"]
    await one.online(1)
    assert one.got == [{"n": 2}]
    assert await known(api, late)


async def test_delivery_forgets_after_two_days(kernel: Kernel, pushy: PushyEmulator, api: httpx2.AsyncClient) -> None:
    one, two = await device(pushy), await device(pushy, "d2")
    push_id = (await send(api, [one.token, two.token]))["id"]
    await one.online(1)
    await kernel.clock.advance(3 * DAY)
    assert await known(api, push_id)
    await two.online(1)
    await kernel.clock.advance(2 * DAY - 60)
    assert await known(api, push_id)
    await kernel.clock.advance(61)
    assert not await known(api, push_id)


async def test_deleted_is_forgotten_and_never_delivered(pushy: PushyEmulator, api: httpx2.AsyncClient) -> None:
    one = await device(pushy)
    push_id = (await send(api, one.token, 1))["id"]
    assert (await api.delete(f"/pushes/{push_id}")).json() == {"success": True}
    assert not await known(api, push_id)
    await send(api, one.token, 2)
    await one.online(1)
    assert one.got == [{"n": 2}]


async def test_keys_are_apps_of_their_own(pushy: PushyEmulator, api: httpx2.AsyncClient) -> None:
    one = await device(pushy)
    stranger = await pushy.register("other", "d1")
    push_id = (await send(api, one.token))["id"]
    other = await api.get(f"/pushes/{push_id}", params={"api_key": "other"})
    assert other.json()["code"] == "INVALID_PUSH_ID"
    answer = await send(api, [one.token, stranger, "nobody"])
    assert answer["info"] == {"devices": 1, "failed": [stranger, "nobody"]}
    assert await refusal(api, {"to": stranger, "data": {}}) == (400, "NO_RECIPIENTS")
    assert (await api.get(f"/devices/{stranger}")).json()["code"] == "NO_RESULTS"
    assert await pushy.register(KEY, "d1") == one.token


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"data": None}, "INVALID_PARAM"),
        ({"data": {"x": "y" * 4090}}, "PAYLOAD_LIMIT_EXCEEDED"),
        ({"collapse_key": "k" * 33}, "INVALID_PARAM"),
        ({"time_to_live": 366 * DAY}, "INVALID_PARAM"),
        ({"time_to_live": "1"}, "INVALID_PARAM"),
        ({"schedule": 1}, "INVALID_PARAM"),
        ({"to": []}, "INVALID_PARAM"),
        ({"to": [1]}, "INVALID_PARAM"),
        ({"to": "/topics/nobody"}, "NO_RECIPIENTS"),
    ],
)
async def test_refusals(pushy: PushyEmulator, api: httpx2.AsyncClient, more: Any, code: str) -> None:
    one = await device(pushy)
    assert await refusal(api, {"to": one.token, "data": {"n": 1}, **more}) == (400, code)
    assert pushy.store.next(one.token) is None


async def test_the_largest_payload_fits(pushy: PushyEmulator, api: httpx2.AsyncClient) -> None:
    one = await device(pushy)
    answer = await api.post("/push", json={"to": one.token, "data": {"x": "y" * 4088}})
    assert answer.status_code == 200


@pytest.mark.parametrize("key", ["", "with-dash", "ümlaut"])
async def test_keys_are_alphanumeric(api: httpx2.AsyncClient, key: str) -> None:
    answer = await api.get("/pushes/x", params={"api_key": key})
    assert (answer.status_code, answer.json()["code"]) == (401, "INVALID_API_KEY")


async def test_collapse_keeps_the_newest(pushy: PushyEmulator, api: httpx2.AsyncClient) -> None:
    one, two = await device(pushy), await device(pushy, "d2")
    older = (await send(api, [one.token, two.token], 1, collapse_key="k"))["id"]
    await send(api, one.token, 2)
    await send(api, one.token, 3, collapse_key="k")
    assert (await api.get(f"/pushes/{older}")).json()["push"]["pending_devices"] == [two.token]
    await one.online(2)
    assert one.got == [{"n": 2}, {"n": 3}]


async def test_schedule_waits_for_the_labs_clock(kernel: Kernel, pushy: PushyEmulator, api: httpx2.AsyncClient) -> None:
    one = await device(pushy)
    due = pushy.store.now() + 3600
    push_id = (await send(api, one.token, 1, schedule=due, time_to_live=60))["id"]
    assert (await api.get(f"/pushes/{push_id}")).json()["push"]["expiration"] == due + 60
    await send(api, one.token, 2)
    await one.online(1)
    assert one.got == [{"n": 2}]
    await kernel.clock.advance(3601)
    await until(lambda: len(one.got) == 2)


async def test_ios_and_web_are_never_pending(pushy: PushyEmulator, api: httpx2.AsyncClient) -> None:
    phone, page = await device(pushy, "i", "ios"), await device(pushy, "w", "web")
    answer = await send(api, [phone.token, page.token])
    assert answer["info"]["devices"] == 2
    assert (await api.get(f"/pushes/{answer['id']}")).json()["push"]["pending_devices"] == []
    assert (await api.get(f"/devices/{phone.token}")).json()["pending_notifications"] == []


async def test_pending_list_is_clipped(pushy: PushyEmulator, api: httpx2.AsyncClient) -> None:
    tokens = await asyncio.gather(*(pushy.register(KEY, f"d{n}") for n in range(1001)))
    answer = await send(api, list(tokens))
    assert answer["info"]["devices"] == 1001
    assert len((await api.get(f"/pushes/{answer['id']}")).json()["push"]["pending_devices"]) == 1000


async def test_topics(pushy: PushyEmulator, api: httpx2.AsyncClient) -> None:
    one = await device(pushy)
    body = {"token": one.token, "topics": ["news", "weather"]}
    assert (await api.post("/topics/subscribe", json=body)).json() == {"success": True}
    assert (await api.post("/topics/unsubscribe", json={"token": one.token, "topics": "weather"})).status_code == 200
    assert (await api.get("/topics")).json() == {"topics": [{"name": "news", "subscribers": 1}]}
    assert (await api.get("/topics/news")).json() == {"subscribers": [one.token]}
    await send(api, ["/topics/news", "/topics/weather"])
    await one.online(1)


async def test_what_is_not_modelled_says_so(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/register", json={"appId": "x"})
    assert (answer.status_code, answer.json()["code"]) == (501, "NOT_MODELLED")


async def test_a_failing_device_gets_it_again(
    pushy: PushyEmulator, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("heliograph_lab.pushy.emulator._PAUSE_AFTER_FAILURE", 0)
    one = await device(pushy)
    done = asyncio.Event()
    tries: list[str] = []

    async def deliver(push: Push) -> None:
        tries.append(push.id)
        if len(tries) == 1:
            raise OSError("the device's disk is full")
        done.set()

    push_id = (await send(api, one.token))["id"]
    await pushy.connect(one.token, deliver)
    await asyncio.wait_for(done.wait(), 20)
    assert tries == [push_id, push_id]
    assert "disk is full" in caplog.text


async def test_rate_limit_is_a_setting(kernel: Kernel) -> None:
    pushy = PushyEmulator(kernel, requests_per_minute=2)
    await kernel.clock.advance(60 - pushy.store.now() % 60)  # the beginning of a minute
    async with client_of(pushy.app) as client:
        codes = [(await client.get("/topics", params={"api_key": KEY})).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        await kernel.clock.advance(60)
        assert (await client.get("/topics", params={"api_key": KEY})).status_code == 200


async def test_everything_survives_a_restart(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    pushy = PushyEmulator(kernel)
    one, two = await device(pushy), await device(pushy, "d2")
    async with client_of(pushy.app) as api:
        api.params = api.params.set("api_key", KEY)
        first = (await send(api, [one.token, two.token], 1))["id"]
        second = (await send(api, one.token, 2))["id"]
        await two.online(1)
    await pushy.stop()
    kernel.close()

    kernel = Kernel(tmp_path)
    pushy = PushyEmulator(kernel)
    await pushy.start()
    async with client_of(pushy.app) as api:
        api.params = api.params.set("api_key", KEY)
        assert (await api.get(f"/pushes/{first}")).json()["push"]["pending_devices"] == [one.token]
        assert (await api.get(f"/pushes/{second}")).json()["push"]["pending_devices"] == [one.token]
        again = await device(pushy)
        assert again.token == one.token
        await again.online(2)
        assert again.got == [{"n": 1}, {"n": 2}]
    await pushy.stop()
    kernel.close()
