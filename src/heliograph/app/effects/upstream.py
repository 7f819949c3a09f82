"""What the effects that speak to Google share: results and look-ups."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from heliograph.app.dispatch import backoff_s
from heliograph.app.google_channel import MeteredChannel
from heliograph.app.services import SECOND, Services
from heliograph.domain.catalog import TYPES
from heliograph.domain.command_types import read_operation
from heliograph.domain.devices import Device
from heliograph.domain.ladder import Command, Event, Issue, Noted
from heliograph.ports.changes import NORMAL, URGENT, ChangeSet
from heliograph.ports.channel import Unreachable
from heliograph.ports.store import UnitOfWork

log = structlog.get_logger("heliograph.amapi")

ERASING = tuple(name for name, entry in TYPES.items() if entry.amapi is not None and entry.amapi.ends_record)
LATE_US = 2 * SECOND  # from here on a command is sent with what is left of its life
_FIRST_PAUSE_S = 0.25


@dataclass(frozen=True, slots=True)
class Later:
    """A command cannot be issued yet; try again after so many seconds. `why`: for its history, once."""

    seconds: float
    why: Noted | None = None


def result_of(s: Services, command: Command, operation: Mapping[str, Any]) -> Event | None:
    """The result that an operation holds, or None while it is open or cannot be read."""
    times = {"now": s.clock.now(), "expires_at": command.expires_at}
    try:
        return read_operation(TYPES[command.type], operation, params=command.params, **times)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # One operation of a shape that nobody knows must not keep the results of the others from us.
        log.warning(
            "operation.unreadable", command=command.id, operation=operation.get("name"), error=repr(error)[:200]
        )
        return None


def ends_record(command: Command) -> bool:
    """Whether success takes Google's record of the device with it."""
    return command.type in ERASING


def is_past(s: Services, command: Command) -> bool:
    """Whether a command's time is over, for Google too, which counts from when the attempt got there."""
    return s.clock.now() >= command.expires_at + LATE_US + s.limits.issue_timeout_s * SECOND


def issue_lane(command: Command) -> str:
    """One attempt for a device and type at a time: an uncertain one must be told from the next. What may erase a device
    is sent to the one that was meant alone, so what is uncertain of its former name holds nothing up.
    """
    name = f":{command.device_name}" if ends_record(command) else ""
    return f"issue:{command.device_id}:{command.type}{name}"


def owe_issue(s: Services, changes: ChangeSet, command: Command, priority: int) -> None:
    """Hand a command over to Google."""
    debt = s.debt(
        command.organization_id,
        "issue",
        command.id,
        lane=issue_lane(command),
        pool=command.enterprise_id,
        priority=priority,
    )
    changes.owe(debt)


def owe_look_up(s: Services, changes: ChangeSet, command: Command, priority: int) -> None:
    """Ask for the state of a device's open operations, one list for all of them.

    `priority` as that of what the command went through: behind a fan-out nobody sees the result of what overtook it.
    """
    changes.owe(
        s.debt(
            command.organization_id,
            "look_up",
            command.device_id,
            after_s=_FIRST_PAUSE_S,
            pool=command.enterprise_id,
            priority=max(NORMAL, priority),
        )
    )


async def look_at_once(s: Services, work: UnitOfWork, device: Device) -> None:
    """A device that is gone has carried out what made it go: its commands are settled by the next look."""
    bound = await work.commands.live_of_device(device.id, 1, Issue.BOUND)
    if bound:
        changes = ChangeSet(work.organization_id)
        owe_look_up(s, changes, bound[0], NORMAL)
        await work.commit(changes)


def owe_cancel(s: Services, changes: ChangeSet, command: Command, after_s: float = 0.0) -> None:
    """Ask Google to cancel the operation of a command."""
    pool, priority = command.enterprise_id, URGENT
    changes.owe(s.debt(command.organization_id, "cancel", command.id, after_s=after_s, pool=pool, priority=priority))


def next_look_up_s(s: Services, newest_issue_at: int, owed: int, cap_s: float) -> float:
    """The pause before the next look-up: half the age of the newest open operation, within cap and budget.

    `owed` = requests of all look-ups owed that are at least so urgent; together they keep within `look_ups_per_minute`.
    """
    age_s = (s.clock.now() - newest_issue_at) / SECOND
    return max(budget_s(s, owed), min(cap_s, max(_FIRST_PAUSE_S, age_s / 2)))


def budget_s(s: Services, owed: int) -> float:
    """The pause between two looks of each of so many devices that together keep within the budget."""
    return owed * 60 / s.limits.look_ups_per_minute


def wait_for_google_s(s: Services, channel: MeteredChannel, priority: int) -> float | None:
    """How long one more look-up must wait because others were just refused, each at its place within the budget. None =
    it may ask now, and must tell `take_note` what the answer was.
    """
    now = s.clock.elapsed()
    place = s.look_pauses.place(channel.parties, priority, int(budget_s(s, 1) * SECOND), now)
    return None if place is None else (place - now) / SECOND


def take_note(s: Services, channel: MeteredChannel, answer: object, asked: int) -> None:
    """Let look-ups wait together where Google refuses them, and go on where it answers. `asked` = when, by the clock
    that nobody sets.
    """
    refused = channel.refused(answer)
    if refused is not None and isinstance(answer, Unreachable):
        pause_s = partial(backoff_s, s, after_s=answer.after_s)
        if s.look_pauses.refused(refused, asked, s.clock.elapsed(), pause_s):
            log.warning("look_up.refused", reason=answer.reason, project=channel.project, of=refused[0])
    elif isinstance(answer, Unreachable):
        s.look_pauses.untold(channel.parties, s.clock.elapsed())
    else:
        s.look_pauses.taken(channel.parties, asked)
