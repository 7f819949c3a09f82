"""A whole lab with an enterprise whose notifications go to a topic that somebody pulls."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2

from heliograph_lab.pubsub.publisher import PUBLISHER
from heliograph_lab.serve import Lab, LabOptions
from tests.lab.pubsub.rig import TOPIC, Json, Pubsub
from tests.support.direct import direct

ENTERPRISE = "enterprises/LC1"
EVERY = ["COMMAND", "STATUS_REPORT", "ENROLLMENT", "USAGE_LOGS"]
GRANT = {"bindings": [{"role": "roles/pubsub.publisher", "members": [PUBLISHER]}]}


def device(name: str, *, online: bool = True, **amapi: Any) -> Json:
    """An Android 16 device, fully managed."""
    amapi = {"name": f"{ENTERPRISE}/devices/{name}", "apiLevel": 36, **amapi}
    return {
        "deviceId": name,
        "name": name,
        "platform": "android",
        "serialNumber": name,
        "online": online,
        "amapi": amapi,
    }


class Notification:
    """A received message; `resource` is its decoded data."""

    def __init__(self, received: Json) -> None:
        self.received = received
        self.message: Json = received["message"]
        self.kind: str = self.message["attributes"]["notificationType"]

    @property
    def resource(self) -> Json:
        """The data as JSON."""
        decoded: Json = json.loads(base64.b64decode(self.message["data"], validate=True))
        return decoded


class World:
    """The lab and its clients."""

    def __init__(
        self, lab: Lab, pubsub: httpx2.AsyncClient, amapi: httpx2.AsyncClient, control: httpx2.AsyncClient
    ) -> None:
        self.lab = lab
        self.pubsub = Pubsub(pubsub)
        self.amapi = amapi
        self._control = control

    async def control(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """One call of the control API."""
        answer = await self._control.request(method, path, **({} if body is None else {"json": body}))
        assert answer.status_code == status, answer.text
        return answer.json()

    async def google(self, method: str, path: str, body: Any = None, **query: Any) -> Json:
        """One call of the AMAPI emulator."""
        content = {} if body is None else {"json": body}
        answer = await self.amapi.request(method, f"/v1/{path}", params=query or None, **content)
        assert answer.status_code == 200, answer.text
        decoded: Json = answer.json()
        return decoded

    async def enable(self, *types: str, topic: str = TOPIC) -> None:
        """The enterprise wants notifications of these types."""
        await self.google("PATCH", ENTERPRISE, {"pubsubTopic": topic, "enabledNotificationTypes": list(types)})

    async def issue(self, name: str = "d1", kind: str = "LOCK", **more: Any) -> str:
        """The name of a new operation."""
        body = {"type": kind, **more}
        operation: str = (await self.google("POST", f"{ENTERPRISE}/devices/{name}:issueCommand", body))["name"]
        return operation

    async def done(self, name: str = "d1", kind: str = "LOCK", **more: Any) -> str:
        """The name of a new operation that has ended."""
        operation = await self.issue(name, kind, **more)
        await self.ended(operation)
        return operation

    async def ended(self, operation: str) -> None:
        """Wait until the operation has ended."""
        async with asyncio.timeout(30):
            while not (await self.google("GET", operation)).get("done"):  # noqa: ASYNC110 - as a client has to
                await asyncio.sleep(0.005)

    async def received(self, count: int, *, acknowledge: bool = True) -> list[Notification]:
        """So many notifications, in the order in which they come."""
        found: list[Json] = []
        async with asyncio.timeout(30):
            while len(found) < count:
                some = await self.pubsub.pull(count - len(found), at_once=False)
                if acknowledge and some:
                    await self.pubsub.acknowledge(*some)
                found += some
        return [Notification(item) for item in found]

    async def nothing(self) -> None:
        """Nothing more comes: a message by hand, which comes last, is the only one."""
        (message_id,) = await self.pubsub.publish("end", notificationType="END")
        (last,) = await self.received(1)
        assert last.message["messageId"] == message_id

    async def log(self) -> list[Json]:
        """What the publisher did."""
        items: list[Json] = (await self.control("GET", "/notifications"))["items"]
        return items


@contextlib.asynccontextmanager
async def lab(directory: Path) -> AsyncIterator[World]:
    """A lab on this directory, without any set-up."""
    running = Lab(LabOptions(state_dir=directory))
    await running.start()
    headers = {"authorization": "Bearer any"}
    try:
        async with (
            direct(running.urls["pubsubUrl"], timeout=60) as pubsub,
            direct(running.urls["amapiUrl"], headers=headers) as amapi,
            direct(running.urls["controlUrl"]) as control,
        ):
            yield World(running, pubsub, amapi, control)
    finally:
        await running.stop()


async def furnish(world: World) -> None:
    """Topic, grant, subscription, two devices, and an enterprise that wants everything."""
    await world.pubsub.set_up()
    await world.pubsub.ask("POST", f"{TOPIC}:setIamPolicy", {"policy": GRANT})
    await world.control("PUT", "/fleet", [device("d1"), device("d2", online=False)])
    await world.enable(*EVERY)
