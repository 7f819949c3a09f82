"""One command at a time may take Google's record of a device with it.

Were two open when a device goes, nobody could tell which of them it was, nor whether a cancel of the other had won.
"""

from heliograph.app.dispatch import backoff_s
from heliograph.app.effects.upstream import Later, ends_record
from heliograph.app.google_devices import GONE_STATE
from heliograph.app.services import SECOND, Services
from heliograph.domain.devices import Device
from heliograph.domain.ladder import Command, Failed, Issue, Noted, Reason, Rung
from heliograph.ports.changes import OutboxItem
from heliograph.ports.channel import Gone, ManagementChannel, Unreachable
from heliograph.ports.store import PageQuery, UnitOfWork

_SOURCE = "dispatcher"
_LATEST = PageQuery(limit=200, sort="created_at", descending=True)
_MAX_LIVE = 100_000  # none may be overlooked
_PAUSE_S = 5.0
_DROPPED_WITHIN_US = 600 * SECOND  # after that Google would have dropped it: the device was not erased after all


def device_name(command: Command) -> str:
    """The name at Google of the device that a command was issued to; empty before it is."""
    return (command.receipt or "").partition("/operations/")[0]


def gone_by(other: Command, source: str, evidence: dict[str, object]) -> Failed:
    """The end of a command that never ran, because another had ended the management of its device."""
    reason = Reason("DEVICE_GONE", f"{other.type} had ended the management of the device before")
    return Failed(source=source, reason=reason, evidence=evidence | {"by": other.id})


async def in_flight(work: UnitOfWork, command: Command) -> Command | None:
    """Another command that may erase the device, and that Google has or may have."""
    live = await work.commands.live_of_device(command.device_id, _MAX_LIVE)
    return next((c for c in live if c.id != command.id and c.issue is not Issue.IDLE and ends_record(c)), None)


async def verdict(
    s: Services, work: UnitOfWork, item: OutboxItem, command: Command, device: Device, channel: ManagementChannel
) -> Failed | Later | None:
    """Whether a command that may erase its device comes too late, or must wait for another."""
    latest = (await work.commands.list_of_device(command.device_id, _LATEST)).items
    for other in latest:
        if other.rung is Rung.SUCCEEDED and ends_record(other):
            found = await _behind(s, item, command, device, channel, other)
            if found is not None:
                return found
    before = await in_flight(work, command)
    return None if before is None else _turn(before)


async def _behind(
    s: Services, item: OutboxItem, command: Command, device: Device, channel: ManagementChannel, other: Command
) -> Failed | Later | None:
    """What it means that another has erased the device: it is gone, or about to go, or there as if nothing had been."""
    too_late = gone_by(other, _SOURCE, {"issued": False})
    if device_name(other) != device.external_name:
        # It has enrolled again since: not the device that was meant, where the command is from before.
        return too_late if other.rung_at >= command.created_at else None
    if device.state == GONE_STATE:
        return too_late
    answer = await channel.device(device.external_name or "")
    if isinstance(answer, Gone):
        return too_late
    if isinstance(answer, Unreachable):
        return Later(backoff_s(s, item.attempts, answer.after_s))
    return _turn(other) if s.clock.now() - other.rung_at < _DROPPED_WITHIN_US else None


def _turn(before: Command) -> Later:
    return Later(_PAUSE_S, Noted(source=_SOURCE, evidence={"waitsFor": before.id}))
