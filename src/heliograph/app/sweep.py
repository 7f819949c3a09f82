"""The sweeper: ends what ran out of time, where we ourselves may judge it."""

import asyncio
from contextlib import suppress

import structlog

from heliograph.app.services import SECOND, Services
from heliograph.app.wakes import expire_push
from heliograph.domain.errors import Conflict, StoreUnavailable
from heliograph.domain.ladder import Expired
from heliograph.ports.changes import ChangeSet

log = structlog.get_logger("heliograph.sweep")

_BATCH = 500
_KEEP_DEAD_S = 7 * 24 * 3600
_KEEP_UNUSED_S = 270 * 24 * 3600  # as FCM does; agents register whenever they start
_FORGET_EVERY_US = 3600 * SECOND
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


async def forget_addresses(s: Services) -> None:
    """Drop what was given up a while ago, and what no agent has registered again for months."""
    now = s.clock.now()
    dead_before, unused_before = now - _KEEP_DEAD_S * SECOND, now - _KEEP_UNUSED_S * SECOND
    dropped = await s.store.system.forget_targets(dead_before=dead_before, unused_before=unused_before)
    if dropped:
        log.info("push.addresses_forgotten", count=dropped)


async def sweep_forever(s: Services) -> None:
    """Sweep until cancelled."""
    forgotten_at = -_FORGET_EVERY_US
    while True:
        if s.clock.elapsed() - forgotten_at >= _FORGET_EVERY_US:
            with suppress(StoreUnavailable):
                await forget_addresses(s)
                forgotten_at = s.clock.elapsed()
        try:
            busy = await sweep_once(s) >= _BATCH
        except StoreUnavailable:
            busy = False
        await asyncio.sleep(0 if busy else s.limits.sweep_pause_s)
