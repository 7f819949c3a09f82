"""FCM's memory: registrations, and what waits for the devices that are offline."""

import secrets
import string
from typing import Any

import msgspec

from heliograph_lab.fcm.model import Kind, Message, Registration
from heliograph_lab.fcm.settings import FcmSettings
from heliograph_lab.kernel import Kernel
from heliograph_lab.state import Key

_REGISTRATIONS = "fcm.registrations"
_WAITING = "fcm.waiting"  # address:order, a row for each message
_SAFE = string.ascii_letters + string.digits + "-_"


class FcmStore:
    """Held whole in the process. Changes are durable when their call returns."""

    def __init__(self, kernel: Kernel, settings: FcmSettings) -> None:
        self._kernel = kernel
        self._settings = settings
        stored: dict[str, Any] = kernel.state.all(_REGISTRATIONS)
        self._registrations = {address: msgspec.convert(value, Registration) for address, value in stored.items()}
        self._owners = {(r.project, r.kind, r.owner): r.address for r in self._registrations.values() if not r.ended}
        self._waiting: dict[str, dict[int, Message]] = {}
        self._order = 0
        messages = [msgspec.convert(value, Message) for value in kernel.state.all(_WAITING).values()]
        for message in sorted(messages, key=lambda message: message.order):
            self._waiting.setdefault(message.address, {})[message.order] = message
            self._order = message.order

    def now(self) -> float:
        """Unix seconds of the lab's clock."""
        return self._kernel.clock.now().timestamp()

    def next_order(self) -> int:
        """Messages are numbered as they come."""
        self._order += 1
        return self._order

    # ------------------------------------------------------------ registrations

    def registration(self, address: str) -> Registration | None:
        """The record of a token or installation id."""
        return self._registrations.get(address)

    def registrations(self) -> list[Registration]:
        """All of them, ended ones included."""
        return list(self._registrations.values())

    async def register(self, project: str, owner: str, kind: Kind) -> str:
        """The address of this owner's app: the same each time, until it has ended."""
        address = self._owners.get((project, kind, owner))
        if address is None:
            address = _new_address(kind)
            await self.put(Registration(address=address, kind=kind, project=project, owner=owner))
        return address

    async def put(self, registration: Registration) -> None:
        """Take in a registration, or replace its record."""
        await self._kernel.state.put(_REGISTRATIONS, registration.address, registration)
        self._registrations[registration.address] = registration
        self._owners[registration.project, registration.kind, registration.owner] = registration.address

    async def end(self, registration: Registration) -> None:
        """The app is gone: messages to it get 404 from now on, and none waits any more."""
        ended = msgspec.structs.replace(registration, ended=True)
        waiting = self._waiting.pop(registration.address, {})
        gone = [_key(message) for message in waiting.values()]
        await self._kernel.state.put_many([(_REGISTRATIONS, ended.address, ended)], gone)
        self._registrations[ended.address] = ended
        self._owners.pop((ended.project, ended.kind, ended.owner), None)

    # ------------------------------------------------------------ what waits

    def waiting(self, address: str) -> list[Message]:
        """What this device will get, in the order of sending."""
        now = self.now()
        return [m for m in self._waiting.get(address, {}).values() if m.expiration is None or m.expiration > now]

    async def keep(self, message: Message) -> bool:
        """Have it wait; False when its time is over already. Over the limits others go, or all."""
        if not message.deleted and (message.expiration is None or message.expiration <= self.now()):
            return False
        waiting = self._waiting.setdefault(message.address, {})
        before = dict(waiting)
        current = [m for m in self.waiting(message.address) if m.order != message.order]
        waiting.clear()
        waiting.update({m.order: m for m in self._limited(current, message)})
        gone = [_key(m) for order, m in before.items() if order not in waiting]
        puts = [(*_key(m), m) for order, m in waiting.items() if order not in before]
        await self._kernel.state.put_many(puts, gone)
        return True

    async def taken(self, message: Message) -> None:
        """The device has got it."""
        if self._waiting.get(message.address, {}).pop(message.order, None) is not None:
            await self._kernel.state.delete(*_key(message))

    def _limited(self, current: list[Message], message: Message) -> list[Message]:
        if message.collapse_key is not None:
            kept = [m for m in current if m.collapse_key != message.collapse_key]
            keys = list(dict.fromkeys(m.collapse_key for m in kept if m.collapse_key is not None))
            surplus = keys[: max(0, len(keys) + 1 - self._settings.most_collapse_keys)]
            return sorted([*(m for m in kept if m.collapse_key not in surplus), message], key=lambda waits: waits.order)
        others = [m for m in current if m.collapse_key is None and not m.deleted]
        if len(others) < self._settings.most_pending or message.deleted:
            return sorted([*current, message], key=lambda waits: waits.order)
        word = Message(name="", address=message.address, order=message.order, deleted=True)
        return [*(m for m in current if m.collapse_key is not None), word]


def _key(message: Message) -> Key:
    return _WAITING, f"{message.address}:{message.order}"


def _new_address(kind: Kind) -> str:
    def some(length: int) -> str:
        return "".join(secrets.choice(_SAFE) for _ in range(length))

    # An installation id's first four bits are 0111, which base64 shows as c to f.
    fid = secrets.choice("cdef") + some(21)
    return fid if kind == "fid" else f"{fid}:APA91b{some(134)}"
