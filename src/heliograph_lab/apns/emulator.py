"""The emulator: the provider API on one side, the devices' connections on the other."""

import hashlib
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from heliograph_lab.apns import checks
from heliograph_lab.apns.auth import ProviderTokens, certificate_topic, require_topic
from heliograph_lab.apns.errors import ApnsError, usual_reason
from heliograph_lab.apns.model import Device, Key, Notification
from heliograph_lab.apns.settings import ApnsSettings
from heliograph_lab.apns.store import ApnsStore
from heliograph_lab.http2 import Answer, Authority, Outcome, Peer, Request, Server
from heliograph_lab.http2.rules import Rules
from heliograph_lab.http2.tls import trust
from heliograph_lab.kernel import Kernel
from heliograph_lab.lines import Lines

Deliver = Callable[[Notification], Awaitable[None]]  # returns once the device has it
_TRUSTED = "apns.trusted"
NAMES = ("api.push.apple.com", "api.sandbox.push.apple.com", "api.development.push.apple.com")


class ApnsEmulator:
    """`server` is complete: requests are recorded, faults applied, requests counted by `apns-id`.

    `sent` counts what became of accepted notifications: delivered, stored, dropped.
    """

    def __init__(self, kernel: Kernel, authority: Authority) -> None:
        self.settings = kernel.settings.open("apns", ApnsSettings())
        self.store = ApnsStore(kernel)
        self.tokens = ProviderTokens(kernel, self.settings)
        self.sent = {"delivered": 0, "stored": 0, "dropped": 0}
        self._state = kernel.state
        self._lines: Lines[Notification] = Lines(self._taken)
        self.server = Server(
            self._handle,
            authority.server_context(NAMES),
            identify=lambda request: request.headers.get("apns-id"),
            script=Rules(kernel, "apns", self._fault),
            greet=lambda peer: peer.change(max_concurrent_streams=self.settings.streams_before_token),
        )

        for pem in kernel.state.all(_TRUSTED).values():
            trust(self.server.tls, pem)

    async def trust(self, pem: str) -> None:
        """Accept senders that show this certificate, or one of this authority; kept. ValueError for what is none."""
        try:
            trust(self.server.tls, pem)
        except (ssl.SSLError, ValueError) as error:
            raise ValueError(f"pem: {error}") from None
        await self._state.put(_TRUSTED, hashlib.sha256(pem.encode()).hexdigest(), pem)

    async def stop(self) -> None:
        """End every connection, of senders and devices. What devices have not got waits for them, if it may."""
        await self.server.stop()
        for left in (await self._lines.stop()).values():
            await self._keep(left)

    # ------------------------------------------------------------ the devices' side

    async def register(self, topic: str, owner: str) -> str:
        """A device token of this app (64 hexadecimal digits); the same for the same owner until it ends."""
        return await self.store.register(topic, owner)

    async def end(self, token: str, reason: Literal["Unregistered", "ExpiredToken"] = "Unregistered") -> None:
        """The app has been removed, or its token has grown too old: pushes to it get 410."""
        device = self.store.device(token)
        if device is None:
            raise LookupError(f"no device token {token}")
        await self._lines.disconnect(token)
        await self.store.end(device, reason)

    async def connect(self, token: str, deliver: Deliver) -> None:
        """The device comes online: what was stored is delivered, then what follows, in order."""
        await self.disconnect(token)
        self._lines.connect(token, deliver)
        stored = self.store.stored(token)
        if stored is not None:
            self._lines.offer(token, stored)

    async def disconnect(self, token: str) -> None:
        """The device goes offline. Of what it has not got, the newest that may be stored waits for it."""
        await self._keep(await self._lines.disconnect(token))

    def is_online(self, token: str) -> bool:
        """Whether the device is connected."""
        return self._lines.is_online(token)

    # ------------------------------------------------------------ the senders' side

    def _handle(self, request: Request) -> Outcome | Awaitable[Outcome]:
        message = str(uuid.uuid4())
        try:
            token = checks.device_token(request)
            certificate, key = self._authorized(request)
            message = checks.message_id(request)
            topic = checks.topic(request, certificate)
            require_topic(topic, certificate, key)
            store = self.settings.store_without_expiration
            notification = checks.notification(request, message, token, topic, self.store.now(), store=store)
            device = self._device(token, topic)
        except ApnsError as error:
            return _refused(error.status, error.reason, message, error.timestamp)
        answer = Answer(200, self._headers(message))
        if device is None or device.ended_at is not None:
            self.sent["dropped"] += 1
            return answer
        if self._lines.offer(token, notification):
            return answer
        return self._answer_when_stored(notification, answer)

    def _authorized(self, request: Request) -> tuple[str | None, Key | None]:
        key: Key | None = None
        certificate = certificate_topic(request.peer)
        if certificate is None:
            key = _as_first_shown(request.peer, self.tokens.check(request.headers.get("authorization", "")))
        if "apns.known" not in request.peer.notes:
            request.peer.notes["apns.known"] = True
            if self.settings.streams != self.settings.streams_before_token:
                request.peer.change(max_concurrent_streams=self.settings.streams)
        return certificate, key

    def _device(self, token: str, topic: str) -> Device | None:
        device = self.store.device(token)
        if device is None:
            if self.settings.unknown_tokens:
                return None
            raise ApnsError("BadDeviceToken")
        if device.topic != topic:
            raise ApnsError("DeviceTokenNotForTopic")
        if device.ended is not None and self.store.now() - device.ended >= self.settings.gone_after_seconds:
            raise ApnsError(device.reason, device.ended_at)
        return device

    def _headers(self, message: str) -> tuple[tuple[str, str], ...]:
        unique = (("apns-unique-id", str(uuid.uuid4())),) if self.settings.sandbox else ()
        return (("apns-id", message), *unique)

    def _fault(self, request: Request, status: int, reason: str | None) -> Answer:
        message = request.headers.get("apns-id") or str(uuid.uuid4())
        if status < 300:
            return Answer(status, self._headers(message))
        # The timestamp of a real 410 is compared with times of the sender, so it is no lab time either.
        timestamp = int(time.time() * 1000) if status == 410 else None
        return _refused(status, reason or usual_reason(status), message, timestamp)

    async def _answer_when_stored(self, notification: Notification, answer: Answer) -> Outcome:
        await self._keep([notification])
        return answer

    async def _keep(self, notifications: list[Notification]) -> None:
        for notification in notifications:
            if not self._lines.offer(notification.token, notification):  # it may have come online meanwhile
                stored = await self.store.store(notification)
                self.sent["stored" if stored else "dropped"] += 1

    async def _taken(self, _token: str, notification: Notification) -> None:
        self.sent["delivered"] += 1
        await self.store.taken(notification)


def _as_first_shown(peer: Peer, key: Key | None) -> Key | None:
    """The key as it was at its first push over this connection: Apple looks topics up then, and never again."""
    shown: dict[str, Key] = peer.notes.setdefault("apns.keys", {})
    return None if key is None else shown.setdefault(key.key_id, key)


def _refused(status: int, reason: str, message: str, timestamp: int | None) -> Answer:
    body: dict[str, str | int] = {"reason": reason}
    if timestamp is not None:
        body["timestamp"] = timestamp
    return Answer(status, (("apns-id", message), ("content-type", "application/json")), msgspec.json.encode(body))
