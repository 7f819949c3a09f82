"""Devices, their apps and what belongs to an organization. Times are microseconds since the epoch (UTC)."""

from dataclasses import field
from typing import Any

from heliograph.domain.record import record

PLATFORMS = ("ios", "android", "aosp", "macos", "windows", "package")
APPS = ("mdmAgent", "setupAssistant", "remoteSupport", "kioskLauncher")
COMMAND_APP = "mdmAgent"  # the only app that claims commands


@record
class Organization:
    """The tenant: owns every row. `features` holds those that the operator switched off (absent = on)."""

    id: str
    slug: str
    name: str
    features: dict[str, bool]
    created_at: int
    updated_at: int

    def allows(self, feature: str) -> bool:
        """Whether the plan includes a feature; all do unless switched off."""
        return self.features.get(feature, True)


@record
class Principal:
    """Who calls: one API key of one organization."""

    key_id: str
    organization: Organization
    permissions: frozenset[str]
    expires_at: int | None = None


@record
class ApiKey:
    """An API key without its secret. `prefix` is what people recognise it by, `created_by` the key that made it."""

    id: str
    organization_id: str
    name: str
    prefix: str
    permissions: tuple[str, ...]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    created_by: str | None = None


@record
class Enterprise:
    """Under which devices are managed: a Google enterprise (`android`) or the organization's own (`aosp`).

    `credentials` is the sealed service-account file; `api_url` overrides Google's base address. Notifications are
    pulled from `subscription` (`projects/…/subscriptions/…`), or pushed to us under a token for `push_audience` that
    names the account `push_email`; `heard_at` = when the last one came.
    """

    id: str
    organization_id: str
    platform: str
    name: str
    created_at: int
    credentials: bytes | None = None
    api_url: str | None = None
    subscription: str | None = None
    push_audience: str | None = None
    push_email: str | None = None
    heard_at: int | None = None


@record
class Device:
    """One managed machine. `external_name` is the upstream's name of it (AMAPI: `enterprises/…/devices/…`).

    `reported_at`: when the upstream wrote the report that this description is from. `missed_at`: since when complete
    lists of the upstream lack it.
    """

    id: str
    organization_id: str
    all_platform_id: str
    platform: str
    enterprise_id: str | None
    name: str
    state: str
    created_at: int
    updated_at: int
    external_name: str | None = None
    serial_number: str | None = None
    imei: str | None = None
    enrollment_specific_id: str | None = None
    management_mode: str | None = None
    ownership: str | None = None
    provider_account_id: str | None = None
    mdm_user_id: str | None = None
    last_seen_at: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    reported_at: int | None = None
    missed_at: int | None = None


@record
class PushTarget:
    """An address of one app on one device that a provider takes. `token` is empty for our own line.

    `kind`: which of the provider's kinds of addresses it is. `dead_at`: since when it is not used any more, because
    the provider refused it; a new registration revives it.
    """

    device_id: str
    app: str
    provider: str
    account_id: str | None
    token: str
    registered_at: int
    kind: str = ""
    dead_at: int | None = None
    dead_reason: str | None = None


@record
class ProviderAccount:
    """One organization's credentials for a push provider; `config` is sealed JSON.

    `expires_at`: when the credentials end, as far as they say. `fault`: why pushes do not go through it since
    `fault_at`; None while they do.
    """

    id: str
    organization_id: str
    provider: str
    name: str
    config: bytes
    created_at: int
    updated_at: int
    is_default: bool = False
    disabled_at: int | None = None
    expires_at: int | None = None
    fault: str | None = None
    fault_at: int | None = None
