"""APNs' memory: device tokens, and the one notification that waits for each offline device and topic."""

import secrets
import time
from typing import Literal

import msgspec

from heliograph_lab.apns.model import Device, Notification
from heliograph_lab.kernel import Kernel

_DEVICES = "apns.devices"
_STORED = "apns.stored"  # by token: a token is one app on one device


class ApnsStore:
    """Held whole in the process. Changes are durable when their call returns."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        state = kernel.state
        self._devices = {token: msgspec.convert(value, Device) for token, value in state.all(_DEVICES).items()}
        self._owners = {(d.topic, d.owner): d.token for d in self._devices.values() if d.ended_at is None}
        self._stored = {token: msgspec.convert(value, Notification) for token, value in state.all(_STORED).items()}

    def now(self) -> float:
        """Unix seconds of the lab's clock."""
        return self._kernel.clock.now().timestamp()

    def device(self, token: str) -> Device | None:
        """The device token's record."""
        return self._devices.get(token)

    def devices(self) -> list[Device]:
        """All of them, ended ones included."""
        return list(self._devices.values())

    async def register(self, topic: str, owner: str) -> str:
        """The token of this owner's app: the same each time, until it has ended."""
        token = self._owners.get((topic, owner))
        if token is None:
            token = secrets.token_hex(32)
            await self.put(Device(token=token, topic=topic, owner=owner))
        return token

    async def put(self, device: Device) -> None:
        """Take in a token, or replace its record."""
        await self._kernel.state.put(_DEVICES, device.token, device)
        self._devices[device.token] = device
        self._owners[device.topic, device.owner] = device.token

    async def end(self, device: Device, reason: Literal["Unregistered", "ExpiredToken"]) -> None:
        """The app has gone from the device, or the token is too old: it is dead from now on."""
        if device.ended_at is not None:
            return
        ended = msgspec.structs.replace(device, ended_at=int(time.time() * 1000), ended=self.now(), reason=reason)
        await self._kernel.state.put_many([(_DEVICES, device.token, ended)], [(_STORED, device.token)])
        self._devices[device.token] = ended
        self._owners.pop((device.topic, device.owner), None)
        self._stored.pop(device.token, None)

    # ------------------------------------------------------------ what waits

    def stored(self, token: str) -> Notification | None:
        """What waits for this device, unless its time is over."""
        notification = self._stored.get(token)
        if notification is None or (notification.expiration or 0) <= self.now():
            return None
        return notification

    async def store(self, notification: Notification) -> bool:
        """Have it wait in place of what waited; False when it is not to be stored, or no longer."""
        if notification.expiration is None or notification.expiration <= self.now():
            return False
        self._stored[notification.token] = notification
        await self._kernel.state.put(_STORED, notification.token, notification)
        return True

    async def taken(self, notification: Notification) -> None:
        """The device has got it."""
        if self._stored.get(notification.token) == notification:
            del self._stored[notification.token]
            await self._kernel.state.delete(_STORED, notification.token)
