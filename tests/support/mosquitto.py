"""A real MQTT 5 broker (Debian's mosquitto) on loopback, that a test may kill and start again."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.child import Child
from tests.support.debian import ensure
from tests.support.ports import free_port

START_S = 20
RUNS = " running\n"
SERVER = "heliograph"
PREFIX = "heliograph"
# As docs/operations.md shows it: the server writes, and each device reads its own topics alone.
ACL = f"""user {SERVER}
topic write {PREFIX}/#

pattern read {PREFIX}/%u/+
"""
# With the defaults, what is queued for a device that is away would be lost with a broker that is killed.
DURABLE = "persistence true\npersistence_location {home}/\nautosave_on_changes true\nautosave_interval 1\n"


class Mosquitto:
    """One broker. Accounts: `heliograph`, which publishes, and each device's, by its id; `passwords` has them all.

    `settings` are lines of its own, `listener` such of its port.
    """

    def __init__(self, folder: Path, devices: list[str], settings: str = "", listener: str = "") -> None:
        self.folder, self.settings, self.listener = folder, settings, listener
        self.passwords = {user: secrets.token_hex(8) for user in [SERVER, *devices]}
        self.port = 0
        self._child = Child("mosquitto", folder, [ensure("mosquitto", "mosquitto"), "-c", str(folder / "broker.conf")])

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def account(self, user: str = SERVER) -> dict[str, Any]:
        """Settings of a provider account."""
        return {"url": self.url, "username": user, "password": self.passwords[user], "topicPrefix": PREFIX}

    def prepare(self) -> None:
        """Write its files: before the first start, and after a change of `passwords`."""
        passwords, acl = self.folder / "passwords", self.folder / "acl"
        passwords.write_text("".join(f"{user}:{hashed(word)}\n" for user, word in self.passwords.items()))
        acl.write_text(ACL)
        durable = DURABLE.format(home=self.folder)
        listener = f"listener {self.port} 127.0.0.1\n{self.listener}allow_anonymous false\nlog_type all\n"
        rules = f"{listener}password_file {passwords}\nacl_file {acl}\n"
        user = "user root\n" if os.geteuid() == 0 else ""
        (self.folder / "broker.conf").write_text(f"{rules}{user}{durable}{self.settings}\n")

    def start(self) -> None:
        """Start it, on the port that it had; the first time on a free one (a few tries: others look for one, too)."""
        for _ in range(1 if self.port else 5):
            port, self.port = self.port, self.port or free_port()
            self.prepare()
            before = self.log().count(RUNS)
            self._child.launch()
            if self._runs(before):
                return
            self._child.kill()
            self.port = port
        raise RuntimeError(f"mosquitto did not start:\n{self._child.complaints()}")

    def kill(self) -> None:
        """SIGKILL."""
        self._child.kill()

    def stop(self) -> None:
        """SIGTERM, as a service manager does it: it saves what it has."""
        self._child.end()

    def log(self) -> str:
        """All that it has written, over all starts."""
        return self._child.complaints() if (self.folder / "mosquitto.err").exists() else ""

    async def until_saved(self, text: bytes) -> None:
        """Wait until it lies on its disk for the next start: autosave is behind by a moment."""
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(FileNotFoundError):
                    if text in (self.folder / "mosquitto.db").read_bytes():
                        return
                await asyncio.sleep(0.05)

    async def until_logged(self, text: str, count: int = 1) -> None:
        """Wait until its log says so."""
        async with asyncio.timeout(30):
            while self.log().count(text) < count:  # noqa: ASYNC110 - a file offers no event
                await asyncio.sleep(0.02)

    def _runs(self, before: int) -> bool:
        """Whether it says that it listens. Connecting would tell nothing: another may have the port."""
        deadline = time.monotonic() + START_S
        process = self._child.process
        while process is not None and process.poll() is None and time.monotonic() < deadline:
            if self.log().count(RUNS) > before:
                return True
            time.sleep(0.01)
        return False

    def device(self, user: str, **more: Any) -> aiomqtt.Client:
        """A client that is not ours: a device's, with a session that lasts."""
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = 3600
        settings: dict[str, Any] = {
            "hostname": "127.0.0.1",
            "port": self.port,
            "username": user,
            "password": self.passwords[user],
            "identifier": user,
            "protocol": aiomqtt.ProtocolVersion.V5,
            "clean_start": False,
            "properties": session,
        }
        return aiomqtt.Client(**(settings | more))

    async def subscribe(self, user: str, topic: str) -> None:
        """Leave a session behind that takes what comes while its device is away."""
        async with self.device(user) as client:
            assert [code.value for code in await client.subscribe(topic, qos=1)] == [1]  # type: ignore[union-attr]


@contextlib.contextmanager
def mosquitto(folder: Path, devices: list[str], **more: str) -> Iterator[Mosquitto]:
    """A running broker. One that cannot be had is a failure, never a skip."""
    broker = Mosquitto(folder, devices, **more)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


def hashed(password: str) -> str:
    """A line of mosquitto's password file, as `mosquitto_passwd` writes it: PBKDF2 with SHA-512."""
    salt, rounds = secrets.token_bytes(12), 101
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"
