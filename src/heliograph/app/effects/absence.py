"""What it means that Google no longer knows a device: the end of a command that takes the record there with it.

Google drops its record of a device once that has acknowledged a WIPE or RELINQUISH_OWNERSHIP, and the operation with
it, often before anybody has seen the operation done. One answer "not found" proves nothing: the operation, the list
of operations and the device itself must be absent, and again after `absence_window_s`.
"""

from dataclasses import dataclass

from heliograph.app.effects.erasure import DROPPED_WITHIN_US, MOST, device_name, gone_by, in_flight, made_at_google
from heliograph.app.effects.upstream import ends_record, is_past
from heliograph.app.google_devices import GONE_STATE
from heliograph.app.services import SECOND, Services
from heliograph.domain.devices import Device
from heliograph.domain.ladder import OUTCOME_UNKNOWN, Command, Event, Failed, Noted, Reason, Rung, Succeeded
from heliograph.ports.channel import Gone, ManagementChannel, Unreachable
from heliograph.ports.store import UnitOfWork

_SOURCE = "amapi"
_DEVICE, OPERATION = "deviceGone", "operationGone"  # the findings, and their names in a history
CANCEL_TAKEN, CANCEL_REFUSED = "cancelTaken", "cancelRefused"
REFUSED_AT, REFUSALS = "cancelRefusedAt", "cancelRefusals"  # the last time, and how often
_ENDLESS = "endless"
CANCEL_OPEN = "cancelOpen"  # a request to cancel was begun of which no answer says that it did nothing
_NOT_FOUND = 404
TAKEN = "requested"  # the answer to a cancel that Google took, in a history


@dataclass(frozen=True, slots=True)
class Absence:
    """One look at a device that Google may have dropped.

    `is_listed_nowhere`: Google has no list of its operations.
    """

    s: Services
    work: UnitOfWork
    channel: ManagementChannel
    device: Device
    is_listed_nowhere: bool

    def is_likely(self, command: Command) -> bool:
        """Whether the device that the command was issued to may be gone: its list is, or it has another name now."""
        return self.is_listed_nowhere or not (command.receipt or "").startswith(f"{self.device.external_name}/")

    async def meaning(self, command: Command) -> Event | None:
        """What to record of a command whose operation Google does not know, nor the device's list."""
        # Asked by the name in the operation: a device that enrolled again has another.
        name = device_name(command)
        answer = await self.channel.device(name)
        if isinstance(answer, Unreachable):
            return None
        if not isinstance(answer, Gone):
            return forgotten(self.s, command)
        if self.device.state == GONE_STATE and self.device.external_name == name:
            return await self._end(command)  # its last report said so, or list after list
        missed_at = missed_since(command, _DEVICE)
        if missed_at is None:
            evidence = {_DEVICE: True, "message": answer.reason}
            return Noted(source=_SOURCE, evidence=evidence, findings={_DEVICE: self.s.clock.now()})
        if self.s.clock.now() - missed_at < self.s.limits.absence_window_s * SECOND:
            return None
        return await self._end(command)

    async def _end(self, command: Command) -> Event | None:
        """Commands of a device run one after the other, so behind the one that erased it none ran."""
        ended = await self.work.commands.ended_erasures(self.device.id, MOST)
        others = [o for o in ended if o.id != command.id and device_name(o) in ("", device_name(command))]
        done = [o for o in others if o.rung is Rung.SUCCEEDED]
        # Also one that was over before this one was issued: Google takes commands until it has dropped the record, and
        # a device that enrols again has another name.
        by = next((o for o in done if not _by_our_clock(o, command)), None)
        if by is not None:
            return gone_by(by, _SOURCE, {_DEVICE: True})
        was_open = any(o.is_unknown and _may_have_met(o, command) for o in others)
        was_open = was_open or any(not _by_google_s_clock(o, command) for o in done)
        # Not two that this program has issued (`erasure`), but an attempt may have been given up.
        if was_open or await in_flight(self.work, command, device_name(command)) is not None:
            unclear = Reason(OUTCOME_UNKNOWN, "the device is gone, by this command or by another")
            return Failed(source=_SOURCE, reason=unclear, evidence={_DEVICE: True})
        return self._unless_cancelled(command)

    def _unless_cancelled(self, command: Command) -> Event | None:
        """A cancel that Google took may have won, and the device have been deleted by other means. One that is not
        answered yet may have been taken; so may one whose answer was lost, whatever the next one was told.
        """
        found = command.findings or {}
        is_refused = was_refused(command)
        if command.cancel_requested_at is None or (is_refused and CANCEL_OPEN not in found):
            return self._unless_late(command)
        word, what = "unanswered", "to which Google never answered"
        if CANCEL_TAKEN in found:
            word, what = TAKEN, "which Google had taken"
        elif is_refused:
            what = "which Google may have taken"
        elif not is_past(self.s, command):
            return None
        unclear = Reason(OUTCOME_UNKNOWN, f"the device is gone, by this command or after its cancel, {what}")
        return Failed(source=_SOURCE, reason=unclear, evidence={_DEVICE: True, "cancel": word})

    def _unless_late(self, command: Command) -> Event:
        """Once its time is over a command does nothing any more, and the device may have been deleted by other means.
        Google's count may begin and end later than ours (`is_past`): in between nobody knows, so ours is what counts.
        """
        gone_since = self._gone_since(command)
        if gone_since < command.expires_at and not self._is_late_there(command, gone_since):
            return Succeeded(source=_SOURCE, evidence={_DEVICE: True, "operation": "not found", "device": "not found"})
        unclear = Reason(OUTCOME_UNKNOWN, "the device is gone, by this command or after its time was over")
        return Failed(source=_SOURCE, reason=unclear, evidence={_DEVICE: True, "isLate": True})

    def _is_late_there(self, command: Command, gone_since: int) -> bool:
        """The same by Google's clock, where it is known: ours may have lost time. It goes on from where it was after a
        restart.
        """
        there, made_at = self.channel.time(), made_at_google(command)
        if there is None or made_at is None:
            return False
        left_us = command.expires_at - (command.issue_at or command.created_at)
        return there - (self.s.clock.now() - gone_since) >= made_at + left_us

    def _gone_since(self, command: Command) -> int:
        """Since when the device is known to be gone, by our clock: a look has missed it, or its record says so."""
        known = [self.s.clock.now(), missed_since(command, _DEVICE)]
        if self.device.state == GONE_STATE and self.device.external_name == device_name(command):
            known.append(self.device.missed_at or self.device.updated_at)
        return min(at for at in known if at is not None)


def was_refused(command: Command) -> bool:
    """Whether Google has refused each request to cancel a command so far."""
    found = command.findings or {}
    return CANCEL_REFUSED in found and CANCEL_TAKEN not in found


def _is_unknown_to_cancel(command: Command) -> bool:
    """Whether Google did not know the operation when its cancel was asked for, and has taken no other request."""
    return was_refused(command) and (command.findings or {}).get(CANCEL_REFUSED) == _NOT_FOUND


def _by_our_clock(done: Command, command: Command) -> bool:
    """Whether the device was there for long after another had succeeded, so that it did not erase it."""
    return (command.issue_at or command.created_at) - done.rung_at >= DROPPED_WITHIN_US


def _by_google_s_clock(done: Command, command: Command) -> bool:
    """The same by the clock of Google, which nobody here can set forward in between."""
    began, made_at = made_at_google(done), made_at_google(command)
    if began is None or made_at is None:
        return False
    took = done.rung_at - (done.issue_at or done.created_at)
    return made_at - (began + took) >= DROPPED_WITHIN_US


def _may_have_met(unknown: Command, command: Command) -> bool:
    """Whether one of which nobody could tell what became of it may still have run once `command` was made: by our
    clock, or by Google's, where that is known of them.
    """
    until = max(unknown.rung_at, unknown.expires_at)
    began, made_at = made_at_google(unknown), made_at_google(command)
    at_google = until if began is None else began + unknown.duration_us
    return until >= command.created_at or (made_at is not None and at_google >= made_at)


def back_again(command: Command) -> Event | None:
    """Takes the absences that were found back: device or operation were seen again."""
    marks = [mark for mark in (_DEVICE, OPERATION) if missed_since(command, mark) is not None]
    if not marks:
        return None
    return Noted(source=_SOURCE, evidence=dict.fromkeys(marks, False), findings=dict.fromkeys(marks))


def is_missed(command: Command) -> bool:
    """Whether the latest look at the device found none."""
    return missed_since(command, _DEVICE) is not None


def missed_since(command: Command, mark: str) -> int | None:
    """Since when something has been missed of a command, by our clock."""
    return (command.findings or {}).get(mark)


def forgotten(s: Services, command: Command) -> Event | None:
    """What it means that Google does not know an operation of a device that it knows: nothing, until it is so for days,
    or a second look says the same of one whose time is over, or that holds up others (`erasure`) although its cancel
    was asked for, and Google did not know it then either. Google has been seen to say so of what is there.
    """
    is_over = is_past(s, command)
    is_stuck = not is_over and ends_record(command) and _is_unknown_to_cancel(command)
    since = missed_since(command, OPERATION)
    if since is None:
        s.absences.forget(command.id, OPERATION)  # another process may have seen it since this one has missed it
    lasts = since is not None and s.clock.now() - since >= s.limits.forgotten_after_s * SECOND
    if is_stuck or is_over:
        seen_us = s.absences.seen(command.id, OPERATION, s.clock.elapsed())
        lasts = lasts or seen_us >= s.limits.absence_window_s * SECOND
    if lasts:
        s.absences.forget(command.id)
        return _given_up(is_stuck)
    marks: dict[str, int | None] = {OPERATION: s.clock.now()} if since is None else {}
    if is_missed(command):
        marks[_DEVICE] = None
    evidence = {mark: at is not None for mark, at in marks.items()}
    return Noted(source=_SOURCE, evidence=evidence, findings=marks) if marks else None


def endless(s: Services, command: Command) -> Event | None:
    """What it means that Google shows no end of an operation, or none that can be read: nothing, until it has been so
    for days after the command's time. Google says that a command expires, and not that its operation ends with that.
    """
    if not is_past(s, command):
        return None
    since = missed_since(command, _ENDLESS)
    if since is None:
        return Noted(source=_SOURCE, findings={_ENDLESS: s.clock.now()})
    if s.clock.now() - since < s.limits.forgotten_after_s * SECOND:
        return None
    why = "Google shows no end of the operation, long after its time was over"
    return Failed(source=_SOURCE, reason=Reason(OUTCOME_UNKNOWN, why), evidence={_ENDLESS: True})


def _given_up(is_stuck: bool) -> Failed:
    why = "Google no longer knows the operation"
    if not is_stuck:
        return Failed(source=_SOURCE, reason=Reason(OUTCOME_UNKNOWN, why))
    unclear = Reason(OUTCOME_UNKNOWN, f"{why}, so it cannot be cancelled: the device may still carry it out")
    return Failed(source=_SOURCE, reason=unclear, evidence={OPERATION: True, "cancel": "refused"})
