"""Hand an Android command to Google, once.

An attempt is known by the time at which it was marked as begun (`issue_at`). Only its own outcome may say that it was
not accepted; that an operation exists is a fact, whoever reports it and however late.
"""

from functools import partial
from typing import Any

from heliograph.app.dispatch import backoff_s
from heliograph.app.effects.erasure import device_name, in_flight
from heliograph.app.effects.fitness import check_fitness
from heliograph.app.effects.strays import BEGAN_THERE
from heliograph.app.effects.uncertain import bind, resolve_attempt, retry_or_cancel, unresolvable
from heliograph.app.effects.upstream import LATE_US, ends_record
from heliograph.app.google_channel import MeteredChannel, google
from heliograph.app.services import SECOND, Services, secret_lost, until_committed
from heliograph.domain.devices import Device
from heliograph.domain.errors import Conflict
from heliograph.domain.ladder import (
    Command,
    Event,
    Expired,
    Failed,
    Issue,
    IssueRefused,
    IssueStarted,
    Noted,
    Reason,
    Undeliverable,
)
from heliograph.ports.changes import ChangeSet, OutboxItem
from heliograph.ports.channel import IssueAnswer, NotTaken, Refused, Taken, Uncertain
from heliograph.ports.store import UnitOfWork

_SOURCE, _OURS = "amapi", "dispatcher"
_RECHECK_S = 1.0


async def issue_command(s: Services, item: OutboxItem) -> None:
    """Issue one command, or find out what became of an attempt that gave no answer."""
    work = s.store.unit_of_work(item.organization_id)
    command = await work.commands.find(item.subject_id)
    if command is None or command.is_over or command.issue is Issue.BOUND:
        await _settle(work, item)
        return
    device = await work.devices.find("android", command.device_id)
    channel = await google(s, command.organization_id, command.enterprise_id, item.priority)
    if command.issue is Issue.IDLE and command.expires_at <= s.clock.now():
        await _end(s, work, item, command, Expired(source="dispatcher"))
    elif device is None or channel is None or not device.external_name:
        await _without_channel(s, work, item, command)
    elif command.issue is Issue.OPEN:
        await resolve_attempt(s, work, item, command, device, channel)
    else:
        await _issue(s, work, item, command, device, channel)


async def _issue(
    s: Services, work: UnitOfWork, item: OutboxItem, command: Command, device: Device, channel: MeteredChannel
) -> None:
    params = s.open_params(command)
    if params is None:
        await _end(s, work, item, command, secret_lost("dispatcher"))
        return
    if not await check_fitness(s, work, item, command, device, channel, params):
        return
    if not await channel.prepare():
        changes = ChangeSet(item.organization_id)
        changes.put_off(item, item.due_at)  # the queue is long: it keeps its place
        await work.commit(changes)
        return
    began = s.clock.elapsed()
    changes = ChangeSet(work.organization_id)
    started = IssueStarted(
        source=_OURS,
        evidence={"attempt": "started"},
        device_name=device.external_name,
        findings={BEGAN_THERE: channel.time()},
    )
    marked = changes.move(command, started, s.clock.now())
    try:
        await work.commit(changes)  # durable before the call: from here on cancel must ask Google
    except Conflict:
        await _retry(s, work, item, 0.0)  # changed meanwhile
        return
    source, answer = _OURS, await _overtaken(work, marked)
    if answer is None:
        source = _SOURCE
        answer = await channel.issue(device, marked, _with_life(s, marked, params), _time_left_s(s, began))
    await until_committed(partial(_record, s, work, item, marked, answer, source))


async def _overtaken(work: UnitOfWork, marked: Command) -> IssueAnswer | None:
    """Another that may erase the device was begun between our look and our mark. Each process looks again once it has
    marked its own, so one at the least sees the other, and sends nothing.
    """
    if not ends_record(marked):
        return None
    other = await in_flight(work, marked, device_name(marked))
    return None if other is None else NotTaken(f"{other.type} was begun at the same time")


def _time_left_s(s: Services, began: int) -> float:
    """What is left of the attempt's time. A process that was held up since must not send any more: others may have
    looked for the attempt meanwhile, and decided.
    """
    return s.limits.issue_timeout_s - (s.clock.elapsed() - began) / SECOND


def _with_life(s: Services, command: Command, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters, with less duration where a part of it is over, so that Google's expiry is not after ours."""
    now = s.clock.now()
    if now - command.created_at < LATE_US:
        return params
    return params | {"duration": f"{max(1, (command.expires_at - now) // SECOND)}s"}


async def _record(
    s: Services, work: UnitOfWork, item: OutboxItem, attempt: Command, answer: IssueAnswer, source: str
) -> None:
    command = await work.commands.find(attempt.id)
    changes = ChangeSet(item.organization_id)
    if command is None:
        changes.settle(item)
    elif isinstance(answer, Taken):
        bind(s, changes, item, command, answer.operation)
        changes.settle(item)
    elif command.issue is Issue.OPEN and command.issue_at == attempt.issue_at:
        _apply(s, changes, item, command, answer, source)
    else:
        changes.put_off(item, s.later(_RECHECK_S))  # overtaken: another attempt, or another decision, counts
    await work.commit(changes)


def _apply(
    s: Services,
    changes: ChangeSet,
    item: OutboxItem,
    command: Command,
    answer: NotTaken | Refused | Uncertain,
    source: str,
) -> None:
    now = s.clock.now()
    match answer:
        case NotTaken():
            after = changes.move(command, IssueRefused(source=source, evidence={"reason": answer.reason}), now)
            attempts = after.attempts.count if after.attempts else item.attempts  # not how often it had to wait
            retry_or_cancel(s, changes, item, after, backoff_s(s, attempts, answer.after_s))
        case Refused():
            reason = Reason(answer.code, answer.message)
            event = (
                Undeliverable(source=_SOURCE, reason=reason) if answer.gone else Failed(source=_SOURCE, reason=reason)
            )
            changes.move(command, event, now)
            changes.settle(item)
        case Uncertain():
            changes.move(command, Noted(source=_SOURCE, evidence={"uncertain": answer.reason}), now)
            changes.put_off(item, s.later(_RECHECK_S))


async def _without_channel(s: Services, work: UnitOfWork, item: OutboxItem, command: Command) -> None:
    """The enterprise has no usable credentials, or the device no name at Google. Either may be put right."""
    if command.issue is Issue.OPEN and (lost := unresolvable(s, command)) is not None:
        await _end(s, work, item, command, lost)
    else:
        await _retry(s, work, item, backoff_s(s, item.attempts))


async def _end(s: Services, work: UnitOfWork, item: OutboxItem, command: Command, event: Event) -> None:
    changes = ChangeSet(item.organization_id)
    changes.move(command, event, s.clock.now())
    changes.withdraw(f"cancel:{command.id}")
    changes.settle(item)
    await work.commit(changes)


async def _retry(s: Services, work: UnitOfWork, item: OutboxItem, after_s: float) -> None:
    changes = ChangeSet(item.organization_id)
    changes.put_off(item, s.later(after_s))
    await work.commit(changes)


async def _settle(work: UnitOfWork, item: OutboxItem) -> None:
    changes = ChangeSet(item.organization_id)
    changes.settle(item)
    await work.commit(changes)
