"""Cancel a command: proven at once where nobody was given it, else asked of the channel and awaited for a while."""

from heliograph.app.effects.absence import REFUSALS, REFUSED_AT, was_refused
from heliograph.app.effects.upstream import owe_cancel
from heliograph.app.services import SECOND, Services, until_committed
from heliograph.app.waiting import command_of, wait_for_command
from heliograph.app.wakes import owe_wake
from heliograph.domain.errors import NotFound, NotPending
from heliograph.domain.ladder import CancelRequested, Command, Rung
from heliograph.ports.changes import ChangeSet
from heliograph.ports.store import UnitOfWork

_AGAIN_S = 10.0


async def cancel_command(
    s: Services, work: UnitOfWork, command_id: str, device_id: str, source: str, over_message: str
) -> Command:
    """The command after the request: CANCELLED only with proof, else still open. Raises NotPending when it is over.

    `source` = who asks; `over_message` = what NotPending says for this platform.
    """

    async def request() -> Command:
        command = await command_of(work, command_id, device_id)
        if command is None:
            raise NotFound
        if command.is_over:
            raise NotPending(over_message)
        changes = ChangeSet(work.organization_id)
        after = changes.move(command, CancelRequested(source=source), s.clock.now())
        if after.is_over:
            await _withdraw_effects(s, work, changes, after)
        elif after is not command:
            await _ask_channel(s, work, changes, after, source)
        elif was_refused(after):
            owe_cancel(s, changes, after, _pause_s(s, after))  # Google may take it now
        if changes:
            await work.commit(changes)
        return after

    command = await until_committed(request)
    if command.rung is Rung.CANCELLED:
        return command
    command = await wait_for_command(s, work, command, s.limits.cancel_wait_s)
    if command.is_over and command.rung is not Rung.CANCELLED:
        raise NotPending(over_message)
    return command


def _pause_s(s: Services, command: Command) -> float:
    """How long another request waits where Google has just refused more than one: each takes of the quota that all
    cancels need. By the clock of another process that may have been in the future.
    """
    found = command.findings or {}
    if found.get(REFUSALS, 0) < 2:
        return 0.0
    since_us: int = s.clock.now() - found[REFUSED_AT]
    return min(_AGAIN_S, max(0.0, _AGAIN_S - since_us / SECOND))


async def _withdraw_effects(s: Services, work: UnitOfWork, changes: ChangeSet, command: Command) -> None:
    """What was owed for the command is owed no longer; pushes on their way are taken back where that is possible."""
    changes.withdraw(f"issue:{command.id}", has_lane=True)
    if command.platform == "android":
        return
    for push in await work.pushes.of_command(command.id):
        if not push.is_over:
            changes.owe(s.debt(command.organization_id, "revoke", push.id, pool=push.withdrawn_through))


async def _ask_channel(s: Services, work: UnitOfWork, changes: ChangeSet, command: Command, source: str) -> None:
    """Owe what makes the channel decide."""
    if command.platform == "android":
        owe_cancel(s, changes, command)
    elif command.waits_for_agent(s.clock.now()):
        await owe_wake(s, work, changes, command, source)
