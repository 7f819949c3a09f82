"""Sygnal, the push gateway of Matrix, on the same APNs: HTTP in, HTTP/2 out, and no database between.

It is on no package index: `HELIOGRAPH_BENCH_SYGNAL` names a checkout of it with its dependencies in `.venv`.
"""

from __future__ import annotations

import base64
import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench import processes, push_fake, sygnal_peer
from bench.acknowledged import Creator
from bench.http_load import Connection, post
from bench.processes import free_port, wait_until_open
from bench.push_senders import TEXT, TITLE, endpoint_of

VARIABLE = "HELIOGRAPH_BENCH_SYGNAL"
KINDS = ("apns",)
"""The services that it is measured with; to FCM it speaks HTTP/1.1, which the lab's does not."""
LOGGING = {"sygnal": False, "sygnalQuiet": True}
"""Its name in the figures: as its sample configuration logs (three lines a push), and with warnings only, as ours."""
_HOST, _APP = "127.0.0.1", "com.example.agent"
_PATH = "/_matrix/push/v1/notify"


@dataclass(frozen=True, slots=True)
class Sygnal:
    """One that runs."""

    port: int
    pid: int


class Notifier(Creator):
    """Sends notifications, each of which must be taken by the service before it is answered."""

    def _took(self, connection: Connection, body: bytes) -> bool:
        """See Creator."""
        return bool(msgspec.json.decode(body) == {"rejected": []})


def checkout() -> Path | None:
    """Where it is; None where nobody has said so. FileNotFoundError where nothing of the kind is there."""
    name = os.environ.get(VARIABLE)
    if not name:
        return None
    found = Path(name).resolve()
    for needed in (_python(found), sygnal_peer.sample(found)):
        if not needed.exists():
            raise FileNotFoundError(f"{VARIABLE}: there is no {needed}")
    return found


def _python(found: Path) -> Path:
    return found / ".venv" / "bin" / "python"


def why_not(kind: str) -> str:
    """What would have to be otherwise for it to be measured with a service."""
    if kind not in KINDS:
        return f"only with {' and '.join(KINDS)}"
    return f"{VARIABLE} names no folder with a checkout of it and its .venv"


@contextlib.contextmanager
def running(found: Path, folder: Path, name: str, fake: push_fake.Fake) -> Iterator[Sygnal]:
    """Run it on the lab's APNs, with its Python and its sample configuration."""
    work = folder / name
    work.mkdir()
    log, plan, port = work / "stderr.log", work / "plan.json", free_port()
    plan.write_bytes(msgspec.json.encode(_plan(found, work, fake, port, quiet=LOGGING[name])))
    command = [str(_python(found)), sygnal_peer.__file__, str(plan)]
    # It would go through a proxy even to this machine.
    environment = {key: value for key, value in os.environ.items() if key.upper() != "HTTPS_PROXY"}
    process = processes.start(command, log, cwd=work, env=environment)
    try:
        wait_until_open(port, process, log)
        yield Sygnal(port, process.pid)
    finally:
        processes.stop(process)


def _plan(found: Path, work: Path, fake: push_fake.Fake, port: int, *, quiet: bool) -> dict[str, Any]:
    settings = fake.settings("apns")
    key = work / "key.p8"
    key.write_text(settings["key"])
    app = {"type": "apns", "keyfile": str(key), "key_id": settings["keyId"], "team_id": settings["teamId"]}
    host, apns_port = endpoint_of(settings["baseUrl"])
    return {
        "checkout": str(found),
        "port": port,
        "quiet": quiet,
        "apps": {_APP: app | {"topic": settings["topic"]}},
        "apns": {"host": host, "port": apns_port, "ca": settings["ca"]},
    }


async def send(sygnal: Sygnal, count: int, devices: int) -> dict[str, float]:
    """Send so many over HTTP, one device each, as our server gets them: its CPU, and the time until the last answer."""
    notifier = Notifier([post(_PATH, _HOST, "", _body(number % devices)) for number in range(count)])
    meter, began = processes.CpuMeter.of(sygnal.pid), time.monotonic()
    await notifier.run(_HOST, sygnal.port)
    return {"seconds": time.monotonic() - began, "cpuSeconds": meter.seconds()}


def _body(number: int) -> bytes:
    """A message in a room, with the texts that our pushes have."""
    token = base64.b64encode(bytes.fromhex(push_fake.address_of("apns", number))).decode()
    notification = {
        "event_id": f"$event{number}:example.org",
        "room_id": "!room:example.org",
        "type": "m.room.message",
        "sender": "@operator:example.org",
        "sender_display_name": TITLE,
        "prio": "high",
        "content": {"msgtype": "m.text", "body": TEXT},
        "counts": {"unread": 1},
        "devices": [{"app_id": _APP, "pushkey": token, "pushkey_ts": 1_767_225_600, "data": {}}],
    }
    return msgspec.json.encode({"notification": notification})
