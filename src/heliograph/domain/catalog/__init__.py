"""The command catalog: one file per command type, found by scanning this folder."""

import importlib
import pkgutil
from types import MappingProxyType

from heliograph.domain.command_types import AmapiForm, CommandType
from heliograph.domain.fields import Fields


def _discover() -> dict[str, CommandType]:
    found: dict[str, CommandType] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        entry = importlib.import_module(f"{__name__}.{module.name}").TYPE
        if entry.name in found:
            raise TypeError(f"two catalog files define {entry.name}")
        found[entry.name] = entry
    return found


TYPES = MappingProxyType(_discover())
ANDROID_TYPES = tuple(name for name, entry in TYPES.items() if entry.amapi)
AOSP_TYPES = tuple(name for name, entry in TYPES.items() if entry.agent)

_OWNER = {member: name for name, entry in TYPES.items() if entry.amapi is not None for member in entry.amapi.members}


def android_type(body: Fields) -> tuple[CommandType, AmapiForm] | None:
    """The type a request body asks for, from `type` or from its one params member (contract decision 26).

    Where the type is unknown, absent or at odds with the parameters, `body` is told; None where none can be told.
    """
    # Google reads the type from these where `type` is absent: {"wipeParams": {}} is a wipe.
    owners = {member: _OWNER[member] for member in body.raw if member in _OWNER and body.raw[member] is not None}
    named = body.text("type", choices=ANDROID_TYPES)
    if body.has("type") and named is None:
        return None
    implied = set(owners.values())
    name = named or (next(iter(implied)) if len(implied) == 1 else None)
    if name is None:
        body.wrong("type", "is required")
    for member, owner in owners.items():
        if owner != name:
            body.wrong(member, f"belongs to {owner}")
    entry = TYPES.get(name or "")
    return None if entry is None or entry.amapi is None else (entry, entry.amapi)
