"""What is asked: a project's enterprise, a device given up for it, and what the tester allows beyond the harmless."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliograph.domain.errors import InvalidInput
from heliograph.outbound.google import read_service_account

CREDENTIALS = "HELIOGRAPH_LIVE_CREDENTIALS"
ENTERPRISE = "HELIOGRAPH_LIVE_ENTERPRISE"
DEVICE = "HELIOGRAPH_LIVE_DEVICE"
SUBSCRIPTION = "HELIOGRAPH_LIVE_SUBSCRIPTION"
GONE_DEVICE = "HELIOGRAPH_LIVE_GONE_DEVICE"
ALLOW = "HELIOGRAPH_LIVE_ALLOW"
RECORDING = "HELIOGRAPH_LIVE_RECORDING"
REQUIRED = {
    CREDENTIALS: "the path of a service account's key file",
    ENTERPRISE: "the name of an enterprise of its project, enterprises/…",
    DEVICE: "the name of a device of that enterprise, enterprises/…/devices/…, that may be locked",
}
OPTIONAL = {
    SUBSCRIPTION: "a pull subscription, made for this, of the enterprise's topic: projects/…/subscriptions/…",
    GONE_DEVICE: "the name of a device of the enterprise that was deleted or wiped",
    ALLOW: "what else is allowed, separated by commas: reset-password, quota",
    RECORDING: "where the recording goes; var/live-recording.json if not set",
}
ALLOWABLE = ("reset-password", "quota")
_DEFAULT_RECORDING = "var/live-recording.json"


class CannotAskError(Exception):
    """Nothing can be recorded; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Whom to ask. `account` is a checked service account; the addresses are Google's unless a test has others."""

    account: Mapping[str, Any]
    enterprise: str
    device: str
    subscription: str | None = None
    gone_device: str | None = None
    allow: frozenset[str] = frozenset()
    amapi_url: str = "https://androidmanagement.googleapis.com"
    pubsub_url: str = "https://pubsub.googleapis.com"

    def lacks(self, need: str | None) -> str | None:
        """What has to be set before a question with this need is asked; None when it may be."""
        if need is None or need in self.allow:
            return None
        if need in ALLOWABLE:
            return f"not allowed: set {ALLOW} to {need}"
        given = {SUBSCRIPTION: self.subscription, GONE_DEVICE: self.gone_device}[need]
        return None if given else f"needs {need}: {OPTIONAL[need]}"


def target_of(environ: Mapping[str, str]) -> Target:
    """The target that the environment names; CannotAskError says what to set."""
    missing = [f"{name} ({meaning})" for name, meaning in REQUIRED.items() if not environ.get(name)]
    if missing:
        raise CannotAskError(f"No project to ask. Set {', '.join(missing)}; docs/lab.md says what is done to them.")
    enterprise, device = environ[ENTERPRISE], environ[DEVICE]
    _check(ENTERPRISE, enterprise, "enterprises/[^/:]+")
    _check(DEVICE, device, f"{re.escape(enterprise)}/devices/[^/:]+")
    gone, subscription = environ.get(GONE_DEVICE) or None, environ.get(SUBSCRIPTION) or None
    _check(GONE_DEVICE, gone, f"{re.escape(enterprise)}/devices/[^/:]+")
    _check(SUBSCRIPTION, subscription, "projects/[^/]+/subscriptions/[^/:]+")
    allow = frozenset(word.strip() for word in environ.get(ALLOW, "").split(",") if word.strip())
    if unknown := sorted(allow.difference(ALLOWABLE)):
        raise CannotAskError(f"{ALLOW} cannot be {', '.join(unknown)}: it takes {', '.join(ALLOWABLE)}.")
    return Target(
        account=_account(environ[CREDENTIALS]),
        enterprise=enterprise,
        device=device,
        subscription=subscription,
        gone_device=gone,
        allow=allow,
    )


def recording_of(environ: Mapping[str, str]) -> Path:
    """Where the recording goes."""
    return Path(environ.get(RECORDING) or _DEFAULT_RECORDING)


def _check(name: str, value: str | None, pattern: str) -> None:
    if value is not None and not re.fullmatch(pattern, value):
        raise CannotAskError(f"{name} must be {(REQUIRED | OPTIONAL)[name]}.")


def _account(path: str) -> dict[str, Any]:
    try:
        return read_service_account(Path(path).read_bytes())
    except OSError as error:
        raise CannotAskError(f"{CREDENTIALS}: {path} cannot be read ({error.strerror}).") from None
    except InvalidInput as error:
        raise CannotAskError(f"{CREDENTIALS}: {error}.") from None
