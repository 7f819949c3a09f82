"""The way to Google that every use case takes: a management channel within its project's quota."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from heliograph.app.look_pauses import Party
from heliograph.app.quota import PATIENCE_S, Quota
from heliograph.app.services import Services
from heliograph.domain.devices import Device
from heliograph.domain.ladder import Command
from heliograph.ports.channel import (
    REFUSALS,
    TOO_MANY,
    CancelRefused,
    CancelTaken,
    Gone,
    IssueAnswer,
    ListPage,
    ManagementChannel,
    NotTaken,
    Operations,
    Toll,
    Unreachable,
)

MAX_PAGES = 10_000
OUT_OF_QUOTA = "the quota of requests is used up for now"
NO_TOKEN = Unreachable(OUT_OF_QUOTA, status=TOO_MANY)
"""Our own quota has none left: Google was not asked."""


class MeteredChannel:
    """A management channel whose every request takes a token. Implements `ports.channel.ManagementChannel`.

    `spent` = the tokens that its requests have taken.
    """

    def __init__(
        self,
        channel: ManagementChannel,
        enterprise_id: str,
        quota: Quota | None,
        priority: int,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._channel, self._quota, self._priority, self._patience_s = channel, quota, priority, patience_s
        self.project, self.enterprise_id = channel.project, enterprise_id
        self._paid = self.spent = 0
        self._unproved: Unreachable | None = None

    @property
    def parties(self) -> tuple[Party, Party]:
        """Whom Google's refusals may be about."""
        return ("project", self.project), ("enterprise", self.enterprise_id)

    def refused(self, answer: object) -> Party | None:
        """Whom an answer refuses, whatever is asked; None where it does not, or only our own quota did."""
        if not isinstance(answer, Unreachable) or answer.status not in REFUSALS or answer is NO_TOKEN:
            return None
        project, enterprise = self.parties
        return project if answer.status == TOO_MANY else enterprise

    async def prepare(self) -> bool:
        """Take the token of the next request now, before something is begun that must not wait. False = there is none
        for now. Where the key is refused there is nothing to take, and `issue` says so.
        """
        refusal = await self._toll()
        if refusal is None:
            self._paid = 1
        elif refusal is not NO_TOKEN:
            self._unproved = refusal
        return refusal is not NO_TOKEN

    async def _toll(self) -> Unreachable | None:
        """A token, in exchange for a key that Google takes: another's would use up what is not its own."""
        if self._paid:
            self._paid -= 1
            return None
        if self._quota is not None:
            unproved = await self._channel.authorise()
            if unproved is not None:
                return unproved
            if not await self._quota.take(self.project, self._priority, self._patience_s):
                return NO_TOKEN
        self.spent += 1
        return None

    async def issue(
        self, device: Device, command: Command, params: Mapping[str, Any], deadline_s: float
    ) -> IssueAnswer:
        """See ports.channel."""
        unproved, self._unproved = self._unproved, None
        refusal = unproved or await self._toll()
        if refusal is not None:
            return NotTaken(refusal.reason, refusal.after_s)
        return await self._channel.issue(device, command, params, deadline_s)

    def time(self) -> int | None:
        """See ports.channel."""
        return self._channel.time()

    async def authorise(self) -> Unreachable | None:
        """See ports.channel."""
        return await self._channel.authorise()

    async def operations(self, device: Device, toll: Toll | None = None) -> Operations | Gone | Unreachable:
        """See ports.channel. Each page takes a token."""
        return await self._channel.operations(device, toll or self._toll)

    async def device_page(self, enterprise: str, page_token: str) -> ListPage | Gone | Unreachable:
        """See ports.channel."""
        refusal = await self._toll()
        if refusal is not None:
            return refusal
        return await self._channel.device_page(enterprise, page_token)

    async def devices(self, enterprise: str) -> AsyncIterator[list[Any] | Gone | Unreachable]:
        """All devices of an enterprise, page by page, each for a token. What is no page is the last."""
        asked: set[str] = set()
        page_token = ""
        while page_token not in asked and len(asked) < MAX_PAGES:
            asked.add(page_token)
            page = await self.device_page(enterprise, page_token)
            if not isinstance(page, ListPage):
                yield page
                return
            yield page.items
            if not page.next_token:
                return
            page_token = page.next_token
        yield Unreachable("the list of devices does not end")

    async def device(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        """See ports.channel."""
        return await self._toll() or await self._channel.device(name)

    async def operation(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        """See ports.channel."""
        return await self._toll() or await self._channel.operation(name)

    async def cancel(self, name: str) -> CancelTaken | CancelRefused | Unreachable:
        """See ports.channel."""
        return await self._toll() or await self._channel.cancel(name)


async def google(
    s: Services, organization_id: str, enterprise_id: str, priority: int, patience_s: float = PATIENCE_S
) -> MeteredChannel | None:
    """The channel of an enterprise within its project's quota; None when it has no usable credentials.

    `patience_s` = how long a request may wait for its token.
    """
    channel = await s.channels.channel(organization_id, enterprise_id)
    return None if channel is None else MeteredChannel(channel, enterprise_id, s.quota, priority, patience_s)
