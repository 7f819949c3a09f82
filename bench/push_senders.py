"""What a push costs without a server around it: our transport alone, and the libraries that others use.

Run as a process: `{"prepare": kind, "settings": …, "count": n}` first, then `{"send": true}` for each round.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bench.push_fake import address_of
from heliograph.domain.devices import COMMAND_APP, PushTarget
from heliograph.domain.fields import Fields
from heliograph.ports.push import ProviderPlugin, PushMessage, Tools
from heliograph.ports.transport import Answered, Endpoint, Outcome
from heliograph.providers import apns, fcm
from heliograph.providers.transport import Connections
from heliograph.system import SystemClock

PLUGINS: Mapping[str, ProviderPlugin] = {"apns": apns.PLUGIN, "fcm": fcm.PLUGIN}
TITLE, TEXT = "Maintenance", "This device restarts at 18:00. Save what you are working on."
LIFE_S = 24 * 3600
_AT_ONCE = 200
_PEER_AT_ONCE = 500  # as many as firebase-admin takes in one call
_TIMEOUT_S = 60.0

Send = Callable[[], Awaitable[int]]  # → how many were taken


@dataclass(slots=True)
class Recorder:
    """Takes down what a provider would send, and answers as its service does. Implements `ports.transport`."""

    endpoint: Endpoint | None = None
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def at(self, endpoint: Endpoint) -> Recorder:
        """See ports.transport."""
        self.endpoint = endpoint
        return self

    async def post(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Outcome:
        """See ports.transport."""
        del timeout_s
        self.requests.append((path, dict(headers), body))
        return Answered(200, {})

    def renew(self, began: int) -> bool:
        """See ports.transport."""
        del began
        return False

    async def close(self) -> None:
        """See ports.transport."""


def messages(count: int) -> Iterator[tuple[PushMessage, int]]:
    """The pushes that the server sends too, each with the number of its device."""
    for number in range(count):
        yield PushMessage(f"{number:024x}", "notification", LIFE_S, title=TITLE, body=TEXT), number


async def recorded(kind: str, settings: dict[str, Any], count: int) -> Recorder:
    """The requests of so many pushes, as the provider makes them; its access token is a real one."""
    recorder, plugin = Recorder(), PLUGINS[kind]
    provider = plugin.build(plugin.read_config(Fields(settings)), Tools(SystemClock(), recorder))
    for message, number in messages(count):
        await provider.send(message, PushTarget("", COMMAND_APP, kind, None, address_of(kind, number), 0, "token"))
    await provider.close()
    return recorder


async def _transport(recorder: Recorder) -> int:
    assert recorder.endpoint is not None
    connections = Connections(SystemClock())
    transport = connections.at(recorder.endpoint)
    left, taken = iter(recorder.requests), 0

    async def work() -> None:
        nonlocal taken
        for path, headers, body in left:
            answer = await transport.post(path, headers, body, _TIMEOUT_S)
            taken += isinstance(answer, Answered) and answer.status == 200

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
    await connections.close()
    return taken


def _firebase(settings: dict[str, Any], count: int) -> Send:
    """Google's own library; only where FCM is has to be told it. SSL_CERT_FILE names the authority."""
    import firebase_admin
    from firebase_admin import credentials, messaging

    warnings.simplefilter("ignore", DeprecationWarning)
    app = firebase_admin.initialize_app(credentials.Certificate(settings["serviceAccount"]))
    service = messaging._get_messaging_service(app)  # noqa: SLF001
    service._fcm_url = f"{settings['baseUrl']}/v1/projects/{app.project_id}/messages:send"  # noqa: SLF001
    data = fcm.data_of(next(messages(1))[0])
    made = [messaging.Message(token=address_of("fcm", number), data=data) for number in range(count)]

    async def send() -> int:
        taken = 0
        for at in range(0, count, _PEER_AT_ONCE):
            taken += (await messaging.send_each_async(made[at : at + _PEER_AT_ONCE], app=app)).success_count
        return taken

    return send


async def _aioapns(settings: dict[str, Any], count: int) -> Send:
    """The library that asyncio programs use for APNs; only where APNs is has to be told it."""
    from aioapns import APNs, NotificationRequest, PushType
    from aioapns.connection import APNsTLSClientProtocol

    class Fake(APNsTLSClientProtocol):  # type: ignore[misc]
        APNS_SERVER, APNS_PORT = endpoint_of(settings["baseUrl"])

    tls = ssl.create_default_context(cadata=settings["ca"])
    tls.set_alpn_protocols(["h2"])
    client = APNs(
        key=settings["key"],
        key_id=settings["keyId"],
        team_id=settings["teamId"],
        topic=settings["topic"],
        ssl_context=tls,
    )
    client.pool.protocol_class = Fake
    made = [
        NotificationRequest(
            path.rpartition("/")[2],
            msgspec.json.decode(body),
            notification_id=headers.get("apns-id"),
            time_to_live=LIFE_S,
            priority=int(headers["apns-priority"]),
            collapse_key=headers.get("apns-collapse-id"),
            push_type=PushType(headers["apns-push-type"]),
        )
        for path, headers, body in (await recorded("apns", settings, count)).requests
    ]

    async def send() -> int:
        taken = 0
        for at in range(0, count, _PEER_AT_ONCE):
            some = (client.send_notification(request) for request in made[at : at + _PEER_AT_ONCE])
            taken += sum(result.is_successful for result in await asyncio.gather(*some))
        return taken

    return send


def endpoint_of(url: str) -> tuple[str, int]:
    """Host and port of an address that names both."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    return address.hostname, address.port


async def _answers(lines: Iterator[bytes]) -> None:
    first = msgspec.json.decode(next(lines))
    kind, settings, count = first["prepare"], first["settings"], first["count"]
    sample: Any = None
    send: Send
    if kind == "firebaseAdmin":
        send = _firebase(settings, count)
    elif kind == "aioapns":
        send = await _aioapns(settings, count)
    else:
        recorder = await recorded(kind, settings, count)
        path, headers, body = recorder.requests[0]
        sample = {"path": path, "headers": headers, "body": body.decode()}
        send = lambda: _transport(recorder)  # noqa: E731
    _say({"sample": sample})
    for _ in lines:
        cpu, began = time.process_time(), time.monotonic()
        taken = await send()
        _say({"taken": taken, "cpuSeconds": time.process_time() - cpu, "seconds": time.monotonic() - began})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_answers(itertools.chain(sys.stdin.buffer)))
