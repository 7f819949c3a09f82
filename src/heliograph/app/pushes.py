"""Pushes: which address to use, how a push is made and owed, and `send_push` itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from heliograph.app.services import SECOND, Services
from heliograph.domain.deliveries import Push, PushRequested
from heliograph.domain.devices import APPS, PLATFORMS, Device, ProviderAccount, PushTarget
from heliograph.domain.errors import InvalidInput, NotFound
from heliograph.domain.fields import Fields
from heliograph.ports.changes import ChangeSet
from heliograph.ports.push import PushMessage
from heliograph.ports.store import UnitOfWork

KINDS = ("notification", "silent")
OUR_LINE = "builtin"
_DEFAULT, _NO_ACCOUNT = 2, 3


@dataclass(frozen=True, slots=True)
class ChosenTarget:
    """An address, with the account whose credentials reach it and the longest life its provider offers."""

    provider: str
    account_id: str | None
    max_life_s: int


async def choose_target(s: Services, work: UnitOfWork, device: Device, app: str) -> ChosenTarget | None:
    """The address to use for an app; None when there is none that can be used.

    The account decides (contract decision 29): the device's own, else the address's own, else the organization's
    default of its kind, else an address that needs none. Of equals the newest.
    """
    ranked: list[tuple[int, ChosenTarget]] = []
    accounts: list[ProviderAccount] | None = None
    for target in await work.devices.targets(device.id, app):
        plugin = s.providers.plugin(target.provider)
        if plugin is None or target.dead_at is not None:
            continue
        if not plugin.needs_account:
            ranked.append((_NO_ACCOUNT, ChosenTarget(target.provider, None, plugin.max_life_s)))
            continue
        accounts = await work.setup.accounts() if accounts is None else accounts
        for level, account_id in _accounts_for(device, target, accounts):
            ranked.append((level, ChosenTarget(target.provider, account_id, plugin.max_life_s)))
    return min(ranked, key=lambda found: found[0])[1] if ranked else None


def _accounts_for(device: Device, target: PushTarget, accounts: Sequence[ProviderAccount]) -> Iterator[tuple[int, str]]:
    """The accounts that can reach an address, each with its level; 0 comes first."""
    for account in accounts:
        if account.provider != target.provider or account.disabled_at is not None:
            continue
        for level, chosen in enumerate((device.provider_account_id, target.account_id)):
            if account.id == chosen:
                yield level, account.id
        if account.is_default:
            yield _DEFAULT, account.id


def new_push(s: Services, device: Device, app: str, target: ChosenTarget, message: PushMessage) -> Push:
    """A push record for a message; refuses one that its provider can never take, before anything is stored."""
    plugin = s.providers.plugin(target.provider)
    fault = plugin.check(message) if plugin else None
    if fault:
        raise InvalidInput.of("notification", fault)
    now = s.clock.now()
    content = {"title": message.title, "body": message.body, "data": message.data}
    return Push(
        id=message.id,
        organization_id=device.organization_id,
        device_id=device.id,
        app=app,
        kind=message.kind,
        provider=target.provider,
        account_id=target.account_id,
        message={name: value for name, value in content.items() if value is not None},
        created_at=now,
        updated_at=now,
        expires_at=now + min(message.life_s, target.max_life_s) * SECOND,
        command_id=message.command_id,
    )


def owe_push(s: Services, changes: ChangeSet, push: Push, source: str) -> Push:
    """Store a push together with the effect it owes."""
    push = changes.add_push(push, PushRequested(source=source), s.clock.now())
    changes.owe(s.debt(push.organization_id, "push", push.id, pool=push.account_id))
    return push


@dataclass(frozen=True, slots=True)
class PushRequest:
    """A validated request to send a push."""

    os: str
    identifier: str
    app: str
    kind: str
    title: str | None
    body: str
    data: dict[str, Any] | None


def read_push_request(body: Fields) -> PushRequest:
    """The push that a request body asks for; raises InvalidInput naming every wrong field."""
    os = body.text("os", required=True, choices=PLATFORMS)
    identifier = body.text("identifier", required=True, pattern="[0-9a-fA-F]{24}", meaning="must be 24 hex digits")
    app = body.text("app", required=True, choices=APPS)
    kind = body.text("type", required=True, choices=KINDS)
    notification = body.obj("notification", required=True)
    title = text = data = None
    if notification:
        title = notification.text("title")
        text = notification.text("body", required=True)
        data = notification.json_object("data")
    body.raise_if_wrong()
    return PushRequest(os or "", (identifier or "").lower(), app or "", kind or "", title, text or "", data)


async def send_push(s: Services, work: UnitOfWork, request: PushRequest, source: str) -> Push:
    """Accept a push: stored with the effect it owes, delivered by the dispatcher."""
    device = await work.devices.find(request.os, request.identifier)
    if device is None:
        raise NotFound
    target = await choose_target(s, work, device, request.app)
    if target is None:
        raise NotFound(f"Entity not found: {request.app} has no fbToken (push token) on this device")
    message = PushMessage(
        id=s.new_id(),
        kind=request.kind,
        life_s=s.limits.push_life_s,
        title=request.title,
        body=request.body,
        data=request.data,
    )
    changes = ChangeSet(work.organization_id)
    push = owe_push(s, changes, new_push(s, device, request.app, target, message), source)
    await work.commit(changes)
    return push
