"""Push providers: one file each, ending in `PLUGIN = ProviderPlugin(…)`, found by scanning this folder.

Packages outside add theirs with an entry point of the group `heliograph.providers` that names such a plug-in.
"""

import asyncio
import importlib
import pkgutil
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Protocol

import msgspec
import structlog

from heliograph.domain.devices import ProviderAccount, PushTarget
from heliograph.domain.fields import Fields
from heliograph.ports.clock import SecretBox
from heliograph.ports.push import (
    CannotTell,
    CannotWithdraw,
    Misconfigured,
    ProviderPlugin,
    PushMessage,
    PushProvider,
    StatusAnswer,
    Tools,
    Unavailable,
    WithdrawAnswer,
)
from heliograph.ports.store import Store
from heliograph_protocol.messages import PushOffer

log = structlog.get_logger("heliograph.providers")

GROUP = "heliograph.providers"
_UNUSABLE = "its settings cannot be used: set them again with provider update"

_ENCODE = msgspec.json.Encoder().encode


class EntryPoint(Protocol):
    """What is needed of `importlib.metadata.EntryPoint`."""

    @property
    def name(self) -> str:
        """Its name, for messages."""
        ...

    def load(self) -> Any:
        """Import what it points to."""
        ...


def discover(outside: "list[EntryPoint] | None" = None) -> Mapping[str, ProviderPlugin]:
    """All plug-ins by kind. Raises `TypeError` where two claim one kind, or an entry point names something else."""
    found: dict[str, ProviderPlugin] = {}
    for origin, plugin in (*_own(), *_foreign(outside)):
        if not isinstance(plugin, ProviderPlugin):
            raise TypeError(f"{origin} is no ProviderPlugin")
        if plugin.kind in found:
            raise TypeError(f"{origin} defines the push provider {plugin.kind}, which exists already")
        found[plugin.kind] = plugin
    return MappingProxyType(found)


def _own() -> Iterator[tuple[str, Any]]:
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        name = f"{__name__}.{module.name}"
        plugin = getattr(importlib.import_module(name), "PLUGIN", None)
        if plugin is not None:  # a helper that several share has none
            yield name, plugin


def _foreign(outside: "list[EntryPoint] | None") -> Iterator[tuple[str, Any]]:
    for entry in entry_points(group=GROUP) if outside is None else outside:
        yield f"entry point {entry.name}", entry.load()


def offer_of(message: PushMessage, *, shown: bool = False) -> PushOffer:
    """A push in the words of the agent's protocol: what every provider carries as its data.

    `shown`: the system itself shows the title and the body, so they are left out.
    """
    return PushOffer(
        id=message.id,
        kind=message.kind,  # type: ignore[arg-type]  # the port names the same three kinds
        expires_in_ms=message.life_s * 1000,
        command_id=message.command_id,
        title=None if shown else message.title,
        body=None if shown else message.body,
        data=message.data,
    )


def encoded_size(value: Any) -> int | None:
    """The number of bytes as JSON; None where it cannot be written as such."""
    try:
        return len(_ENCODE(value))
    except (TypeError, ValueError, RecursionError):
        return None


def whole_number(fields: Fields, name: str, usual: int, most: int) -> int:
    """A setting that is a number, also where it comes as text from a command line; 0 is allowed."""
    text = fields.raw.get(name)
    if isinstance(text, str) and re.fullmatch(r"[0-9]{1,12}", text):
        fields = Fields({name: int(text)}, fields.path, fields.errors)
    value = fields.number(name, maximum=most)
    if value is not None and not value.is_integer():
        fields.wrong(name, "must be a whole number")
    return usual if value is None else int(value)


def json_member(fields: Fields, name: str) -> Fields | None:
    """A setting that is an object, also where it comes as text from a command line or a file."""
    text = fields.raw.get(name)
    if isinstance(text, str):
        try:
            decoded = msgspec.json.decode(text.removeprefix("\ufeff"))
        except (ValueError, RecursionError):
            fields.wrong(name, "is not JSON, or cut off")
            return None
        fields = Fields({name: decoded}, fields.path, fields.errors)
    return fields.obj(name)


class OneWay:
    """What providers have in common that only ever take pushes."""

    async def status(self, reference: str, timeout_s: float) -> StatusAnswer:
        """Nothing: the agent's acknowledgement is the only word on a push."""
        del reference, timeout_s
        return CannotTell()

    async def withdraw(self, reference: str) -> WithdrawAnswer:
        """Nothing: what was taken is taken."""
        del reference
        return CannotWithdraw("this provider has no way to take a push back")


class _Unusable:
    """What stands for an account whose settings cannot be used: its pushes wait until somebody gives it others."""

    async def send(self, message: PushMessage, target: PushTarget) -> Misconfigured:  # noqa: ARG002
        """Nothing is sent, and the push is not to blame."""
        return Misconfigured(_UNUSABLE)

    async def status(self, reference: str, timeout_s: float) -> Unavailable:  # noqa: ARG002
        """Nobody is asked."""
        return Unavailable(_UNUSABLE)

    async def withdraw(self, reference: str) -> Unavailable:  # noqa: ARG002
        """Nobody is asked."""
        return Unavailable(_UNUSABLE)

    async def probe(self) -> Misconfigured:
        """Nobody is asked."""
        return Misconfigured(_UNUSABLE)

    async def close(self) -> None:
        """Nothing to let go of."""


LoadAccount = Callable[[str, str], Awaitable[ProviderAccount | None]]


def accounts_in(store: Store) -> LoadAccount:
    """The accounts of a store, for `ProviderRegistry`: as they are remembered, but none is missing or disabled unless
    the store says so, for what is owed through it would be lost.
    """

    async def load(organization_id: str, account_id: str) -> ProviderAccount | None:
        setup = store.unit_of_work(organization_id).setup
        account = (await setup.known_accounts()).get(account_id)
        if account is None or account.disabled_at is not None:
            account = (await setup.known_accounts(anew=True)).get(account_id)
        return account

    return load


@dataclass(frozen=True, slots=True)
class _Built:
    """A provider and the state of the account it was built from."""

    state: tuple[str, int, bytes]
    provider: PushProvider
    per_minute: int = 0


class ProviderRegistry:
    """The plug-ins, and the providers built from accounts. Implements `ports.push.Providers`.

    `load(organization_id, account_id)` gives the account as it is stored; a changed one is built anew.
    """

    def __init__(
        self, plugins: Mapping[str, ProviderPlugin], load: LoadAccount, secrets: SecretBox, tools: Tools
    ) -> None:
        self._plugins, self._load, self._secrets, self._tools = plugins, load, secrets, tools
        self._built: dict[str, _Built] = {}
        self._without_account: dict[str, PushProvider] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def plugin(self, kind: str) -> ProviderPlugin | None:
        """The plug-in of a kind."""
        return self._plugins.get(kind)

    def kinds(self) -> list[str]:
        """The kinds that take an account."""
        return sorted(kind for kind, plugin in self._plugins.items() if plugin.needs_account)

    async def provider(self, organization_id: str, kind: str, account_id: str | None) -> PushProvider | None:
        """The provider behind an account; None when it is gone, disabled, or of another kind."""
        plugin = self._plugins.get(kind)
        if plugin is None:
            return None
        if not plugin.needs_account:
            if kind not in self._without_account:
                self._without_account[kind] = plugin.build({}, self._tools)
            return self._without_account[kind]
        account = None if account_id is None else await self._load(organization_id, account_id)
        if account is None or account.organization_id != organization_id or account.provider != kind:
            return None
        if account.disabled_at is not None:
            self._drop(account.id)
            return None
        return self._current(plugin, account)

    def made_at(self, account_id: str) -> int | None:
        """See `ports.push.Providers`."""
        built = self._built.get(account_id)
        return None if built is None else built.state[1]

    def per_minute(self, account_id: str) -> int:
        """How many requests a minute an account may make that `provider` gave out; 0 = no limit."""
        built = self._built.get(account_id)
        return built.per_minute if built is not None else 0

    def _current(self, plugin: ProviderPlugin, account: ProviderAccount) -> PushProvider:
        state = (account.provider, account.updated_at, account.config)
        built = self._built.get(account.id)
        if built is not None and built.state == state:
            return built.provider
        self._built[account.id] = fresh = self._build(plugin, account, state)
        if built is not None:
            self._let_go(built.provider)
        return fresh.provider

    def _build(self, plugin: ProviderPlugin, account: ProviderAccount, state: tuple[str, int, bytes]) -> _Built:
        try:
            config = msgspec.json.decode(self._secrets.open(account.config), type=dict[str, Any])
            per_minute = int(config.get("requestsPerMinute", plugin.per_minute))
            tools = replace(self._tools, organization_id=account.organization_id)
            return _Built(state, plugin.build(config, tools), per_minute)
        except (ValueError, LookupError, TypeError) as error:
            # The kind of fault only: messages of decoders may repeat what they read.
            log.warning("provider account cannot be used", account=account.id, why=type(error).__name__)
            return _Built(state, _Unusable())

    def _drop(self, account_id: str) -> None:
        built = self._built.pop(account_id, None)
        if built is not None:
            self._let_go(built.provider)

    def _let_go(self, provider: PushProvider) -> None:
        """Close it, once what is under way has ended: nobody waits for that."""
        closing = asyncio.create_task(provider.close(), name="heliograph-provider-close")
        self._closing.add(closing)
        closing.add_done_callback(self._closed)

    def _closed(self, closing: "asyncio.Task[None]") -> None:
        self._closing.discard(closing)
        if not closing.cancelled() and (error := closing.exception()) is not None:
            log.warning("provider was not closed well", why=type(error).__name__)

    async def close(self) -> None:
        """Let go of all connections."""
        for account_id in list(self._built):
            self._drop(account_id)
        for kind in list(self._without_account):
            self._let_go(self._without_account.pop(kind))
        await asyncio.gather(*self._closing, return_exceptions=True)
