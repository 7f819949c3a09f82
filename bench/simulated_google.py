"""Google as a fan-out meets it: it answers after a while and counts what it is asked; its devices do what they get."""

from __future__ import annotations

import asyncio
import bisect
import random
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from heliograph.domain.devices import Device, Enterprise
from heliograph.domain.ladder import Command
from heliograph.ports.channel import (
    CancelRefused,
    CancelTaken,
    Gone,
    IssueAnswer,
    ListPage,
    Notification,
    NotTaken,
    Operations,
    Subscription,
    Taken,
    Toll,
    Unreachable,
)

_ANSWER_S = (0.08, 0.3)
_DEVICE_S = (1.0, 4.0)
_WINDOW_S = 60.0
_SOME = random.Random(3)  # the same run each time


class SimulatedGoogle:
    """The channel of every enterprise. Implements `ports.channel.ManagementChannel` and `Channels`."""

    project = "bench"

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._operations: dict[str, list[tuple[float, dict[str, Any]]]] = defaultdict(list)
        self._numbers = 0
        self.at: list[float] = []  # when each request came, refused ones apart
        self.kinds: defaultdict[str, int] = defaultdict(int)
        self.refused = 0
        self.issued: dict[str, float] = {}  # command → when its request came

    def busiest(self) -> int:
        """The most requests within any 60 s."""
        counts = (n + 1 - bisect.bisect_right(self.at, at - _WINDOW_S) for n, at in enumerate(self.at))
        return max(counts, default=0)

    async def _asked(self, kind: str) -> bool:
        """Whether the quota allows one more; the answer takes its time."""
        now = asyncio.get_running_loop().time()
        has_room = len(self.at) - bisect.bisect_right(self.at, now - _WINDOW_S) < self._per_minute
        if has_room:
            self.at.append(now)
            self.kinds[kind] += 1
        else:
            self.refused += 1
        await asyncio.sleep(_SOME.uniform(*_ANSWER_S))
        return has_room

    async def authorise(self) -> None:
        """Every key is good."""

    async def issue(
        self, device: Device, command: Command, params: Mapping[str, Any], deadline_s: float
    ) -> IssueAnswer:
        """See ports.channel."""
        now = asyncio.get_running_loop().time()
        if not await self._asked("issue"):
            return NotTaken("Google answered 429")
        self.issued[command.id] = now
        self._numbers += 1
        name = f"{device.external_name}/operations/{self._numbers}"
        operation = {"name": name, "metadata": {"type": command.type}}
        self._operations[str(device.external_name)].append((now + _SOME.uniform(*_DEVICE_S), operation))
        return Taken(name, dict(operation))

    async def operations(self, device: Device, toll: Toll | None = None) -> Operations | Gone | Unreachable:
        """See ports.channel."""
        if toll is not None and (refused := await toll()) is not None:
            return refused
        if not await self._asked("list"):
            return Unreachable("Google answered 429")
        return Operations(self._state(str(device.external_name)))

    def _state(self, name: str) -> list[dict[str, Any]]:
        now = asyncio.get_running_loop().time()
        return [op | ({"done": True} if done_at <= now else {}) for done_at, op in self._operations[name]]

    async def operation(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        """See ports.channel."""
        if not await self._asked("get"):
            return Unreachable("Google answered 429")
        known = {op["name"]: op for op in self._state(name.partition("/operations/")[0])}
        return known.get(name) or Gone("not found")

    async def device(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        """See ports.channel."""
        return {"name": name} if await self._asked("device") else Unreachable("Google answered 429")

    async def device_page(self, enterprise: str, page_token: str) -> ListPage | Gone | Unreachable:
        """See ports.channel."""
        return ListPage([]) if await self._asked("devices") else Unreachable(f"Google answered 429 for {enterprise}")

    async def cancel(self, name: str) -> CancelTaken | CancelRefused | Unreachable:
        """See ports.channel."""
        return CancelTaken() if await self._asked("cancel") else Unreachable(f"Google answered 429 for {name}")

    async def channel(self, organization_id: str, enterprise_id: str) -> SimulatedGoogle:
        """See ports.channel."""
        return self

    async def subscription(self, enterprise: Enterprise) -> Subscription | None:
        """See ports.channel."""
        return None

    def read_notification(self, message: Any) -> Notification:
        """See ports.channel."""
        raise AssertionError("Google tells nothing here")

    async def is_from_upstream(self, token: str, audience: str, email: str) -> bool:
        """See ports.channel."""
        return False

    def check_credentials(self, raw: bytes) -> bytes:
        """See ports.channel."""
        return raw
