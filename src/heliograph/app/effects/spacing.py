"""A pause between two commands of one type on one device, where Google asks for it.

It does so for ADD_ESIM: "a few minutes between successive executions" (discovery document, revision 20261104).
"""

from heliograph.app.effects.upstream import Later
from heliograph.app.services import SECOND, Services
from heliograph.domain.catalog import TYPES
from heliograph.domain.ladder import Command, Issue, Noted, Rung
from heliograph.ports.pages import PageQuery
from heliograph.ports.store import UnitOfWork

_PAGE = 100
_RAN = (Rung.SUCCEEDED, Rung.FAILED)


async def verdict(s: Services, work: UnitOfWork, command: Command) -> Later | None:
    """Whether a command must wait because of another, which was issued or carried out just before."""
    pause_us = int(s.limits.esim_pause_s * SECOND)
    since = s.clock.now() - pause_us
    times = [(at, other.id) for other in await _touched(work, command, since) if (at := _last(other)) > since]
    if not times:
        return None
    at, other_id = max(times)
    return Later(min(pause_us, at - since) / SECOND, Noted(source="dispatcher", evidence={"waitsFor": other_id}))


async def _touched(work: UnitOfWork, command: Command, since: int) -> list[Command]:
    """The others of its type that something has happened to since then."""
    found: list[Command] = []
    number = 1
    while True:
        query = PageQuery(number, _PAGE, "updated_at", descending=True)
        page = await (await work.commands.list_of_device(command.device_id, query)).items()
        found += (c for c in page if c.type == command.type and c.id != command.id)
        if len(page) < _PAGE or page[-1].updated_at <= since:
            return found
        number += 1


def _last(other: Command) -> int:
    """When it may have begun to run, as far as that is known; 0 = it never did."""
    if other.issue is not Issue.BOUND:
        return 0
    if other.is_over:
        return other.rung_at if other.rung in _RAN or _was_at_it(other) else 0
    return other.issue_at or 0


def _was_at_it(other: Command) -> bool:
    """Whether the device was still busy with it when its time ended, as its last answer says."""
    form, metadata = TYPES[other.type].amapi, (other.operation or {}).get("metadata")
    if form is None or form.status_member is None or not isinstance(metadata, dict):
        return False
    own = metadata.get(form.status_member)
    return isinstance(own, dict) and own.get("status") in form.waiting
