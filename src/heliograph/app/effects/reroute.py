"""Let what waits for an account that went out of order go another way: of a paused one nothing is claimed."""

import asyncio
from contextlib import suppress
from dataclasses import replace

from heliograph.app.effects.push import note_lost, owe_sending, rerouted
from heliograph.app.routes import way_round
from heliograph.app.services import Services
from heliograph.domain.deliveries import PushRung
from heliograph.domain.errors import Conflict
from heliograph.ports.changes import PRIORITIES, ChangeSet, OutboxItem
from heliograph.ports.store import UnitOfWork

_PAGE = 200


async def reroute_waiting(s: Services, item: OutboxItem) -> None:
    """Walk once over the pushes owed through an account, until it works again. What has no other way stays."""
    work = s.store.unit_of_work(item.organization_id)
    was_faulty = await _is_faulty(work, item.subject_id)
    for priority in PRIORITIES:
        behind: OutboxItem | None = None
        while page := await work.pushes.waiting(item.subject_id, priority, _PAGE, behind):
            if was_faulty and not await _is_faulty(work, item.subject_id):
                break
            await asyncio.gather(*(_reroute(s, work, waiting) for waiting in page))
            behind = page[-1]
    changes = ChangeSet(item.organization_id)
    changes.settle(item)
    await work.commit(changes)


async def _is_faulty(work: UnitOfWork, account_id: str) -> bool:
    account = await work.setup.account(account_id)
    return account is not None and account.fault is not None


async def _reroute(s: Services, work: UnitOfWork, waiting: OutboxItem) -> None:
    """One that was claimed since it was read is left alone: it may be on its way."""
    push = await work.pushes.find(waiting.subject_id)
    if push is None or push.rung is not PushRung.QUEUED or push.account_id != waiting.pool:
        return
    route = await way_round(s, work, push)
    if route is None:
        return
    changes, now = ChangeSet(waiting.organization_id), s.clock.now()
    changes.take(waiting)
    push = note_lost(changes, replace(waiting, attempts=waiting.attempts + 1), push, now)
    changes.move_push(push, rerouted(s, route, "dispatcher", {"reason": "its account is out of order"}), now)
    owe_sending(s, changes, push, route, waiting.priority)
    with suppress(Conflict):
        await work.commit(changes)
