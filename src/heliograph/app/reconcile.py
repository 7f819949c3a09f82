"""The reconciler: finds what was lost, and compares our records with Google's own lists.

Everything else here follows events. This asks for the truth now and then, with what the quota has left: commands that
nothing is owed for any more are looked at again, and each enterprise's devices are read from Google. A round that
cannot be completed changes nothing beyond what it has seen, and no single answer takes anything away.
"""

import asyncio

import structlog

from heliograph.app.compare_devices import compare_devices
from heliograph.app.effects.upstream import owe_issue, owe_look_up, take_note
from heliograph.app.google_channel import google
from heliograph.app.services import Services
from heliograph.domain.devices import Enterprise
from heliograph.domain.errors import StoreUnavailable
from heliograph.domain.ladder import Command, Issue
from heliograph.ports.changes import BACKGROUND, NORMAL, ChangeSet
from heliograph.ports.channel import TOO_MANY, Unreachable

log = structlog.get_logger("heliograph.reconcile")

COMMANDS, DEVICES = "commands", "devices"
_BATCH = 500
_PAUSE_S = 30.0
_PATIENCE_S = 120.0  # a page may wait so long for its token: others go first


async def reconcile_forever(s: Services) -> None:
    """Look until cancelled whether a round is due."""
    while True:
        try:
            await reconcile_once(s)
        except StoreUnavailable as error:
            log.warning("reconcile.store_unavailable", error=str(error))
        except Exception:
            log.exception("reconcile.failed")
        await asyncio.sleep(min(_PAUSE_S, s.limits.reconcile_every_s / 2))


async def reconcile_once(s: Services) -> None:
    """The rounds that are due now, each in one process: the commands, then each enterprise's devices."""
    system, next_at = s.store.system, s.later(s.limits.reconcile_every_s)
    if await system.begin_round(COMMANDS, "", s.clock.now(), next_at):
        await system.end_round(COMMANDS, "", s.clock.now(), await _revive_commands(s))
    exhausted: set[str] = set()
    for enterprise in await s.store.directory.enterprises():
        if await _is_refused(s, enterprise):
            continue  # its round stays due
        if await system.begin_round(DEVICES, enterprise.id, s.clock.now(), next_at):
            fault = await _round(s, enterprise, exhausted)
            if fault is not None:
                log.warning("reconcile.ended", enterprise=enterprise.name, reason=fault)
            await system.end_round(DEVICES, enterprise.id, s.clock.now(), fault)


async def _is_refused(s: Services, enterprise: Enterprise) -> bool:
    """Whether Google has just refused look-ups like this one."""
    if not s.look_pauses:
        return False
    channel = await google(s, enterprise.organization_id, enterprise.id, BACKGROUND)
    return channel is not None and s.look_pauses.end(channel.parties, s.clock.elapsed()) is not None


async def _revive_commands(s: Services) -> str | None:
    """Owe again what is owed for no silent command any more, oldest first; answers the last fault."""
    fault = None
    for command in await s.store.system.silent_commands(_BATCH):
        log.warning("command.silent", command=command.id, issue=command.issue.value)
        try:
            await _revive(s, command)
        except StoreUnavailable:
            raise
        except Exception as error:
            fault = type(error).__name__
            log.exception("command.cannot_be_revived", command=command.id)
    return fault


async def _revive(s: Services, command: Command) -> None:
    changes = ChangeSet(command.organization_id)
    if command.issue is Issue.BOUND:
        owe_look_up(s, changes, command, NORMAL)
    else:
        owe_issue(s, changes, command, NORMAL)
    await s.store.unit_of_work(command.organization_id).commit(changes)


async def _round(s: Services, enterprise: Enterprise, exhausted: set[str]) -> str | None:
    """One enterprise's devices; answers why that could not be completed. `exhausted` = projects that Google has told to
    stop in this round.
    """
    channel = await google(s, enterprise.organization_id, enterprise.id, BACKGROUND, _PATIENCE_S)
    if channel is None:
        return "no usable credentials"
    if channel.project in exhausted:
        return "its project has just been told to stop"
    asked = s.clock.elapsed()
    try:
        end = await compare_devices(s, channel, enterprise)
    except StoreUnavailable:
        raise
    except Exception as error:
        log.exception("reconcile.failed", enterprise=enterprise.name)
        return type(error).__name__
    take_note(s, channel, end, asked)
    if isinstance(end, Unreachable) and end.status == TOO_MANY:
        exhausted.add(channel.project)
    return None if end is None else end.reason
