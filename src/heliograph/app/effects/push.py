"""Hand a push to its provider, and take one back."""

from heliograph.app.dispatch import backoff_s
from heliograph.app.services import SECOND, Services, until_committed
from heliograph.domain.deliveries import Push, PushAccepted, PushExpired, PushRejected, PushRevoked, PushRung
from heliograph.domain.devices import PushTarget
from heliograph.domain.ladder import Issued
from heliograph.ports.changes import ChangeSet, OutboxItem
from heliograph.ports.push import Accepted, CannotWithdraw, PushMessage, Rejected, RetryLater, Unavailable, Withdrawn
from heliograph.ports.store import UnitOfWork

OUR_LINE = "builtin"


async def deliver_push(s: Services, item: OutboxItem) -> None:
    """Send one push. The outcome, the command's next rung and the settled debt are one commit."""
    work = s.store.unit_of_work(item.organization_id)
    push = await work.pushes.find(item.subject_id)
    changes = ChangeSet(item.organization_id)
    if push is None or push.rung is not PushRung.QUEUED or await _is_void(s, work, push, changes):
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
            await _record_accepted(s, work, item, push, outcome)
        case Rejected():
            event = PushRejected(source=f"provider:{push.provider}", evidence=outcome.evidence, reason=outcome.reason)
            changes.move_push(push, event, s.clock.now())
            changes.bury(item, outcome.reason)
            await work.commit(changes)
        case RetryLater():
            changes.put_off(item, s.later(backoff_s(s, item.attempts, outcome.after_s)))
            await work.commit(changes)


async def _is_void(s: Services, work: UnitOfWork, push: Push, changes: ChangeSet) -> bool:
    """Whether sending makes no sense any more; the push is moved accordingly."""
    if push.expires_at <= s.clock.now():
        changes.move_push(push, PushExpired(source="dispatcher"), s.clock.now())
        return True
    command = await work.commands.find(push.command_id) if push.command_id else None
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


async def _record_accepted(s: Services, work: UnitOfWork, item: OutboxItem, push: Push, outcome: Accepted) -> None:
    source = f"provider:{push.provider}"
    accepted = PushAccepted(
        source=source,
        evidence=outcome.evidence | {"reference": outcome.reference},
        reference=outcome.reference,
        expires_at=outcome.expires_at,
    )

    async def record() -> None:
        changes = ChangeSet(item.organization_id)
        now = s.clock.now()
        current = await work.pushes.find(push.id) or push
        changes.move_push(current, accepted, now)
        if push.command_id is not None:
            command = await work.commands.find(push.command_id)
            if command is not None:
                issued = Issued(source=source, evidence={"pushId": outcome.reference}, push_id=outcome.reference)
                changes.move(command, issued, now)
                if command.is_over:
                    # It ended while its push was on the way: take the push back.
                    changes.owe(s.debt(push.organization_id, "revoke", push.id))
        if push.provider == OUR_LINE:
            changes.wake_device(push.device_id)
        changes.settle(item)
        await work.commit(changes)

    await until_committed(record)


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
