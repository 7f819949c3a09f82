"""Pushy's memory: held whole in the process, written through to the lab's file."""

import heapq
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from heliograph_lab.kernel import Kernel
from heliograph_lab.pushy.model import UNTRACKED, Device, Platform, Push
from heliograph_lab.state import Key, Put

_DEVICES = "pushy.devices"
_PUSHES = "pushy.pushes"
_PENDING = "pushy.pending"  # push id:token, a row for each recipient still waiting, so that a delivery writes one row


class PushyStore:
    """Devices, pushes and who still waits for which. Changes are durable when their call returns."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._devices: dict[str, Device] = {}
        self._owners: dict[tuple[str, str], str] = {}
        self._pushes: dict[str, Push] = {}
        self._waiting: dict[str, dict[str, None]] = {}  # push id -> tokens
        self._queues: dict[str, dict[str, None]] = {}  # token -> push ids, in sending order
        self._unsaved: set[str] = set()
        self._ends: list[tuple[int, str]] = []  # heap: when a push may be forgotten
        self._order = 0
        self._load()

    def now(self) -> int:
        """Unix seconds of the lab's clock."""
        return int(self._kernel.clock.now().timestamp())

    # ------------------------------------------------------------ devices

    async def register(self, api_key: str, owner: str, platform: Platform) -> str:
        """The token of this owner under this key: the same one each time."""
        token = self._owners.get((api_key, owner))
        if token is None:
            now = self.now()
            token = secrets.token_hex(15)
            device = Device(
                token=token,
                api_key=api_key,
                owner=owner,
                platform=platform,
                date=now,
                last_active=now,
                subscriptions=[],
            )
            self._hold_device(device)
            await self._kernel.state.put(_DEVICES, token, device)
        return token

    def device(self, api_key: str, token: str) -> Device | None:
        """The device with this token, if it belongs to the key."""
        device = self._devices.get(token)
        return device if device is not None and device.api_key == api_key else None

    def devices(self, api_key: str) -> list[Device]:
        """All devices of the key."""
        return [device for device in self._devices.values() if device.api_key == api_key]

    async def touch(self, token: str) -> None:
        """The device has been heard of just now."""
        device = self._devices[token]
        device.last_active = self.now()
        await self._kernel.state.put(_DEVICES, token, device)

    async def subscribe(self, device: Device, topics: list[str], *, wanted: bool) -> None:
        """Add the topics to the device's, or take them away."""
        kept = [topic for topic in device.subscriptions if topic not in topics]
        device.subscriptions = kept + list(dict.fromkeys(topics)) if wanted else kept
        await self._kernel.state.put(_DEVICES, device.token, device)

    # ------------------------------------------------------------ pushes

    async def add(self, push: Push, recipients: Iterable[str]) -> None:
        """Keep a push for these tokens. It is offered to nobody before it is on disk."""
        self._order += 1
        push.order = self._order
        tracked = [token for token in recipients if self._devices[token].platform not in UNTRACKED]
        puts: list[Put] = [(_PENDING, f"{push.id}:{token}", 1) for token in tracked]
        deletes: list[Key] = []
        if push.collapse_key is not None:
            changed, deletes = self._collapse(push, tracked)
            puts += changed
        if not tracked:
            push.delivered_at = max(push.date, push.due)
        self._hold_push(push, tracked)
        self._unsaved.add(push.id)
        await self._kernel.state.put_many([*puts, (_PUSHES, push.id, push)], deletes)
        self._unsaved.discard(push.id)

    def push(self, api_key: str, push_id: str) -> Push | None:
        """The push, if it belongs to the key and is not forgotten."""
        push = self._pushes.get(push_id)
        if push is None or push.api_key != api_key or push.forgotten_at() <= self.now():
            return None
        return push

    def waiting(self, push_id: str) -> list[str]:
        """The tokens that have not got it yet."""
        return list(self._waiting.get(push_id, ()))

    def queue(self, token: str) -> Iterator[Push]:
        """The pushes that wait for this token, oldest first, expired ones left out."""
        now = self.now()
        for push_id in self._queues.get(token, ()):
            push = self._pushes[push_id]
            if push.expiration > now:
                yield push

    def next(self, token: str) -> Push | None:
        """The push to deliver to this token now."""
        now = self.now()
        for push in self.queue(token):
            if push.id in self._unsaved:
                return None  # a moment's patience: what comes later must not overtake it
            if push.due <= now:
                return push
        return None

    async def delivered(self, push: Push, token: str) -> None:
        """This token has got it."""
        if token not in self._waiting.get(push.id, ()):
            return  # deleted or collapsed while it was under way
        puts = self._settle(push, token)
        await self._kernel.state.put_many(puts, [(_PENDING, f"{push.id}:{token}")])

    async def delete(self, push: Push) -> None:
        """Forget it: nobody gets it any more."""
        await self._kernel.state.put_many([], self._drop(push))

    async def forget(self) -> None:
        """Remove what the API no longer knows."""
        now = self.now()
        deletes: list[Key] = []
        while self._ends and self._ends[0][0] <= now:
            _, push_id = heapq.heappop(self._ends)
            push = self._pushes.get(push_id)
            if push is not None and push_id not in self._unsaved and push.forgotten_at() <= now:
                deletes += self._drop(push)
        if deletes:
            await self._kernel.state.put_many([], deletes)

    def scheduled(self) -> list[tuple[int, list[str]]]:
        """Pushes that are not due yet: when, and for whom."""
        now = self.now()
        return [(push.due, self.waiting(push.id)) for push in self._pushes.values() if push.due > now]

    # ------------------------------------------------------------ inside

    def _load(self) -> None:
        state = self._kernel.state
        for value in state.all(_DEVICES).values():
            self._hold_device(msgspec.convert(value, Device))
        tokens: dict[str, list[str]] = {}
        for key in state.all(_PENDING):
            push_id, _, token = key.partition(":")
            tokens.setdefault(push_id, []).append(token)
        pushes = [msgspec.convert(value, Push) for value in state.all(_PUSHES).values()]
        for push in sorted(pushes, key=lambda push: push.order):
            self._hold_push(push, tokens.get(push.id, []))
            self._order = push.order

    def _hold_device(self, device: Device) -> None:
        self._devices[device.token] = device
        self._owners[device.api_key, device.owner] = device.token

    def _hold_push(self, push: Push, tokens: list[str]) -> None:
        self._pushes[push.id] = push
        self._waiting[push.id] = dict.fromkeys(tokens)
        for token in tokens:
            self._queues.setdefault(token, {})[push.id] = None
        heapq.heappush(self._ends, (push.forgotten_at(), push.id))

    def _collapse(self, newer: Push, tokens: list[str]) -> tuple[list[Put], list[Key]]:
        puts: list[Put] = []
        deletes: list[Key] = []
        for token in tokens:
            for push_id in list(self._queues.get(token, ())):
                older = self._pushes[push_id]
                if older.collapse_key == newer.collapse_key and older.api_key == newer.api_key:
                    puts += self._settle(older, token)
                    deletes.append((_PENDING, f"{push_id}:{token}"))
        return puts, deletes

    def _settle(self, push: Push, token: str) -> list[Put]:
        """Nobody waits at this token any more; the last one starts the time until the push is forgotten."""
        self._waiting[push.id].pop(token, None)
        self._queues.get(token, {}).pop(push.id, None)
        if self._waiting[push.id]:
            return []
        push.delivered_at = self.now()
        heapq.heappush(self._ends, (push.forgotten_at(), push.id))
        return [(_PUSHES, push.id, push)]

    def _drop(self, push: Push) -> list[Key]:
        del self._pushes[push.id]
        tokens = self._waiting.pop(push.id, {})
        for token in tokens:
            self._queues.get(token, {}).pop(push.id, None)
        return [(_PUSHES, push.id), *((_PENDING, f"{push.id}:{token}") for token in tokens)]


def presence(device: Device, online: bool) -> dict[str, Any]:
    """A device's entry in the answer of the presence API."""
    return {"id": device.token, "online": online, "last_active": device.last_active}
