"""How commands reach a device through a service that runs them: one channel per enterprise."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import structlog

from heliograph.channels.administration import CALLBACK_PAGE, GoogleAdministration
from heliograph.channels.amapi import BASE_URL, AmapiChannel, AmapiSettings
from heliograph.channels.notifications import read_notification
from heliograph.channels.oidc import TokenVerifier
from heliograph.channels.pubsub import MAX_PULL_BYTES, PubSubSubscription
from heliograph.domain.devices import Enterprise
from heliograph.domain.errors import InvalidInput
from heliograph.outbound import Outbound
from heliograph.outbound.google import KEPT_MEMBERS, TokenSource, check_project, payer_of, read_service_account
from heliograph.ports.channel import Notification, Unreachable
from heliograph.ports.clock import SecretBox

__all__ = ["AmapiChannel", "AmapiChannels", "AmapiSettings", "read_service_account"]

log = structlog.get_logger("heliograph.channels")

LoadEnterprise = Callable[[str, str], Awaitable[Enterprise | None]]


@dataclass(frozen=True, slots=True)
class _Built:
    """A channel and what it was built from; None where that cannot be used, so that it is said in the log once."""

    credentials: bytes
    api_url: str | None
    channel: AmapiChannel | None
    tokens: TokenSource | None = None


class AmapiChannels:
    """The channels to Google, built when first asked for. Implements `ports.channel.Channels`.

    `load(organization_id, enterprise_id)` gives the enterprise as it is stored now: new credentials or another address
    replace the channel at the next call, while calls in flight end on the old one.
    """

    def __init__(self, load: LoadEnterprise, secrets: SecretBox, settings: AmapiSettings | None = None) -> None:
        self._load, self._secrets, self._settings = load, secrets, settings or AmapiSettings()
        self._built: dict[str, _Built] = {}
        pubsub_url = self._settings.pubsub_url.rstrip("/")
        # Each enterprise's pull keeps one connection for as long as nothing comes.
        self._pubsub = Outbound(pubsub_url, max_body_bytes=MAX_PULL_BYTES, most_connections=None)
        self._verifier = TokenVerifier(self._settings.certs_url)
        self._building = asyncio.Lock()

    async def channel(self, organization_id: str, enterprise_id: str) -> AmapiChannel | None:
        """The channel of an enterprise; None when it has no usable credentials."""
        found = await self._load(organization_id, enterprise_id)
        if found is None or found.platform != "android" or found.organization_id != organization_id:
            return None
        built = await self._of(found)
        return None if built is None else built.channel

    async def subscription(self, enterprise: Enterprise) -> PubSubSubscription | None:
        """Where an enterprise's notifications wait; None when it has no subscription or no usable credentials."""
        built = None if enterprise.subscription is None else await self._of(enterprise)
        if built is None or built.tokens is None:
            return None
        return PubSubSubscription(enterprise.subscription or "", built.tokens, self._pubsub)

    def read_notification(self, message: Any) -> Notification:
        """A message as Pub/Sub pushes it."""
        return read_notification(message)

    async def is_from_upstream(self, token: str, audience: str, email: str) -> bool | Unreachable:
        """Whether a pushed message's token is Google's own."""
        return await self._verifier.is_genuine(token, audience, email)

    async def _of(self, enterprise: Enterprise) -> _Built | None:
        if enterprise.credentials is None:
            await self._drop(enterprise.id)
            return None
        return self._current(enterprise) or await self._replace(enterprise, enterprise.credentials)

    def _current(self, enterprise: Enterprise) -> _Built | None:
        built = self._built.get(enterprise.id)
        wanted = (enterprise.credentials, enterprise.api_url)
        return built if built is not None and (built.credentials, built.api_url) == wanted else None

    async def _replace(self, enterprise: Enterprise, credentials: bytes) -> _Built:
        async with self._building:
            current = self._current(enterprise)
            if current is not None:  # somebody else was faster
                return current
            # In a thread: reading an RSA key takes some 40 ms.
            built = await asyncio.to_thread(self._build, enterprise, credentials)
            await self._drop(enterprise.id)
            self._built[enterprise.id] = built
            return built

    def _build(self, enterprise: Enterprise, credentials: bytes) -> _Built:
        unusable = _Built(credentials, enterprise.api_url, None)
        try:
            account = read_service_account(self._secrets.open(credentials))
        except InvalidInput as error:
            log.warning("enterprise credentials cannot be used", enterprise=enterprise.id, why=str(error))
            return unusable
        except ValueError:
            log.warning("enterprise credentials cannot be opened: sealed with another key?", enterprise=enterprise.id)
            return unusable
        settings = replace(self._settings, base_url=enterprise.api_url or self._settings.base_url)
        tokens = TokenSource(account, timeout_s=settings.token_timeout_s)
        channel = AmapiChannel(tokens, settings, payer_of(account))
        return _Built(credentials, enterprise.api_url, channel, tokens)

    async def _drop(self, enterprise_id: str) -> None:
        built = self._built.pop(enterprise_id, None)
        if built is not None and built.channel is not None:
            await built.channel.close()

    def check_credentials(self, raw: bytes) -> bytes:
        """Validate a credentials file and answer what to store of it; raises `InvalidInput` saying what to do."""
        account = read_service_account(raw)
        check_project(account)
        return msgspec.json.encode({name: account[name] for name in KEPT_MEMBERS if name in account})

    def administration(self, credentials: bytes, api_url: str | None) -> GoogleAdministration:
        """All of Google that credentials reach."""
        account = read_service_account(credentials)
        return GoogleAdministration(account, api_url or self._settings.base_url, self._settings.pubsub_url)

    def usual_callback(self, api_url: str | None) -> str | None:
        """Google's own page for that; an emulator's sign-up ends on one that shows the token."""
        return CALLBACK_PAGE if (api_url or self._settings.base_url).rstrip("/") == BASE_URL else None

    async def close(self) -> None:
        """Let go of all connections."""
        for enterprise_id in list(self._built):
            await self._drop(enterprise_id)
        await self._pubsub.close()
        await self._verifier.close()
