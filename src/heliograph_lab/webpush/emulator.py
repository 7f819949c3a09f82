"""The emulator: the service on one side, the devices' connections on the other."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from heliograph_lab.kernel import Kernel
from heliograph_lab.lines import Lines
from heliograph_lab.service import ASGIApp
from heliograph_lab.webpush import checks
from heliograph_lab.webpush.api import Api, fault_body
from heliograph_lab.webpush.model import Message
from heliograph_lab.webpush.store import WebPushStore


@dataclass(frozen=True)
class Delivery:
    """A push as the app gets it: decrypted. `payload` None = it is no JSON object; unix seconds of the lab's clock."""

    id: str
    payload: dict[str, Any] | None
    expiration: int


Deliver = Callable[[Delivery], Awaitable[None]]  # returns once the device has the push durably


class WebPushEmulator:
    """`app` is complete: requests are recorded and faults applied. `url` is where it is reached, without a path."""

    def __init__(self, kernel: Kernel) -> None:
        self.url = ""
        self.store = WebPushStore(kernel)
        self._lines: Lines[Message] = Lines(self._taken)
        self.app: ASGIApp = kernel.service("webpush", Api(self.store, lambda: self.url, self._offer), fault_body)

    async def stop(self) -> None:
        """End every device's connection."""
        await self._lines.stop()

    async def subscribe(self, owner: str, vapid_key: str = "") -> str:
        """An app's subscription, as JSON: the same one for the same owner and key, also after a restart."""
        return (await self.store.subscribe(owner, vapid_key)).shown(self.url)

    async def connect(self, token: str, deliver: Deliver) -> None:
        """The device with this subscription comes online: what waits is delivered in order, then what follows."""
        id_ = _id_of(token)
        await self._lines.disconnect(id_)

        async def hand_over(message: Message) -> None:
            subscription = self.store.subscription(message.subscription)
            if subscription is not None and self.store.waits(message.id):  # else withdrawn, replaced or too late
                text = checks.decrypted(message.body, subscription)
                await deliver(Delivery(message.id, _object(text), message.expiration))

        self._lines.connect(id_, hand_over)
        for message in self.store.waiting(id_):
            self._lines.offer(id_, message)

    async def disconnect(self, token: str) -> None:
        """The device goes offline. What it has not got still waits."""
        await self._lines.disconnect(_id_of(token))

    def is_online(self, subscription_id: str) -> bool:
        """Whether the device is connected."""
        return self._lines.is_online(subscription_id)

    async def _offer(self, message: Message) -> None:
        if message.expiration <= message.date:  # TTL 0: now or never
            if not self.is_online(message.subscription):
                return
            message.expiration = message.date + 60  # it is on its way
        await self.store.add(message)
        self._lines.offer(message.subscription, message)

    async def _taken(self, _subscription_id: str, message: Message) -> None:
        await self.store.remove(message.id)


def _id_of(token: str) -> str:
    return str(msgspec.json.decode(token)["endpoint"]).rpartition("/")[2]


def _object(text: bytes | None) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(text or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
