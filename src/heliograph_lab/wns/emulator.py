"""The emulator: token services and channels on one side, the devices' connections on the other."""

import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs, urlsplit

from heliograph_lab.kernel import Kernel
from heliograph_lab.lines import Lines
from heliograph_lab.service import ASGIApp
from heliograph_lab.wns import checks
from heliograph_lab.wns.api import Answer, Api, fault_body
from heliograph_lab.wns.auth import Bearer, read_token
from heliograph_lab.wns.model import Channel, Notification, Step, WnsError, Word
from heliograph_lab.wns.settings import WnsSettings
from heliograph_lab.wns.store import WnsStore

Deliver = Callable[[Notification], Awaitable[None]]  # returns once the device has it


class WnsEmulator:
    """Every package SID or client id is an app of its own; a channel belongs to one, and takes no other's token.

    `app` is complete: requests are recorded and faults applied. `base_url`: where `app` is served, which channel URIs
    begin with; set by whoever serves it. `sent` counts what became of accepted notifications.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.settings = kernel.settings.open("wns", WnsSettings())
        self.store = WnsStore(kernel, self.settings)
        self.base_url = ""
        self.sent = {"delivered": 0, "stored": 0, "dropped": 0}
        self._scripts: dict[str, deque[Step]] = {}
        self._minutes: dict[str, tuple[int, int]] = {}
        self._lines: Lines[Notification] = Lines(self._taken)
        self.app: ASGIApp = kernel.service("wns", Api(self.store, self.settings, self._push), fault_body)

    async def stop(self) -> None:
        """End every device's connection. What a device has not got waits for it, if it may."""
        for left in (await self._lines.stop()).values():
            await self._keep(left)

    # ------------------------------------------------------------ the devices' side

    async def register(self, app: str, owner: str) -> str:
        """The URI of this owner's channel; the same one until the channel ends, also after a restart."""
        return self.uri(await self.store.open(app, owner))

    def uri(self, channel: Channel) -> str:
        """Where notifications for a channel are sent to."""
        return f"{self.base_url}/?token={channel.id}"

    async def connect(self, uri: str, deliver: Deliver) -> None:
        """The device comes online: what waits is delivered in the order of sending, then what follows."""
        await self.disconnect(uri)
        channel_id = _id_in(uri)
        self._lines.connect(channel_id, deliver)
        for notification in self.store.waiting(channel_id):
            self._lines.offer(channel_id, notification)

    async def disconnect(self, uri: str) -> None:
        """The device goes offline. What it has not got waits for it, if it may."""
        await self._keep(await self._lines.disconnect(_id_in(uri)))

    def is_online(self, channel: Channel) -> bool:
        """Whether the device is connected."""
        return self._lines.is_online(channel.id)

    async def expire(self, channel: Channel) -> None:
        """The channel ends before its time."""
        await self._lines.disconnect(channel.id)
        await self.store.expire(channel)

    def script(self, channel: Channel, steps: list[Step]) -> None:
        """Have a channel answer so, one step after the other, then as usual again. In memory."""
        self._scripts[channel.id] = deque(steps)

    def scripted(self, channel: Channel) -> list[Step]:
        """What is left of a channel's script."""
        return list(self._scripts.get(channel.id, ()))

    # ------------------------------------------------------------ the senders' side

    async def _push(self, token: str, given: Mapping[str, str], body: bytes) -> Answer:
        bearer = self._bearer(given)
        channel = self._channel(bearer, token)
        wanted = checks.read(given, body)
        if self._over(f"app {bearer.app}", self.settings.app_per_minute):
            raise WnsError(406, "The cloud service exceeded its throttle limit", self.settings.retry_after)
        step = self._step(channel)
        if step is not None and step.status != 200:
            raise WnsError(step.status, step.description, step.retry_after)
        headers: dict[str, str] = {}
        if wanted.wants_status:
            headers["X-WNS-DeviceConnectionStatus"] = "connected" if self.is_online(channel) else "disconnected"
        word = await self._word(channel, wanted) if step is None else step.wns_status
        if word and (wanted.wants_status or self.settings.status_unasked):
            headers["X-WNS-Status"] = word
        if step is not None and step.retry_after is not None:
            headers["Retry-After"] = str(step.retry_after)
        return Answer(200, headers)

    def _bearer(self, headers: Mapping[str, str]) -> Bearer:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = read_token(token, self.store.now()) if scheme.lower() == "bearer" else None
        if bearer is None:
            raise WnsError(401, "The access token is missing, unknown or expired")
        return bearer

    def _channel(self, bearer: Bearer, token: str) -> Channel:
        channel = self.store.channel(token)
        if channel is None:
            raise WnsError(404, "The channel URI is not valid or is not recognized")
        if channel.app != bearer.app:
            raise WnsError(403, "Channel URL incompatible with caller app")
        if channel.expires <= self.store.now():
            raise WnsError(410, "The channel expired")
        return channel

    def _over(self, whose: str, most: int | None) -> bool:
        """Count one for this minute; whether there were too many."""
        minute = int(self.store.now() // 60)
        last, used = self._minutes.get(whose, (minute, 0))
        used = used + 1 if last == minute else 1
        self._minutes[whose] = (minute, used)
        return most is not None and used > most

    def _step(self, channel: Channel) -> Step | None:
        steps = self._scripts.get(channel.id)
        if not steps:
            return None
        steps[0].times -= 1
        return steps.popleft() if steps[0].times <= 0 else steps[0]

    async def _word(self, channel: Channel, wanted: checks.Wanted) -> Word:
        """Deliver it, have it wait, or drop it."""
        if self._over(f"channel {channel.id}", self.settings.channel_per_minute):
            return "channelthrottled"
        notification = Notification(
            id=secrets.token_hex(8).upper(),
            channel=channel.id,
            order=self.store.next_order(),
            kind=wanted.kind,
            body=wanted.body,
            expiration=None if wanted.ttl is None else self.store.now() + wanted.ttl,
            cached=wanted.cached,
        )
        if self._lines.offer(channel.id, notification):
            return "received"
        return "received" if await self._keep([notification]) else "dropped"

    async def _keep(self, notifications: list[Notification]) -> bool:
        """Have them wait; whether the last of them may, or is on its way after all."""
        kept = True
        for notification in notifications:
            if self._lines.offer(notification.channel, notification):  # the device has come online meanwhile
                continue
            kept = await self.store.keep(notification)
            self.sent["stored" if kept else "dropped"] += 1
        return kept

    async def _taken(self, _channel: str, notification: Notification) -> None:
        self.sent["delivered"] += 1
        await self.store.taken(notification)


def _id_in(uri: str) -> str:
    return parse_qs(urlsplit(uri).query).get("token", [""])[-1]
