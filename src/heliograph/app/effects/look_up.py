"""Ask Google for the state of a device's open operations: one list for all of them."""

from functools import partial
from typing import Any

from heliograph.app.dispatch import backoff_s
from heliograph.app.effects.absence import Absence, back_again, ends_record
from heliograph.app.effects.upstream import next_look_up_s, result_of
from heliograph.app.google_channel import google
from heliograph.app.services import SECOND, Services, until_committed
from heliograph.domain.ladder import Command, Event, Failed, Issue, Reason
from heliograph.ports.changes import ChangeSet, OutboxItem
from heliograph.ports.channel import Gone, ManagementChannel, Operations, Unreachable
from heliograph.ports.store import UnitOfWork

_SOURCE = "amapi"
_MAX_OPEN = 1_000
_OPERATION = "operation"


async def look_up_device(s: Services, item: OutboxItem) -> None:
    """Record the results that have come in for a device, and look again while anything is open."""
    work = s.store.unit_of_work(item.organization_id)
    live = await work.commands.live_of_device(item.subject_id, _MAX_OPEN)
    waiting = _bound(live)
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
    if isinstance(answer, Unreachable) or channel is None or device is None:
        changes = ChangeSet(item.organization_id)
        after_s = answer.after_s if isinstance(answer, Unreachable) else None
        changes.put_off(item, s.later(backoff_s(s, item.attempts, after_s)))
        await work.commit(changes)
        return
    found = {op["name"]: op for op in answer.items} if isinstance(answer, Operations) else {}
    absence = Absence(s, work, channel, device, live, isinstance(answer, Gone))
    for command in waiting:
        event = await _result(s, work, channel, command, found, absence)
        if event is not None:
            await until_committed(partial(record_result, s, work, command.id, event))
    await _look_again(s, work, item, absence)


def _bound(live: list[Command]) -> list[Command]:
    return [c for c in live if c.issue is Issue.BOUND]


async def _result(
    s: Services,
    work: UnitOfWork,
    channel: ManagementChannel,
    command: Command,
    found: dict[str, dict[str, Any]],
    absence: Absence,
) -> Event | None:
    operation = found.get(command.receipt or "")
    if operation is None:
        answer = await channel.operation(command.receipt or "")
        if isinstance(answer, Gone):
            return await _vanished(s, work, command, absence)
        if isinstance(answer, Unreachable):
            return None
        operation = answer
    s.absences.forget(command.id, _OPERATION)
    result = result_of(s, command, operation)
    return await back_again(work, command) if result is None and ends_record(command) else result


async def _vanished(s: Services, work: UnitOfWork, command: Command, absence: Absence) -> Event | None:
    """The operation is gone, which by itself tells nothing of what became of it."""
    if ends_record(command) and absence.is_likely(command):
        return await absence.meaning(command)
    if s.clock.now() < command.expires_at:
        # One answer decides nothing: ask again until its time is over.
        return await back_again(work, command) if ends_record(command) else None
    if s.absences.seen(command.id, _OPERATION, s.clock.elapsed()) < s.limits.absence_window_s * SECOND:
        return None  # nor does one afterwards: Google has been seen to say so of what is there
    s.absences.forget(command.id)
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


async def _look_again(s: Services, work: UnitOfWork, item: OutboxItem, absence: Absence) -> None:
    waiting = _bound(await work.commands.live_of_device(item.subject_id, _MAX_OPEN))
    changes = ChangeSet(item.organization_id)
    if waiting:
        owed = await s.store.system.owed("look_up")
        newest = max(c.issue_at or c.created_at for c in waiting)
        # What seems gone is looked for a second time soon.
        is_missed = any(
            (ends_record(c) and absence.is_likely(c)) or s.absences.is_missed(c.id, _OPERATION) for c in waiting
        )
        cap_s = min(s.limits.look_up_cap_s, s.limits.absence_window_s) if is_missed else s.limits.look_up_cap_s
        changes.put_off(item, s.later(next_look_up_s(s, newest, owed, cap_s)))
    else:
        changes.settle(item)
    await work.commit(changes)
