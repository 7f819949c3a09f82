"""The port of management channels that run commands upstream (Android Management API). Answers are values."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from heliograph.domain.devices import Device, Enterprise
from heliograph.domain.ladder import Command
from heliograph.ports.administration import Administration


@dataclass(frozen=True, slots=True)
class Taken:
    """The upstream accepted the command; `operation` is its own record of it, secrets removed."""

    name: str
    operation: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NotTaken:
    """An answer that proves non-acceptance and invites another try, `after_s` from Retry-After."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer that ends the matter. `gone`: the device is unknown there."""

    code: str
    message: str
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Uncertain:
    """No answer, or one that proves nothing: the command may have been accepted."""

    reason: str


IssueAnswer = Taken | NotTaken | Refused | Uncertain


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations of one device as the upstream lists them, oldest first, secrets removed.

    `at`: the upstream's time of this answer in microseconds, to the second; None where it does not say. `is_whole`: all
    that was listed could be read; else what is not here may be there all the same.
    """

    items: list[dict[str, Any]]
    at: int | None = None
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page of a list, as the upstream gives it; `next_token` is empty on the last one."""

    items: list[Any]
    next_token: str = ""


@dataclass(frozen=True, slots=True)
class Gone:
    """The upstream knows no such record."""

    reason: str


@dataclass(frozen=True, slots=True)
class TooMuch:
    """More than can be taken in at a time: ask for less."""


TOO_MANY = 429
REFUSALS = frozenset({401, 403, TOO_MANY})
"""Statuses that concern whoever asks: the next question would be answered likewise."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No usable answer: ask again, `after_s` from Retry-After. `status`: what the upstream answered, if it did.
    `is_unsure`: what was asked for may have been done all the same (said of requests to cancel).
    """

    reason: str
    after_s: float | None = None
    status: int | None = field(default=None, compare=False)
    is_unsure: bool = field(default=False, compare=False)


Toll = Callable[[], Awaitable[Unreachable | None]]
"""Awaited before each request of a list; what it answers ends the list, None lets the request go."""


@dataclass(frozen=True, slots=True)
class CancelTaken:
    """The request to cancel was accepted. Says nothing about the outcome."""


@dataclass(frozen=True, slots=True)
class CancelRefused:
    """The upstream will not cancel; its own state of the operation decides."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Notification:
    """Something that the upstream tells of its own accord: at least once, in any order, early or late.

    `kind` as the upstream names it (`COMMAND`, `STATUS_REPORT`, …). `operation` and `device` hold what it is about,
    secrets removed, where it is about one; `fault` = why it cannot be understood. `published_at` in microseconds.
    """

    id: str
    kind: str
    published_at: int | None = None
    operation: dict[str, Any] | None = None
    device: dict[str, Any] | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """One message of a subscription; `ack_id` names this delivery of it."""

    ack_id: str
    notification: Notification


class Subscription(Protocol):
    """Where an enterprise's notifications wait to be pulled."""

    async def pull(self, limit: int) -> list[Received] | TooMuch | Gone | Unreachable:
        """The next messages; waits a while for the first. An empty list says that none came."""
        ...

    async def acknowledge(self, ack_ids: Sequence[str]) -> Unreachable | None:
        """These need not come again."""
        ...

    async def put_off(self, ack_ids: Sequence[str], seconds: int) -> Unreachable | None:
        """These come again after so many seconds."""
        ...


class ManagementChannel(Protocol):
    """One enterprise at the upstream service."""

    @property
    def project(self) -> str:
        """Whose quota its requests count against, once `authorise` has proved it."""
        ...

    def time(self) -> int | None:
        """What time it is by the upstream's own clock, or a little earlier, in microseconds; None where it has not said
        so of late.
        """
        ...

    async def authorise(self) -> Unreachable | None:
        """See that the upstream takes the credentials; None = it does. Costs nothing of the quota, and as a rule no
        request.
        """
        ...

    async def issue(
        self, device: Device, command: Command, params: Mapping[str, Any], deadline_s: float
    ) -> IssueAnswer:
        """Hand over a command once; `params` holds public and secret parameters together. After `deadline_s` seconds
        nothing of it is sent any more.
        """
        ...

    async def operations(self, device: Device, toll: Toll | None = None) -> Operations | Gone | Unreachable:
        """List a device's operations, which may take several requests."""
        ...

    async def device_page(self, enterprise: str, page_token: str) -> ListPage | Gone | Unreachable:
        """One page of an enterprise's devices; the first one has no token."""
        ...

    async def device(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        """One device, as the upstream describes it now."""
        ...

    async def operation(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        """One operation."""
        ...

    async def cancel(self, name: str) -> CancelTaken | CancelRefused | Unreachable:
        """Ask to cancel an operation."""
        ...


class Channels(Protocol):
    """The channels, one per enterprise."""

    async def channel(self, organization_id: str, enterprise_id: str) -> ManagementChannel | None:
        """The channel of an enterprise; None when it has no usable credentials."""
        ...

    async def subscription(self, enterprise: Enterprise) -> Subscription | None:
        """Where an enterprise's notifications wait; None when it has no subscription or no usable credentials."""
        ...

    def read_notification(self, message: Any) -> Notification:
        """A message as the upstream pushes it; one that cannot be understood has a `fault`."""
        ...

    async def is_from_upstream(self, token: str, audience: str, email: str) -> bool | Unreachable:
        """Whether a pushed message's token is the upstream's own: signature, issuer, audience, times and account."""
        ...

    def check_credentials(self, raw: bytes) -> bytes:
        """Validate a credentials file and answer what to store of it; raises InvalidInput saying what to do."""
        ...

    def administration(self, credentials: bytes, api_url: str | None) -> Administration:
        """All of the upstream that credentials reach (as `check_credentials` gave them); `api_url` None = its usual
        address. Raises InvalidInput.
        """
        ...

    def usual_callback(self, api_url: str | None) -> str | None:
        """Where a sign-up may send people who have no page for that; None where its own last page shows the token."""
        ...
