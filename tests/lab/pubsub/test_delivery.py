"""Pulling and redelivery: on ours and, where it is installed, on Google's own emulator the same."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.lab.pubsub.rig import Json, Pubsub, running
from tests.support.direct import direct

PACKAGE = "google-cloud-cli-pubsub-emulator"


def jar() -> str | None:
    """Google's emulator, where a Debian package has brought it and Java is there."""
    if not shutil.which("dpkg") or not shutil.which("java"):
        return None
    listed = subprocess.run(["dpkg", "-L", PACKAGE], capture_output=True, text=True, check=False).stdout
    return next((line for line in listed.splitlines() if line.endswith("-all.jar")), None)


JAR = jar()
KINDS = ["ours", *(["google"] if JAR else [])]


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of Google's emulator, once it answers."""
    assert JAR is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("google") / "log"
    with log.open("wb") as output:
        command = ["java", "-jar", JAR, "--host=127.0.0.1", f"--port={port}"]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process, log)
        yield url
    finally:
        process.kill()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    with httpx2.Client(trust_env=False, timeout=60) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx2.TransportError):
                if client.get(f"{url}/v1/projects/p1/topics").status_code == 200:
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
                break
    raise AssertionError(log.read_text())


class World:
    """A Pub/Sub with names that no other test uses."""

    def __init__(self, pubsub: Pubsub) -> None:
        mark = uuid.uuid4().hex
        self.pubsub = pubsub
        self.topic = f"projects/p1/topics/t{mark}"
        self.subscription = f"projects/p1/subscriptions/s{mark}"

    async def publish(self, *texts: str) -> list[str]:
        return await self.pubsub.publish(*texts, topic=self.topic, notificationType="COMMAND")

    async def pull(self, most: int = 100, *, at_once: bool = True) -> list[Json]:
        return await self.pubsub.pull(most, at_once=at_once, subscription=self.subscription)

    async def pulled(self, count: int) -> list[Json]:
        """So many messages; a pull may bring fewer than there are."""
        received: list[Json] = []
        async with asyncio.timeout(60):
            while len(received) < count:
                received += await self.pull(at_once=False)
        return received


@pytest.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "google":
        url = request.getfixturevalue("google")
        async with direct(url, timeout=60) as http:
            world = World(Pubsub(http))
            await world.pubsub.set_up(world.topic, world.subscription)
            yield world
        return
    async with running(tmp_path / "lab") as rig:
        world = World(rig)
        await rig.set_up(world.topic, world.subscription)
        yield world


def texts(received: list[Json]) -> list[str]:
    return sorted(base64.b64decode(item["message"]["data"]).decode() for item in received)


async def test_what_is_published_is_pulled_with_its_attributes(world: World) -> None:
    ids = await world.publish("a", "b")
    received = await world.pulled(2)
    assert texts(received) == ["a", "b"]
    assert sorted(item["message"]["messageId"] for item in received) == sorted(ids)
    for item in received:
        assert set(item) == {"ackId", "message"}
        assert item["message"]["attributes"] == {"notificationType": "COMMAND"}
        assert item["message"]["publishTime"].endswith("Z")


async def test_what_is_acknowledged_does_not_come_again(world: World) -> None:
    await world.publish("a", "b")
    received = await world.pulled(2)
    first = next(item for item in received if texts([item]) == ["a"])
    second = next(item for item in received if texts([item]) == ["b"])
    await world.pubsub.acknowledge(first, subscription=world.subscription)
    await world.pubsub.modify(0, second, subscription=world.subscription)
    again = await world.pulled(1)
    assert texts(again) == ["b"]
    assert again[0]["message"]["messageId"] == second["message"]["messageId"]
    assert "deliveryAttempt" not in again[0]
    await world.pubsub.acknowledge(*again, subscription=world.subscription)
    assert await world.pull() == []


async def test_what_is_given_back_comes_until_it_is_acknowledged(world: World) -> None:
    (message_id,) = await world.publish("a")
    for _ in range(3):
        (received,) = await world.pulled(1)
        assert received["message"]["messageId"] == message_id
        await world.pubsub.modify(0, received, subscription=world.subscription)
    await world.pubsub.acknowledge(*await world.pulled(1), subscription=world.subscription)
    assert await world.pull() == []


async def test_a_pull_waits_for_a_message(world: World) -> None:
    waiting = asyncio.create_task(world.pulled(1))
    await asyncio.sleep(0)
    await world.publish("a")
    assert texts(await waiting) == ["a"]


async def test_a_subscription_gets_what_is_published_after_it_was_made(world: World) -> None:
    await world.publish("a")
    late = f"{world.subscription}-late"
    await world.pubsub.ask("PUT", late, {"topic": world.topic})
    await world.publish("b")
    assert texts(await world.pubsub.pull(at_once=False, subscription=late)) == ["b"]
    assert texts(await world.pulled(2)) == ["a", "b"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "projects/p1/topics/none", 404),
        ("GET", "projects/p1/subscriptions/none", 404),
        ("POST", "projects/p1/subscriptions/none:pull", 404),
        ("PUT", "{topic}", 409),
        ("PUT", "{subscription}", 409),
    ],
)
async def test_refusals(world: World, method: str, path: str, status: int) -> None:
    bodies = {"none:pull": {"maxMessages": 1, "returnImmediately": True}, "{subscription}": {"topic": world.topic}}
    body = next((body for end, body in bodies.items() if path.endswith(end)), None if method == "GET" else {})
    path = path.format(topic=world.topic, subscription=world.subscription)
    answer = await world.pubsub.ask(method, path, body, status=status)
    assert answer["error"]["code"] == status
    assert answer["error"]["status"] == {404: "NOT_FOUND", 409: "ALREADY_EXISTS"}[status]
