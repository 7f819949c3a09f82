"""Hand an Android command to Google, once. An attempt without an answer is looked for, never repeated blindly."""

from heliograph.app.dispatch import backoff_s
from heliograph.app.effects.upstream import owe_look_up, result_of
from heliograph.app.services import SECOND, Services, secret_lost, until_committed
from heliograph.domain.devices import Device
from heliograph.domain.errors import Conflict
from heliograph.domain.ladder import (
    CancelRequested,
    Command,
    Failed,
    Issue,
    Issued,
    IssueRefused,
    IssueStarted,
    Noted,
    Reason,
    Rung,
    Undeliverable,
)
from heliograph.ports.changes import ChangeSet, OutboxItem
from heliograph.ports.channel import (
    Gone,
    IssueAnswer,
    ManagementChannel,
    NotTaken,
    Operations,
    Refused,
    Taken,
    Uncertain,
)
from heliograph.ports.store import UnitOfWork

_SOURCE = "amapi"
_CLOCK_SKEW_US = 600 * SECOND  # Google's createTime against our clock
_RECHECK_S = 1.0
_LAST_HOPE_US = 24 * 3600 * SECOND


async def issue_command(s: Services, item: OutboxItem) -> None:
    """Issue one command, or find out what became of an attempt that gave no answer."""
    work = s.store.unit_of_work(item.organization_id)
    command = await work.commands.find(item.subject_id)
    if command is None or command.is_over or command.issue is Issue.BOUND:
        changes = ChangeSet(item.organization_id)
        changes.settle(item)
        await work.commit(changes)
        return
    device = await work.devices.find("android", command.device_id)
    channel = await s.channels.channel(command.organization_id, command.enterprise_id)
    if device is None or channel is None or not device.external_name:
        await _retry(s, work, item, backoff_s(s, item.attempts))  # the enterprise has no usable credentials yet
    elif command.issue is Issue.OPEN:
        await _Search(s, work, item, command, channel).resolve()
    else:
        await _issue(s, work, item, command, device, channel)


async def _issue(
    s: Services, work: UnitOfWork, item: OutboxItem, command: Command, device: Device, channel: ManagementChannel
) -> None:
    params = s.open_params(command)
    if params is None:
        changes = ChangeSet(item.organization_id)
        changes.move(command, secret_lost("dispatcher"), s.clock.now())
        changes.settle(item)
        await work.commit(changes)
        return
    started = await _mark_started(s, work, command)
    if started is None:
        await _retry(s, work, item, 0.0)  # changed meanwhile
        return
    answer = await channel.issue(device, started, params)
    await until_committed(lambda: _record(s, work, item, started.id, answer))


async def _mark_started(s: Services, work: UnitOfWork, command: Command) -> Command | None:
    """Make durable that an attempt begins, before it does: from here on cancel must ask Google."""
    changes = ChangeSet(work.organization_id)
    changes.move(command, IssueStarted(source="dispatcher", evidence={"attempt": "started"}), s.clock.now())
    try:
        await work.commit(changes)
    except Conflict:
        return None
    return await work.commands.find(command.id)


async def _record(s: Services, work: UnitOfWork, item: OutboxItem, command_id: str, answer: IssueAnswer) -> None:
    command = await work.commands.find(command_id)
    changes = ChangeSet(item.organization_id)
    if command is None:
        changes.settle(item)
    else:
        _apply(s, changes, item, command, answer)
    await work.commit(changes)


def _apply(s: Services, changes: ChangeSet, item: OutboxItem, command: Command, answer: IssueAnswer) -> None:
    now = s.clock.now()
    match answer:
        case Taken():
            bind(s, changes, command, answer.operation)
            changes.settle(item)
        case NotTaken():
            refused = IssueRefused(source=_SOURCE, evidence={"reason": answer.reason})
            after = changes.move(command, refused, now)
            _retry_or_cancel(s, changes, item, after, backoff_s(s, item.attempts, answer.after_s))
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


def _retry_or_cancel(s: Services, changes: ChangeSet, item: OutboxItem, command: Command, after_s: float) -> None:
    """A command that was not accepted can be cancelled with proof, if that was asked for; else it is tried again."""
    if command.cancel_requested_at is not None:
        changes.move(command, CancelRequested(source="dispatcher"), s.clock.now())
        changes.settle(item)
        changes.withdraw(f"cancel:{command.id}")
    else:
        changes.put_off(item, s.later(after_s))


def bind(s: Services, changes: ChangeSet, command: Command, operation: dict[str, object]) -> None:
    """Bind a command to its operation, take a result that it may already hold, and watch it from now on."""
    name = str(operation["name"])
    issued = Issued(source=_SOURCE, evidence={"name": name}, receipt=name, operation=operation)
    after = changes.move(command, issued, s.clock.now())
    result = result_of(s, after, operation)
    if result is not None:
        after = changes.move(after, result, s.clock.now())
    if not after.is_over:
        owe_look_up(s, changes, after)
        if after.cancel_requested_at is not None:
            changes.owe(s.debt(after.organization_id, "cancel", after.id))


async def _retry(s: Services, work: UnitOfWork, item: OutboxItem, after_s: float) -> None:
    changes = ChangeSet(item.organization_id)
    changes.put_off(item, s.later(after_s))
    await work.commit(changes)


class _Search:
    """Looks for the operation of an attempt whose answer never came."""

    def __init__(
        self, s: Services, work: UnitOfWork, item: OutboxItem, command: Command, channel: ManagementChannel
    ) -> None:
        self.s, self.work, self.item, self.command, self.channel = s, work, item, command, channel

    async def resolve(self) -> None:
        device = await self.work.devices.find("android", self.command.device_id)
        answer = await self.channel.operations(device) if device else Gone("no device")
        await until_committed(lambda: self._record(answer))

    async def _record(self, answer: object) -> None:
        command = await self.work.commands.find(self.command.id)
        changes = ChangeSet(self.item.organization_id)
        if command is None or command.rung is not Rung.QUEUED or command.issue is not Issue.OPEN:
            changes.settle(self.item)
        elif isinstance(answer, Gone):
            lost = Reason("outcome_unknown", "the device left Google's list before the attempt was answered")
            changes.move(command, Failed(source=_SOURCE, reason=lost), self.s.clock.now())
            changes.settle(self.item)
        elif isinstance(answer, Operations):
            await self._decide(changes, command, answer)
        else:
            self._give_up_or_wait(changes, command)
        await self.work.commit(changes)

    def _give_up_or_wait(self, changes: ChangeSet, command: Command) -> None:
        """The list cannot be read. Long after the command's time is over nobody will learn the outcome any more."""
        if self.s.clock.now() > command.expires_at + _LAST_HOPE_US:
            unread = Reason("outcome_unknown", "the attempt was not answered and the operations cannot be listed")
            changes.move(command, Failed(source=_SOURCE, reason=unread), self.s.clock.now())
            changes.settle(self.item)
        else:
            changes.put_off(self.item, self.s.later(backoff_s(self.s, self.item.attempts)))

    async def _decide(self, changes: ChangeSet, command: Command, listed: Operations) -> None:
        """One unbound operation of the type = ours. Two = nobody can tell. None for long enough = never accepted."""
        since = (command.issue_at or command.created_at) - _CLOCK_SKEW_US
        fitting = [op for op in listed.items if _is_candidate(op, command.type, since)]
        bound = await self.work.commands.bound_receipts([op["name"] for op in fitting])
        candidates = [op for op in fitting if op["name"] not in bound]
        waited = self.s.clock.now() - (command.issue_at or 0)
        if len(candidates) == 1:
            bind(self.s, changes, command, candidates[0])
            changes.settle(self.item)
        elif not candidates and waited >= self.s.limits.uncertainty_window_s * SECOND:
            evidence = {"reason": "absent from the list of operations", "seconds": waited // SECOND}
            after = changes.move(command, IssueRefused(source=_SOURCE, evidence=evidence), self.s.clock.now())
            _retry_or_cancel(self.s, changes, self.item, after, 0.0)
        elif candidates and self.s.clock.now() > command.expires_at:
            unclear = Reason("outcome_unknown", "several operations may be the one that was issued")
            changes.move(command, Failed(source=_SOURCE, reason=unclear), self.s.clock.now())
            changes.settle(self.item)
        else:
            changes.put_off(self.item, self.s.later(_RECHECK_S))


def _is_candidate(operation: dict[str, object], command_type: str, since: int) -> bool:
    metadata = operation.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("type") != command_type:
        return False
    # An operation's id is its create time in epoch milliseconds (research: amapi.md 0.2).
    last = str(operation.get("name", "")).rsplit("/", 1)[-1]
    return not last.isdigit() or int(last) * 1000 >= since
