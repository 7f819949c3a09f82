"""Devices as Google describes them, taken over into our records.

A device that enrols again gets a new name at Google and lists its former ones: our record keeps its id and takes the
new name. Parts of a description may be missing; what is not said stays as it is known.
"""

from dataclasses import replace
from typing import Any

from heliograph.app.services import Services
from heliograph.domain.devices import Device, Enterprise
from heliograph.domain.times import time_of
from heliograph.ports.store import UnitOfWork

GONE_STATE = "DELETED"
_MAX_FORMER = 20


async def take_over(
    s: Services, work: UnitOfWork, enterprise: Enterprise, raw: dict[str, Any], reported_at: int | None = None
) -> Device | None:
    """Bring a device up to date, or add it. None: the report is older than what is known (or says that one we never
    knew is gone). `raw` has a `name`; `reported_at` in microseconds by Google's clock, None = asked for just now.
    Conflict: read again.
    """
    known = await _known(work, _names(enterprise, raw))
    described = _described(raw)
    # By Google's clock alone: by ours, which may be ahead, what Google tells next would seem older.
    told_at = time_of(raw.get("lastStatusReportTime")) if reported_at is None else reported_at
    if known is None:
        return await _add(s, work, enterprise, described, told_at)
    latest = known.reported_at or 0
    if reported_at is not None and reported_at < latest:
        return None
    described.pop("name", None)  # people may have given it another
    device = replace(known, **described | {"facts": known.facts | described["facts"]}, missed_at=None)
    if device == known and reported_at is None:
        return known  # as it is found every time that anybody looks
    updated_at = max(s.clock.now(), known.updated_at + 1)
    device = replace(device, reported_at=max(latest, told_at or 0) or None, updated_at=updated_at)
    await work.setup.save_device(device, read_at=known.updated_at)
    return device


async def _add(
    s: Services, work: UnitOfWork, enterprise: Enterprise, described: dict[str, Any], told_at: int | None
) -> Device | None:
    if described.get("state") == GONE_STATE:
        return None
    now = s.clock.now()
    named = {"state": "ACTIVE", "name": described["external_name"].rsplit("/", 1)[-1]} | described
    device = Device(
        id=s.new_id(),
        organization_id=enterprise.organization_id,
        all_platform_id=s.new_id(),
        platform="android",
        enterprise_id=enterprise.id,
        created_at=now,
        updated_at=now,
        reported_at=told_at,
        **named,
    )
    await work.setup.add_device(device, None)
    return device


def _names(enterprise: Enterprise, raw: dict[str, Any]) -> list[str]:
    """The names of a device: the present one, then its former ones, oldest first. A name of another enterprise says
    nothing of our records: whoever is managed there would take them over.
    """
    said = raw.get("previousDeviceNames")
    former = said[-_MAX_FORMER:] if isinstance(said, list) else []
    return [raw["name"], *(n for n in former if isinstance(n, str) and n.startswith(f"{enterprise.name}/devices/"))]


async def _known(work: UnitOfWork, names: list[str]) -> Device | None:
    for name in names:
        found = await work.devices.find_by_external_name(name)
        if found is not None:
            return found
    return None


def _described(raw: dict[str, Any]) -> dict[str, Any]:
    """What Google's description says, in our words; without what it does not say."""
    hardware = raw.get("hardwareInfo") if isinstance(raw.get("hardwareInfo"), dict) else {}
    network = raw.get("networkInfo") if isinstance(raw.get("networkInfo"), dict) else {}
    serial = _text(hardware, "serialNumber")
    said = {
        "name": _text(hardware, "model") or serial,
        # Only the state as applied says that a device is gone; the other is what was asked for.
        "state": GONE_STATE if raw.get("appliedState") == GONE_STATE else _text(raw, "state"),
        "serial_number": serial,
        "imei": _text(network, "imei"),
        "enrollment_specific_id": _text(hardware, "enterpriseSpecificId"),
        "management_mode": _text(raw, "managementMode"),
        "ownership": _text(raw, "ownership"),
    }
    api_level = raw.get("apiLevel")
    is_level = isinstance(api_level, int) and not isinstance(api_level, bool) and api_level > 0
    facts = {"apiLevel": api_level} if is_level else {}
    kept = {name: value for name, value in said.items() if value is not None}
    return kept | {"external_name": str(raw["name"]), "facts": facts}


def _text(raw: Any, name: str) -> str | None:
    value = raw.get(name) if isinstance(raw, dict) else None
    return value[:256] if isinstance(value, str) and value else None
