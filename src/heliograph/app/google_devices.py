"""Devices as Google describes them, taken over into our records.

A device that enrols again gets a new name at Google and lists its former ones: our record keeps its id and takes the
new name. Names come in one order, whenever Google's words of them arrive; times order what is said under one name. So
what speaks of a former name changes nothing any more, and what names two of our records makes one of them. Parts of a
description may be missing; what is not said stays as it is known.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import structlog

from heliograph.app.access import agent_access_changed
from heliograph.app.services import Services
from heliograph.domain.devices import Device, Enterprise
from heliograph.domain.times import time_of
from heliograph.ports.store import UnitOfWork

log = structlog.get_logger("heliograph.devices")

GONE_STATE = "DELETED"
_MAX_FORMER = 20
_LAST_PART = re.compile(r"[^/\s\0]{1,256}")


@dataclass(frozen=True, slots=True)
class Passed:
    """A description that changes nothing, and why."""

    why: str


_FORMER = Passed("of a name that the device had before")
_OLDER = Passed("older than what is known")
_NEVER_KNOWN = Passed("the end of a device that was never known")


def is_device_of(name: object, enterprise: Enterprise) -> TypeGuard[str]:
    """Whether this is a device's name in an enterprise. Another one says nothing of our records: whoever is managed
    there would take them over.
    """
    before = f"{enterprise.name}/devices/"
    return isinstance(name, str) and name.startswith(before) and bool(_LAST_PART.fullmatch(name, len(before)))


async def take_over(
    s: Services, work: UnitOfWork, enterprise: Enterprise, raw: dict[str, Any], asked_at: int | None = None
) -> Device | None:
    """Bring a device up to date, or add it, as Google shows it now. None: that changes nothing. `raw` has the name of a
    device of the enterprise.
    `asked_at` = when Google was asked, by our clock, where that was a while ago. Conflict: read again.
    """
    taken = await take_report(s, work, enterprise, raw, asked_at=asked_at)
    return taken if isinstance(taken, Device) else None


async def take_report(
    s: Services,
    work: UnitOfWork,
    enterprise: Enterprise,
    raw: dict[str, Any],
    reported_at: int | None = None,
    asked_at: int | None = None,
) -> Device | Passed:
    """`take_over` for what Google wrote at `reported_at` (microseconds by its clock); None = we have asked for it."""
    name, *former = _names(enterprise, raw)
    named = await work.devices.known_as([name, *former])
    if name in named and named[name].external_name not in (name, *former):
        return _FORMER  # and its present one is none of those before it
    # By Google's clock alone: by ours, which may be ahead, what Google tells next would seem older.
    told_at = time_of(raw.get("lastStatusReportTime")) if reported_at is None else reported_at
    described = _described(raw)
    if not named:
        return await _add(s, work, enterprise, described, former, told_at)
    kept, *others = sorted({d.id: d for d in named.values()}.values(), key=lambda d: (d.created_at, d.id))
    latest = named.get(name) or named[[n for n in former if n in named][-1]]
    unheard = [n for n in former if n not in named]
    is_news = unheard or others or name not in named
    if asked_at is not None and not is_news and latest.updated_at >= asked_at:
        return latest  # what has been heard meanwhile, this does not know yet
    device = _up_to_date(latest, described, told_at)
    if reported_at is not None and latest.external_name not in former and reported_at < (latest.reported_at or 0):
        if name not in named or not is_news:
            return _OLDER
        device = latest  # its description; which names are one device's holds whenever it comes
    if reported_at is None and not is_news and replace(device, reported_at=latest.reported_at) == latest:
        return latest  # as it is found every time that anybody looks
    device = _joined(kept, others, device)
    device = replace(device, updated_at=max(s.clock.now(), kept.updated_at + 1))
    await _save(s, work, device, [kept, *others], latest, unheard)
    return device


def _joined(kept: Device, others: Sequence[Device], described: Device) -> Device:
    """The oldest record of a device, as the one of them that is up to date describes it."""
    accounts = (d.provider_account_id for d in (kept, *others))
    users = (d.mdm_user_id for d in (kept, *others))
    return replace(
        described,
        id=kept.id,
        all_platform_id=kept.all_platform_id,
        name=kept.name,
        created_at=kept.created_at,
        last_seen_at=max((d.last_seen_at for d in (kept, *others) if d.last_seen_at is not None), default=None),
        provider_account_id=next((account for account in accounts if account is not None), None),
        mdm_user_id=next((user for user in users if user is not None), None),
    )


async def _save(
    s: Services, work: UnitOfWork, device: Device, known: Sequence[Device], present: Device, former: Sequence[str]
) -> None:
    """Write a device in place of its known records, of which `present` is that of its present enrolment."""
    kept, *others = known
    if not others:
        await work.setup.save_device(device, read_at=kept.updated_at, former_names=former)
        return
    await work.setup.join_devices(device, others, read_at=kept.updated_at, present=present, former_names=former)
    for other in others:
        log.warning("device.joined", device=kept.id, name=device.external_name, other=other.id)
        agent_access_changed(s, other.id)
    agent_access_changed(s, kept.id)


def _up_to_date(known: Device, described: dict[str, Any], told_at: int | None) -> Device:
    """A device as it is described now."""
    if known.external_name != described["external_name"]:
        # It has enrolled again: it is there, it may be managed otherwise, and the times of its former name are over.
        state = "ACTIVE" if known.state == GONE_STATE else known.state
        known = replace(known, state=state, management_mode=None, ownership=None, reported_at=None)
    changed = described | {"facts": known.facts | described["facts"], "name": known.name}  # people may have named it
    reported_at = max((at for at in (known.reported_at, told_at) if at is not None), default=None)
    return replace(known, **changed, reported_at=reported_at, missed_at=None)


async def _add(
    s: Services,
    work: UnitOfWork,
    enterprise: Enterprise,
    described: dict[str, Any],
    former: Sequence[str],
    told_at: int | None,
) -> Device | Passed:
    if described.get("state") == GONE_STATE:
        return _NEVER_KNOWN
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
    await work.setup.add_device(device, None, former_names=former)
    return device


def _names(enterprise: Enterprise, raw: dict[str, Any]) -> list[str]:
    """The names of a device in the enterprise: the present one, then its former ones, oldest first."""
    said = raw.get("previousDeviceNames")
    former = said[-_MAX_FORMER:] if isinstance(said, list) else []
    return [raw["name"], *(n for n in former if is_device_of(n, enterprise) and n != raw["name"])]


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
    text = value.replace("\0", "")[:256] if isinstance(value, str) else ""  # no store takes a NUL
    return text or None
