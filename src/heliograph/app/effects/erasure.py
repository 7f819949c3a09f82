"""One command at a time may take Google's record of a device with it.

Were two open when a device goes, nobody could tell which of them it was, nor whether a cancel of the other had won.
"""

import re

from heliograph.app.dispatch import backoff_s
from heliograph.app.effects.upstream import Later, ends_record
from heliograph.app.google_devices import GONE_STATE
from heliograph.app.services import SECOND, Services
from heliograph.domain.devices import Device
from heliograph.domain.ladder import Command, Failed, Issue, Noted, Reason, Rung
from heliograph.ports.changes import OutboxItem
from heliograph.ports.channel import Gone, ManagementChannel, Unreachable
from heliograph.ports.store import UnitOfWork

_SOURCE = "dispatcher"
_DEVICE = "erased device"
_MAX_LIVE = 100_000  # none may be overlooked
MOST = 1_000  # ended commands of these types that are looked at
_PAUSES_S = (5.0, 60.0)  # shortest and longest, as the wait gets longer
DROPPED_WITHIN_US = 600 * SECOND  # after that Google would have dropped it: the device was not erased after all


def device_name(command: Command) -> str:
    """The name at Google of the device that a command was issued to; before it is, of the one that is meant."""
    return (command.receipt or "").partition("/operations/")[0] or command.device_name or ""


def made_at_google(command: Command) -> int | None:
    """When Google made a command's operation, by its clock (microseconds). Its name ends with that, in milliseconds
    (research: amapi.md, fact 2); None for a name of another form.
    """
    last = (command.receipt or "").rpartition("/operations/")[2]
    return int(last) * 1000 if re.fullmatch(r"[0-9]{13}", last) else None


def gone_by(other: Command, source: str, evidence: dict[str, object]) -> Failed:
    """The end of a command that never ran, because another had ended the management of its device."""
    reason = Reason("DEVICE_GONE", f"{other.type} had ended the management of the device before")
    return Failed(source=source, reason=reason, evidence=evidence | {"by": other.id})


async def in_flight(work: UnitOfWork, command: Command, name: str) -> Command | None:
    """Another command that may erase the device of this name, and that Google has or may have."""
    live = await work.commands.live_of_device(command.device_id, _MAX_LIVE)
    others = (c for c in live if c.id != command.id and c.issue is not Issue.IDLE and ends_record(c))
    return next((c for c in others if device_name(c) in ("", name)), None)


async def verdict(
    s: Services, work: UnitOfWork, item: OutboxItem, command: Command, device: Device, channel: ManagementChannel
) -> Failed | Later | None:
    """Whether a command that may erase its device comes too late, or must wait for another."""
    name = device.external_name or ""
    if device_name(command) not in ("", name):
        reason = Reason("DEVICE_GONE", "the device that was meant has enrolled again since, under another name")
        return Failed(source=_SOURCE, reason=reason, evidence={"issued": False, "meant": device_name(command)})
    before = await in_flight(work, command, name)
    if before is not None:
        return _turn(s, command, before)
    for other in await work.commands.ended_erasures(device.id, MOST):
        is_recent = s.clock.now() - other.rung_at < DROPPED_WITHIN_US
        if is_recent and other.rung is Rung.SUCCEEDED and device_name(other) == name:
            return await _behind(s, item, command, device, channel, other)
    return None  # if the device is gone after all, Google says so


async def _behind(
    s: Services, item: OutboxItem, command: Command, device: Device, channel: ManagementChannel, other: Command
) -> Failed | Later:
    """Another has just erased the device: it waits until Google has dropped it, seen twice, or goes on not doing so."""
    if device.state != GONE_STATE:
        asked = s.clock.elapsed()
        answer = await channel.device(device.external_name or "")
        if isinstance(answer, Unreachable):
            return Later(backoff_s(s, item.attempts, answer.after_s))
        if not isinstance(answer, Gone):
            s.absences.forget(command.id, _DEVICE)
            return _turn(s, command, other)
        if s.absences.seen(command.id, _DEVICE, asked) < s.limits.absence_window_s * SECOND:
            return _turn(s, command, other)
    s.absences.forget(command.id)
    return gone_by(other, _SOURCE, {"issued": False})


def _turn(s: Services, command: Command, before: Command) -> Later:
    shortest, longest = _PAUSES_S
    waited_s = (s.clock.now() - command.created_at) / SECOND
    pause_s = min(longest, max(shortest, waited_s / 10))
    return Later(pause_s, Noted(source=_SOURCE, evidence={"waitsFor": before.id}))
