"""The sweeper: ends what ran out of time, where we ourselves may judge it."""

import asyncio
from contextlib import suppress

import structlog

from heliograph.app.services import SECOND, Services
from heliograph.app.wakes import expire_push
from heliograph.domain.deliveries import Push
from heliograph.domain.errors import Conflict, StoreUnavailable
from heliograph.domain.ladder import Command, Expired
from heliograph.ports.changes import ChangeSet

log = structlog.get_logger("heliograph.sweep")

_BATCH = 500
_KEEP_DEAD_S = 7 * 24 * 3600
_KEEP_UNUSED_S = 270 * 24 * 3600  # as FCM does; agents register at every start and weekly
_FORGET_EVERY_US = 3600 * SECOND
_SOURCE = "sweeper"


async def sweep_once(s: Services) -> int:
    """Expire what is due, oldest first; answers how many records were looked at. One that fails stops no other."""
    now = s.clock.now()
    commands = await s.store.system.expired_commands(now, _BATCH)
    pushes = await s.store.system.expired_pushes(now, _BATCH)
    endings = [*(_end_command(s, command) for command in commands), *(_end_push(s, push) for push in pushes)]
    ids = [*(command.id for command in commands), *(push.id for push in pushes)]
    faults = await asyncio.gather(*endings, return_exceptions=True)
    for id_, fault in zip(ids, faults, strict=True):
        if isinstance(fault, StoreUnavailable):
            raise fault
        if fault is not None:
            log.error("sweep.record_failed", record=id_, error=repr(fault))
    return len(endings)


async def _end_command(s: Services, command: Command) -> None:
    changes = ChangeSet(command.organization_id)
    changes.move(command, Expired(source=_SOURCE), s.clock.now())  # not as of a look that may be old
    changes.withdraw(f"issue:{command.id}", has_lane=True)
    with suppress(Conflict):  # somebody moved it meanwhile: the next sweep looks again
        await s.store.unit_of_work(command.organization_id).commit(changes)


async def _end_push(s: Services, push: Push) -> None:
    work, changes = s.store.unit_of_work(push.organization_id), ChangeSet(push.organization_id)
    await expire_push(s, work, changes, push, _SOURCE)
    with suppress(Conflict):
        await work.commit(changes)


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
        busy = False
        try:
            if s.clock.elapsed() - forgotten_at >= _FORGET_EVERY_US:
                await forget_addresses(s)
                forgotten_at = s.clock.elapsed()
            busy = await sweep_once(s) >= _BATCH
        except StoreUnavailable:
            pass
        except Exception:  # what runs out of time later still has to end
            log.exception("sweep.failed")
        await asyncio.sleep(0 if busy else s.limits.sweep_pause_s)
