"""Wake a device again for a command whose pause is over."""

from heliograph.app.services import Services
from heliograph.app.wakes import owe_wake
from heliograph.ports.changes import ChangeSet, OutboxItem


async def wake_device(s: Services, item: OutboxItem) -> None:
    """Tell the agent that it may claim a deferred command again; not before its pause is over."""
    work = s.store.unit_of_work(item.organization_id)
    command = await work.commands.find(item.subject_id)
    changes = ChangeSet(item.organization_id)
    now = s.clock.now()
    if command is not None and not command.is_over and (command.not_before or 0) > now:
        changes.put_off(item, command.not_before or now)
    else:
        if command is not None and command.waits_for_agent(now):
            await owe_wake(s, work, changes, command, "dispatcher")
        changes.settle(item)
    await work.commit(changes)
