"""Hand a push to its provider, and take one back."""

from dataclasses import dataclass

import structlog

from heliograph.app.dispatch import backoff_s
from heliograph.app.services import SECOND, Services, until_committed
from heliograph.domain.deliveries import Push, PushAccepted, PushExpired, PushRejected, PushRevoked, PushRung
from heliograph.domain.devices import PushTarget
from heliograph.domain.errors import Conflict
from heliograph.domain.ladder import Command, Issued
from heliograph.ports.changes import ChangeSet, OutboxItem
from heliograph.ports.push import Accepted, CannotWithdraw, PushMessage, Rejected, RetryLater, Unavailable, Withdrawn
from heliograph.ports.store import UnitOfWork

log = structlog.get_logger("heliograph.push")

OUR_LINE = "builtin"


async def deliver_push(s: Services, item: OutboxItem) -> None:
    """Send one push. The outcome, the command's next rung and the settled debt are one commit."""
    work = s.store.unit_of_work(item.organization_id)
    push = await work.pushes.find(item.subject_id)
    changes = ChangeSet(item.organization_id)
    command = None if push is None else await _command_of(work, push)
    if push is None or push.rung is not PushRung.QUEUED or _is_void(s, push, command, changes):
        changes.settle(item)
        await work.commit(changes)
        return
    provider = await s.providers.provider(push.organization_id, push.provider, push.account_id)
    target = await _target_of(work, push)
    if provider is None or target is None:
        outcome: Accepted | Rejected | RetryLater = Rejected("no usable address or provider account is left")
    else:
        outcome = await provider.send(_message(s, push), target)
    match outcome:
        case Accepted():
            await _Acceptance(s, work, item, outcome).record(push, command)
        case Rejected():
            event = PushRejected(source=f"provider:{push.provider}", evidence=outcome.evidence, reason=outcome.reason)
            changes.move_push(push, event, s.clock.now())
            changes.bury(item, outcome.reason)
            await work.commit(changes)
            log.warning("push.rejected", push=push.id, provider=push.provider, reason=outcome.reason)
        case RetryLater():
            changes.put_off(item, s.later(backoff_s(s, item.attempts, outcome.after_s)))
            await work.commit(changes)


async def _command_of(work: UnitOfWork, push: Push) -> Command | None:
    return await work.commands.find(push.command_id) if push.command_id else None


def _is_void(s: Services, push: Push, command: Command | None, changes: ChangeSet) -> bool:
    """Whether sending makes no sense any more; the push is moved accordingly."""
    if push.expires_at <= s.clock.now():
        changes.move_push(push, PushExpired(source="dispatcher"), s.clock.now())
        return True
    if push.command_id and (command is None or command.is_over):
        changes.move_push(push, PushRevoked(source="dispatcher", evidence={"why": "command is over"}), s.clock.now())
        return True
    return False


async def _target_of(work: UnitOfWork, push: Push) -> PushTarget | None:
    targets = await work.devices.targets(push.device_id, push.app)
    return next((t for t in targets if t.provider == push.provider), None)


def _message(s: Services, push: Push) -> PushMessage:
    return PushMessage(
        id=push.id,
        kind=push.kind,
        life_s=max(1, (push.expires_at - s.clock.now()) // SECOND),
        command_id=push.command_id,
        title=push.message.get("title"),
        body=push.message.get("body"),
        data=push.message.get("data"),
    )


@dataclass(frozen=True, slots=True)
class _Acceptance:
    """Records that a provider has taken a push."""

    s: Services
    work: UnitOfWork
    item: OutboxItem
    outcome: Accepted

    async def record(self, push: Push, command: Command | None) -> None:
        """From what was read before the provider was asked; read afresh only if somebody has changed it since."""

        async def afresh() -> None:
            current = await self.work.pushes.find(push.id) or push
            await self._commit(current, await _command_of(self.work, push))

        try:
            await self._commit(push, command)
        except Conflict:
            await until_committed(afresh)

    async def _commit(self, push: Push, command: Command | None) -> None:
        outcome, source, now = self.outcome, f"provider:{push.provider}", self.s.clock.now()
        evidence = outcome.evidence | {"reference": outcome.reference}
        accepted = PushAccepted(
            source=source, evidence=evidence, reference=outcome.reference, expires_at=outcome.expires_at
        )
        changes = ChangeSet(self.item.organization_id)
        changes.move_push(push, accepted, now)
        if command is not None:
            issued = Issued(source=source, evidence={"pushId": outcome.reference}, push_id=outcome.reference)
            changes.move(command, issued, now)
            if command.is_over:
                # It ended while its push was on the way: take the push back.
                changes.owe(self.s.debt(push.organization_id, "revoke", push.id))
        if push.provider == OUR_LINE:
            changes.wake_device(push.device_id)
        changes.settle(self.item)
        await self.work.commit(changes)


async def revoke_push(s: Services, item: OutboxItem) -> None:
    """Withdraw a push whose command is over, where its provider can. No proof of anything: the lost claim is."""
    work = s.store.unit_of_work(item.organization_id)
    push = await work.pushes.find(item.subject_id)
    changes = ChangeSet(item.organization_id)
    if push is None or push.is_over:
        changes.settle(item)
        await work.commit(changes)
        return
    answer: Withdrawn | CannotWithdraw | Unavailable = Withdrawn()
    if push.reference is not None:
        provider = await s.providers.provider(push.organization_id, push.provider, push.account_id)
        answer = CannotWithdraw("account gone") if provider is None else await provider.withdraw(push.reference)
    match answer:
        case Withdrawn():
            changes.move_push(push, PushRevoked(source=f"provider:{push.provider}"), s.clock.now())
            changes.settle(item)
        case CannotWithdraw():
            changes.settle(item)
        case Unavailable():
            changes.put_off(item, s.later(backoff_s(s, item.attempts, answer.after_s)))
    await work.commit(changes)
