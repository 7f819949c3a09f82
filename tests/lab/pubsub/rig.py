"""A running Pub/Sub emulator over a real socket, a client that speaks to it, and an endpoint that takes pushes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2

from heliograph_lab.kernel import Kernel
from heliograph_lab.pubsub import PubsubEmulator
from heliograph_lab.service import Receive, Scope, Send
from tests.lab.serving import client_of, serving

Json = dict[str, Any]
TOPIC = "projects/p1/topics/amapi"
SUBSCRIPTION = "projects/p1/subscriptions/heliograph"


class Pubsub:
    """A REST client of Pub/Sub, ours or another."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def ask(self, method: str, path: str, body: Any = None, *, status: int = 200, **query: Any) -> Json:
        """One call; the answer has to have this status."""
        content = {"json": body} if body is not None else {}
        answer = await self.http.request(method, f"/v1/{path}", params=query or None, timeout=60, **content)
        assert answer.status_code == status, answer.text
        decoded: Json = answer.json()
        return decoded

    async def set_up(self, topic: str = TOPIC, subscription: str = SUBSCRIPTION, **more: Any) -> None:
        """A topic and a subscription to it."""
        await self.ask("PUT", topic, {})
        await self.ask("PUT", subscription, {"topic": topic, **more})

    async def publish(self, *texts: str, topic: str = TOPIC, **attributes: str) -> list[str]:
        """The ids of these messages."""
        messages = [{"data": base64.b64encode(text.encode()).decode(), "attributes": attributes} for text in texts]
        ids: list[str] = (await self.ask("POST", f"{topic}:publish", {"messages": messages}))["messageIds"]
        return ids

    async def pull(self, most: int = 100, *, at_once: bool = True, subscription: str = SUBSCRIPTION) -> list[Json]:
        """The received messages of one pull."""
        body = {"maxMessages": most, "returnImmediately": at_once}
        received: list[Json] = (await self.ask("POST", f"{subscription}:pull", body)).get("receivedMessages", [])
        return received

    async def acknowledge(self, *received: Json, subscription: str = SUBSCRIPTION) -> None:
        """Done with these."""
        await self.ask("POST", f"{subscription}:acknowledge", {"ackIds": [item["ackId"] for item in received]})

    async def modify(self, seconds: int, *received: Json, subscription: str = SUBSCRIPTION) -> None:
        """Another deadline for these; 0 gives them back."""
        body = {"ackIds": [item["ackId"] for item in received], "ackDeadlineSeconds": seconds}
        await self.ask("POST", f"{subscription}:modifyAckDeadline", body)


class Rig(Pubsub):
    """Our emulator and its client."""

    def __init__(self, kernel: Kernel, emulator: PubsubEmulator, http: httpx2.AsyncClient) -> None:
        super().__init__(http)
        self.kernel = kernel
        self.emulator = emulator


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Rig]:
    """A rig from start to stop."""
    kernel = Kernel(directory)
    emulator = PubsubEmulator(kernel)
    try:
        await emulator.start()
        async with client_of(emulator.app) as http:
            yield Rig(kernel, emulator, http)
    finally:
        await emulator.stop()
        kernel.close()


class Push(Json):
    """One request that the endpoint got: `headers` and `body`."""

    @property
    def text(self) -> str:
        """The data of its message."""
        return base64.b64decode(self["body"]["message"]["data"]).decode()

    @property
    def token(self) -> str:
        """The bearer token."""
        scheme, _, token = self["headers"]["authorization"].partition(" ")
        assert scheme == "Bearer"
        return str(token)


class Endpoint:
    """Takes pushes; answers with the statuses in `answers` first, then with 204."""

    def __init__(self) -> None:
        self.pushes: list[Push] = []
        self.answers: list[int] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.url = ""
        self._came = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        raw = b"".join(parts)
        with contextlib.suppress(ValueError):
            raw = json.loads(raw)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.pushes.append(Push(headers=headers, body=raw, path=scope["path"]))
        self._came.set()
        await self.hold.wait()
        status = self.answers.pop(0) if self.answers else 204
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def until(self, true: Callable[[list[Push]], bool]) -> list[Push]:
        """Wait for pushes; the limit only keeps a broken test from hanging."""
        async with asyncio.timeout(30):
            while not true(self.pushes):
                self._came.clear()
                await self._came.wait()
        return self.pushes


@contextlib.asynccontextmanager
async def endpoint() -> AsyncIterator[Endpoint]:
    """An endpoint on a port of its own."""
    app = Endpoint()
    async with serving(app) as url:
        app.url = f"{url}/push?token=t"
        yield app
        app.hold.set()
