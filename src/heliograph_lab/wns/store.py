"""WNS's memory: held whole in the process, written through to the lab's file."""

import secrets
from collections.abc import Mapping

import msgspec

from heliograph_lab.kernel import Kernel
from heliograph_lab.state import Key
from heliograph_lab.wns.model import Channel, Notification
from heliograph_lab.wns.settings import WnsSettings

_CHANNELS = "wns.channels"
_WAITING = "wns.waiting"
_APPS = "wns.apps"


class WnsStore:
    """Channels, what waits for their devices, and the secrets of apps. Changes are durable when their call returns."""

    def __init__(self, kernel: Kernel, settings: WnsSettings) -> None:
        self._kernel, self._settings = kernel, settings
        state = kernel.state
        channels = [msgspec.convert(value, Channel) for value in state.all(_CHANNELS).values()]
        self._channels = {channel.id: channel for channel in channels}
        waiting = [msgspec.convert(value, Notification) for value in state.all(_WAITING).values()]
        self._waiting: dict[str, list[Notification]] = {}
        for notification in sorted(waiting, key=lambda one: one.order):
            self._waiting.setdefault(notification.channel, []).append(notification)
        self._order = max((one.order for one in waiting), default=0)
        self._apps: dict[str, str] = state.all(_APPS)

    def now(self) -> float:
        """Unix seconds of the lab's clock."""
        return self._kernel.clock.now().timestamp()

    @property
    def apps(self) -> Mapping[str, str]:
        """The secrets of the apps that have one."""
        return self._apps

    async def put_apps(self, apps: dict[str, str]) -> None:
        """These apps and no others have a secret of their own."""
        gone = [(_APPS, app) for app in self._apps if app not in apps]
        await self._kernel.state.put_many([(_APPS, app, secret) for app, secret in apps.items()], gone)
        self._apps = dict(apps)

    # ------------------------------------------------------------ channels

    async def open(self, app: str, owner: str) -> Channel:
        """The owner's channel: the same one until it ends."""
        now = self.now()
        for known in self._channels.values():
            if (known.app, known.owner) == (app, owner) and known.expires > now:
                return known
        expires = now + self._settings.channel_seconds
        channel = Channel(id=secrets.token_urlsafe(48), app=app, owner=owner, opened=now, expires=expires)
        self._channels[channel.id] = channel
        await self._kernel.state.put(_CHANNELS, channel.id, channel)
        return channel

    async def expire(self, channel: Channel) -> None:
        """The channel ends now, and with it what waits there."""
        channel.expires = self.now()
        left = self._waiting.pop(channel.id, [])
        await self._kernel.state.put_many([(_CHANNELS, channel.id, channel)], [_key(one) for one in left])

    def channel(self, channel_id: str) -> Channel | None:
        """One channel, an ended one too."""
        return self._channels.get(channel_id)

    def channels(self) -> list[Channel]:
        """All channels, ended ones too, in the order of their opening."""
        return sorted(self._channels.values(), key=lambda channel: channel.opened)

    # ------------------------------------------------------------ notifications

    def next_order(self) -> int:
        """Where a new notification stands."""
        self._order += 1
        return self._order

    async def keep(self, notification: Notification) -> bool:
        """Have it wait for the device, in place of older ones that have no room; whether it may."""
        most = self._settings.toasts_kept if notification.kind == "toast" else int(notification.cached)
        if most == 0:
            return False
        queue = self._waiting.setdefault(notification.channel, [])
        if notification in queue:
            return True  # it was being delivered when the device went offline
        # What was on its way when the device went offline may be older than what waits.
        queue.append(notification)
        queue.sort(key=lambda one: one.order)
        alike = [one for one in queue if one.kind == notification.kind]
        gone = alike[:-most]
        self._waiting[notification.channel] = [one for one in queue if one not in gone]
        await self._kernel.state.put_many([(*_key(notification), notification)], [_key(one) for one in gone])
        return notification not in gone

    def waiting(self, channel_id: str) -> list[Notification]:
        """What waits for the device, oldest first."""
        now = self.now()
        queue = self._waiting.get(channel_id, [])
        return [one for one in queue if one.expiration is None or one.expiration > now]

    async def taken(self, notification: Notification) -> None:
        """The device has it."""
        queue = self._waiting.get(notification.channel, [])
        if notification in queue:
            queue.remove(notification)
            await self._kernel.state.put_many([], [_key(notification)])


def _key(notification: Notification) -> Key:
    return _WAITING, f"{notification.channel}:{notification.id}"
