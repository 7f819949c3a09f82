"""Hand a push to its provider."""

from dataclasses import replace

import structlog

from heliograph.app.account_health import NOTHING, Lesson
from heliograph.app.dispatch import backoff_s
from heliograph.app.routes import OUR_LINE, ChosenTarget, message_of, next_route, patience_s, way_back, way_round
from heliograph.app.services import SECOND, Services, until_committed
from heliograph.app.wakes import expire_push
from heliograph.domain.deliveries import (
    LegAccepted,
    Push,
    PushAccepted,
    PushAttempted,
    PushNoted,
    PushRejected,
    PushRerouted,
    PushReturned,
    PushRevoked,
    PushRung,
)
from heliograph.domain.devices import PushTarget
from heliograph.domain.errors import Conflict, StoreUnavailable
from heliograph.domain.ladder import Command, Issued
from heliograph.domain.record import record
from heliograph.ports.changes import ChangeSet, OutboxItem
from heliograph.ports.push import (
    Accepted,
    Misconfigured,
    Outcome,
    Rejected,
    RetryLater,
)
from heliograph.ports.store import UnitOfWork

_PATIENT_ATTEMPTS = 4  # a few seconds: so long a provider that cannot take a push now is waited for
_TURN = 2 * _PATIENT_ATTEMPTS  # a minute or more: so long until a way that was only busy is tried again
_OF_LATE_S = 3600  # what was given up before that had other reasons than the fault of now
_LOST = "the outcome of an attempt was never recorded: its process ended, or lost the store"

log = structlog.get_logger("heliograph.push")


async def deliver_push(s: Services, item: OutboxItem) -> None:
    """Send one push. The outcome, the command's next rung and the settled debt are one commit."""
    work = s.store.unit_of_work(item.organization_id)
    push, addresses = await work.pushes.find_with_targets(item.subject_id) or (None, [])
    command = None if push is None else await _command_of(work, push)
    if push is None or push.rung is not PushRung.QUEUED or _is_void(s, push, command):
        await until_committed(lambda: _leave_unsent(s, work, item))
        return
    targets = [target for target in addresses if target.dead_at is None]
    target = next((t for t in targets if t.provider == push.provider), None)
    outcome, began, made_at = await _send(s, push, target, item.priority)
    is_only_way = {t.provider for t in targets} <= {push.provider}
    if push.account_id is None or target is None:
        await _Sent(s, work, item, outcome, is_only_way).record(push, command)
        return
    if _speaks_of_settings(outcome):
        began = await _judged_as_of(s, work, push.account_id, began, made_at)
    lesson = s.health.learn(push.account_id, push.device_id, outcome, began, s.clock.now())
    if lesson.try_again and isinstance(outcome, Rejected):  # the account is to blame: the push is not lost by it
        outcome = Misconfigured(outcome.reason, outcome.evidence)
    elif isinstance(outcome, Rejected) and outcome.token_gone and await _is_replaced(work, push, target):
        outcome = RetryLater(f"{outcome.reason}; it has another address by now", evidence=outcome.evidence)
    try:
        await _Sent(s, work, item, outcome, is_only_way).record(push, command)
    except Exception:
        s.health.say_again(push.account_id, lesson)
        raise
    lesson = s.health.that_holds(push.account_id, began, lesson)
    if lesson is not NOTHING:  # as after nearly every push that is taken
        await _heed(s, work, (push.account_id, made_at), target, outcome, lesson)


def _speaks_of_settings(outcome: Outcome) -> bool:
    return isinstance(outcome, Misconfigured) or (isinstance(outcome, Rejected) and outcome.token_gone)


async def _is_replaced(work: UnitOfWork, push: Push, sent_to: PushTarget) -> bool:
    """Whether the app has registered with this provider since its address was read, to which the push was sent."""
    targets = await work.devices.targets(push.device_id, push.app)
    return any(t.provider == push.provider and t.registered_at > sent_to.registered_at for t in targets)


async def _judged_as_of(s: Services, work: UnitOfWork, account_id: str, began: int, made_at: int | None) -> int:
    """The time of which a refusal speaks: not that of the sending where its settings were gone by then, as this process
    had not heard. From here on it knows, for the next attempt and for another way.
    """
    account = (await work.setup.known_accounts(anew=True)).get(account_id)
    if account is None:
        return began
    if made_at is not None and made_at < account.updated_at:
        began = min(began, made_at)
    s.health.heard_of_settings(account_id, account.updated_at, began, s.clock.now())
    return began


async def _send(s: Services, push: Push, target: PushTarget | None, priority: int) -> tuple[Outcome, int, int | None]:
    """What its provider says, as of when, and when the settings were made that it was asked with: what the account is
    by now, the answer may not know.
    """
    began = s.clock.now()
    provider = await s.providers.provider(push.organization_id, push.provider, push.account_id)
    made_at = None if push.account_id is None else s.providers.made_at(push.account_id)
    if s.providers.plugin(push.provider) is None:  # another version's, or a package that is installed elsewhere only
        why = f"this process has no plug-in for {push.provider}"
        return RetryLater(why, account_wide=True), began, made_at  # here: those who have it take the account's others
    if provider is None or target is None:
        return Rejected("no usable address or provider account is left"), began, made_at
    if push.account_id is not None and s.account_quotas is not None:
        per_minute = s.providers.per_minute(push.account_id)
        if not await s.account_quotas.take(push.account_id, per_minute, priority):
            return RetryLater("the account's requests of this minute are used up"), began, made_at
    return await provider.send(message_of(s, push), target), began, made_at


async def _heed(
    s: Services,
    work: UnitOfWork,
    account: tuple[str, int | None],
    target: PushTarget,
    outcome: Outcome,
    lesson: Lesson,
) -> None:
    """Store what follows for address and account. What is lost of it, the next outcome says again. `account`: its id,
    and when its settings were made.
    """
    now, (account_id, made_at) = s.clock.now(), account
    try:
        if lesson.quarantine and isinstance(outcome, Rejected):
            since = outcome.gone_since or target.registered_at  # what was registered meanwhile, it says nothing of
            await work.devices.quarantine(target, outcome.reason, since, now, account_id, made_at)
        if lesson.revive:
            await work.devices.revive(target.provider, now - _OF_LATE_S * SECOND, account_id)
        walks = [account_id] if lesson.reroute else []
        of_settings = made_at if lesson.fault else None
        if lesson.tells_fault and await work.setup.note_fault(account_id, lesson.fault, now, of_settings):
            if lesson.fault:
                log.warning("push.account_out_of_order", account=account_id, why=lesson.fault)
            else:  # it works again: what waits for others that do not may go through it
                walks += [account.id for account in await work.setup.accounts() if account.fault is not None]
        changes = ChangeSet(work.organization_id)
        for walk in walks:
            changes.owe(s.debt(work.organization_id, "reroute", walk))
        if changes:
            await work.commit(changes)
    except StoreUnavailable:
        s.health.say_again(account_id, lesson)
        log.warning("push.lesson_lost", account=account_id)


async def _command_of(work: UnitOfWork, push: Push) -> Command | None:
    return await work.commands.find(push.command_id) if push.command_id else None


def _is_void(s: Services, push: Push, command: Command | None) -> bool:
    """Whether sending makes no sense any more."""
    return push.expires_at <= s.clock.now() or bool(push.command_id and (command is None or command.is_over))


async def _leave_unsent(s: Services, work: UnitOfWork, item: OutboxItem) -> None:
    """Settle the debt of a push that is not to be sent (again), and say of it what is known."""
    push = await work.pushes.find(item.subject_id)
    changes, now = ChangeSet(item.organization_id), s.clock.now()
    if push is not None and push.rung is PushRung.QUEUED and push.expires_at > now:
        _give_up(s, changes, item, push)
        changes.take(item)  # who has claimed it since may be sending it
    else:
        if push is not None:
            # Of the claims, one came to the acceptance that is known.
            push = note_lost(changes, replace(item, attempts=item.attempts - (push.reference is not None)), push, now)
            if push.rung is PushRung.QUEUED:
                await expire_push(s, work, changes, push, "dispatcher")
        changes.settle(item)
    await work.commit(changes)


def _give_up(s: Services, changes: ChangeSet, item: OutboxItem, push: Push) -> None:
    """Its command is over. It counts as revoked only if no provider can have it; else its life will show.

    Where a way before the present one holds it, that is the one to say whether it gives it back (effects.revoke).
    """
    push, held = note_lost(changes, item, push, s.clock.now()), push.held_before
    evidence: dict[str, object] = {"why": "command is over"}
    if push.unanswered:
        evidence["unansweredAttempts"] = push.unanswered
        push = changes.move_push(push, PushNoted(source="dispatcher", evidence=evidence), s.clock.now())
    elif held is not None:
        push = changes.move_push(push, PushReturned(source="dispatcher", evidence=evidence), s.clock.now())
    else:
        push = changes.move_push(push, PushRevoked(source="dispatcher", evidence=evidence), s.clock.now())
    if held is not None:
        changes.owe(s.debt(push.organization_id, "revoke", push.id, pool=push.withdrawn_through))


def note_lost(changes: ChangeSet, item: OutboxItem, push: Push, now: int) -> Push:
    """Count every earlier claim of this debt that came to no outcome as an attempt that may have been taken.

    Its process ended, or lost the store, somewhere between the claim and the commit: nobody can say on which side of
    the sending. Each way has a debt of its own, so what failed on those before is not of these claims.
    """
    known = (push.attempts.count if push.attempts else 0) - _failed_before(push)
    for _ in range(item.attempts - 1 - known):
        lost = PushAttempted(source="dispatcher", reason=_LOST, uncertain=True)
        push = changes.move_push(push, lost, now)
    return push


def _failed_before(push: Push) -> int:
    """How many attempts had failed when it came to its present way."""
    return push.legs[-1].attempts if push.legs else 0


def _pause_s(s: Services, push: Push, item: OutboxItem, after_s: float | None) -> float:
    """How long until the next attempt. The debt of each way begins its count anew: what failed before counts as well,
    so that a push that goes to and fro between ways that are down costs ever less.
    """
    return backoff_s(s, item.attempts + _failed_before(push) // _PATIENT_ATTEMPTS, after_s)


def rerouted(
    s: Services, route: ChosenTarget, source: str, evidence: dict[str, object], *, refused: bool = False
) -> PushRerouted:
    """The event that lets a push go another way from now on."""
    return PushRerouted(
        source=source,
        evidence=evidence | {"next": route.provider},
        provider=route.provider,
        account_id=route.account_id,
        refused=refused,
        expires_at=s.later(route.max_life_s),
    )


def owe_sending(s: Services, changes: ChangeSet, push: Push, route: ChosenTarget, priority: int) -> None:
    """Owe the sending by another way: among what its account owes, and with that account's attempts."""
    if route.account_id is not None:
        s.health.given(route.account_id, s.clock.now())
    changes.owe(s.debt(push.organization_id, "push", push.id, pool=route.account_id, priority=priority))


def _stay(push: Push) -> tuple[object, ...]:
    """Which of its ways a push is on, and for the how manieth time: what is learnt of those before changes nothing."""
    return push.provider, [(leg.provider, leg.account_id, leg.attempts) for leg in push.legs or ()]


def _waits_there(current: Push, sent: Push) -> bool:
    """Whether it has come back, to be sent again, to the way that it was sent by."""
    is_same = (current.provider, current.account_id) == (sent.provider, sent.account_id)
    return is_same and current.rung is PushRung.QUEUED


def _attempted(source: str, outcome: Rejected | RetryLater | Misconfigured) -> PushAttempted:
    uncertain = isinstance(outcome, RetryLater) and outcome.uncertain
    return PushAttempted(source=source, evidence=outcome.evidence, reason=outcome.reason, uncertain=uncertain)


@record
class _Sent:
    """Records what a provider answered to a push."""

    s: Services
    work: UnitOfWork
    item: OutboxItem
    outcome: Outcome
    is_only_way: bool

    async def record(self, push: Push, command: Command | None) -> None:
        """From what was read before the provider was asked; read afresh only if somebody has changed it since."""
        other_way = await self._other_way(push)

        async def afresh() -> None:
            current, command = await self.work.pushes.find(push.id) or push, await _command_of(self.work, push)
            if _stay(current) == _stay(push):
                await self._commit(current, command, other_way)
            elif isinstance(self.outcome, Accepted) and _waits_there(current, push):
                await self._commit(current, command, other_way, is_back=True)
            else:
                await self._commit_late(push, current, command)

        try:
            await self._commit(push, command, other_way)
        except Conflict:
            await until_committed(afresh)
        if isinstance(self.outcome, Rejected):
            log.warning("push.rejected", push=push.id, provider=push.provider, reason=self.outcome.reason)

    async def _other_way(self, push: Push) -> ChosenTarget | None:
        """Another way, for a push that this one does not take, or takes and is not acknowledged (effects.fall_back)."""
        match self.outcome:
            case Accepted():
                return None if self.is_only_way else await next_route(self.s, self.work, push)
            case RetryLater() if self.item.attempts >= _TURN:
                return await way_round(self.s, self.work, push)
            case RetryLater():
                is_long = push.account_id is not None and self.s.health.rests(push.account_id, self.s.clock.now())
                is_over = is_long or self.item.attempts >= _PATIENT_ATTEMPTS
                way = await next_route(self.s, self.work, push) if is_over else None
                return way if way is not None and way.in_order else None
        return await next_route(self.s, self.work, push) or await way_back(self.s, self.work, push)

    async def _commit(
        self, push: Push, command: Command | None, other_way: ChosenTarget | None, *, is_back: bool = False
    ) -> None:
        """`is_back`: it has left its way and come back; who took it from there has counted the claims of before."""
        outcome, source, now = self.outcome, f"provider:{push.provider}", self.s.clock.now()
        changes = ChangeSet(self.item.organization_id)
        push = push if is_back else note_lost(changes, self.item, push, now)
        match outcome:
            case Accepted():
                self._accept(changes, outcome, push, command, other_way)
            case _ if other_way is not None and push.rung is PushRung.QUEUED:
                push = changes.move_push(push, _attempted(source, outcome), now)
                evidence, refused = outcome.evidence | {"reason": outcome.reason}, isinstance(outcome, Rejected)
                event = rerouted(self.s, other_way, source, evidence, refused=refused)
                changes.move_push(push, event, now)
                changes.take(self.item)  # what another process has claimed since would stay owed in this way's line
                owe_sending(self.s, changes, push, other_way, self.item.priority)
            case Rejected() if push.held_before:
                returned = PushReturned(source=source, evidence=outcome.evidence | {"refused": outcome.reason})
                changes.move_push(push, returned, now)
                changes.settle(self.item)
            case Rejected() if push.rung is PushRung.QUEUED:
                evidence = outcome.evidence | {"reason": outcome.reason}
                rejected = PushRejected(source=source, evidence=evidence, reason=outcome.reason)
                changes.move_push(push, rejected, now)
                changes.bury(self.item, outcome.reason, hard=True)
            case Rejected():  # it has moved on
                changes.settle(self.item)
            case RetryLater() | Misconfigured():
                after_s = outcome.after_s if isinstance(outcome, RetryLater) else None
                changes.move_push(push, _attempted(source, outcome), now)
                changes.put_off(self.item, self.s.later(_pause_s(self.s, push, self.item, after_s)))
        await self.work.commit(changes)

    async def _commit_late(self, sent: Push, push: Push, command: Command | None) -> None:
        """Another process took over meanwhile, and the push has left the way that this is the answer of."""
        changes = ChangeSet(self.item.organization_id)
        if isinstance(self.outcome, Accepted):
            reference, now = self.outcome.reference, self.s.clock.now()
            evidence = self.outcome.evidence | {"reference": reference}
            event = LegAccepted(
                source=f"provider:{sent.provider}",
                evidence=evidence,
                provider=sent.provider,
                account_id=sent.account_id,
                reference=reference,
            )
            if changes.move_push(push, event, now) is not push and (push.is_over or (command and command.is_over)):
                changes.owe(
                    self.s.debt(push.organization_id, "revoke", push.id, pool=sent.account_id or push.withdrawn_through)
                )
            if command is not None:
                changes.hold(command)  # who cancels it may be asking the other ways already
        changes.settle(self.item)
        await self.work.commit(changes)

    def _accept(
        self,
        changes: ChangeSet,
        outcome: Accepted,
        push: Push,
        command: Command | None,
        other_way: ChosenTarget | None,
    ) -> None:
        source, now, reference = f"provider:{push.provider}", self.s.clock.now(), outcome.reference
        evidence = outcome.evidence | {"reference": reference}
        accepted = PushAccepted(source=source, evidence=evidence, reference=reference, expires_at=outcome.expires_at)
        changes.move_push(push, accepted, now)
        if command is not None:
            issued = Issued(source=source, evidence={"pushId": reference}, push_id=reference)
            changes.move(command, issued, now)
            changes.hold(command)  # it may know the name already; and who cancels it does not ask a way that has none
            if command.is_over:
                # It ended while its push was on the way: take the push back.
                changes.owe(self.s.debt(push.organization_id, "revoke", push.id, pool=push.withdrawn_through))
        if push.provider == OUR_LINE:
            changes.wake_device(push.device_id)
        if other_way is not None:
            wait_s = patience_s(self.s, push.provider)
            changes.owe(
                self.s.debt(push.organization_id, "fall_back", push.id, after_s=wait_s, priority=self.item.priority)
            )
        changes.settle(self.item)
