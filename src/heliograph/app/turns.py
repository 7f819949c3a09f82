"""When a command's turn at Google comes: its place among those that wait under the same quota."""

from dataclasses import dataclass
from math import ceil

from heliograph.app.effects.erasure import device_name, in_flight
from heliograph.app.effects.upstream import ends_record
from heliograph.app.services import SECOND, Services
from heliograph.domain.ladder import Command, Issue, Rung


@dataclass(frozen=True, slots=True)
class Turn:
    """The place in the queue, from 1, and in how many seconds the turn comes if nobody more urgent does."""

    position: int
    expected_s: int


async def turn_of(s: Services, command: Command) -> Turn | None:
    """The turn of an Android command that was not handed to Google yet; None where no quota makes it wait, or where
    it waits for another command instead.
    """
    waits = command.platform == "android" and command.rung is Rung.QUEUED and command.issue is Issue.IDLE
    if not waits or s.quota is None or s.quota.per_minute <= 0:
        return None
    if ends_record(command):
        work = s.store.unit_of_work(command.organization_id)
        if await in_flight(work, command, device_name(command)) is not None:
            return None
    place = await s.store.system.place(command.organization_id, f"issue:{command.id}")
    if place is None:
        return None
    expected_s = max(s.quota.expected_s(place.ahead), (place.due_at - s.clock.now()) / SECOND)
    return Turn(place.ahead + 1, ceil(expected_s))
