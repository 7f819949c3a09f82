"""The port of management channels that run commands upstream (Android Management API). Answers are values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from heliograph.domain.devices import Device
from heliograph.domain.ladder import Command


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
    """The operations of one device as the upstream lists them, oldest first, secrets removed."""

    items: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Gone:
    """The upstream knows no such record."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No usable answer: ask again, `after_s` from Retry-After."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class CancelTaken:
    """The request to cancel was accepted. Says nothing about the outcome."""


@dataclass(frozen=True, slots=True)
class CancelRefused:
    """The upstream will not cancel; its own state of the operation decides."""

    status: int
    message: str


class ManagementChannel(Protocol):
    """One enterprise at the upstream service."""

    async def issue(self, device: Device, command: Command, params: Mapping[str, Any]) -> IssueAnswer:
        """Hand over a command once; `params` holds public and secret parameters together."""
        ...

    async def operations(self, device: Device) -> Operations | Gone | Unreachable:
        """List a device's operations."""
        ...

    async def devices(self, enterprise: str) -> list[dict[str, Any]] | Gone | Unreachable:
        """All devices of an enterprise, as the upstream describes them."""
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

    def check_credentials(self, raw: bytes) -> bytes:
        """Validate a credentials file and answer what to store of it; raises InvalidInput saying what to do."""
        ...
