"""The port of push providers. Answers are values, never exceptions.

A provider is one file in `heliograph.providers` that ends in `PLUGIN = ProviderPlugin(…)`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from heliograph.domain.devices import PushTarget
from heliograph.domain.fields import Fields


@dataclass(frozen=True, slots=True)
class PushMessage:
    """What a device shall hear. `id` is stable over all attempts, so the agent can drop a repeated one.

    `kind`: wake (for `command_id`), notification or silent. `life_s`: how long the provider shall keep it.
    """

    id: str
    kind: str
    life_s: int
    command_id: str | None = None
    title: str | None = None
    body: str | None = None
    data: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the push and named it. `expires_at` in microseconds, where the provider says."""

    reference: str
    expires_at: int | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider will never take this push. `token_gone`: the address itself is dead."""

    reason: str
    token_gone: bool = False
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Not now. `after_s` from Retry-After; `uncertain`: the push may have been taken all the same."""

    reason: str
    after_s: float | None = None
    uncertain: bool = False
    evidence: dict[str, Any] = field(default_factory=dict)


Outcome = Accepted | Rejected | RetryLater


@dataclass(frozen=True, slots=True)
class Pending:
    """The provider's word on a push: how many addresses still wait, and the end of its life (microseconds)."""

    devices: int
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The provider knows no such push (any more), or never can tell."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The provider did not answer, or refuses for now."""

    reason: str
    after_s: float | None = None


StatusAnswer = Pending | Forgotten | Unavailable


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The provider dropped the push. No proof that the device did not get it before."""


@dataclass(frozen=True, slots=True)
class CannotWithdraw:
    """This provider has no way, or knows no such push."""

    reason: str


WithdrawAnswer = Withdrawn | CannotWithdraw | Unavailable


class PushProvider(Protocol):
    """One account at one push service."""

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        """Hand one push to the service, within a deadline of the provider's own."""
        ...

    async def status(self, reference: str, timeout_s: float) -> StatusAnswer:
        """Ask what became of an accepted push."""
        ...

    async def withdraw(self, reference: str) -> WithdrawAnswer:
        """Take an undelivered push back."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class ProviderPlugin:
    """What a provider file states.

    `read_config` validates the operator's settings (secrets included, collected errors in `Fields`) and returns the
    JSON object that `build` gets back. `check` names the reason why a message can never be sent, before anything is
    stored. `max_life_s` is the longest life the service offers. `tells_delivery`: it can say what still waits.
    `addresses`: the settings that say where credentials are sent to, each with its usual value.
    `token`: the pattern of what one device's address looks like; a service may take others that reach many devices.
    """

    kind: str
    read_config: Callable[[Fields], dict[str, Any]]
    build: Callable[[Mapping[str, Any]], PushProvider]
    check: Callable[[PushMessage], str | None]
    max_life_s: int
    tells_delivery: bool = False
    needs_account: bool = True
    config_help: dict[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    token: str = ""


class Providers(Protocol):
    """The plug-ins, and the accounts that are built from them."""

    def plugin(self, kind: str) -> ProviderPlugin | None:
        """The plug-in of a kind."""
        ...

    def kinds(self) -> list[str]:
        """The kinds that take an account."""
        ...

    async def provider(self, organization_id: str, kind: str, account_id: str | None) -> PushProvider | None:
        """The provider behind an account; None when it is gone, disabled, or of another kind."""
        ...
