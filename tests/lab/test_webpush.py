"""The lab's push service, as RFC 8030, 8291 and 8292 have it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import http_ece  # type: ignore[import-untyped]
import httpx2
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.utils import base64url_decode, base64url_encode

from heliograph_lab.kernel import Kernel
from heliograph_lab.web import Reply, Request, Router
from heliograph_lab.webpush import Delivery, WebPushEmulator
from heliograph_lab.webpush.control import WebPushControl
from tests.lab.serving import client_of, serving, until
from tests.support.direct import direct


def public_of(key: ec.EllipticCurvePrivateKey) -> str:
    return base64url_encode(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)).decode()


@dataclass
class Sender:
    """A sender with a key of its own."""

    client: httpx2.AsyncClient
    url: str
    key: ec.EllipticCurvePrivateKey

    @property
    def public(self) -> str:
        return public_of(self.key)

    def vapid(self, key: ec.EllipticCurvePrivateKey | None = None, shown: str = "", **claims: Any) -> str:
        said = {"aud": self.url, "exp": int(time.time()) + 3600, "sub": "mailto:a@b.example"} | claims
        signed = jwt.encode({k: v for k, v in said.items() if v is not None}, key or self.key, algorithm="ES256")
        return f"vapid t={signed}, k={shown or public_of(key or self.key)}"

    def encrypted(self, token: str, text: bytes = b'{"n":1}', **options: Any) -> bytes:
        keys = msgspec.json.decode(token)["keys"]
        body: bytes = http_ece.encrypt(
            text,
            private_key=ec.generate_private_key(ec.SECP256R1()),
            dh=base64url_decode(keys["p256dh"]),
            auth_secret=base64url_decode(keys["auth"]),
            **options,
        )
        return body

    async def send(self, token: str, body: bytes | None = None, **headers: str | None) -> httpx2.Response:
        said: dict[str, str | None] = {
            "TTL": "60",
            "Content-Encoding": "aes128gcm",
            "Authorization": self.vapid(),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        content = self.encrypted(token) if body is None else body
        endpoint = msgspec.json.decode(token)["endpoint"]
        given = {name: value for name, value in said.items() if value is not None}
        return await self.client.post(endpoint, content=content, headers=given)

    async def delete(self, answer: httpx2.Response) -> int:
        return (await self.client.delete(self.url + answer.headers["location"])).status_code


@pytest.fixture
async def service(kernel: Kernel) -> AsyncIterator[WebPushEmulator]:
    emulator = WebPushEmulator(kernel)
    async with serving(emulator.app) as url:
        emulator.url = url
        yield emulator
    await emulator.stop()


@pytest.fixture
async def sender(service: WebPushEmulator) -> AsyncIterator[Sender]:
    async with direct() as client:
        yield Sender(client, service.url, ec.generate_private_key(ec.SECP256R1()))


class Device:
    """What has arrived."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []

    async def __call__(self, delivery: Delivery) -> None:
        self.got.append(delivery)

    def has(self, count: int) -> Callable[[], bool]:
        return lambda: len(self.got) >= count


def id_of(token: str) -> str:
    return str(msgspec.json.decode(token)["endpoint"]).rpartition("/")[2]


async def test_a_message_waits_and_arrives(service: WebPushEmulator, sender: Sender) -> None:
    token = await service.subscribe("d1")
    answers = [await sender.send(token, sender.encrypted(token, b'{"n":%d}' % n)) for n in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert [answer.headers["ttl"] for answer in answers] == ["60"] * 3
    assert len({answer.headers["location"] for answer in answers}) == 3
    device = Device()
    await service.connect(token, device)
    await until(device.has(3))
    assert [delivery.payload for delivery in device.got] == [{"n": 0}, {"n": 1}, {"n": 2}]
    await sender.send(token, sender.encrypted(token, b'{"n":3}'))
    await until(device.has(4))
    await until(lambda: not service.store.waiting(id_of(token)))
    assert await sender.delete(answers[0]) == 404


async def test_a_message_is_withdrawn_once(service: WebPushEmulator, sender: Sender) -> None:
    token = await service.subscribe("d1")
    answer = await sender.send(token)
    assert [await sender.delete(answer), await sender.delete(answer)] == [204, 404]
    assert service.store.waiting(id_of(token)) == []


async def test_a_newer_message_of_a_topic_takes_the_place_of_an_undelivered_one(
    service: WebPushEmulator, sender: Sender
) -> None:
    token, other = await service.subscribe("d1"), await service.subscribe("d2")
    first = await sender.send(token, Topic="mine")
    for receiver, topic in ((token, "else"), (other, "mine"), (token, None)):
        assert (await sender.send(receiver, Topic=topic)).status_code == 201
    await sender.send(token, Topic="mine")
    assert await sender.delete(first) == 404
    assert [message.topic for message in service.store.waiting(id_of(token))] == ["else", None, "mine"]
    assert [message.topic for message in service.store.waiting(id_of(other))] == ["mine"]


async def test_time_is_the_labs(kernel: Kernel, service: WebPushEmulator, sender: Sender) -> None:
    token = await service.subscribe("d1")
    short, _long = await sender.send(token, TTL="60"), await sender.send(token, TTL="6000")
    await kernel.clock.advance(61)
    assert await sender.delete(short) == 404
    device = Device()
    await service.connect(token, device)
    await until(device.has(1))
    await until(lambda: not service.store.waiting(id_of(token)))
    assert len(device.got) == 1


async def test_a_life_of_zero_is_now_or_never(service: WebPushEmulator, sender: Sender) -> None:
    token, device = await service.subscribe("d1"), Device()
    assert (await sender.send(token, TTL="0")).status_code == 201
    await service.connect(token, device)
    assert (await sender.send(token, sender.encrypted(token, b'{"n":2}'), TTL="0")).headers["ttl"] == "0"
    await until(device.has(1))
    assert device.got[0].payload == {"n": 2}


async def test_all_of_it_outlives_the_lab(tmp_path: Path) -> None:
    async def restarted(use: Callable[[WebPushEmulator, Sender], Any]) -> Any:
        kernel = Kernel(tmp_path / "lab")
        emulator = WebPushEmulator(kernel)
        async with serving(emulator.app) as url, direct() as client:
            emulator.url = url
            result = await use(emulator, Sender(client, url, ec.generate_private_key(ec.SECP256R1())))
        await emulator.stop()
        kernel.close()
        return result

    async def before(service: WebPushEmulator, sender: Sender) -> str:
        token = await service.subscribe("d1")
        await sender.send(token)
        return id_of(token)

    async def after(service: WebPushEmulator, sender: Sender) -> str:
        token, device = await service.subscribe("d1"), Device()
        await service.connect(token, device)
        await until(device.has(1))
        return id_of(token)

    assert await restarted(before) == await restarted(after)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"TTL": None}, 400),
        ({"TTL": "-1"}, 400),
        ({"TTL": "soon"}, 400),
        ({"Topic": "x" * 33}, 400),
        ({"Topic": "a b"}, 400),
        ({"Topic": "abcde"}, 400),  # no base64url has this length
        ({"Urgency": "now"}, 400),
        ({"Content_Encoding": None}, 415),
        ({"Content_Encoding": "aesgcm"}, 415),
        ({"Authorization": "Bearer x"}, 401),
        ({"Authorization": "vapid t=x, k=y"}, 403),
    ],
)
async def test_headers(service: WebPushEmulator, sender: Sender, headers: dict[str, str | None], status: int) -> None:
    token = await service.subscribe("d1")
    assert (await sender.send(token, None, **headers)).status_code == status
    assert service.store.waiting(id_of(token)) == []


async def test_who_may_send(service: WebPushEmulator, sender: Sender) -> None:
    anybody = await service.subscribe("d1")
    own = await service.subscribe("d2", sender.public)
    stranger, now = ec.generate_private_key(ec.SECP256R1()), int(time.time())

    async def status(token: str, authorization: str | None) -> int:
        return (await sender.send(token, Authorization=authorization)).status_code

    for token in (anybody, own):
        assert await status(token, sender.vapid()) == 201
        assert await status(token, sender.vapid().replace("vapid ", "Vapid  ")) == 201
        for wrong in (
            sender.vapid(stranger, shown=sender.public),
            sender.vapid(aud="https://elsewhere.example"),
            sender.vapid(aud=f"{sender.url}/"),
            sender.vapid(exp=now - 1),
            sender.vapid(exp=now + 24 * 3600 + 60),
            sender.vapid(exp=None),
            sender.vapid(sub=None),
            sender.vapid(sub="ops@example.com"),
            sender.vapid(sub="mailto:<ops@example.com>"),
            sender.vapid(sub="mailto:ops@localhost"),
        ):
            assert await status(token, wrong) == 403
    assert await status(anybody, None) == 201
    assert await status(anybody, sender.vapid(stranger)) == 201
    assert await status(own, None) == 401
    assert await status(own, sender.vapid(stranger)) == 403


async def test_what_the_device_could_not_read(service: WebPushEmulator, sender: Sender) -> None:
    token, other = await service.subscribe("d1"), await service.subscribe("d2")
    good = sender.encrypted(token, b"x" * 3993)
    assert (len(good), (await sender.send(token, good)).status_code) == (4096, 201)
    for bad in (
        b"",
        b"x" * 100,
        sender.encrypted(other),
        good[:-1],
        good[:-1] + bytes([good[-1] ^ 1]),
        good[:40] + b"\0" * 40 + good[80:],
        sender.encrypted(token, b"x" * 100, rs=50),  # more than one record
    ):
        assert (await sender.send(token, bad)).status_code == 400, bad[:30]
    assert (await sender.send(token, sender.encrypted(token, b"x" * 3994))).status_code == 413


async def test_an_ended_subscription(kernel: Kernel, service: WebPushEmulator, sender: Sender) -> None:
    token = await service.subscribe("d1")
    await sender.send(token)
    async with client_of(control_of(service)) as control:
        for state, status in (("expired", 410), ("unknown", 404)):
            await control.put(f"/webpush/subscriptions/{id_of(token)}", json={"state": state})
            assert (await sender.send(token)).status_code == status
        assert service.store.waiting(id_of(token)) == []
        assert id_of(await service.subscribe("d1")) != id_of(token)
        # Another key of the app's makes another subscription.
        third = await service.subscribe("d1", sender.public)
        assert id_of(third) not in (id_of(token), id_of(await service.subscribe("d2")))
        nobody = token.replace(id_of(token), "nobody")
        assert (await sender.send(nobody)).status_code == 404


async def test_faults_of_one_subscription(kernel: Kernel, service: WebPushEmulator, sender: Sender) -> None:
    one, other = await service.subscribe("d1"), await service.subscribe("d2")
    path = f"^/push/{id_of(one)}$"
    rule = {"service": "webpush", "match": {"path": path}, "action": {"status": 429, "retryAfter": 7}, "times": 1}
    kernel.faults.replace([rule])
    assert (await sender.send(other)).status_code == 201
    limited = await sender.send(one)
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
    assert (await sender.send(one)).status_code == 201
    assert len(kernel.requests.items("webpush")) == 3


async def test_what_is_not_there(service: WebPushEmulator, sender: Sender) -> None:
    token = await service.subscribe("d1")
    endpoint = msgspec.json.decode(token)["endpoint"]
    assert (await sender.client.delete(endpoint)).status_code == 405
    assert (await sender.client.get(endpoint)).status_code == 405
    assert (await sender.client.get(f"{service.url}/")).status_code == 404


# ---------------------------------------------------------------- control


def control_of(service: WebPushEmulator) -> Router:
    def on_error(_request: Request, error: Exception) -> Reply:
        return Reply({"error": str(error)}, 400)

    router = Router(on_error=on_error, no_route=lambda _request, _exists: Reply({}, 404))
    WebPushControl(service).add_to(router)
    return router


async def test_control(service: WebPushEmulator, sender: Sender) -> None:
    async with client_of(control_of(service)) as control:
        body = {"owner": "me", "vapidKey": sender.public}
        made = (await control.post("/webpush/subscriptions", json=body)).json()
        token = msgspec.json.encode(made["subscription"]).decode()
        assert (made["owner"], made["state"], made["online"], made["waiting"]) == ("me", "active", False, [])
        changed = {"longestLife": 5, "withdraws": False}
        await control.put(f"/webpush/subscriptions/{made['id']}", json=changed)
        sent = await sender.send(token, Topic="mine", Urgency="high")
        assert (sent.status_code, sent.headers["ttl"], "location" in sent.headers) == (201, "5", False)
        (shown,) = (await control.get("/webpush/subscriptions")).json()["items"]
        (waiting,) = shown["waiting"]
        assert (waiting["topic"], waiting["urgency"]) == ("mine", "high")
        for path, wrong in (
            ("nobody", {"state": "active"}),
            (made["id"], {"state": "x"}),
            (made["id"], {"longestLife": -1}),
            (made["id"], {"more": 1}),
        ):
            assert (await control.put(f"/webpush/subscriptions/{path}", json=wrong)).status_code == 400
        assert (await control.post("/webpush/subscriptions", json={"owner": "x", "vapidKey": "y"})).status_code == 400


async def test_a_delivery_that_fails_is_offered_again(service: WebPushEmulator, sender: Sender) -> None:
    token = await service.subscribe("d1")
    tried = asyncio.Event()

    async def fails(_delivery: Delivery) -> None:
        tried.set()
        raise RuntimeError

    await service.connect(token, fails)
    await sender.send(token)
    await tried.wait()
    await service.disconnect(token)
    device = Device()
    await service.connect(token, device)
    await until(device.has(1))
