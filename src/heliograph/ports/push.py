"""The port of push providers. Answers are values, never exceptions.

A provider is one file in `heliograph.providers` that ends in `PLUGIN = ProviderPlugin(…)`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol, TypeVar

from heliograph.domain.devices import PLATFORMS, PushTarget
from heliograph.domain.fields import Fields
from heliograph.domain.record import record
from heliograph.ports.clock import Clock
from heliograph.ports.transport import Transports

T = TypeVar("T")


@record
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


@record
class Accepted:
    """The provider took the push and named it. `expires_at` in microseconds, where the provider says."""

    reference: str
    expires_at: int | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


@record
class Rejected:
    """The provider will never take this push.

    `token_gone`: because of the address; it is dead, unless it was registered after `gone_since` (microseconds, where
    the provider says since when). `one_device`: so says the service that this device has chosen, of its address alone.
    """

    reason: str
    token_gone: bool = False
    gone_since: int | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    one_device: bool = False


@record
class RetryLater:
    """Not now. `after_s` from Retry-After; `uncertain`: the push may have been taken all the same.

    `account_wide`: nothing goes through this account for now; else only this push, or this device, has to wait.
    """

    reason: str
    after_s: float | None = None
    uncertain: bool = False
    account_wide: bool = False
    evidence: dict[str, Any] = field(default_factory=dict)


@record
class Misconfigured:
    """The provider refuses the account: its credentials or settings. Nothing was sent; push and address may be fine.

    `one_device`: so says the service that this device has chosen. Those of others may take the account.
    """

    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)
    one_device: bool = False


Outcome = Accepted | Rejected | RetryLater | Misconfigured


@record
class Pending:
    """The provider's word on a push: how many addresses still wait, and the end of its life (microseconds)."""

    devices: int
    expires_at: int | None = None


@record
class Forgotten:
    """The provider knows no such push (any more)."""

    reason: str


@record
class CannotTell:
    """This provider never says what became of a push: only the agent's acknowledgement does."""


@record
class Unavailable:
    """The provider did not answer, or refuses for now."""

    reason: str
    after_s: float | None = None


StatusAnswer = Pending | Forgotten | CannotTell | Unavailable


@record
class Withdrawn:
    """The provider dropped the push. No proof that the device did not get it before."""


@record
class CannotWithdraw:
    """This provider has no way, or knows no such push."""

    reason: str


WithdrawAnswer = Withdrawn | CannotWithdraw | Unavailable


@record
class Works:
    """The provider takes the account's credentials. `detail`: a sentence on what was tried."""

    detail: str


ProbeAnswer = Works | Misconfigured | Unavailable


class PushProvider(Protocol):
    """One account at one push service. Each call ends within a deadline of the provider's own."""

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        """Hand one push to the service."""
        ...

    async def status(self, reference: str, timeout_s: float) -> StatusAnswer:
        """Ask what became of an accepted push."""
        ...

    async def withdraw(self, reference: str) -> WithdrawAnswer:
        """Take an undelivered push back."""
        ...

    async def probe(self) -> ProbeAnswer:
        """Ask whether the service takes the account, without reaching any device."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Route(IntEnum):
    """In which order the addresses of an app are tried."""

    LINE = 0  # our own, when the agent holds it
    VENDOR = 1  # the platform's push service
    RELAY = 2  # a broker or distributor besides


@dataclass(frozen=True, slots=True)
class Tools:
    """What a provider is built with besides its settings. `transports`: HTTP/2 connections, shared by all.

    `organization_id`: whose account it is; empty for a provider that needs none.
    """

    clock: Clock
    transports: Transports
    _shared: dict[type[Any], Any] = field(default_factory=dict)
    organization_id: str = ""

    def shared(self, kind: type[T], make: Callable[[], T]) -> T:
        """The one thing of this kind that all accounts of this process share; made when it is first asked for."""
        if kind not in self._shared:
            self._shared[kind] = make()
        found: T = self._shared[kind]
        return found


@dataclass(frozen=True, slots=True)
class ProviderPlugin:
    """What a provider file states.

    `read_config` validates the operator's settings (secrets included, collected errors in `Fields`) and returns the
    JSON object that `build` gets back. `check` names the reason why a message can never be sent, before anything is
    stored. `max_life_s` is the longest life the service offers.

    `tokens`: the kinds of addresses, each with the pattern that one of a single device matches as a whole (a service
    may take others that reach many); the first is meant where an agent names none. `check_token(kind, token)` names
    what the pattern cannot see. `platforms`: whose agents may register such an address. `route`: its place in the
    order of tries.

    `tells_delivery`: `status` can say what still waits. `per_minute`: requests that the service gives an account
    (0 = no limit known); a setting `requestsPerMinute` overrides it. `limits_all`: that is for all requests, also those
    that `status` and `withdraw` make, and not for pushes alone. `expires_at(config)`: when credentials end
    (microseconds). `addresses`: the settings that say where credentials are sent to, each with its usual value;
    one that is a list holds several.
    """

    kind: str
    read_config: Callable[[Fields], dict[str, Any]]
    build: Callable[[Mapping[str, Any], Tools], PushProvider]
    check: Callable[[PushMessage], str | None]
    max_life_s: int
    tokens: Mapping[str, str]
    platforms: frozenset[str] = frozenset(PLATFORMS)
    route: Route = Route.VENDOR
    check_token: Callable[[str, str], str | None] = lambda kind, token: None  # noqa: ARG005
    tells_delivery: bool = False
    needs_account: bool = True
    per_minute: int = 0
    limits_all: bool = False
    expires_at: Callable[[Mapping[str, Any]], int | None] = lambda config: None  # noqa: ARG005
    config_help: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)


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

    def made_at(self, account_id: str) -> int | None:
        """When the account was changed last that `provider` gave out, as far as it knew; None = it gave out none."""
        ...

    def per_minute(self, account_id: str) -> int:
        """How many requests a minute an account may make that `provider` gave out; 0 = no limit."""
        ...
