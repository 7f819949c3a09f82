"""Set-up as verbs: JSON in, JSON out. The command line, the operator's socket and the HTTP API all call these.

A verb with `organization_bound` works inside the caller's organization; the others concern the installation.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from heliograph.app import enterprise_verbs, provider_verbs, setup
from heliograph.app.access import KEYS_TOPIC
from heliograph.app.callers import Caller
from heliograph.app.services import Services
from heliograph.domain.devices import ApiKey, Device, Organization
from heliograph.domain.errors import HeliographError, InvalidInput, NotFound
from heliograph.domain.fields import Fields
from heliograph.domain.permissions import allows
from heliograph.domain.times import time_text

Json = dict[str, Any]
MAX_IMPORT = 1_000

Run = Callable[[Services, Caller, Fields], Awaitable[Json]]


@dataclass(frozen=True, slots=True)
class Verb:
    """One set-up operation. `members` = what the body may hold (anything else is refused)."""

    name: str
    permission: str
    summary: str
    members: tuple[str, ...]
    run: Run
    organization_bound: bool = True


def _organization(organization: Organization) -> Json:
    return {
        "id": organization.id,
        "slug": organization.slug,
        "name": organization.name,
        "features": organization.features,
    }


def _key(key: ApiKey) -> Json:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "permissions": list(key.permissions),
        "createdAt": time_text(key.created_at),
        "createdBy": key.created_by,
        "expiresAt": None if key.expires_at is None else time_text(key.expires_at),
        "revokedAt": None if key.revoked_at is None else time_text(key.revoked_at),
    }


def _device(device: Device) -> Json:
    return {
        "id": device.id,
        "allPlatformId": device.all_platform_id,
        "platform": device.platform,
        "name": device.name,
        "externalName": device.external_name,
        "serialNumber": device.serial_number,
        "enterprise": device.enterprise_id,
    }


async def create_organization(s: Services, _: Caller, body: Fields) -> Json:
    slug, name = body.text("slug", required=True), body.text("name")
    body.raise_if_wrong()
    return _organization(await setup.create_organization(s, slug or "", name or ""))


async def list_organizations(s: Services, _: Caller, body: Fields) -> Json:
    body.raise_if_wrong()
    return {"items": [_organization(o) for o in await s.store.directory.organizations()]}


async def set_feature(s: Services, caller: Caller, body: Fields) -> Json:
    feature, on = body.text("feature", required=True), body.boolean("on")
    reference = body.text("organization")
    if on is None and not body.has("on"):
        body.wrong("on", "is required")
    body.raise_if_wrong()
    target = caller.organization if reference is None else await setup.find_organization(s, reference)
    after = await setup.set_feature(s, target, feature or "", bool(on))
    s.wakeups.notify([KEYS_TOPIC])
    return _organization(after)


async def create_key(s: Services, caller: Caller, body: Fields) -> Json:
    name, permissions = body.text("name"), body.texts("permissions", required=True, at_least=1)
    expires = body.number("expiresInSeconds")
    body.raise_if_wrong()
    key, secret = await setup.create_key(s, caller.organization, name or "", permissions, expires, caller.principal)
    return {**_key(key), "secret": secret}


async def list_keys(s: Services, caller: Caller, body: Fields) -> Json:
    body.raise_if_wrong()
    return {"items": [_key(k) for k in await s.store.unit_of_work(caller.organization.id).setup.keys()]}


async def revoke_key(s: Services, caller: Caller, body: Fields) -> Json:
    key_id, keep = body.text("id", required=True), body.boolean("keepCreated")
    body.raise_if_wrong()
    stored = s.store.unit_of_work(caller.organization.id).setup
    if not await stored.revoke_key((key_id or "").lower(), s.clock.now(), with_created=not keep):
        raise NotFound
    s.wakeups.notify([KEYS_TOPIC])
    return {"id": key_id, "revoked": True}


async def add_device(s: Services, caller: Caller, body: Fields) -> Json:
    return _added(*await setup.add_device(s, caller.organization, dict(body.raw)))


def _added(device: Device, secret: str) -> Json:
    return {**_device(device), "agentSecret": secret}


async def renew_agent_secret(s: Services, caller: Caller, body: Fields) -> Json:
    device_id = body.text("id", required=True)
    body.raise_if_wrong()
    secret = await setup.renew_agent_secret(s, caller.organization, device_id or "")
    return {"id": device_id, "agentSecret": secret}


async def import_devices(s: Services, caller: Caller, body: Fields) -> Json:
    raw = body.raw.get("devices")
    if not isinstance(raw, list) or len(raw) > MAX_IMPORT or not all(isinstance(item, dict) for item in raw):
        raise InvalidInput.of("devices", f"must be a list of at most {MAX_IMPORT} objects")
    results: list[Json] = []
    for index, item in enumerate(raw):
        try:
            entry = Fields(item)
            entry.only(_DEVICE_MEMBERS)
            entry.raise_if_wrong()
            results.append(_added(*await setup.import_device(s, caller.organization, item)))
        except HeliographError as error:  # the others keep their secrets
            results.append({"index": index, "error": str(error)})
    return {"items": results}


async def import_from_google(s: Services, caller: Caller, body: Fields) -> Json:
    """Take over all devices of a connected enterprise; known ones are brought up to date."""
    reference = body.text("enterprise", required=True)
    body.raise_if_wrong()
    return {"items": [_device(d) for d in await setup.import_from_google(s, caller.organization, reference or "")]}


_DEVICE_MEMBERS = (
    "platform", "name", "enterprise", "externalName", "serialNumber", "imei", "enrollmentSpecificId", "state",
    "managementMode", "ownership", "apiLevel", "providerAccount",
)  # fmt: skip

VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "organization.create",
            "operator.organization.create",
            "Make an organization",
            ("slug", "name"),
            create_organization,
            organization_bound=False,
        ),
        Verb(
            "organization.list",
            "operator.organization.list",
            "All organizations",
            (),
            list_organizations,
            organization_bound=False,
        ),
        Verb(
            "organization.feature",
            "operator.organization.update",
            "Switch a feature of an organization's plan on or off",
            ("organization", "feature", "on"),
            set_feature,
        ),
        Verb(
            "key.create",
            "base.apiKey.create",
            "Make an API key",
            ("name", "permissions", "expiresInSeconds"),
            create_key,
        ),
        Verb("key.list", "base.apiKey.list", "API keys, without their secrets", (), list_keys),
        Verb(
            "key.revoke",
            "base.apiKey.revoke",
            "Revoke an API key and those it made at once",
            ("id", "keepCreated"),
            revoke_key,
        ),
        Verb("device.add", "mdm.global.device.create", "Add a device", _DEVICE_MEMBERS, add_device),
        Verb("device.import", "mdm.global.device.create", "Add many devices", ("devices",), import_devices),
        Verb(
            "device.secret",
            "mdm.global.device.secret",
            "Give a device's agent a new secret; the old one ends",
            ("id",),
            renew_agent_secret,
        ),
        Verb(
            "device.pull",
            "mdm.global.device.create",
            "Take over the devices of a connected Google enterprise",
            ("enterprise",),
            import_from_google,
        ),
        Verb(
            "enterprise.add",
            "mdm.android.enterprise.create",
            "Connect a Google enterprise",
            ("name", "credentials", "apiUrl", "subscription", "pushAudience", "pushEmail"),
            enterprise_verbs.add_enterprise,
        ),
        Verb(
            "enterprise.connect",
            "mdm.android.enterprise.create",
            "Connect a Google enterprise in steps, from its sign-up on; can be repeated",
            enterprise_verbs.CONNECT_MEMBERS,
            enterprise_verbs.connect_enterprise,
        ),
        Verb(
            "enterprise.check",
            "mdm.android.enterprise.check",
            "Test every step on the way to Google's enterprises and back",
            ("enterprise", "sendTest"),
            enterprise_verbs.check,
        ),
        Verb(
            "enrollmentToken.create",
            "mdm.android.enrollmentToken.create",
            "Make an enrollment token, which lets devices into an enterprise",
            enterprise_verbs.TOKEN_MEMBERS,
            enterprise_verbs.create_token,
        ),
        Verb(
            "enrollmentToken.list",
            "mdm.android.enrollmentToken.list",
            "Enrollment tokens, without their values",
            (),
            enterprise_verbs.list_tokens,
        ),
        Verb(
            "enterprise.list",
            "mdm.android.enterprise.list",
            "Connected enterprises",
            (),
            enterprise_verbs.list_enterprises,
        ),
        Verb(
            "provider.add",
            "mdm.pushProvider.create",
            "Add an account at a push provider",
            ("provider", "name", "config", "default"),
            provider_verbs.add_provider,
        ),
        Verb(
            "provider.list",
            "mdm.pushProvider.list",
            "Accounts at push providers",
            (),
            provider_verbs.list_providers,
        ),
        Verb(
            "provider.get",
            "mdm.pushProvider.list",
            "One account at a push provider, without its secrets",
            ("id",),
            provider_verbs.get_provider,
        ),
        Verb(
            "provider.update",
            "mdm.pushProvider.update",
            "Rename an account, renew settings or credentials, disable or enable it",
            ("id", "name", "config", "default", "disabled"),
            provider_verbs.update_provider,
        ),
        Verb(
            "provider.test",
            "mdm.pushProvider.test",
            "Ask a provider whether it takes the account",
            ("id",),
            provider_verbs.test_provider,
        ),
    )
}


async def call_verb(s: Services, verb: Verb, caller: Caller, raw: Json) -> Json:
    """Carry out a verb; unknown members are refused."""
    body = Fields(raw)
    body.only(verb.members)
    body.raise_if_wrong()
    return await verb.run(s, caller, body)


def may_grant(held: frozenset[str], wanted: list[Any]) -> bool:
    """A key can hand on only what it holds itself: nobody widens their own rights."""
    return all(isinstance(w, str) and (w in held or allows(held, w) or _covered(held, w)) for w in wanted)


def _covered(held: frozenset[str], wanted: str) -> bool:
    """Whether a prefix that is asked for lies within one that is held. Of a name, `allows` has the last word."""
    if not wanted.endswith(".*") or wanted.startswith("operator."):
        return False
    return "*" in held or any(h.endswith(".*") and wanted.startswith(h[:-1]) for h in held)
