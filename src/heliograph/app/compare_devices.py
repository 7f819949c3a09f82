"""Compare an enterprise's devices with Google's list of them.

Google tells nothing of a device that its user has removed, so only the list shows that it is gone. One list proves
nothing: it may be cut short, or be read while it changes. A device counts as gone when complete lists have lacked it
for `device_missing_s`, and even then its record stays; a device that is listed again is back again.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from heliograph.app.effects.upstream import look_at_once
from heliograph.app.google_channel import MeteredChannel
from heliograph.app.google_devices import GONE_STATE, is_device_of, take_over
from heliograph.app.services import SECOND, Services, until_committed
from heliograph.domain.devices import Device, Enterprise
from heliograph.domain.errors import Conflict, StoreUnavailable
from heliograph.ports.channel import Gone, Unreachable
from heliograph.ports.store import UnitOfWork

log = structlog.get_logger("heliograph.reconcile")

_BATCH = 500


async def compare_devices(s: Services, channel: MeteredChannel, enterprise: Enterprise) -> Gone | Unreachable | None:
    """Take over what Google lists, and note what complete lists lack; answers what ended the round, if it was ended."""
    work = s.store.unit_of_work(enterprise.organization_id)
    asked_at = began = s.clock.now()
    listed: set[str] = set()
    fault: Unreachable | None = None
    all_named = True  # nothing else has to be known of a device to tell which others are not in the list
    async for page in channel.devices(enterprise.name):
        if isinstance(page, Gone | Unreachable):
            return page
        for raw in page:
            name = _name_of(enterprise, raw)
            if name is None or not await _taken(s, work, enterprise, raw, asked_at):
                fault = Unreachable("a device in the list cannot be read")
            if name is None:
                all_named = False
            else:
                listed.add(name)
        asked_at = s.clock.now()
    if not listed:
        # A mistake on the other side has looked like this, and made another product drop its fleet.
        return fault or Unreachable("an empty list, which is not believed")
    if all_named:
        await _note_absent(s, work, enterprise, listed, began)
    return fault


def _name_of(enterprise: Enterprise, raw: Any) -> str | None:
    name = raw.get("name") if isinstance(raw, dict) else None
    return name if is_device_of(name, enterprise) else None


async def _taken(s: Services, work: UnitOfWork, enterprise: Enterprise, raw: dict[str, Any], asked_at: int) -> bool:
    """Bring one device up to date. Its fault never stops the round."""
    try:
        await until_committed(partial(take_over, s, work, enterprise, raw, asked_at))
    except StoreUnavailable:
        raise
    except Exception:
        log.exception("device.cannot_be_taken_over", enterprise=enterprise.name, device=raw["name"])
        return False
    return True


async def _note_absent(s: Services, work: UnitOfWork, enterprise: Enterprise, listed: set[str], began: int) -> None:
    last = ""
    while page := await work.devices.of_enterprise(enterprise.id, last, _BATCH):
        last = page[-1].id
        for device in page:
            if _is_absent(enterprise, device, listed, began):
                try:
                    await _note_one(s, work, device, began)
                except Conflict:
                    continue  # something was heard of it just now


def _is_absent(enterprise: Enterprise, device: Device, listed: set[str], began: int) -> bool:
    """Whether the list should have had a device. What has been heard of one meanwhile, the list may not know yet."""
    name = device.external_name or ""
    is_here = device.state != GONE_STATE and name.startswith(f"{enterprise.name}/devices/")
    return is_here and name not in listed and device.updated_at < began  # both by our clock


async def _note_one(s: Services, work: UnitOfWork, device: Device, began: int) -> None:
    if device.missed_at is None:
        await work.setup.save_device(replace(device, missed_at=began), read_at=device.updated_at)
    elif began - device.missed_at >= s.limits.device_missing_s * SECOND:
        log.warning("device.gone", device=device.id, name=device.external_name)
        now = max(s.clock.now(), device.updated_at + 1)
        await work.setup.save_device(replace(device, state=GONE_STATE, updated_at=now), read_at=device.updated_at)
        await look_at_once(s, work, device)
