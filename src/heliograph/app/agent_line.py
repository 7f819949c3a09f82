"""What an agent says and what it is told: the app side of the agent line (messages: heliograph_protocol).

The claim is committed before it is answered, so until then cancel always wins; after it only the device decides.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence, Set
from dataclasses import replace
from typing import TypeVar

import msgspec

from heliograph.app.agent_words import without_words
from heliograph.app.services import SECOND, Services, secret_lost, until_committed
from heliograph.domain import ladder
from heliograph.domain.catalog import TYPES
from heliograph.domain.command_types import lacks_secret
from heliograph.domain.deliveries import Push, PushAcknowledged, PushExecuted, PushRung
from heliograph.domain.devices import APPS, COMMAND_APP, Device, PushTarget
from heliograph.domain.errors import InvalidInput
from heliograph.domain.ladder import LETS_GO, Command, Rung
from heliograph.ports.changes import BACKGROUND, ChangeSet
from heliograph.ports.store import UnitOfWork
from heliograph_protocol.messages import (
    MAX_ITEMS,
    CancelAnswer,
    CheckIn,
    ClaimedCommand,
    Orders,
    PushOffer,
    Register,
    Registered,
    Report,
    Target,
)

T = TypeVar("T", bound=msgspec.Struct)

# What an agent says when it found a command too old to begin: no evidence that anything ran.
TOO_LATE = "EXPIRED_BEFORE_START"
UNKNOWN_OUTCOME = "OUTCOME_UNKNOWN"
_MAX_LIVE = 4 * MAX_ITEMS
_MAX_LIST_BYTES = 96 * 1024  # of pushes or of commands in one message; a single larger item still goes, alone
_MAX_DETAIL_BYTES = 4096  # of what an agent may add to a report: it is stored and shown with the history
# With these codes the agent says that nothing ran, or that nobody can tell.
_NOT_EXECUTED = ("outcome_unknown", "EFFECTOR_ERROR", "JOURNAL_DAMAGED")
_MAX_WISH_S = 7 * 24 * 3600.0
_IN_FLIGHT_S = 30.0  # longer than an attempt lasts: waiting for a token of the account, then for the provider
_SOURCE = "agent"


async def register_agent(s: Services, device: Device, message: Register) -> Registered:
    """Note which app is installed on a device and how it can be woken; replaces what was known of that app."""
    if message.app not in APPS:
        raise InvalidInput.of("app", f"must be one of {', '.join(APPS)}")
    if len(message.targets) > MAX_ITEMS or any(len(t.token) > 4096 for t in message.targets):
        raise InvalidInput.of("targets", "has too many or too long entries")
    targets = [_target(s, device, message.app, t) for t in message.targets]
    now = s.clock.now()
    work = s.store.unit_of_work(device.organization_id)
    await work.devices.register(device.id, message.app, targets, now)
    return Registered(device_id=device.id, platform=device.platform)


def _target(s: Services, device: Device, app: str, said: Target) -> PushTarget:
    """An address that an agent names, as its provider takes it."""
    plugin = s.providers.plugin(said.provider)
    if plugin is None:
        raise InvalidInput.of("targets", "names a provider that is not known here")
    if device.platform not in plugin.platforms:
        raise InvalidInput.of("targets", f"{plugin.kind} does not reach {device.platform} devices")
    kind = said.kind or next(iter(plugin.tokens))
    if kind not in plugin.tokens:
        raise InvalidInput.of("targets", f"{plugin.kind} has no such kind of address: {', '.join(plugin.tokens)}")
    if re.fullmatch(plugin.tokens[kind], said.token) is None:
        raise InvalidInput.of("targets", "holds a token that is not one of a device")
    fault = plugin.check_token(kind, said.token)
    if fault:
        raise InvalidInput.of("targets", fault)
    return PushTarget(device.id, app, plugin.kind, None, said.token, s.clock.now(), kind)


async def check_in(s: Services, device: Device, app: str, message: CheckIn, journal: str = "") -> Orders:
    """Take over what the agent reports, claim what it asks for, and say what it must know. One commit.

    `journal` = the name of the agent's journal; "" = it says none.
    """
    work = s.store.unit_of_work(device.organization_id)

    async def attempt() -> Orders:
        changes = ChangeSet(device.organization_id)
        orders = await _Conversation(s, work, device, app, journal, changes).answer(message)
        if changes:
            await work.commit(changes)
        return orders

    return await until_committed(attempt)


async def open_offers(s: Services, device: Device, app: str, journal: str = "") -> Orders:
    """What waits for the agent, without its asking: pushes to acknowledge, cancels to answer, commands to claim."""
    work = s.store.unit_of_work(device.organization_id)
    pushes = await work.pushes.offers(device.id, app, s.clock.now(), MAX_ITEMS)
    orders = await _waiting(s, work, device, app, journal)
    return msgspec.structs.replace(orders, pushes=fitting([offer_of(s, push) for push in pushes]))


async def new_offers(
    s: Services, device: Device, app: str, offered: Set[str], journal: str = ""
) -> AsyncIterator[Orders]:
    """As `open_offers`, in as many messages as it takes, without the pushes whose ids are in `offered`."""
    work = s.store.unit_of_work(device.organization_id)
    orders = await _waiting(s, work, device, app, journal)
    page: list[Push] = []
    while True:
        page = await work.pushes.offers(device.id, app, s.clock.now(), MAX_ITEMS, page[-1] if page else None)
        new = [offer_of(s, push) for push in page if push.id not in offered]
        while new:
            some = fitting(new)
            new = new[len(some) :]
            if len(some) == 1 and len(msgspec.json.encode(some[0])) > _MAX_LIST_BYTES:
                yield Orders(pushes=some)  # alone: it may fill a message
                continue
            yield msgspec.structs.replace(orders, pushes=some)
            orders = Orders()
        if len(page) < MAX_ITEMS:
            break
    if orders.cancels or orders.waiting:
        yield orders


async def _waiting(s: Services, work: UnitOfWork, device: Device, app: str, journal: str) -> Orders:
    if not _runs_commands(device, app):
        return Orders()
    now = s.clock.now()
    due = [c for c in await _live(s, work, device, journal) if c.is_due_to(journal, now)]
    waiting = any(c.may_be_claimed(now) or c.rung is Rung.DELIVERED for c in due)
    return Orders(cancels=_cancels(due), waiting=waiting)


async def _live(s: Services, work: UnitOfWork, device: Device, journal: str) -> Sequence[Command]:
    """What is live of a device. Where that is too much, what is due to this agent: nothing else may hide it."""
    live = await work.commands.live_of_device(device.id, _MAX_LIVE)
    if len(live) < _MAX_LIVE:
        return live
    return await work.commands.due_to_agent(device.id, journal, s.clock.now(), _MAX_LIVE)


def fitting(items: list[T], taken: int = 0) -> list[T]:
    """As many of the first items as one message has room for beside `taken` bytes; at least one if nothing is taken."""
    kept: list[T] = []
    for item in items:
        size = len(msgspec.json.encode(item))
        if taken > 0 and taken + size > _MAX_LIST_BYTES:
            break
        kept.append(item)
        taken += size
    return kept


def offer_of(s: Services, push: Push) -> PushOffer:
    """A push as the agent is told of it."""
    left_ms = max(0, (push.expires_at - s.clock.now()) // 1000)
    kind = push.kind if push.kind in ("wake", "notification", "silent") else "silent"
    return msgspec.convert(
        {"id": push.id, "kind": kind, "expiresInMs": left_ms, "commandId": push.command_id, **push.message}, PushOffer
    )


class _Conversation:
    """One check-in: reads, applies, and collects the change set."""

    def __init__(
        self, s: Services, work: UnitOfWork, device: Device, app: str, journal: str, changes: ChangeSet
    ) -> None:
        self.s, self.work, self.device, self.app, self.journal, self.changes = s, work, device, app, journal, changes
        self._wakes: dict[str, Sequence[Push]] = {}
        self._claimed = ladder.Claimed(source=_SOURCE, journal=journal or None)

    async def answer(self, message: CheckIn) -> Orders:
        await self._acknowledge_pushes([ack.id for ack in message.push_acks])
        if not _runs_commands(self.device, self.app):
            return Orders(seq=message.seq)
        found, self._wakes = await asyncio.gather(self._live(message), self._wakes_behind(message))
        live = {c.id: c for c in found}
        await self._take_words(live, message)
        commands = self._claim(live, min(message.claim, MAX_ITEMS)) if message.claim > 0 else []
        now = self.s.clock.now()
        due = [c for c in live.values() if c.is_due_to(self.journal, now)]
        waiting = [c for c in due if c.may_be_claimed(now)]
        return Orders(
            seq=message.seq,
            commands=commands,
            cancels=_cancels(due),
            waiting=bool(waiting),
            more=bool(waiting) and message.claim > 0,
        )

    async def _live(self, message: CheckIn) -> Sequence[Command]:
        if not (message.claim or message.reports or message.cancel_answers):
            return []
        return await _live(self.s, self.work, self.device, self.journal)

    async def _wakes_behind(self, message: CheckIn) -> dict[str, Sequence[Push]]:
        """The pushes of the commands that have run, as the agent says; read while the commands are."""
        ids = sorted({report.command_id for report in message.reports if report.rung == "succeeded"})
        return dict(zip(ids, await asyncio.gather(*map(self.work.pushes.of_command, ids)), strict=True))

    async def _acknowledge_pushes(self, ids: Sequence[str]) -> None:
        for push_id in dict.fromkeys(ids):
            push = await self.work.pushes.find(push_id)
            if push is not None and push.device_id == self.device.id and push.app == self.app:
                after = self.changes.move_push(push, PushAcknowledged(source=_SOURCE), self.s.clock.now())
                if after is not push:
                    self._owe_withdrawal(push)

    def _owe_withdrawal(self, push: Push) -> None:
        """Owe that an acknowledged push is taken back where it went besides.

        One that went a single way most likely came by it, and to ask there would cost as many requests as pushes.
        """
        if push.taken_before is None or push.rung is PushRung.REVOKED:
            return
        # The next way may be about to take it: that is known soon.
        after_s = _IN_FLIGHT_S if push.rung is PushRung.QUEUED else 0
        pool = push.withdrawn_through
        debt = self.s.debt(push.organization_id, "revoke", push.id, after_s=after_s, pool=pool, priority=BACKGROUND)
        self.changes.owe(debt)

    async def _command(self, live: dict[str, Command], command_id: str) -> Command | None:
        """A command of this device, live or over; never another device's."""
        return live.get(command_id) or await self.work.commands.find(command_id, self.device.id)

    async def _take_words(self, live: dict[str, Command], message: CheckIn) -> None:
        """The lists of a message have no common order: a cancel was rejected while the command ran, so before it was
        put off, and confirmed after that.
        """
        put_off = [report for report in message.reports if report.rung == "deferred"]
        confirmed = [answer for answer in message.cancel_answers if answer.outcome == "confirmed"]
        for report in message.reports:
            if report.rung != "deferred":
                await self._take_report(live, report)
        for answer in message.cancel_answers:
            if answer.outcome != "confirmed":
                await self._take_cancel_answer(live, answer)
        for report in put_off:
            await self._take_report(live, report)
        for answer in confirmed:
            await self._take_cancel_answer(live, answer)

    async def _take_report(self, live: dict[str, Command], report: Report) -> None:
        command = await self._command(live, report.command_id)
        if command is None:
            return
        after = live[command.id] = self.changes.move(
            command, _event_of(without_words(self.s, command, report)), self.s.clock.now()
        )
        if after is not command and after.rung is Rung.SUCCEEDED:
            self._tell_wakes(after)
        if after is not command and after.rung is Rung.DEFERRED and after.not_before is not None:
            wake = self.s.debt(after.organization_id, "wake", after.id)
            self.changes.owe(replace(wake, due_at=after.not_before))

    def _tell_wakes(self, command: Command) -> None:
        """That the command has run is the end of what is to be known of the pushes that woke the device for it."""
        touched = {push.id: push for push in self.changes.pushes}
        executed = PushExecuted(source=_SOURCE, evidence={"commandId": command.id})
        for push in self._wakes.get(command.id, ()):
            self.changes.move_push(touched.get(push.id, push), executed, self.s.clock.now())

    async def _take_cancel_answer(self, live: dict[str, Command], answer: CancelAnswer) -> None:
        command = await self._command(live, answer.command_id)
        if command is None or command.is_over:
            return
        evidence = {"answer": answer.outcome, "deviceTime": answer.at[:64]}
        # Without our asking, the agent's word cancels nothing; that of one who was not given it decides nothing.
        is_own = command.is_for_journal(self.journal)
        if answer.outcome == "confirmed" and is_own and command.cancel_requested_at is not None:
            event: ladder.Event = ladder.Cancelled(source=_SOURCE, evidence=evidence)
        elif answer.outcome == "rejected" and is_own:
            # It has begun, so it is not asked again.
            event = ladder.Started(source=_SOURCE, evidence=evidence, rejects_cancel=True)
        else:
            event = ladder.Noted(source=_SOURCE, evidence=evidence)
        after = live[command.id] = self.changes.move(command, event, self.s.clock.now())
        if after.rung is Rung.CANCELLED:
            await self._take_back_wakes(after)

    async def _take_back_wakes(self, command: Command) -> None:
        """What would wake the device for a command that will not run any more."""
        touched = {push.id: push for push in self.changes.pushes}
        for found in await self.work.pushes.of_command(command.id):
            push = touched.get(found.id, found)
            if not push.is_over:
                self.changes.owe(self.s.debt(push.organization_id, "revoke", push.id, pool=push.withdrawn_through))

    def _claim(self, live: dict[str, Command], wanted: int) -> list[ClaimedCommand]:
        """Claim the oldest commands first; one claimed before and never acknowledged is handed out again."""
        handed: list[ClaimedCommand] = []
        size = 0
        for command in [c for c in live.values() if c.is_for_journal(self.journal)]:
            again = command.rung is Rung.DELIVERED and command.cancel_requested_at is None
            if len(handed) == wanted or not (again or command.may_be_claimed(self.s.clock.now())):
                continue
            order = self._handed_out(command)
            if order is None:
                live[command.id] = self.changes.move(command, secret_lost(_SOURCE), self.s.clock.now())
                continue
            size += len(msgspec.json.encode(order))
            if handed and size > _MAX_LIST_BYTES:
                break
            if not again:
                live[command.id] = self.changes.move(command, self._claimed, self.s.clock.now())
            handed.append(order)
        return handed

    def _handed_out(self, command: Command) -> ClaimedCommand | None:
        params = self.s.open_params(command)
        if params is None or lacks_secret(TYPES[command.type], params):
            return None
        left_ms = max(0, (command.expires_at - self.s.clock.now()) // 1000)
        return ClaimedCommand(id=command.id, type=command.type, expires_in_ms=left_ms, params=params)


def _runs_commands(device: Device, app: str) -> bool:
    """Whether commands reach this app over the agent line: those of an Android device are Google's to run."""
    return app == COMMAND_APP and device.platform == "aosp"


def _cancels(due: Sequence[Command]) -> list[str]:
    asked = [c.id for c in due if c.cancel_requested_at is not None and c.rung in LETS_GO]
    return asked[:MAX_ITEMS]


def _event_of(report: Report) -> ladder.Event:
    evidence: dict[str, object] = {"deviceTime": report.at[:64]}
    if report.detail is not None:
        size = len(msgspec.json.encode(report.detail))
        evidence["detail"] = report.detail if size <= _MAX_DETAIL_BYTES else {"omitted": f"{size} bytes"}
    match report.rung:
        case "acknowledged":
            return ladder.Acknowledged(source=_SOURCE, evidence=evidence)
        case "running":
            return ladder.Started(source=_SOURCE, evidence=evidence)
        case "succeeded":
            return ladder.Succeeded(source=_SOURCE, evidence=evidence)
        case "deferred":
            wish = report.retry_after_seconds
            # Bounded here already: a number that floats allow may be beyond what can be counted in microseconds.
            wish_us = None if wish is None else int(min(max(wish, 0.0), _MAX_WISH_S) * SECOND)
            return ladder.Deferred(source=_SOURCE, evidence=evidence, wish_us=wish_us)
        case "failed":
            return _failure(report, evidence)


def _failure(report: Report, evidence: dict[str, object]) -> ladder.Event:
    code = report.error.code[:64] if report.error else "UNKNOWN"
    message = report.error.message[:256] if report.error else ""
    if code == TOO_LATE:
        return ladder.Expired(source=_SOURCE, evidence=evidence, by_agent=True)
    if code == UNKNOWN_OUTCOME:
        code = "outcome_unknown"
    reason = ladder.Reason(code, message)
    executed = code not in _NOT_EXECUTED
    return ladder.Failed(source=_SOURCE, evidence=evidence, reason=reason, executed=executed, by_agent=True)
