"""Before a command is issued: can it work on this device at all? Asks Google where our record does not say.

Google takes some commands that a device then ignores, and calls them done. So a command whose type depends on how the
device is managed is never issued to a device of which that is not known.
"""

from typing import Any

from heliograph.app.dispatch import backoff_s
from heliograph.app.effects import erasure, spacing
from heliograph.app.effects.upstream import Later, ends_record
from heliograph.app.google_devices import take_over
from heliograph.app.services import Services
from heliograph.domain.catalog import TYPES
from heliograph.domain.devices import Device
from heliograph.domain.errors import Conflict
from heliograph.domain.ladder import Command, Event, Failed, Noted, Reason, Undeliverable
from heliograph.domain.management import depends_on_mode, mode_of, refusal_of
from heliograph.ports.changes import ChangeSet, OutboxItem
from heliograph.ports.channel import Gone, ManagementChannel, Unreachable
from heliograph.ports.store import UnitOfWork


async def check_fitness(
    s: Services,
    work: UnitOfWork,
    item: OutboxItem,
    command: Command,
    device: Device,
    channel: ManagementChannel,
    params: dict[str, Any],
) -> bool:
    """Whether the command may be issued now. If not, its end or the next try is committed."""
    found = await _verdict(s, work, item, command, device, channel, params)
    if found is None:
        return True
    changes = ChangeSet(item.organization_id)
    if isinstance(found, Later):
        if found.why is not None and not await _is_said(work, command, found.why):
            changes.move(command, found.why, s.clock.now())
        changes.put_off(item, s.later(found.seconds))
    else:
        changes.move(command, found, s.clock.now())
        changes.settle(item)
    await work.commit(changes)
    return False


async def _verdict(
    s: Services,
    work: UnitOfWork,
    item: OutboxItem,
    command: Command,
    device: Device,
    channel: ManagementChannel,
    params: dict[str, Any],
) -> Event | Later | None:
    form = TYPES[command.type].amapi
    if form is None:
        return None  # the channel refuses it
    if ends_record(command):
        found = await erasure.verdict(s, work, item, command, device, channel)
        if found is not None:
            return found
    asked = depends_on_mode(form.works, form.limits, params) and mode_of(device) is None
    if asked:
        answer = await channel.device(device.external_name or "")
        if isinstance(answer, Unreachable):
            return Later(backoff_s(s, item.attempts, answer.after_s))
        if isinstance(answer, Gone):
            return Undeliverable(source="amapi", reason=Reason("NOT_FOUND", answer.reason))
        device = await _remember(s, work, device, answer)
        if mode_of(device) is None:
            unknown = Reason("MANAGEMENT_MODE", "Google does not say how this device is managed")
            return Failed(source="amapi", reason=unknown, evidence=_known(device))
    refusal = refusal_of(command.type, form.works, form.limits, params, device)
    if refusal is None:
        return await spacing.verdict(s, work, command) if form.is_spaced else None
    source = "amapi" if asked else "dispatcher"
    return Failed(source=source, reason=Reason(refusal.code, refusal.reason), evidence=_known(device))


async def _is_said(work: UnitOfWork, command: Command, why: Noted) -> bool:
    history = (await work.history.of([command.id]))[command.id]
    return any(entry.evidence == why.evidence for entry in history)


async def _remember(s: Services, work: UnitOfWork, device: Device, raw: dict[str, Any]) -> Device:
    """Take over what Google has just said of the device. Conflict where it has another name since."""
    enterprise = await work.setup.enterprise(device.enterprise_id or "")
    if enterprise is None:
        return device
    known = await take_over(s, work, enterprise, raw)
    if known is None:
        raise Conflict
    return known


def _known(device: Device) -> dict[str, Any]:
    known = {
        "managementMode": device.management_mode,
        "ownership": device.ownership,
        "apiLevel": device.facts.get("apiLevel"),
    }
    return {"issued": False} | {name: value for name, value in known.items() if value is not None}
