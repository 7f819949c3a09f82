"""The way to Google that every use case takes: a management channel within its project's quota."""

from collections.abc import Mapping
from typing import Any

from heliograph.app.quota import Quota
from heliograph.app.services import Services
from heliograph.domain.devices import Device
from heliograph.domain.ladder import Command
from heliograph.ports.channel import (
    CancelRefused,
    CancelTaken,
    Gone,
    IssueAnswer,
    ManagementChannel,
    NotTaken,
    Operations,
    Unreachable,
)

OUT_OF_QUOTA = "the quota of requests is used up for now"


class MeteredChannel:
    """A management channel whose every request takes a token. Implements `ports.channel.ManagementChannel`."""

    def __init__(self, channel: ManagementChannel, quota: Quota | None, priority: int) -> None:
        self._channel, self._quota, self._priority = channel, quota, priority
        self.project = channel.project
        self._paid = 0

    async def prepare(self) -> bool:
        """Take the token of the next request now, before something is begun that must not wait."""
        if not self._paid and await self._admitted():
            self._paid = 1
        return bool(self._paid)

    async def _admitted(self) -> bool:
        if self._paid:
            self._paid -= 1
            return True
        return self._quota is None or await self._quota.take(self.project, self._priority)

    async def issue(
        self, device: Device, command: Command, params: Mapping[str, Any], deadline_s: float
    ) -> IssueAnswer:
        """See ports.channel."""
        if not await self._admitted():
            return NotTaken(OUT_OF_QUOTA)
        return await self._channel.issue(device, command, params, deadline_s)

    async def operations(self, device: Device) -> Operations | Gone | Unreachable:
        """See ports.channel."""
        return await self._channel.operations(device) if await self._admitted() else Unreachable(OUT_OF_QUOTA)

    async def devices(self, enterprise: str) -> list[dict[str, Any]] | Gone | Unreachable:
        """See ports.channel."""
        return await self._channel.devices(enterprise) if await self._admitted() else Unreachable(OUT_OF_QUOTA)

    async def device(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        """See ports.channel."""
        return await self._channel.device(name) if await self._admitted() else Unreachable(OUT_OF_QUOTA)

    async def operation(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        """See ports.channel."""
        return await self._channel.operation(name) if await self._admitted() else Unreachable(OUT_OF_QUOTA)

    async def cancel(self, name: str) -> CancelTaken | CancelRefused | Unreachable:
        """See ports.channel."""
        return await self._channel.cancel(name) if await self._admitted() else Unreachable(OUT_OF_QUOTA)


async def google(s: Services, organization_id: str, enterprise_id: str, priority: int) -> MeteredChannel | None:
    """The channel of an enterprise within its project's quota; None when it has no usable credentials."""
    channel = await s.channels.channel(organization_id, enterprise_id)
    return None if channel is None else MeteredChannel(channel, s.quota, priority)
