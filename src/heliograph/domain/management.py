"""How Google manages an Android device, and on which devices a command works.

Source: the texts of Command.CommandType and its parameters in the discovery document, revision 20261104
(research/amapi.md 1). Google does not check all of it: a REBOOT of a personal work profile comes back as done although
nothing happened, so what cannot work is refused before it is issued.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from heliograph.domain.devices import Device


class Mode(StrEnum):
    """The three ways to manage a device; the values complete the sentence "a device that …"."""

    FULLY_MANAGED = "is fully managed"
    COMPANY_PROFILE = "is company-owned with a work profile"
    PERSONAL_PROFILE = "is personally owned with a work profile"


Works = Mapping[Mode, int]
"""On which devices something works: mode → lowest API level (0 = any)."""


def works_on(*modes: Mode, api_level: int = 0) -> Works:
    """The same lowest API level for some modes; for all where none is named."""
    return MappingProxyType(dict.fromkeys(modes or Mode, api_level))


LOST_MODE: Works = MappingProxyType({Mode.FULLY_MANAGED: 30, Mode.COMPANY_PROFILE: 33})


@dataclass(frozen=True, slots=True)
class Limit:
    """What narrows a command further where `concerns` holds for its parameters.

    `member` is the one to name in a refusal. `until`: the API level from which on it fails, for the reason `why`.
    """

    member: str
    concerns: Callable[[Mapping[str, Any]], bool]
    works: Works = field(default_factory=works_on)
    until: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a command cannot work on a device: the member to name, a code as Google's `errorCode`, and a sentence."""

    member: str
    code: str
    reason: str


_ANDROID = {24: "7.0", 26: "8.0", 28: "9", 30: "11", 33: "13", 35: "15"}


def mode_of(device: Device) -> Mode | None:
    """How the device is managed; None where we do not know."""
    if device.management_mode == "DEVICE_OWNER":
        return Mode.FULLY_MANAGED
    if device.management_mode == "PROFILE_OWNER":
        profiles = {"COMPANY_OWNED": Mode.COMPANY_PROFILE, "PERSONALLY_OWNED": Mode.PERSONAL_PROFILE}
        return profiles.get(device.ownership or "")
    return None


def api_level_of(device: Device) -> int | None:
    """The Android API level that Google has told; None where we do not know."""
    level = device.facts.get("apiLevel")
    return level if isinstance(level, int) and not isinstance(level, bool) and level > 0 else None


def depends_on_mode(works: Works, limits: tuple[Limit, ...], params: Mapping[str, Any]) -> bool:
    """Whether the mode has to be known before a command with these parameters may be issued."""
    narrower = (limit.works for limit in limits if limit.concerns(params))
    return any(len(found) < len(Mode) for found in (works, *narrower))


def refusal_of(
    name: str, works: Works, limits: tuple[Limit, ...], params: Mapping[str, Any], device: Device
) -> Refusal | None:
    """Why a command of the type `name` cannot work on a device, as far as the device is known."""
    of_type = Limit("type", lambda _: True, works)
    for limit in (of_type, *limits):
        if limit.concerns(params) and (found := _refusal(limit, name, device)):
            return found
    return None


def _refusal(limit: Limit, name: str, device: Device) -> Refusal | None:
    mode, level = mode_of(device), api_level_of(device)
    what = name if limit.member == "type" else f"this value of {name}"
    if mode is not None and mode not in limit.works:
        where = " or ".join(limit.works)
        return Refusal(limit.member, "MANAGEMENT_MODE", f"{what} works only on a device that {where}; this one {mode}")
    if level is None:
        return None
    needed = min(limit.works.values()) if mode is None else limit.works[mode]
    if level < needed:
        version = f"Android {_ANDROID[needed]} (API level {needed})"
        return Refusal(limit.member, "API_LEVEL", f"{what} needs {version} or later; this device has API level {level}")
    if limit.until is not None and level >= limit.until:
        return Refusal(limit.member, "INVALID_VALUE", limit.why)
    return None
