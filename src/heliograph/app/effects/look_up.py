"""Ask Google for the state of a device's open operations: one list for all of them."""

from functools import partial
from typing import Any

from heliograph.app.dispatch import backoff_s
from heliograph.app.effects.upstream import next_look_up_s, result_of
from heliograph.app.google_channel import google
from heliograph.app.services import Services, until_committed
from heliograph.domain.ladder import Command, Event, Failed, Issue, Reason, Succeeded
from heliograph.ports.changes import ChangeSet, OutboxItem
from heliograph.ports.channel import Gone, ManagementChannel, Operations, Unreachable
from heliograph.ports.store import UnitOfWork

_SOURCE = "amapi"
_MAX_OPEN = 1_000


async def look_up_device(s: Services, item: OutboxItem) -> None:
    """Record the results that have come in for a device, and look again while anything is open."""
    work = s.store.unit_of_work(item.organization_id)
    waiting = await _open_commands(work, item.subject_id)
    if not waiting:
        changes = ChangeSet(item.organization_id)
        changes.settle(item)
        await work.commit(changes)
        return
    device = await work.devices.find("android", item.subject_id)
    channel = await google(s, item.organization_id, waiting[0].enterprise_id, item.priority)
    answer: Operations | Gone | Unreachable = Unreachable("no usable credentials")
    if device is not None and channel is not None:
        answer = await channel.operations(device)
    if isinstance(answer, Unreachable) or channel is None:
        changes = ChangeSet(item.organization_id)
        after_s = answer.after_s if isinstance(answer, Unreachable) else None
        changes.put_off(item, s.later(backoff_s(s, item.attempts, after_s)))
        await work.commit(changes)
        return
    found = {op["name"]: op for op in answer.items} if isinstance(answer, Operations) else {}
    for command in waiting:
        event = await _result(s, channel, command, found, isinstance(answer, Gone))
        if event is not None:
            await until_committed(partial(record_result, s, work, command.id, event))
    await _look_again(s, work, item)


async def _open_commands(work: UnitOfWork, device_id: str) -> list[Command]:
    return [c for c in await work.commands.live_of_device(device_id, _MAX_OPEN) if c.issue is Issue.BOUND]


async def _result(
    s: Services, channel: ManagementChannel, command: Command, found: dict[str, dict[str, Any]], device_gone: bool
) -> Event | None:
    operation = found.get(command.receipt or "")
    if operation is None:
        answer = await channel.operation(command.receipt or "")
        if isinstance(answer, Gone):
            return _vanished(s, command, device_gone)
        if isinstance(answer, Unreachable):
            return None
        operation = answer
    return result_of(s, command, operation)


def _vanished(s: Services, command: Command, device_gone: bool) -> Event | None:
    """The operation is gone. For a type that ends the record at Google that is how success looks."""
    if device_gone and command.type == "RELINQUISH_OWNERSHIP":
        return Succeeded(source=_SOURCE, evidence={"deviceGone": True})
    if s.clock.now() < command.expires_at:
        return None  # one answer decides nothing: ask again until its time is over
    return Failed(source=_SOURCE, reason=Reason("outcome_unknown", "Google no longer knows the operation"))


async def record_result(s: Services, work: UnitOfWork, command_id: str, event: Event) -> None:
    """Store what was learnt about a command. The one way in for results from upstream."""
    command = await work.commands.find(command_id)
    if command is None:
        return
    changes = ChangeSet(work.organization_id)
    after = changes.move(command, event, s.clock.now())
    if after.is_over:
        changes.withdraw(f"cancel:{command_id}")
    if changes:
        await work.commit(changes)


async def _look_again(s: Services, work: UnitOfWork, item: OutboxItem) -> None:
    waiting = await _open_commands(work, item.subject_id)
    changes = ChangeSet(item.organization_id)
    if waiting:
        owed = await s.store.system.owed("look_up")
        newest = max(c.issue_at or c.created_at for c in waiting)
        changes.put_off(item, s.later(next_look_up_s(s, newest, owed)))
    else:
        changes.settle(item)
    await work.commit(changes)
