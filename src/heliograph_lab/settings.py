"""Settings of the emulators: read and changed at run time through the control API, kept on disk."""

import asyncio
from typing import Any, TypeVar, get_type_hints

import msgspec

from heliograph_lab.state import StateStore

_NAMESPACE = "lab.settings"
S = TypeVar("S", bound=msgspec.Struct)


class SettingsError(ValueError):
    """A change that cannot be meant; the message says which member and why."""


class Settings:
    """The settings of every service that has some. A service holds its own struct, which changes in place."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._live: dict[str, msgspec.Struct] = {}
        self._defaults: dict[str, dict[str, Any]] = {}
        self._lock = asyncio.Lock()

    def open(self, service: str, settings: S) -> S:
        """Take over a service's settings, as they begin; what was changed on this directory earlier comes back."""
        defaults = msgspec.to_builtins(settings)
        stored = self._state.get(_NAMESPACE, service) or {}
        changed = {name: value for name, value in stored.items() if name in defaults}
        _apply(settings, _checked(service, type(settings), {**defaults, **changed}))
        self._defaults[service] = defaults
        self._live[service] = settings
        return settings

    def shown(self) -> dict[str, Any]:
        """Service -> member -> value."""
        return {service: msgspec.to_builtins(settings) for service, settings in self._live.items()}

    async def change(self, patch: Any) -> None:
        """Change members (decoded JSON, by service): absent ones stay, and a bad one changes nothing."""
        if not isinstance(patch, dict) or not all(isinstance(members, dict) for members in patch.values()):
            raise SettingsError('the body must be {"service": {"member": value}}')
        async with self._lock:
            wanted: dict[str, msgspec.Struct] = {}
            for service, members in patch.items():
                live = self._live.get(service)
                if live is None:
                    raise SettingsError(f"{service}: only {', '.join(sorted(self._live))} can be set")
                wanted[service] = _checked(service, type(live), {**msgspec.to_builtins(live), **members})
            await self._keep(wanted)

    async def reset(self) -> None:
        """Back to the defaults, all of them."""
        async with self._lock:
            await self._keep(
                {name: _checked(name, type(live), self._defaults[name]) for name, live in self._live.items()}
            )

    async def _keep(self, wanted: dict[str, msgspec.Struct]) -> None:
        # What equals the default is not kept: a later version's default applies then.
        differing = {
            service: {
                name: value
                for name, value in msgspec.to_builtins(settings).items()
                if value != self._defaults[service][name]
            }
            for service, settings in wanted.items()
        }
        await self._state.put_many([(_NAMESPACE, service, members) for service, members in differing.items()])
        for service, settings in wanted.items():
            _apply(self._live[service], settings)


def described(kind: type[msgspec.Struct]) -> list[tuple[str, Any, str]]:
    """Member, default and description of each setting, for the documentation."""
    hints = get_type_hints(kind, include_extras=True)
    defaults = msgspec.to_builtins(kind())
    rows = []
    for field in msgspec.structs.fields(kind):
        texts = [meta.description for meta in hints[field.name].__metadata__ if meta.description]
        rows.append((field.encode_name, defaults[field.encode_name], texts[-1]))
    return rows


def _checked(service: str, kind: type[S], members: dict[str, Any]) -> S:
    try:
        return msgspec.convert(members, kind)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{service}: {error}") from None


def _apply(live: msgspec.Struct, wanted: msgspec.Struct) -> None:
    for name in live.__struct_fields__:
        setattr(live, name, getattr(wanted, name))
