"""Accept a command: validate, then command, history and the effect owed in one transaction."""

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from heliograph.app.effects.upstream import issue_lane, owe_issue
from heliograph.app.services import SECOND, Services
from heliograph.app.wakes import owe_first_wake
from heliograph.domain.catalog import AOSP_TYPES, TYPES, android_type
from heliograph.domain.command_types import CommandType, Params
from heliograph.domain.devices import Device
from heliograph.domain.errors import InvalidInput, NotFound
from heliograph.domain.fields import Fields
from heliograph.domain.ladder import Command, Entry, Requested
from heliograph.domain.management import refusal_of
from heliograph.domain.permissions import allows
from heliograph.ports.changes import BACKGROUND, NORMAL, URGENT, ChangeSet
from heliograph.ports.store import UnitOfWork

_DURATION = r"[0-9]+(\.[0-9]{1,9})?s"
_MAX_DURATION_S = 315_576_000_000  # google.protobuf.Duration
_MAX_AOSP_DURATION_S = 100 * 365 * 24 * 3600
_MAX_PARAMS_BYTES = 64 * 1024  # a claim must fit one frame of the agent line


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """A validated request: what is to be done, and for how long it stays valid."""

    type: CommandType
    params: Params
    duration_us: int


@dataclass(frozen=True, slots=True)
class StoredCommand:
    """A command that was stored just now, and its history so far."""

    command: Command
    history: list[Entry]


def read_android_request(body: Fields, granted: Collection[str] = ()) -> CommandRequest:
    """The command that a request body asks of an Android device; raises InvalidInput naming every wrong field.

    `granted` = what the caller's key holds. Some types need more than the right to create commands; without it nothing
    else is said of the body.
    """
    found = android_type(body)
    if found and found[1].permission and not allows(granted, found[1].permission):
        # As for a type that is not offered: to this key it is not.
        raise InvalidInput.of("type", f"{found[0].name} needs a key that holds {found[1].permission} by name")
    params = found[1].parse(body) if found else Params()
    text = body.text("duration", pattern=_DURATION, meaning="must be seconds such as 3600s") or ""
    seconds, _, fraction = text.rstrip("s").partition(".")
    if text and int(seconds) > _MAX_DURATION_S:
        body.wrong("duration", f"must be at most {_MAX_DURATION_S}s")
    body.raise_if_wrong()
    if found is None:
        raise InvalidInput.of("type", "is required")
    entry, form = found
    text = text or f"{form.default_duration_s}s"
    micros = int(seconds or form.default_duration_s) * SECOND + int((fraction + "000000")[:6] or 0)
    return CommandRequest(entry, Params({"duration": text, **params.public}, params.secret), micros)


def read_aosp_request(body: Fields) -> CommandRequest:
    """The command that a request body asks of an AOSP device; raises InvalidInput naming every wrong field."""
    name = body.text("command", required=True, choices=AOSP_TYPES)
    duration = body.number("duration", maximum=_MAX_AOSP_DURATION_S)
    given = body.obj("params") or (None if body.has("params") else Fields({}, "params", body.errors))
    if given and len(msgspec.json.encode(given.raw)) > _MAX_PARAMS_BYTES:
        body.wrong("params", f"must have at most {_MAX_PARAMS_BYTES} bytes as JSON")
    entry = TYPES.get(name or "")
    if entry is None or entry.agent is None or given is None:
        body.raise_if_wrong()
        raise InvalidInput.of("command", "is required")
    params = entry.agent.parse(given)
    body.raise_if_wrong()
    # Less than a microsecond is none.
    return CommandRequest(entry, params, int((duration or 0) * SECOND) or entry.agent.default_duration_s * SECOND)


def _new_command(s: Services, device: Device, request: CommandRequest) -> Command:
    if device.enterprise_id is None:
        raise NotFound
    now = s.clock.now()
    secret = s.secrets.seal(msgspec.json.encode(request.params.secret)) if request.params.secret else None
    return Command(
        id=s.new_id(),
        organization_id=device.organization_id,
        device_id=device.id,
        enterprise_id=device.enterprise_id,
        platform=device.platform,
        mdm_user_id=device.mdm_user_id,
        type=request.type.name,
        params=request.params.public,
        secret=secret,
        duration_us=request.duration_us,
        created_at=now,
        updated_at=now,
        expires_at=now + request.duration_us,
        device_name=device.external_name if device.platform == "android" else None,
    )


def _history_of(command: Command, changes: ChangeSet) -> list[Entry]:
    return [entry for entry in changes.entries if entry.subject_id == command.id]


async def request_android_command(
    s: Services, work: UnitOfWork, device: Device, request: CommandRequest, source: str
) -> StoredCommand:
    """Store a command for an Android device; the dispatcher will issue it. `source` = who asks (`key:…`).

    Raises InvalidInput where the device is known to be one on which the command cannot work.
    """
    form = request.type.amapi
    params = request.params.public | request.params.secret
    refusal = refusal_of(request.type.name, form.works, form.limits, params, device) if form else None
    if refusal is not None:
        raise InvalidInput.of(refusal.member, refusal.reason)
    command = _new_command(s, device, request)
    changes = ChangeSet(work.organization_id)
    command = changes.add_command(command, Requested(source=source), s.clock.now())
    is_bulk = s.pace.is_bulk(source, s.clock.now())
    priority = BACKGROUND if is_bulk else URGENT if request.type.danger else NORMAL
    owe_issue(s, changes, command, priority)
    if priority < BACKGROUND:
        await s.store.system.hasten(issue_lane(command), priority)
    await work.commit(changes)
    return StoredCommand(command, _history_of(command, changes))


async def request_aosp_command(
    s: Services, work: UnitOfWork, device: Device, request: CommandRequest, source: str
) -> StoredCommand:
    """Store a command for an AOSP device and the push that wakes it. Without a push address it waits for a check-in."""
    command = _new_command(s, device, request)
    changes = ChangeSet(work.organization_id)
    command = changes.add_command(command, Requested(source=source), s.clock.now())
    await owe_first_wake(s, work, changes, device, command, source)
    await work.commit(changes)
    return StoredCommand(command, _history_of(command, changes))
