"""web-push, the library that the standard's authors maintain, unmodified, against our push service.

It speaks TLS only, so a relay stands in front of the service.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from heliograph_lab.kernel import Kernel
from heliograph_lab.webpush import Delivery, WebPushEmulator
from tests.lab.serving import serving
from tests.support.node import run_js

PREAMBLE = """
const [subscription, publicKey, privateKey] = process.argv.slice(1);
const webpush = require('web-push');
const to = JSON.parse(subscription || 'null');
const vapidDetails = {subject: 'mailto:ops@example.com', publicKey, privateKey};
const send = (text, options) => webpush.sendNotification(to, text, {vapidDetails, ...options}).then(
    (done) => ({status: done.statusCode, headers: done.headers}),
    (error) => ({status: error.statusCode, headers: error.headers, body: error.body, message: error.message}));
const say = (answer) => console.log(JSON.stringify(answer));
"""


@asynccontextmanager
async def tls_before(url: str, context: ssl.SSLContext) -> AsyncIterator[str]:
    """The same service over TLS, on another port."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    running: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer), return_exceptions=True)
        for one in (writer, inner_writer):
            one.close()
        running.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    yield f"https://localhost:{server.sockets[0].getsockname()[1]}"
    server.close()
    for task in list(running):
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await server.wait_closed()


class Official:
    """The library, driven by scripts, with a key pair that it has made itself."""

    def __init__(self, service: WebPushEmulator, authority: Path) -> None:
        self.service, self._env = service, {"NODE_EXTRA_CA_CERTS": str(authority)}
        self.keys: dict[str, str] = {}

    async def run(self, script: str, subscription: str = "", **keys: str) -> Any:
        source = f"{PREAMBLE}(async () => {{ {script} }})();"
        used = self.keys | keys
        arguments = [subscription, used.get("publicKey", ""), used.get("privateKey", "")]
        return await run_js(source, *arguments, env=self._env, timeout=120)


@pytest.fixture
async def official(kernel: Kernel, tmp_path: Path) -> AsyncIterator[Official]:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    service = WebPushEmulator(kernel)
    async with serving(service.app) as url, tls_before(url, context) as outside:
        service.url = outside
        official = Official(service, tmp_path / "ca.pem")
        official.keys = await official.run("say(webpush.generateVAPIDKeys())")
        yield official
    await service.stop()


async def test_what_it_sends_arrives(official: Official) -> None:
    token = await official.service.subscribe("d1", official.keys["publicKey"])
    got: asyncio.Queue[Delivery] = asyncio.Queue()
    await official.service.connect(token, got.put)
    answer = await official.run(
        """say(await send('{"n":"wörld"}', {TTL: 300, urgency: 'high', topic: 'abc'}))""", token
    )
    assert answer["status"] == 201
    assert answer["headers"]["ttl"] == "300"
    assert answer["headers"]["location"].startswith("/message/")
    assert (await got.get()).payload == {"n": "wörld"}


async def test_it_waits_by_topic(official: Official) -> None:
    token = await official.service.subscribe("d1", official.keys["publicKey"])
    answer = await official.run(
        """say([await send('{"n":1}', {topic: 'ab'}), await send('{"n":2}', {topic: 'ab', urgency: 'low'})])""", token
    )
    assert [one["status"] for one in answer] == [201, 201]
    (waiting,) = official.service.store.waiting(token.partition("/push/")[2].partition('"')[0])
    assert (waiting.topic, waiting.urgency) == ("ab", "low")


async def test_refusals(official: Official) -> None:
    service = official.service
    other = await official.run("say(webpush.generateVAPIDKeys())")
    token = await service.subscribe("d1", official.keys["publicKey"])
    assert (await official.run("say(await send('{}'))", token, **other))["status"] == 403
    assert (await official.run("say(await send('{}', {vapidDetails: null}))", token))["status"] == 401
    assert (await official.run("say(await send('x'.repeat(4000)))", token))["status"] == 413
    assert (await official.run("say(await send('{}', {contentEncoding: 'aesgcm'}))", token))["status"] in (401, 415)
    nobody = token.replace("/push/", "/push/x")
    assert (await official.run("say(await send('{}'))", nobody))["status"] == 404
    await service.subscribe("d1", other["publicKey"])  # the app has subscribed anew
    assert (await official.run("say(await send('{}'))", token))["status"] == 410
