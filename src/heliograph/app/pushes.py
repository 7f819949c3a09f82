"""Pushes: how one is made and owed, and `send_push` itself."""

from typing import Any

from heliograph.app.routes import ChosenTarget, routes_to
from heliograph.app.services import SECOND, Services
from heliograph.domain.deliveries import Push, PushRequested
from heliograph.domain.devices import APPS, PLATFORMS, Device
from heliograph.domain.errors import InvalidInput, NotFound
from heliograph.domain.fields import Fields
from heliograph.domain.record import record
from heliograph.ports.changes import BACKGROUND, NORMAL, ChangeSet
from heliograph.ports.push import PushMessage
from heliograph.ports.store import UnitOfWork

KINDS = ("notification", "silent")


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
    """Store a push together with the effect it owes. What a key sends in bulk lets the others go first."""
    push = changes.add_push(push, PushRequested(source=source), s.clock.now())
    is_bulk = source.startswith("key:") and s.pace.is_bulk(source, s.clock.now())
    priority = BACKGROUND if is_bulk else NORMAL
    if push.account_id is not None:
        s.health.given(push.account_id, s.clock.now())
    changes.owe(s.debt(push.organization_id, "push", push.id, pool=push.account_id, priority=priority))
    return push


@record
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
    found = await work.devices.find_with_targets(request.os, request.identifier, request.app)
    if found is None:
        raise NotFound
    device, targets = found
    routes = await routes_to(s, work, device, targets)
    if not routes:
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
    push = owe_push(s, changes, new_push(s, device, request.app, routes[0], message), source)
    await work.commit(changes)
    return push
