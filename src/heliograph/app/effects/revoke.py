"""Take a push back: its command is over, or it went several ways and was acknowledged."""

from dataclasses import dataclass, replace

from heliograph.app.account_requests import USED_UP, may_ask
from heliograph.app.dispatch import backoff_s
from heliograph.app.routes import OUR_LINE
from heliograph.app.services import Services, until_committed
from heliograph.domain.deliveries import Leg, Push, PushNoted, PushRevoked, PushRung, WayWithdrawn
from heliograph.ports.changes import ChangeSet, OutboxItem
from heliograph.ports.push import CannotWithdraw, PushProvider, Unavailable, WithdrawAnswer, Withdrawn
from heliograph.ports.store import UnitOfWork

_HEARD = (PushRung.ACKNOWLEDGED, PushRung.EXECUTED)


async def revoke_push(s: Services, item: OutboxItem) -> None:
    """Withdraw a push wherever it went, where its providers can. No proof of anything: the lost claim is.

    A push that no provider has named yet is left to `deliver_push`, which knows whether one can have it.
    """
    work = s.store.unit_of_work(item.organization_id)
    push = await work.pushes.find(item.subject_id)
    answers = [] if push is None else await _withdraw(s, push, item.priority)
    await until_committed(lambda: _record(s, work, item, answers))


@dataclass(frozen=True, slots=True)
class _Answer:
    leg: Leg
    said: WithdrawAnswer


def _taken(push: Push) -> list[Leg]:
    """The legs that some provider has taken and may hold yet.

    Also of one that was given up as unsent, and turned out to have been taken after all. Of one that was acknowledged
    nobody says by which way it came, so the present one is among them, unless nothing waits there: as its provider
    says, or on our own line, which offers what is open.
    """
    legs = list(push.legs or ())
    may_wait = push.pending_devices != 0 and push.provider != OUR_LINE
    if push.rung in (PushRung.ACCEPTED, PushRung.REVOKED) or (push.rung in _HEARD and may_wait):
        legs.append(Leg(push.provider, push.account_id, push.reference))
    over = [leg for leg in legs if leg.withdrawn]
    return [leg for leg in legs if leg.reference is not None and replace(leg, withdrawn=True) not in over]


async def _withdraw(s: Services, push: Push, priority: int) -> list[_Answer]:
    """Ask all, or nobody yet: who has taken the push back would not know it the next time."""
    legs = _taken(push)
    providers = [await s.providers.provider(push.organization_id, leg.provider, leg.account_id) for leg in legs]
    for leg, provider in zip(legs, providers, strict=True):
        if provider is not None and not await may_ask(s, leg.provider, leg.account_id, priority):
            return [_Answer(leg, USED_UP) for leg in legs]
    return [_Answer(leg, await _answer(s, leg, provider)) for leg, provider in zip(legs, providers, strict=True)]


async def _answer(s: Services, leg: Leg, provider: PushProvider | None) -> WithdrawAnswer:
    if provider is not None:
        return await provider.withdraw(leg.reference or "")
    if s.providers.plugin(leg.provider) is None:
        return Unavailable(f"this process has no plug-in for {leg.provider}")
    return CannotWithdraw("account gone")


async def _record(s: Services, work: UnitOfWork, item: OutboxItem, answers: list[_Answer]) -> None:
    push = await work.pushes.find(item.subject_id)
    changes = ChangeSet(item.organization_id)
    silent = [a.said for a in answers if isinstance(a.said, Unavailable)]
    if push is None or not answers:
        changes.settle(item)
    elif silent and s.clock.now() < push.expires_at:
        _keep(changes, push, answers, s.clock.now())
        after_s = max((answer.after_s or 0 for answer in silent), default=0)
        changes.put_off(item, s.later(backoff_s(s, item.attempts, after_s)))
    else:
        _note(changes, push, answers, s.clock.now())
        changes.settle(item)
    await work.commit(changes)


def _keep(changes: ChangeSet, push: Push, answers: list[_Answer], now: int) -> None:
    """Who has taken it back by now: the next time it would not know the push. Our own line always does."""
    for leg in (answer.leg for answer in answers if isinstance(answer.said, Withdrawn)):
        if leg.provider != OUR_LINE:
            push = changes.move_push(push, _withdrawn(leg), now)


def _withdrawn(leg: Leg) -> WayWithdrawn:
    return WayWithdrawn(
        source=f"provider:{leg.provider}",
        evidence={"withdrawn": leg.reference},
        provider=leg.provider,
        account_id=leg.account_id,
        reference=leg.reference or "",  # each way that is asked has one
    )


def _note(changes: ChangeSet, push: Push, answers: list[_Answer], now: int) -> None:
    """What each way said. The push is revoked when none can have it, the present one included, and nobody has heard it.

    Else who has given it back is kept: the present way may not be known yet, and would find the others asked again.
    That the way on which an acknowledged one may have come has nothing of it any more is not worth a line.
    """
    is_heard = push.rung in _HEARD
    asked = [answer.leg for answer in answers] + [leg for leg in push.legs or () if leg.withdrawn]
    is_asked = any((leg.provider, leg.reference) == (push.provider, push.reference) for leg in asked)
    is_back = is_asked and not is_heard and all(isinstance(answer.said, Withdrawn) for answer in answers)
    is_revoked = is_back and not _may_have_left_more(push)
    for answer in answers:
        source = f"provider:{answer.leg.provider}"
        is_present = (answer.leg.provider, answer.leg.reference) == (push.provider, push.reference)
        if is_heard and is_present and isinstance(answer.said, CannotWithdraw):
            continue
        if not isinstance(answer.said, Withdrawn):
            push = changes.move_push(push, PushNoted(source=source, evidence={"notWithdrawn": answer.said.reason}), now)
        elif is_present and is_revoked:
            continue
        elif is_revoked or (answer.leg.provider == OUR_LINE and push.is_over):
            evidence = {"withdrawn": answer.leg.reference}
            push = changes.move_push(push, PushNoted(source=source, evidence=evidence), now)
        elif answer.leg.provider != OUR_LINE:  # that goes on offering what is open
            push = changes.move_push(push, _withdrawn(answer.leg), now)
    if is_back:
        _end(changes, push, now)


def _end(changes: ChangeSet, push: Push, now: int) -> None:
    """Of one that every way has given back that said that it took it."""
    if not _may_have_left_more(push):
        changes.move_push(push, PushRevoked(source=f"provider:{push.provider}"), now)
    elif not push.is_over:
        evidence = {"why": "command is over", "unansweredAttempts": push.unanswered}
        changes.move_push(push, PushNoted(source="dispatcher", evidence=evidence), now)


def _may_have_left_more(push: Push) -> bool:
    """Whether an attempt without an answer may have left one that nobody can name. Nothing leaves by our own line."""
    ways = {push.provider, *(leg.provider for leg in push.legs or ())}
    return push.unanswered > 0 and ways != {OUR_LINE}
