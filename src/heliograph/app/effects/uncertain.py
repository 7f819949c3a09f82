"""An attempt at Google that gave no answer: look for its operation, never repeat it blindly.

Absence from a list proves nothing by itself: the request may still be on its way. It counts once this process has
seen it, look by look on a clock that nobody sets, for longer than an attempt can be sent plus the window; and even
then the device is watched for a while, and an operation that comes after all is cancelled at Google (`strays`).
"""

from dataclasses import dataclass, replace
from typing import Any

from heliograph.app.dispatch import backoff_s
from heliograph.app.effects.strays import (
    ABSENT_SINCE,
    ABSENT_SINCE_THERE,
    BEGAN_THERE,
    issued_since,
    owe_stray_cancel,
    owe_watch,
    unbound,
)
from heliograph.app.effects.upstream import owe_cancel, owe_look_up, result_of
from heliograph.app.services import SECOND, Services, until_committed
from heliograph.domain.devices import Device
from heliograph.domain.ladder import (
    CancelRequested,
    Command,
    Failed,
    Issue,
    Issued,
    IssueRefused,
    Reason,
    Rung,
    Strayed,
)
from heliograph.ports.changes import ChangeSet, OutboxItem
from heliograph.ports.channel import Gone, ManagementChannel, Operations, Unreachable
from heliograph.ports.store import UnitOfWork

_SOURCE = "amapi"
_RECHECK_S, _LONGEST_PAUSE_S = 1.0, 60.0
_LOOKS_FOR_DEVICE = 4  # some may go unanswered, so time alone says little
_LAST_HOPE_US = 24 * 3600 * SECOND


def bind(s: Services, changes: ChangeSet, item: OutboxItem, command: Command, operation: dict[str, Any]) -> None:
    """Bind a command to its operation, take a result that it may already hold, and watch it from now on.

    An operation of a command that is over, or bound to another, is a stray: it is cancelled at Google.
    """
    name = str(operation["name"])
    if command.receipt == name:
        return
    if command.is_over or command.issue is Issue.BOUND:
        changes.move(command, Strayed(source=_SOURCE, evidence={"stray": name}), s.clock.now())
        owe_stray_cancel(s, changes, name, command.enterprise_id)
        return
    s.absences.forget(command.id)
    issued = Issued(source=_SOURCE, evidence={"name": name}, receipt=name, operation=operation)
    after = changes.move(command, issued, s.clock.now())
    result = result_of(s, after, operation)
    if result is not None:
        after = changes.move(after, result, s.clock.now())
    if not after.is_over:
        owe_look_up(s, changes, after, item.priority)
        if after.cancel_requested_at is not None:
            owe_cancel(s, changes, after)


def retry_or_cancel(s: Services, changes: ChangeSet, item: OutboxItem, command: Command, after_s: float) -> None:
    """A command that was not accepted can be cancelled with proof, if that was asked for; else it is tried again."""
    if command.cancel_requested_at is not None:
        changes.move(command, CancelRequested(source="dispatcher"), s.clock.now())
        changes.settle(item)
        changes.withdraw(f"cancel:{command.id}")
    else:
        changes.put_off(item, s.later(after_s))


def unresolvable(s: Services, command: Command) -> Failed | None:
    """Long after the command's time is over nobody will learn any more what became of the attempt."""
    if s.clock.now() <= command.expires_at + _LAST_HOPE_US:
        return None
    reason = Reason("outcome_unknown", "the attempt was not answered and the operations cannot be listed")
    return Failed(source=_SOURCE, reason=reason)


async def resolve_attempt(
    s: Services, work: UnitOfWork, item: OutboxItem, command: Command, device: Device, channel: ManagementChannel
) -> None:
    """Look once for the operation of an attempt, and decide if that can be."""
    if command.device_name is not None:
        device = replace(device, external_name=command.device_name)  # which may have enrolled again under another since
    asked = s.clock.elapsed()  # what the answer says, it says of then: this process may be held up before it reads it
    answer = await _look(device, channel)
    search = _Search(s, work, item, command, asked)
    await until_committed(lambda: search.record(answer))


async def _look(device: Device, channel: ManagementChannel) -> Operations | Gone | Unreachable:
    """The operations of a device. Gone only where the device is not known either: one wrong 404 decides nothing."""
    answer = await channel.operations(device)
    if isinstance(answer, Operations) and not answer.is_whole:
        return Unreachable("an operation in the list cannot be read, which may be the one")
    if not isinstance(answer, Gone):
        return answer
    known = await channel.device(device.external_name or "")
    if isinstance(known, Gone):
        return answer
    return known if isinstance(known, Unreachable) else Unreachable("the device is there, its list is not")


@dataclass(frozen=True, slots=True)
class _Search:
    s: Services
    work: UnitOfWork
    item: OutboxItem
    attempt: Command
    asked: int

    async def record(self, answer: Operations | Gone | Unreachable) -> None:
        command = await self.work.commands.find(self.attempt.id)
        changes = ChangeSet(self.item.organization_id)
        if command is None or command.rung is not Rung.QUEUED or command.issue is not Issue.OPEN:
            changes.settle(self.item)
        elif command.issue_at != self.attempt.issue_at:
            changes.put_off(self.item, self.s.later(_RECHECK_S))  # what was seen says nothing of the new attempt
        elif isinstance(answer, Unreachable):
            self._wait_or_give_up(changes, command, answer)
        elif isinstance(answer, Gone):
            self._give_up_in_time(changes, command)
        else:
            await self._decide(changes, command, answer)
        await self.work.commit(changes)

    def _wait_or_give_up(self, changes: ChangeSet, command: Command, answer: Unreachable) -> None:
        lost = unresolvable(self.s, command)
        if lost is None:
            pause_s = backoff_s(self.s, self.item.attempts, answer.after_s)
            changes.put_off(self.item, self.s.later(pause_s))
        else:
            changes.move(command, lost, self.s.clock.now())
            changes.settle(self.item)

    def _give_up_in_time(self, changes: ChangeSet, command: Command) -> None:
        """The device is gone, and what it had with it. Counts once every look for long enough has said so."""
        if self._has_lasted(command, "device", looks=_LOOKS_FOR_DEVICE):
            self._fail(changes, command, "the device left Google's list before the attempt was answered")
        else:
            changes.put_off(self.item, self.s.later(_RECHECK_S))

    async def _decide(self, changes: ChangeSet, command: Command, answer: Operations) -> None:
        """One unbound operation of the type = ours. Two = nobody can tell. None for long enough = not accepted."""
        self.s.absences.forget(command.id, "device")
        since = issued_since(self.s, command, answer)
        found = await unbound(self.work, command, answer, since)
        if len(found) == 1:
            bind(self.s, changes, self.item, command, found[0])
            changes.settle(self.item)
        elif found and self.s.clock.now() > command.expires_at:
            self._fail(changes, command, "several operations may be the one that was issued")
        elif found:
            changes.put_off(self.item, self.s.later(self._patience_s(command)))
        elif not self._has_lasted(command, f"attempt {command.issue_at}"):
            changes.put_off(self.item, self.s.later(_RECHECK_S))
        else:
            self._refuse(changes, command)

    def _patience_s(self, command: Command) -> float:
        """Nothing but time will tell several candidates apart, so it looks ever less often."""
        lasted_s = (self.s.clock.now() - (command.issue_at or command.created_at)) / SECOND
        return min(_LONGEST_PAUSE_S, max(_RECHECK_S, lasted_s / 20))

    def _has_lasted(self, command: Command, what: str, looks: int = 2) -> bool:
        limits = self.s.limits
        absent_us = self.s.absences.seen(command.id, what, self.asked, looks=looks)
        return absent_us >= (limits.issue_timeout_s + limits.uncertainty_window_s) * SECOND

    def _refuse(self, changes: ChangeSet, command: Command) -> None:
        self.s.absences.forget(command.id)
        evidence = {"reason": "absent from the list of operations, look by look"}
        known = command.findings or {}
        first = {ABSENT_SINCE: command.issue_at, ABSENT_SINCE_THERE: known.get(BEGAN_THERE)}
        findings = None if ABSENT_SINCE in known else first
        refused = IssueRefused(source=_SOURCE, evidence=evidence, findings=findings)
        after = changes.move(command, refused, self.s.clock.now())
        owe_watch(self.s, changes, command)
        retry_or_cancel(self.s, changes, self.item, after, 0.0)

    def _fail(self, changes: ChangeSet, command: Command, why: str) -> None:
        self.s.absences.forget(command.id)
        reason = Reason("outcome_unknown", why)
        changes.move(command, Failed(source=_SOURCE, reason=reason), self.s.clock.now())
        changes.settle(self.item)
