"""Let a push go another way when nothing is heard of it by the way it went."""

from heliograph.app.effects.push import owe_sending, rerouted
from heliograph.app.routes import next_route
from heliograph.app.services import Services
from heliograph.domain.deliveries import PushRung
from heliograph.ports.changes import ChangeSet, OutboxItem


async def fall_back(s: Services, item: OutboxItem) -> None:
    """Take the next way for a push that was taken and not acknowledged. What is late by the first way counts, too."""
    work = s.store.unit_of_work(item.organization_id)
    push = await work.pushes.find(item.subject_id)
    changes = ChangeSet(item.organization_id)
    changes.settle(item)
    # One that is delivered, as its provider says, may be slow to be acknowledged; one that waits to be sent is
    # looked after by the effect that sends it.
    if push is not None and push.rung is PushRung.ACCEPTED and push.expires_at > s.clock.now():
        command = await work.commands.find(push.command_id) if push.command_id else None
        route = None if command is not None and command.is_over else await next_route(s, work, push)
        if route is not None:
            event = rerouted(s, route, "dispatcher", {"reason": "not acknowledged in time"})
            changes.move_push(push, event, s.clock.now())
            owe_sending(s, changes, push, route, item.priority)
    await work.commit(changes)
