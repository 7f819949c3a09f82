"""Operations at Google that no record accounts for: an attempt that was taken for absent and came through after all.

The record has moved on by then: cancelled, or issued once more. What strays is cancelled at Google as soon as it is
seen, before an offline device can run it, and the record's history says so.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from heliograph.app.dispatch import backoff_s
from heliograph.app.google_channel import google
from heliograph.app.services import SECOND, Services, until_committed
from heliograph.domain.ladder import Command, Issue, Strayed
from heliograph.ports.changes import BACKGROUND, URGENT, ChangeSet, OutboxItem
from heliograph.ports.channel import CancelRefused, CancelTaken, Gone, Operations, Unreachable
from heliograph.ports.store import UnitOfWork

log = structlog.get_logger("heliograph.strays")

# Findings: when the last attempt began, and the first one that was taken for absent; by Google's clock where it was
# known. Ours may lose time: it goes on from where it was after a restart, and another process has another.
BEGAN_THERE = "beganThere"
ABSENT_SINCE, ABSENT_SINCE_THERE = "absentSince", "absentSinceThere"
_SOURCE = "amapi"
_WATCH_S = 180
_PAUSE_S = 5.0
_MAX_LIVE = 1_000
# Google's clock to the second, and the time that its answer took to come.
_SLACK_US = 3 * SECOND
_UNKNOWN_SKEW_US = 600 * SECOND


def owe_watch(s: Services, changes: ChangeSet, command: Command) -> None:
    """Watch a device for an attempt of a command that was taken for absent."""
    changes.owe(
        s.debt(
            command.organization_id,
            "watch",
            command.id,
            after_s=_PAUSE_S,
            pool=command.enterprise_id,
            priority=BACKGROUND,
        )
    )


def owe_stray_cancel(s: Services, changes: ChangeSet, name: str, enterprise_id: str) -> None:
    """Cancel an operation that no record accounts for."""
    changes.owe(s.debt(changes.organization_id, "cancel_stray", name, pool=enterprise_id, priority=URGENT))


async def watch_for_strays(s: Services, item: OutboxItem) -> None:
    """Look for operations of an attempt that was taken for absent: for some minutes, and once more after them."""
    work = s.store.unit_of_work(item.organization_id)
    command = await work.commands.find(item.subject_id)
    changes = ChangeSet(item.organization_id)
    now = s.clock.now()
    if command is None or now > max(_watched_until(command), command.expires_at + _WATCH_S * SECOND):
        changes.settle(item)  # no device would run it any more
        await work.commit(changes)
        return
    device = await work.devices.find("android", command.device_id)
    channel = await google(s, command.organization_id, command.enterprise_id, item.priority)
    answer: Operations | Gone | Unreachable = Unreachable("no usable credentials")
    if device is not None and channel is not None:
        answer = await channel.operations(replace(device, external_name=command.device_name or device.external_name))
    is_told = not isinstance(answer, Unreachable) and not await _is_being_issued(work, command)
    if is_told and isinstance(answer, Operations):
        found = await unbound(work, command, answer, _absent_since(s, command, answer))
        if found:
            await until_committed(partial(_record, s, work, command.id, [str(op["name"]) for op in found]))
        is_told = answer.is_whole
    if is_told and now > _watched_until(command):
        changes.settle(item)
    else:
        pause_s = 0.0 if is_told else backoff_s(s, item.attempts)
        changes.put_off(item, s.later(max(_PAUSE_S, pause_s)))
    await work.commit(changes)


def _watched_until(command: Command) -> int:
    """Until when the device is watched, at the least: some minutes after the last attempt was taken for refused."""
    decided_at = command.attempts.last_at if command.attempts else command.issue_at
    return (decided_at or 0) + _WATCH_S * SECOND


async def _is_being_issued(work: UnitOfWork, command: Command) -> bool:
    """Whether an operation that is not bound yet may be that of an attempt under way."""
    begun = await work.commands.live_of_device(command.device_id, _MAX_LIVE, Issue.OPEN)
    return any(c.type == command.type for c in begun)


async def _record(s: Services, work: UnitOfWork, command_id: str, names: list[str]) -> None:
    command = await work.commands.find(command_id)
    if command is None:
        return
    changes = ChangeSet(work.organization_id)
    known = {e.evidence.get("stray") for e in (await work.history.of([command_id])).get(command_id, [])}
    for name in names:
        if name not in known:
            log.warning("command.stray", command=command_id, operation=name)
            command = changes.move(command, Strayed(source=_SOURCE, evidence={"stray": name}), s.clock.now())
            owe_stray_cancel(s, changes, name, command.enterprise_id)
    if changes:
        await work.commit(changes)


async def cancel_stray(s: Services, item: OutboxItem) -> None:
    """Ask Google to cancel an operation that no record accounts for, until it answers: a device that was off for weeks
    would still run it.
    """
    work = s.store.unit_of_work(item.organization_id)
    channel = await google(s, item.organization_id, item.pool or "", item.priority)
    answer: CancelTaken | CancelRefused | Unreachable = Unreachable("no usable credentials")
    if channel is not None:
        answer = await channel.cancel(item.subject_id)
    changes = ChangeSet(item.organization_id)
    if isinstance(answer, Unreachable):
        changes.put_off(item, s.later(backoff_s(s, item.attempts, answer.after_s)))
    else:
        changes.settle(item)
    await work.commit(changes)


async def unbound(work: UnitOfWork, command: Command, listed: Operations, since: int) -> list[dict[str, Any]]:
    """The operations of a command's type that were made since then, by Google's clock, and belong to no command."""
    fitting = [op for op in listed.items if _is_candidate(op, command.type, since)]
    bound = await work.commands.bound_receipts([op["name"] for op in fitting])
    return [op for op in fitting if op["name"] not in bound]


def issued_since(s: Services, command: Command, listed: Operations) -> int:
    """When the last attempt began by Google's clock, at the earliest."""
    there = (command.findings or {}).get(BEGAN_THERE)
    return _began(s, there, command.issue_at or command.created_at, listed)


def _absent_since(s: Services, command: Command, listed: Operations) -> int:
    """The same of the first attempt that was taken for absent."""
    known = command.findings or {}
    if ABSENT_SINCE not in known:
        return issued_since(s, command, listed)
    return _began(s, known.get(ABSENT_SINCE_THERE), known[ABSENT_SINCE], listed)


def _began(s: Services, there: int | None, began: int, listed: Operations) -> int:
    """When an attempt began by Google's clock, as it was known then or by ours; earlier by what that cannot be told."""
    if there is not None:
        return there - _SLACK_US
    if listed.at is None:
        return began - _UNKNOWN_SKEW_US
    return began + (listed.at - s.clock.now()) - _SLACK_US


def _is_candidate(operation: Mapping[str, Any], command_type: str, since: int) -> bool:
    metadata = operation.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("type") != command_type:
        return False
    # An operation's id is its create time in epoch milliseconds (research: amapi.md 0.2).
    last = str(operation.get("name", "")).rsplit("/", 1)[-1]
    return not last.isdigit() or int(last) * 1000 >= since
