"""Making an agent look at what waits for it: for a new command, a cancel to answer, the end of a pause."""

from heliograph.app.pushes import new_push, owe_push
from heliograph.app.routes import OUR_LINE, able_to_take, routes_to
from heliograph.app.services import SECOND, Services
from heliograph.domain.deliveries import Push, PushCollapsed, PushExpired, PushRung
from heliograph.domain.devices import COMMAND_APP, Device
from heliograph.domain.ladder import Command
from heliograph.ports.changes import ChangeSet
from heliograph.ports.push import PushMessage
from heliograph.ports.store import UnitOfWork


async def owe_first_wake(
    s: Services, work: UnitOfWork, changes: ChangeSet, device: Device, command: Command, source: str
) -> None:
    """Owe the push that tells a device of a new command. Without an address the command waits for a check-in."""
    push = await _owe_push(s, work, changes, device, command, source)
    if push is None or push.provider != OUR_LINE:
        changes.wake_device(device.id)  # it may hold a line besides; our own push tells that line once it is accepted


async def owe_wake(s: Services, work: UnitOfWork, changes: ChangeSet, command: Command, source: str) -> None:
    """Owe another wake for a command. Whoever holds our own line is told there, which takes no push."""
    changes.wake_device(command.device_id)
    device = await work.devices.find(command.platform, command.device_id)
    if device is not None:
        push = await _owe_push(s, work, changes, device, command, source, but_not=OUR_LINE)
        if push is not None:
            await _collapse(s, work, changes, command, push.id)


async def expire_push(s: Services, work: UnitOfWork, changes: ChangeSet, push: Push, source: str) -> None:
    """End a push whose life is over. A command that still waits for its agent gets another wake."""
    after = changes.move_push(push, PushExpired(source=source), s.clock.now())
    if after.rung is not PushRung.EXPIRED or push.command_id is None:
        return
    command = await work.commands.find(push.command_id)
    if command is not None and command.waits_for_agent(s.clock.now()):
        await owe_wake(s, work, changes, command, source)


async def _owe_push(
    s: Services,
    work: UnitOfWork,
    changes: ChangeSet,
    device: Device,
    command: Command,
    source: str,
    *,
    but_not: str | None = None,
) -> Push | None:
    """The push that is owed; None where there is no way for one. It lives as long as the command."""
    targets = await work.devices.targets(device.id, COMMAND_APP)
    routes = await routes_to(s, work, device, targets)
    life_s = max(1, -((s.clock.now() - command.expires_at) // SECOND))  # rounded up: no gap at the end
    message = PushMessage(id=s.new_id(), kind="wake", life_s=life_s, command_id=command.id)
    able = able_to_take(s, [route for route in routes if route.provider != but_not], message)
    if not able:
        return None
    target = able[0]
    return owe_push(s, changes, new_push(s, device, COMMAND_APP, target, message), source)


async def _collapse(s: Services, work: UnitOfWork, changes: ChangeSet, command: Command, newer: str) -> None:
    """End the wakes of a command that still wait to be sent: this one tells the same. At most one waits, but for those
    that a way before has taken: they were sent, and are to be taken back where their command is cancelled.
    """
    touched = {push.id for push in changes.pushes}
    for push in await work.pushes.of_command(command.id):
        if push.rung is PushRung.QUEUED and push.taken_before is None and push.id not in touched:
            collapsed = PushCollapsed(source="dispatcher", evidence={"newer": newer})
            changes.move_push(push, collapsed, s.clock.now())
            changes.withdraw(f"push:{push.id}")
