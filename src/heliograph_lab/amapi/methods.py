"""Which methods of Google's document the emulator models, and what answers each."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from heliograph_lab.amapi.administration import Administration
from heliograph_lab.amapi.calls import Call, Handler
from heliograph_lab.amapi.discovery import methods
from heliograph_lab.amapi.handlers import Handlers

_API = "androidmanagement"
_ENTERPRISES = f"{_API}.enterprises"
_DEVICES = f"{_ENTERPRISES}.devices"
_TOKENS = f"{_ENTERPRISES}.enrollmentTokens"

_ADMINISTRATION: dict[str, Callable[[Administration, Call], Awaitable[dict[str, Any]]]] = {
    f"{_API}.signupUrls.create": Administration.create_signup_url,
    f"{_ENTERPRISES}.create": Administration.create_enterprise,
    f"{_ENTERPRISES}.get": Administration.get_enterprise,
    f"{_ENTERPRISES}.list": Administration.list_enterprises,
    f"{_ENTERPRISES}.patch": Administration.patch_enterprise,
    f"{_ENTERPRISES}.delete": Administration.delete_enterprise,
    f"{_TOKENS}.create": Administration.create_token,
    f"{_TOKENS}.get": Administration.get_token,
    f"{_TOKENS}.list": Administration.list_tokens,
    f"{_TOKENS}.delete": Administration.delete_token,
}
_DEVICE: dict[str, Callable[[Handlers, Call], Awaitable[dict[str, Any]]]] = {
    f"{_DEVICES}.get": Handlers.get_device,
    f"{_DEVICES}.list": Handlers.list_devices,
    f"{_DEVICES}.patch": Handlers.patch_device,
    f"{_DEVICES}.delete": Handlers.delete_device,
    f"{_DEVICES}.issueCommand": Handlers.issue_command,
    f"{_DEVICES}.operations.get": Handlers.get_operation,
    f"{_DEVICES}.operations.list": Handlers.list_operations,
    f"{_DEVICES}.operations.cancel": Handlers.cancel_operation,
}
MODELLED = tuple(sorted({*_ADMINISTRATION, *_DEVICE}))
"""The ids of all modelled methods."""
UNMODELLED = tuple(sorted({method.id for method in methods()}.difference(MODELLED)))
"""The ids of those that answer 501."""


def bound(devices: Handlers, administration: Administration) -> dict[str, Handler]:
    """Method id -> what answers it."""
    table: dict[str, Handler] = {key: partial(method, devices) for key, method in _DEVICE.items()}
    return table | {key: partial(method, administration) for key, method in _ADMINISTRATION.items()}
