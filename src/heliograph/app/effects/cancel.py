"""Ask Google to cancel an operation, and look at once what became of it."""

import asyncio
from functools import partial

from heliograph.app.dispatch import backoff_s
from heliograph.app.effects.absence import CANCEL_OPEN, CANCEL_REFUSED, CANCEL_TAKEN, REFUSALS, REFUSED_AT, TAKEN
from heliograph.app.effects.look_up import record_result
from heliograph.app.effects.upstream import ends_record, result_of
from heliograph.app.google_channel import NO_TOKEN, google
from heliograph.app.services import Services, until_committed
from heliograph.domain.ladder import Command, Issue, Noted
from heliograph.ports.changes import NORMAL, URGENT, ChangeSet, OutboxItem
from heliograph.ports.channel import CancelRefused, CancelTaken, Gone, ManagementChannel, Unreachable
from heliograph.ports.store import UnitOfWork

_SOURCE = "amapi"
_PATIENCE_S = 0.5  # for the token of a look
_LOOKS_S = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)  # pauses between looks: together within the caller's wait


async def cancel_upstream(s: Services, item: OutboxItem) -> None:
    """Cancel one issued command. The answer to the request proves nothing: the operation's own state decides."""
    work = s.store.unit_of_work(item.organization_id)
    command = await work.commands.find(item.subject_id)
    changes = ChangeSet(item.organization_id)
    if command is None or command.is_over or command.issue is not Issue.BOUND:
        # Not bound: the effect that issues it will owe a cancel, or cancel it by itself, once it knows.
        changes.settle(item)
        await work.commit(changes)
        return
    channel = await google(s, command.organization_id, command.enterprise_id, item.priority)
    answer: CancelTaken | CancelRefused | Unreachable = Unreachable("no usable credentials")
    if channel is not None:
        answer = await _ask(s, work, channel, command)
    if channel is None or isinstance(answer, Unreachable):
        after_s = answer.after_s if isinstance(answer, Unreachable) else None
        pause_s = backoff_s(s, item.attempts, after_s)
        if channel is not None and channel.spent > 0:
            pause_s = await _share_s(s, channel.project, pause_s)
        changes.put_off(item, s.later(pause_s))
        await work.commit(changes)
        return
    await _note(s, work, command, _noted(command, answer, s.clock.now()))
    await _watch(s, work, command)
    changes.settle(item)
    await work.commit(changes)


async def _share_s(s: Services, project: str, shortest_s: float) -> float:
    """The pause with which all cancels that come to nothing leave half of the project's quota to others. They go before
    all else, and hundreds that Google refuses would take the whole of it.
    """
    if s.quota is None or s.quota.per_minute <= 0:
        return shortest_s
    each_s = 2 * 60 / s.quota.per_minute
    if await s.store.system.owed("cancel", URGENT) * each_s <= shortest_s:
        return shortest_s
    return max(shortest_s, await _owed_in(s, project) * each_s)


async def _owed_in(s: Services, project: str) -> int:
    """How many cancels are owed in a project: what goes through another one takes nothing of its quota."""
    owed = 0
    for organization_id, enterprise_id, count in await s.store.system.owed_by_pool("cancel", URGENT):
        channel = await s.channels.channel(organization_id, enterprise_id)
        owed += count if channel is not None and channel.project == project else 0
    return owed


async def _ask(
    s: Services, work: UnitOfWork, channel: ManagementChannel, command: Command
) -> CancelTaken | CancelRefused | Unreachable:
    """One request. Where the absence of a device may have to tell what came of it, each is known before it is sent, and
    stays so unless its own answer proves that it did nothing: a later one speaks for itself alone.
    """
    is_first = ends_record(command) and CANCEL_OPEN not in (command.findings or {})
    if is_first:
        await _note(s, work, command, Noted(source=_SOURCE, findings={CANCEL_OPEN: True}))
    answer = await channel.cancel(command.receipt or "")
    did_nothing = isinstance(answer, CancelRefused) or (isinstance(answer, Unreachable) and not answer.is_unsure)
    if is_first and did_nothing:
        await _note(s, work, command, Noted(source=_SOURCE, findings={CANCEL_OPEN: None}))
    return answer


async def _note(s: Services, work: UnitOfWork, command: Command, noted: Noted) -> None:
    await until_committed(partial(record_result, s, work, command.id, noted))


def _noted(command: Command, answer: CancelTaken | CancelRefused, now: int) -> Noted:
    if isinstance(answer, CancelTaken):
        return Noted(source=_SOURCE, evidence={"cancel": TAKEN}, findings={CANCEL_TAKEN: True})
    evidence = {"cancel": "refused", "status": answer.status, "message": answer.message[:256]}
    times = (command.findings or {}).get(REFUSALS, 0) + 1
    findings = {CANCEL_REFUSED: answer.status, REFUSED_AT: now, REFUSALS: times}
    return Noted(source=_SOURCE, evidence=evidence, findings=findings)


async def _watch(s: Services, work: UnitOfWork, command: Command) -> None:
    """Look a few times, quickly, so that the caller who waits gets the answer; the look-up goes on afterwards. The
    cancels of others go first: their devices may come back before they get there.
    """
    channel = await google(s, command.organization_id, command.enterprise_id, NORMAL, _PATIENCE_S)
    if channel is None:
        return
    for pause_s in _LOOKS_S:
        await asyncio.sleep(pause_s)
        answer = await channel.operation(command.receipt or "")
        if answer is NO_TOKEN:
            return
        if isinstance(answer, Gone | Unreachable):
            continue
        result = result_of(s, command, answer)
        if result is not None:
            await until_committed(partial(record_result, s, work, command.id, result))
            return
