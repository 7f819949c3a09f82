"""Web Push against the emulator that the official library is tested with, and against a server of other people's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jwt.utils import base64url_decode

from heliograph.guard import Guard
from heliograph.ports.push import (
    Accepted,
    CannotWithdraw,
    Misconfigured,
    PushMessage,
    Rejected,
    RetryLater,
    Withdrawn,
)
from heliograph.providers.webpush import WebPush
from heliograph.providers.webpush.vapid import Vapid
from heliograph.system import SystemClock
from heliograph_lab.kernel import Kernel
from heliograph_lab.webpush import Delivery, WebPushEmulator
from tests.lab.serving import serving
from tests.providers.samples import MESSAGES, NOTIFICATION, WAKE, target
from tests.providers.test_webpush import SUBJECT, VAPID
from tests.support.node import FOLDER, install

CLOCK = SystemClock()
OTHER_KEY = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"


def sender(url: str, key: str = VAPID) -> WebPush:
    return WebPush(Vapid(key, SUBJECT, CLOCK), Guard([url]), CLOCK, timeout_s=30)


@pytest.fixture
async def kernel(tmp_path: Path) -> AsyncIterator[Kernel]:
    kernel = Kernel(tmp_path / "lab")
    yield kernel
    kernel.close()


@pytest.fixture
async def service(kernel: Kernel) -> AsyncIterator[WebPushEmulator]:
    service = WebPushEmulator(kernel)
    async with serving(service.app) as url:
        service.url = url
        yield service
    await service.stop()


@pytest.fixture
async def app(service: WebPushEmulator) -> AsyncIterator[WebPush]:
    app = sender(service.url)
    yield app
    await app.close()


def id_of(token: str) -> str:
    return str(json.loads(token)["endpoint"]).rpartition("/")[2]


async def test_every_kind_of_push_arrives(service: WebPushEmulator, app: WebPush) -> None:
    key = Vapid(VAPID, SUBJECT, CLOCK).public_key
    token = await service.subscribe("d1", key)
    for message in MESSAGES:
        assert isinstance(await app.send(message, target("webpush", token)), Accepted)
    got: asyncio.Queue[Delivery] = asyncio.Queue()
    await service.connect(token, got.put)
    payloads = [(await got.get()).payload or {} for _ in MESSAGES]
    assert [(p["id"], p["kind"]) for p in payloads] == [(m.id, m.kind) for m in MESSAGES]
    assert payloads[1]["data"] == NOTIFICATION.data


async def test_a_repeated_attempt_takes_the_place_of_the_first(
    kernel: Kernel, service: WebPushEmulator, app: WebPush
) -> None:
    token = await service.subscribe("d1")
    kernel.faults.replace([{"service": "webpush", "action": {"cut": "after"}, "times": 1}])
    lost = await app.send(WAKE, target("webpush", token))
    assert isinstance(lost, RetryLater)
    assert lost.uncertain
    assert len(service.store.waiting(id_of(token))) == 1
    assert isinstance(await app.send(WAKE, target("webpush", token)), Accepted)
    another = PushMessage("f" * 24, "wake", 60)
    assert isinstance(await app.send(another, target("webpush", token)), Accepted)
    assert [message.topic for message in service.store.waiting(id_of(token))] == [WAKE.id, another.id]


async def test_a_push_is_withdrawn_once(service: WebPushEmulator, app: WebPush) -> None:
    token = await service.subscribe("d1")
    sent = await app.send(WAKE, target("webpush", token))
    assert isinstance(sent, Accepted)
    assert await app.withdraw(sent.reference) == Withdrawn()
    assert isinstance(await app.withdraw(sent.reference), CannotWithdraw)
    assert service.store.waiting(id_of(token)) == []


async def test_a_service_that_shortens_lives_and_names_nothing(service: WebPushEmulator, app: WebPush) -> None:
    token = await service.subscribe("d1")
    subscription = service.store.subscription(id_of(token))
    assert subscription is not None
    subscription.longest_life, subscription.withdraws = 30, False
    before = CLOCK.now()
    sent = await app.send(WAKE, target("webpush", token))
    assert isinstance(sent, Accepted)
    assert sent.expires_at is not None
    assert before + 30_000_000 <= sent.expires_at <= CLOCK.now() + 30_000_000
    assert isinstance(await app.withdraw(sent.reference), CannotWithdraw)


async def test_refusals(kernel: Kernel, service: WebPushEmulator) -> None:
    key = Vapid(VAPID, SUBJECT, CLOCK).public_key
    mine = await service.subscribe("d1", key)
    stranger, app = sender(service.url, OTHER_KEY), sender(service.url)
    assert isinstance(await stranger.send(WAKE, target("webpush", mine)), Misconfigured)
    kernel.faults.replace([{"service": "webpush", "action": {"status": 429, "retryAfter": 9}, "times": 1}])
    limited = await app.send(WAKE, target("webpush", mine))
    assert isinstance(limited, RetryLater)
    assert (limited.after_s, limited.uncertain, limited.account_wide) == (9.0, False, False)
    await service.subscribe("d1")  # ends the one before
    gone = await app.send(WAKE, target("webpush", mine))
    assert isinstance(gone, Rejected)
    assert (gone.token_gone, gone.evidence) == (True, {"status": 410, "reason": "Unsubscribed"})
    await stranger.close()
    await app.close()


# ---------------------------------------------------------------- npm web-push-testing, which decrypts what it gets

SERVER = """
const {PushApiModel} = require('web-push-testing/src/PushApiModel.js');
const Server = require('web-push-testing/src/server.js');
const http = require('http');
const listen = http.Server.prototype.listen;  // it would listen on every interface
http.Server.prototype.listen = function (port, done) { return listen.call(this, port, '127.0.0.1', done); };
const model = new PushApiModel();
console.log = () => {};
const server = new Server(model, 0);
server.startServer();
server._server.on('listening', () => {
    const url = `http://127.0.0.1:${server._server.address().port}`;
    model.notifyUrl = `${url}/notify/`;
    process.stdout.write(url + '\\n');
});
"""


@asynccontextmanager
async def web_push_testing() -> AsyncIterator[httpx2.AsyncClient]:
    node = await asyncio.to_thread(install)
    process = await asyncio.create_subprocess_exec(
        *(node, "--input-type=commonjs", "-e", SERVER),
        cwd=FOLDER,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
            yield client
    finally:
        process.kill()
        await process.wait()


async def test_other_peoples_service_reads_what_we_send() -> None:
    async with web_push_testing() as service:
        url = str(service.base_url).rstrip("/")
        app, key = sender(url), Vapid(VAPID, SUBJECT, CLOCK).public_key
        assert len(base64url_decode(key)) == 65

        async def call(path: str, **body: Any) -> Any:
            answer = await service.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()["data"]

        subscription = await call("/subscribe", userVisibleOnly="true", applicationServerKey=key)
        token = json.dumps({"endpoint": subscription["endpoint"], "keys": subscription["keys"]})
        for message in MESSAGES:
            sent = await app.send(message, target("webpush", token))
            assert isinstance(sent, Accepted)
            assert sent.reference == message.id  # it gives messages no name
        received = await call("/get-notifications", clientHash=subscription["clientHash"])
        offers = [json.loads(text) for text in received["messages"]]
        assert [(offer["id"], offer["kind"]) for offer in offers] == [(m.id, m.kind) for m in MESSAGES]
        assert (offers[1]["body"], offers[1]["data"]) == (NOTIFICATION.body, NOTIFICATION.data)

        stranger = sender(url, OTHER_KEY)
        assert isinstance(await stranger.send(WAKE, target("webpush", token)), Rejected)
        assert (await service.post(f"/expire-subscription/{subscription['clientHash']}")).status_code == 200
        gone = await app.send(WAKE, target("webpush", token))
        assert isinstance(gone, Rejected)
        assert gone.token_gone
        assert len((await call("/get-notifications", clientHash=subscription["clientHash"]))["messages"]) == 3
        await app.close()
        await stranger.close()
