"""What an operator sets up: organizations, keys, enterprises, devices and provider accounts."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from heliograph.app.access import agent_access_changed, hash_secret, new_agent_secret, new_api_key
from heliograph.app.google_channel import google
from heliograph.app.google_devices import is_device_of, take_over
from heliograph.app.services import SECOND, Services, until_committed
from heliograph.domain.devices import PLATFORMS, ApiKey, Device, Enterprise, Organization, Principal, ProviderAccount
from heliograph.domain.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    StoreUnavailable,
    Unauthenticated,
)
from heliograph.domain.fields import Fields
from heliograph.domain.ids import is_id
from heliograph.domain.permissions import FEATURES, is_grant
from heliograph.ports.changes import NORMAL, ChangeSet
from heliograph.ports.channel import Gone, Unreachable
from heliograph.ports.push import ProviderPlugin
from heliograph.ports.store import UnitOfWork

_SLUG = r"[a-zA-Z0-9-]{3,64}"
_ALIAS = r"\w{1,64}"
_STATES = ("ACTIVE", "DISABLED", "DELETED", "PROVISIONING", "LOST")
_MODES = ("DEVICE_OWNER", "PROFILE_OWNER")
_OWNERSHIPS = ("COMPANY_OWNED", "PERSONALLY_OWNED")
_ENTERPRISE = r"enterprises/[A-Za-z0-9_-]{1,64}"
_MAX_NAME = 128
_MAX_API_LEVEL = 10_000  # as Google counts previews of a version
_EXTERNAL_NAME = r"enterprises/[^/\s]+/devices/[^/\s]+"


async def find_organization(s: Services, reference: str) -> Organization:
    """An organization by id or slug; raises NotFound."""
    found = await s.store.directory.organization(reference.lower() if is_id(reference) else reference)
    if found is None:
        raise NotFound(f"there is no organization {reference[:64]!r}")
    return found


async def create_organization(s: Services, slug: str, name: str = "") -> Organization:
    """A new organization with its own AOSP enterprise."""
    if re.fullmatch(_SLUG, slug) is None or is_id(slug):
        raise InvalidInput.of("slug", "must be 3 to 64 letters, digits or hyphens, and not look like an id")
    now = s.clock.now()
    organization = Organization(s.new_id(), slug, name or slug, {}, now, now)
    enterprise = Enterprise(s.new_id(), organization.id, "aosp", "aosp", now)
    try:
        await s.store.directory.add_organization(organization, enterprise)
    except Conflict:
        raise InvalidInput.of("slug", "is taken by another organization") from None
    return organization


async def set_feature(s: Services, organization: Organization, feature: str, is_on: bool) -> Organization:
    """Switch a feature of the plan on or off."""
    if feature not in FEATURES:
        raise InvalidInput.of("feature", f"must be one of {', '.join(FEATURES)}")

    async def attempt() -> Organization:
        current = await find_organization(s, organization.id)  # what the caller is known by may be older
        features = {**current.features, feature: is_on}
        after = replace(current, features=features, updated_at=max(s.clock.now(), current.updated_at + 1))
        await s.store.unit_of_work(current.id).setup.save_organization(after, read_at=current.updated_at)
        return after

    return await until_committed(attempt)


async def create_key(
    s: Services,
    organization: Organization,
    name: str,
    permissions: list[str],
    expires_in_s: float | None = None,
    maker: Principal | None = None,
) -> tuple[ApiKey, str]:
    """A new API key and its secret. One that another key makes ends with that at the latest."""
    wrong = [p for p in permissions if not is_grant(p)]
    if wrong or not permissions:
        raise InvalidInput.of("permissions", f"unknown: {', '.join(wrong)[:200]}" if wrong else "name at least one")
    if expires_in_s is not None and not 0 < expires_in_s < 1e10:
        raise InvalidInput.of("expiresInSeconds", "must be a positive number of seconds")
    secret = new_api_key()
    now = s.clock.now()
    expires_at = None if expires_in_s is None else now + int(expires_in_s * SECOND)
    if maker is not None and maker.expires_at is not None:
        expires_at = min(expires_at or maker.expires_at, maker.expires_at)
    made_by = None if maker is None else maker.key_id
    key = ApiKey(
        s.new_id(), organization.id, name[:128], secret[:12], tuple(permissions), now, expires_at, created_by=made_by
    )
    try:
        await s.store.unit_of_work(organization.id).setup.add_key(key, hash_secret(secret))
    except Conflict:
        if made_by is None:
            raise
        raise Unauthenticated from None  # its maker was revoked at the same moment
    return key, secret


async def find_enterprise(s: Services, organization: Organization, name: str) -> Enterprise | None:
    """A connected enterprise, by its name."""
    known = await s.store.unit_of_work(organization.id).setup.enterprises()
    return next((e for e in known if e.name == name), None)


async def add_enterprise(s: Services, organization: Organization, name: str, said: dict[str, Any]) -> Enterprise:
    """Connect a Google enterprise, or renew what is `said` of one: credentials (checked by the channel), api_url,
    subscription, push_audience, push_email; an empty text takes back, None leaves as it is.
    """
    if re.fullmatch(_ENTERPRISE, name) is None:
        raise InvalidInput.of("name", "must look like enterprises/LC0123abcd")
    setup = s.store.unit_of_work(organization.id).setup
    told: dict[str, Any] = {member: value or None for member, value in said.items() if value is not None}
    if "credentials" in told:
        told["credentials"] = s.secrets.seal(said["credentials"])
    known = await find_enterprise(s, organization, name)
    if known is not None:
        renewed = replace(known, **told)
        await setup.save_enterprise(renewed, told)
        return renewed
    enterprise = Enterprise(s.new_id(), organization.id, "android", name, s.clock.now(), **told)
    await setup.add_enterprise(enterprise)
    return enterprise


async def add_account(
    s: Services, organization: Organization, provider: str, name: str, config: dict[str, Any], is_default: bool
) -> ProviderAccount:
    """Store credentials for a push provider; refuses settings that the provider's own check does not take."""
    plugin = s.providers.plugin(provider)
    if plugin is None or not plugin.needs_account:
        raise InvalidInput.of("provider", f"must be one of {', '.join(s.providers.kinds())}")
    sealed, expires_at = _checked_config(s, plugin, config)
    now = s.clock.now()
    work = s.store.unit_of_work(organization.id)
    first = not any(a.provider == provider for a in await work.setup.accounts())
    account = ProviderAccount(
        s.new_id(),
        organization.id,
        provider,
        name[:_MAX_NAME],
        sealed,
        now,
        now,
        is_default=is_default or first,
        expires_at=expires_at,
    )
    await work.setup.add_account(account)
    if account.is_default:
        with _stored():
            await work.devices.revive(provider, since=0)
            await _let_go_on(s, work)
    return account


@contextmanager
def _stored() -> Iterator[None]:
    """What follows from a change that is stored: nobody shall take it for undone where the database goes away."""
    try:
        yield
    except StoreUnavailable:
        raise OutcomeUnknown from None


def _checked_config(s: Services, plugin: ProviderPlugin, config: dict[str, Any]) -> tuple[bytes, int | None]:
    """An account's settings, sealed, and when its credentials end; raises InvalidInput naming every wrong one."""
    fields = Fields(config, "config")
    checked = plugin.read_config(fields)
    fields.raise_if_wrong()
    return s.secrets.seal(msgspec.json.encode(checked)), plugin.expires_at(checked)


async def update_account(s: Services, account: ProviderAccount, said: dict[str, Any]) -> ProviderAccount:
    """Renew what is `said` of an account: name, default, disabled, config (members given replace those stored).

    What was refused before may be taken now: unless only the name is new, the addresses that its kind of provider has
    refused are used again.
    """
    plugin = s.providers.plugin(account.provider)
    if plugin is None:
        raise InvalidInput.of("id", f"is an account at {account.provider}, which this installation has no plug-in for")
    work = s.store.unit_of_work(account.organization_id)
    stored = work.setup

    async def attempt() -> ProviderAccount:
        current = await stored.account(account.id)
        if current is None:
            raise NotFound
        after = replace(current, **_changes(s, plugin, current, said))
        await stored.save_account(after, read_at=current.updated_at)
        return after

    after = await until_committed(attempt)
    if said.get("config") is not None or said.get("disabled") is False:  # the fault was that of the settings before
        s.health.renew(account.id, s.clock.now())
        with _stored():
            await stored.note_fault(account.id, None, s.clock.now())
        after = replace(after, fault=None, fault_at=None)
    if any(said.get(member) is not None for member in ("config", "disabled", "default")):
        with _stored():
            await work.devices.revive(account.provider, since=0)
            await _let_go_on(s, work)
        s.wakeups.notify({"outbox"})  # what waits for the end of a pause that is over
    return after


async def _let_go_on(s: Services, work: UnitOfWork) -> None:
    """Let what waits for accounts that take nothing go through those that its addresses use by now, or another way."""
    now, changes = s.clock.now(), ChangeSet(work.organization_id)
    for account in await work.setup.accounts():
        if account.fault is not None or account.disabled_at is not None or s.health.rests(account.id, now):
            changes.owe(s.debt(work.organization_id, "reroute", account.id))
    if changes:
        await work.commit(changes)


def _changes(s: Services, plugin: ProviderPlugin, account: ProviderAccount, said: dict[str, Any]) -> dict[str, Any]:
    now = s.clock.now()
    changed: dict[str, Any] = {"updated_at": max(now, account.updated_at + 1)}
    if said.get("config") is not None:
        merged = open_config(s, account) | said["config"]
        given = {member: value for member, value in merged.items() if value is not None}
        changed["config"], changed["expires_at"] = _checked_config(s, plugin, given)
    if said.get("name") is not None:
        changed["name"] = said["name"][:_MAX_NAME]
    if said.get("disabled") is not None:
        changed["disabled_at"] = (account.disabled_at or now) if said["disabled"] else None
    if said.get("default") is not None:
        changed["is_default"] = said["default"]
    return changed


def open_config(s: Services, account: ProviderAccount) -> dict[str, Any]:
    """An account's settings, secrets included; empty where they were sealed with a key that is gone."""
    try:
        return msgspec.json.decode(s.secrets.open(account.config), type=dict[str, Any])
    except ValueError:
        return {}


async def add_device(s: Services, organization: Organization, raw: dict[str, Any]) -> tuple[Device, str]:
    """A new device from an operator's description; answers it with its agent's secret.

    Members: platform, name, enterprise (id or name), externalName, serialNumber, imei, enrollmentSpecificId, state,
    managementMode, ownership, apiLevel, providerAccount.
    """
    fields = Fields(raw)
    platform = fields.text("platform", required=True, choices=PLATFORMS) or ""
    serial_number, imei, enrollment_specific_id = (
        fields.text(alias, pattern=_ALIAS, meaning="must be letters, digits or _")
        for alias in ("serialNumber", "imei", "enrollmentSpecificId")
    )
    external_name = fields.text("externalName", pattern=_EXTERNAL_NAME, meaning="must be enterprises/…/devices/…")
    management_mode = fields.text("managementMode", choices=_MODES)
    ownership = fields.text("ownership", choices=_OWNERSHIPS)
    api_level = fields.number("apiLevel", minimum=1, maximum=_MAX_API_LEVEL)
    if api_level is not None and not api_level.is_integer():
        fields.wrong("apiLevel", "must be a whole number")
    account_id = fields.text("providerAccount")
    name = fields.text("name") or serial_number or platform
    state = fields.text("state", choices=_STATES) or "ACTIVE"
    reference = fields.text("enterprise")
    work = s.store.unit_of_work(organization.id)
    if account_id and await work.setup.account(account_id.lower()) is None:
        fields.wrong("providerAccount", "is not an account of this organization")
    if external_name and (known := (await work.devices.known_as([external_name])).get(external_name)):
        # Two records of one device at Google could each take the other's operations for their own.
        fields.wrong("externalName", f"is already the device {known.id}, or was before that enrolled again")
    fields.raise_if_wrong()
    enterprise_id = await _enterprise_for(s, organization, platform, reference, external_name)
    now = s.clock.now()
    device_id = s.new_id()
    device = Device(
        id=device_id,
        organization_id=organization.id,
        all_platform_id=device_id if platform == "package" else s.new_id(),
        platform=platform,
        enterprise_id=enterprise_id,
        name=name,
        state=state,
        created_at=now,
        updated_at=now,
        external_name=external_name,
        serial_number=serial_number,
        imei=imei,
        enrollment_specific_id=enrollment_specific_id,
        management_mode=management_mode,
        ownership=ownership,
        provider_account_id=account_id.lower() if account_id else None,
        facts={} if api_level is None else {"apiLevel": int(api_level)},
    )
    secret = new_agent_secret()
    await work.setup.add_device(device, hash_secret(secret))
    return device, secret


async def import_device(s: Services, organization: Organization, raw: dict[str, Any]) -> tuple[Device, str]:
    """`add_device` for lists that may be imported again: a serial number that is there already is refused."""
    platform, serial_number = raw.get("platform"), raw.get("serialNumber")
    if isinstance(platform, str) and isinstance(serial_number, str) and serial_number:
        known = await s.store.unit_of_work(organization.id).devices.find_by_alias(platform, serial_number)
        if known:
            raise InvalidInput.of("serialNumber", f"is already that of the device {known[0].id}")
    return await add_device(s, organization, raw)


async def renew_agent_secret(s: Services, organization: Organization, device_id: str) -> str:
    """A new secret for a device's agent; the one before opens nothing any more."""
    work = s.store.unit_of_work(organization.id)
    device = await work.devices.find(None, device_id.lower())
    if device is None:
        raise NotFound
    secret = new_agent_secret()
    await work.setup.replace_agent_secret(device.id, hash_secret(secret))
    agent_access_changed(s, device.id)
    return secret


async def _enterprise_for(
    s: Services, organization: Organization, platform: str, reference: str | None, external_name: str | None
) -> str | None:
    """The enterprise of a new device: the one named (by id, name or the device's own name), else the only one."""
    if external_name is not None and platform != "android":
        # What Google tells under this name would be taken for news of it.
        raise InvalidInput.of("externalName", "is for Android devices: Google knows no others")
    reference = reference or external_name
    if platform not in ("android", "aosp"):
        return None
    known = [e for e in await s.store.unit_of_work(organization.id).setup.enterprises() if e.platform == platform]
    if reference is not None and platform == "android":
        named = [e for e in known if e.id == reference or f"{reference}/".startswith(f"{e.name}/")]
        if not named:
            raise InvalidInput.of("enterprise", "is not connected to this organization: heliograph enterprise add")
        if external_name is not None and not external_name.startswith(f"{named[0].name}/devices/"):
            raise InvalidInput.of("externalName", f"is none of {named[0].name}")
        return named[0].id
    if len(known) != 1:
        raise InvalidInput.of("enterprise", "is required" if known else "connect one first: heliograph enterprise add")
    return known[0].id


async def import_from_google(s: Services, organization: Organization, reference: str) -> list[Device]:
    """Take over all devices of a connected enterprise (by id or name); known ones are brought up to date."""
    work = s.store.unit_of_work(organization.id)
    named = [e for e in await work.setup.enterprises() if e.platform == "android" and reference in (e.id, e.name)]
    if not named:
        raise NotFound(f"no enterprise {reference[:64]!r} is connected here: heliograph enterprise list")
    channel = await google(s, organization.id, named[0].id, NORMAL)
    if channel is None:
        raise InvalidInput.of("enterprise", "has no usable credentials: heliograph enterprise add --credentials FILE")
    listed: list[Any] = []
    async for page in channel.devices(named[0].name):
        if isinstance(page, Gone):  # in our own words: its own may come from wherever the address leads
            raise InvalidInput.of("enterprise", "is unknown at Google, or not the credentials' to see")
        if isinstance(page, Unreachable):
            raise InvalidInput.of("enterprise", f"cannot be read at Google: {page.reason}")
        listed += page
    found = [
        await until_committed(partial(take_over, s, work, named[0], raw))
        for raw in listed
        if isinstance(raw, dict) and is_device_of(raw.get("name"), named[0])
    ]
    return [device for device in found if device is not None]
