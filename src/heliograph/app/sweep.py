"""The sweeper: ends what ran out of time, where we ourselves may judge it."""

import asyncio
from contextlib import suppress

from heliograph.app.services import Services
from heliograph.app.wakes import expire_push
from heliograph.domain.errors import Conflict, StoreUnavailable
from heliograph.domain.ladder import Expired
from heliograph.ports.changes import ChangeSet

_BATCH = 500
_SOURCE = "sweeper"


async def sweep_once(s: Services) -> int:
    """Expire what is due, oldest first; answers how many records were looked at."""
    now = s.clock.now()
    commands = await s.store.system.expired_commands(now, _BATCH)
    pushes = await s.store.system.expired_pushes(now, _BATCH)
    sets: list[ChangeSet] = []
    for command in commands:
        changes = ChangeSet(command.organization_id)
        changes.move(command, Expired(source=_SOURCE), s.clock.now())  # not as of a look that may be old
        changes.withdraw(f"issue:{command.id}")
        sets.append(changes)
    for push in pushes:
        changes = ChangeSet(push.organization_id)
        await expire_push(s, s.store.unit_of_work(push.organization_id), changes, push, _SOURCE)
        sets.append(changes)
    await asyncio.gather(*(_commit(s, changes) for changes in sets))
    return len(sets)


async def _commit(s: Services, changes: ChangeSet) -> None:
    with suppress(Conflict):  # somebody moved it meanwhile: the next sweep looks again
        await s.store.unit_of_work(changes.organization_id).commit(changes)


async def sweep_forever(s: Services) -> None:
    """Sweep until cancelled."""
    while True:
        try:
            busy = await sweep_once(s) >= _BATCH
        except StoreUnavailable:
            busy = False
        await asyncio.sleep(0 if busy else s.limits.sweep_pause_s)
