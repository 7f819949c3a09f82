"""Ask Google for the state of a device's open operations: one list for all of them."""

from functools import partial
from typing import Any

import structlog

from heliograph.app.dispatch import backoff_s
from heliograph.app.effects.absence import OPERATION, Absence, back_again, endless, forgotten, is_missed
from heliograph.app.effects.upstream import (
    budget_s,
    ends_record,
    next_look_up_s,
    result_of,
    take_note,
    wait_for_google_s,
)
from heliograph.app.google_channel import NO_TOKEN, google
from heliograph.app.services import Services, until_committed
from heliograph.domain.errors import StoreUnavailable
from heliograph.domain.ladder import Command, Event, Issue
from heliograph.ports.changes import ChangeSet, OutboxItem
from heliograph.ports.channel import REFUSALS, Gone, Operations, Unreachable
from heliograph.ports.store import UnitOfWork

log = structlog.get_logger("heliograph.look_up")

_MAX_OPEN = 1_000
_MAX_SINGLE = 20  # operations that one look asks for by themselves
_NOT_ASKED = Unreachable("no usable credentials")
_UNREADABLE: dict[str, Any] = {}  # an operation that shows nothing


async def look_up_device(s: Services, item: OutboxItem) -> None:
    """Record the results that have come in for a device, and look again while anything is open."""
    work = s.store.unit_of_work(item.organization_id)
    waiting = await work.commands.live_of_device(item.subject_id, _MAX_OPEN, Issue.BOUND)
    if not waiting:
        changes = ChangeSet(item.organization_id)
        changes.settle(item)
        await work.commit(changes)
        return
    device = await work.devices.find("android", item.subject_id)
    channel = await google(s, item.organization_id, waiting[0].enterprise_id, item.priority)
    answer: Operations | Gone | Unreachable = _NOT_ASKED
    if device is not None and channel is not None:
        wait_s = wait_for_google_s(s, channel, item.priority)
        if wait_s is not None:
            await _put_off(s, work, item, wait_s)
            return
        asked_at = s.clock.elapsed()
        answer = await channel.operations(device)
        take_note(s, channel, answer, asked_at)
    if isinstance(answer, Unreachable) or channel is None or device is None:
        cost = 0 if channel is None else channel.spent
        await _put_off(s, work, item, await _after_fault_s(s, item, answer, cost))
        return
    found = {op["name"]: op for op in answer.items} if isinstance(answer, Operations) else {}
    absence = Absence(s, work, channel, device, isinstance(answer, Gone))
    hides_some = isinstance(answer, Operations) and not answer.is_whole
    single = _in_turn([command for command in waiting if command.receipt not in found], item.attempts)
    is_refused = False  # then nobody is asked any more, but what the list says is taken in
    for command in waiting:
        operation: dict[str, Any] | Gone | None = found.get(command.receipt or "")
        if operation is None and not is_refused and command.id in single:
            asked_at = s.clock.elapsed()
            asked = await channel.operation(command.receipt or "")
            take_note(s, channel, asked, asked_at)
            is_refused = isinstance(asked, Unreachable) and asked.status in REFUSALS
            # What can be read nowhere may be what the list holds and does not show.
            unread = _UNREADABLE if hides_some and not is_refused else None
            operation = unread if isinstance(asked, Unreachable) else asked
        if operation is not None:
            await _take_in(s, work, command, operation, absence)
    await _look_again(s, work, item, absence, channel.spent)


def _in_turn(unlisted: list[Command], turn: int) -> set[str]:
    """The ids of those that this look asks for by themselves: what may have erased the device, and some of the rest."""
    erasing = [c.id for c in unlisted if ends_record(c)]
    others = [c.id for c in unlisted if not ends_record(c)]
    first = turn * _MAX_SINGLE % max(1, len(others))
    return {*erasing, *(others[first:] + others[:first])[:_MAX_SINGLE]}


async def _after_fault_s(s: Services, item: OutboxItem, answer: Operations | Gone | Unreachable, cost: int) -> float:
    """The pause after a look that failed. One that Google was asked for has had its share of the budget, for each of
    its requests.
    """
    pause_s = backoff_s(s, item.attempts, answer.after_s if isinstance(answer, Unreachable) else None)
    if answer is _NOT_ASKED or answer is NO_TOKEN:
        return pause_s
    return max(pause_s, budget_s(s, await s.store.system.owed("look_up", item.priority) * max(1, cost)))


async def _put_off(s: Services, work: UnitOfWork, item: OutboxItem, seconds: float) -> None:
    changes = ChangeSet(item.organization_id)
    changes.put_off(item, s.later(seconds))
    await work.commit(changes)


async def _take_in(
    s: Services, work: UnitOfWork, command: Command, operation: dict[str, Any] | Gone, absence: Absence
) -> None:
    """Record what an answer means for one command; what cannot be recorded never keeps the others' results from us."""
    try:
        event = await _meaning(s, command, operation, absence)
        if event is not None:
            await until_committed(partial(record_result, s, work, command.id, event))
    except StoreUnavailable:
        raise
    except Exception:
        log.exception("look_up.failed", command=command.id)


async def _meaning(s: Services, command: Command, operation: dict[str, Any] | Gone, absence: Absence) -> Event | None:
    if not isinstance(operation, Gone):
        s.absences.forget(command.id, OPERATION)
        return result_of(s, command, operation) or back_again(command) or endless(s, command)
    if ends_record(command) and absence.is_likely(command):
        return await absence.meaning(command)
    return forgotten(s, command)


async def record_result(s: Services, work: UnitOfWork, command_id: str, event: Event) -> bool:
    """Store what was learnt about a command, if anything was. The one way in for results from upstream."""
    command = await work.commands.find(command_id)
    if command is None:
        return False
    changes = ChangeSet(work.organization_id)
    after = changes.move(command, event, s.clock.now())
    if after is command:
        return False
    if after.is_over:
        changes.withdraw(f"cancel:{command_id}")
    await work.commit(changes)
    return True


async def _look_again(s: Services, work: UnitOfWork, item: OutboxItem, absence: Absence, cost: int) -> None:
    """The next look comes in the order of what this one has cost: so many requests."""
    waiting = await work.commands.live_of_device(item.subject_id, _MAX_OPEN, Issue.BOUND)
    changes = ChangeSet(item.organization_id)
    if waiting:
        owed = await s.store.system.owed("look_up", item.priority)
        newest = max(c.issue_at or c.created_at for c in waiting)
        # What seems gone is looked for a second time soon.
        missed = any(s.absences.is_missed(c.id, OPERATION) for c in waiting)
        missed = missed or any(is_missed(c) for c in waiting if ends_record(c) and absence.is_likely(c))
        cap_s = min(s.limits.look_up_cap_s, s.limits.absence_window_s) if missed else s.limits.look_up_cap_s
        changes.put_off(item, s.later(next_look_up_s(s, newest, owed * max(1, cost), cap_s)))
    else:
        changes.settle(item)
    await work.commit(changes)
