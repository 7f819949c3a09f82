"""The demo fleet: an organization, keys, devices with running agents, and the emulators that they live in.

What makes it up is decided once and kept in `demo.json` beside the database (mode 0600), so that a restart finds the
same ids, keys and ports. Everything here is repeatable: a start that was killed half-way is finished by the next.
"""

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from heliograph.app.access import hash_secret, new_agent_secret, new_api_key
from heliograph.bootstrap import Node, StartRefused
from heliograph.cli.demo_push import PushPlan, ensure_push_accounts, make_push_plan, push_spec
from heliograph.cli.lab_process import Lab
from heliograph.cli.private_files import write_private
from heliograph.domain.devices import ApiKey, Device, Enterprise, Organization, ProviderAccount
from heliograph.domain.errors import Conflict
from heliograph.domain.permissions import PERMISSIONS

_REGISTER_S = 60.0
PLAN_FILE = "demo.json"
OPERATOR_PERMISSIONS = tuple(p for p in PERMISSIONS if p.startswith("operator."))


class DemoDevice(msgspec.Struct, kw_only=True, rename="camel"):
    """One device of the demo. `online` is how it starts on the very first run."""

    name: str
    platform: str
    provider: str
    online: bool
    apps: list[str]
    serial_number: str
    device_id: str
    all_platform_id: str
    secret: str
    amapi_name: str | None = None


class DemoOrganization(msgspec.Struct, kw_only=True, rename="camel"):
    """An organization with one key."""

    id: str
    slug: str
    key_id: str
    api_key: str
    aosp_enterprise_id: str


class DemoPlan(msgspec.Struct, kw_only=True, rename="camel"):
    """Everything that must stay the same over restarts."""

    organization: DemoOrganization
    other_organization: DemoOrganization
    enterprise_id: str
    account_id: str
    pushy_key: str
    devices: list[DemoDevice]
    push: PushPlan | None = None  # a plan of an earlier version has none yet
    settled: bool = False
    port: int = 0
    base_url: str = ""
    api_key: str = ""
    lab_url: str = ""


# name, platform, provider, online, apps
_FLEET = (
    ("android-online", "android", "builtin", True, ["mdmAgent", "remoteSupport"]),
    ("android-offline", "android", "builtin", False, ["mdmAgent"]),
    ("aosp-builtin-online", "aosp", "builtin", True, ["mdmAgent", "kioskLauncher"]),
    ("aosp-builtin-offline", "aosp", "builtin", False, ["mdmAgent"]),
    ("aosp-pushy-online", "aosp", "pushy", True, ["mdmAgent"]),
    ("aosp-pushy-offline", "aosp", "pushy", False, ["mdmAgent"]),
    ("package-online", "package", "builtin", True, ["mdmAgent"]),
    ("ios", "ios", "apns", True, ["mdmAgent"]),
    ("macos", "macos", "apns", True, ["mdmAgent"]),
    ("windows", "windows", "wns", True, ["mdmAgent"]),
)
_ENTERPRISE = "enterprises/LC0demo0001"


def plan_path(data_dir: Path) -> Path:
    """Where the plan lies: in the lab's folder, because agents' secrets and the key for Pushy stand in it."""
    return data_dir / "lab" / "plan.json"


def load_plan(data_dir: Path) -> DemoPlan | None:
    """The plan of an earlier start."""
    try:
        return msgspec.json.decode(plan_path(data_dir).read_bytes(), type=DemoPlan)
    except FileNotFoundError:
        return _plan_as_it_lay_before(data_dir)
    except msgspec.DecodeError:
        raise StartRefused(f"{plan_path(data_dir)} is damaged; move it away to get a new demo fleet") from None


def _plan_as_it_lay_before(data_dir: Path) -> DemoPlan | None:
    """The whole plan beside the database, where versions before this one put it."""
    try:
        return msgspec.json.decode((data_dir / PLAN_FILE).read_bytes(), type=DemoPlan)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def save_plan(data_dir: Path, plan: DemoPlan) -> None:
    """Store the plan, readable for its owner only; and beside the database what the command line needs of it."""
    path = plan_path(data_dir)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(path, msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n")
    organization = {"id": plan.organization.id, "slug": plan.organization.slug}
    shown = {
        "baseUrl": plan.base_url,
        "apiKey": plan.api_key,
        "organization": organization,
        "labUrl": plan.lab_url,
    }
    write_private(data_dir / PLAN_FILE, msgspec.json.format(msgspec.json.encode(shown), indent=1) + b"\n")


def make_plan(node: Node) -> DemoPlan:
    """A new plan: fresh ids and secrets."""
    new_id = node.services.new_id

    def organization(slug: str) -> DemoOrganization:
        return DemoOrganization(
            id=new_id(), slug=slug, key_id=new_id(), api_key=new_api_key(), aosp_enterprise_id=new_id()
        )

    return DemoPlan(
        organization=organization("demo"),
        other_organization=organization("demo-other"),
        enterprise_id=new_id(),
        account_id=new_id(),
        pushy_key=secrets.token_hex(32),
        devices=[_new_device(new_id, index, *entry) for index, entry in enumerate(_FLEET, 1)],
        push=make_push_plan(new_id),
    )


def complete_plan(node: Node, plan: DemoPlan) -> DemoPlan:
    """The plan with what an earlier version did not have yet."""
    new_id = node.services.new_id
    known = {device.name for device in plan.devices}
    missing = [(index, entry) for index, entry in enumerate(_FLEET, 1) if entry[0] not in known]
    plan.devices += [_new_device(new_id, index, *entry) for index, entry in missing]
    plan.push = plan.push or make_push_plan(new_id)
    return plan


def _new_device(
    new_id: Callable[[], str], index: int, name: str, platform: str, provider: str, online: bool, apps: list[str]
) -> DemoDevice:
    device_id = new_id()
    return DemoDevice(
        name=name,
        platform=platform,
        provider=provider,
        online=online,
        apps=apps,
        serial_number=f"DEMO{index:04d}{platform.upper()}",
        device_id=device_id,
        all_platform_id=device_id if platform == "package" else new_id(),
        secret=new_agent_secret(),
        amapi_name=f"{_ENTERPRISE}/devices/{secrets.token_hex(8)}" if platform == "android" else None,
    )


async def ensure_records(node: Node, plan: DemoPlan, lab: Lab) -> None:
    """Make what the plan names and the database lacks."""
    await _ensure_organization(node, plan.organization, ("*", *OPERATOR_PERMISSIONS))
    await _ensure_organization(node, plan.other_organization, ("*",))
    setup = node.services.store.unit_of_work(plan.organization.id).setup
    now = node.services.clock.now()
    if await setup.enterprise(plan.enterprise_id) is None:
        credentials = node.services.secrets.seal(_service_account(f"{lab.amapi_url}/token"))
        await setup.add_enterprise(
            Enterprise(
                plan.enterprise_id, plan.organization.id, "android", _ENTERPRISE, now, credentials, lab.amapi_url
            )
        )
    if await setup.account(plan.account_id) is None:
        config = {"apiKey": plan.pushy_key, "baseUrl": lab.pushy_url, "requestsPerMinute": 0}
        sealed = node.services.secrets.seal(msgspec.json.encode(config))
        await setup.add_account(
            ProviderAccount(plan.account_id, plan.organization.id, "pushy", "demo", sealed, now, now, is_default=True)
        )
    if plan.push is not None:
        await ensure_push_accounts(node, plan.organization.id, plan.push, lab)
    for device in plan.devices:
        with suppress(Conflict):
            await setup.add_device(_record(plan, device, now), hash_secret(device.secret))


async def _ensure_organization(node: Node, wanted: DemoOrganization, permissions: tuple[str, ...]) -> None:
    now = node.services.clock.now()
    if await node.services.store.directory.organization(wanted.id) is None:
        try:
            await node.services.store.directory.add_organization(
                Organization(wanted.id, wanted.slug, wanted.slug, {}, now, now)
            )
        except Conflict:
            raise StartRefused(
                f"this database has an organization {wanted.slug!r} that is not the demo of this data directory: put "
                "back the lab/plan.json that belongs to it, or start a new demo with another --data-dir"
            ) from None
    setup = node.services.store.unit_of_work(wanted.id).setup
    if await setup.enterprise(wanted.aosp_enterprise_id) is None:
        await setup.add_enterprise(Enterprise(wanted.aosp_enterprise_id, wanted.id, "aosp", "aosp", now))
    if not any(key.id == wanted.key_id for key in await setup.keys()):
        key = ApiKey(wanted.key_id, wanted.id, "demo", wanted.api_key[:12], permissions, now)
        await setup.add_key(key, hash_secret(wanted.api_key))


def _record(plan: DemoPlan, device: DemoDevice, now: int) -> Device:
    enterprise = {"android": plan.enterprise_id, "aosp": plan.organization.aosp_enterprise_id}.get(device.platform)
    android = device.platform == "android"
    return Device(
        id=device.device_id,
        organization_id=plan.organization.id,
        all_platform_id=device.all_platform_id,
        platform=device.platform,
        enterprise_id=enterprise,
        name=device.name,
        state="ACTIVE",
        created_at=now,
        updated_at=now,
        external_name=device.amapi_name,
        serial_number=device.serial_number,
        management_mode="DEVICE_OWNER" if android else None,
        ownership="COMPANY_OWNED" if android else None,
    )


def _service_account(token_uri: str) -> bytes:
    """A service-account file as Google makes them, with a key of our own: the emulator takes any."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return msgspec.json.encode(
        {
            "type": "service_account",
            "project_id": "heliograph-demo",
            "private_key_id": secrets.token_hex(20),
            "private_key": pem.decode(),
            "client_email": "demo@heliograph-demo.iam.gserviceaccount.com",
            "client_id": "100000000000000000001",
            "token_uri": token_uri,
        }
    )


async def start_fleet(node: Node, plan: DemoPlan, lab: Lab, base_url: str) -> dict[str, bool]:
    """Hand the devices to the lab and wait until their agents have registered; answers which are online.

    On the first run the offline devices come online for a moment too: like every device they enrolled before they
    went away.
    """
    try:
        await lab.control("PUT", "/fleet", [_spec(plan, d, base_url) for d in plan.devices])
        if plan.settled:
            states = {item["deviceId"]: item["online"] for item in (await lab.control("GET", "/devices"))["items"]}
            await _wait_registered(node, plan, [d for d in plan.devices if states.get(d.device_id)])
            return states
        for device in plan.devices:
            await lab.control("PUT", f"/devices/{device.device_id}", {"online": True})
        await _wait_registered(node, plan, plan.devices)
        for device in plan.devices:
            await lab.control("PUT", f"/devices/{device.device_id}", {"online": device.online})
    except httpx2.HTTPError as error:
        raise StartRefused(f"the lab did not take the demo fleet: {error}") from None
    plan.settled = True
    return {device.device_id: device.online for device in plan.devices}


def _spec(plan: DemoPlan, device: DemoDevice, base_url: str) -> dict[str, Any]:
    amapi = None
    if device.amapi_name is not None:
        amapi = {
            "name": device.amapi_name,
            "ownership": "COMPANY_OWNED",
            "managementMode": "DEVICE_OWNER",
            "apiLevel": 36,
        }
    return {
        "deviceId": device.device_id,
        "name": device.name,
        "platform": device.platform,
        "allPlatformId": device.all_platform_id,
        "serialNumber": device.serial_number,
        "provider": device.provider,
        "online": device.online,
        "secret": device.secret,
        "apps": device.apps,
        "serverUrl": base_url,
        "amapi": amapi,
        "pushy": {"apiKey": plan.pushy_key} if device.provider == "pushy" else None,
        **({} if plan.push is None else push_spec(plan.push, device.provider)),
    }


async def _wait_registered(node: Node, plan: DemoPlan, devices: list[DemoDevice]) -> None:
    work = node.services.store.unit_of_work(plan.organization.id)
    missing = {(device.device_id, app) for device in devices for app in device.apps}
    deadline = node.services.later(_REGISTER_S)
    while missing:
        for device_id in {device_id for device_id, _ in missing}:
            known = {(device_id, target.app) for target in await work.devices.targets(device_id)}
            missing -= known
        if missing and node.services.clock.now() > deadline:
            raise StartRefused(f"{len(missing)} agents of the demo fleet did not register within {_REGISTER_S:.0f} s")
        await asyncio.sleep(0.02)


def ready_document(plan: DemoPlan, lab: Lab, base_url: str, online: Mapping[str, bool]) -> dict[str, Any]:
    """The ready file: what scripts rely on. `online` = which devices are, by their ids."""
    return {
        "baseUrl": base_url,
        "apiKey": plan.organization.api_key,
        "organization": {"id": plan.organization.id, "slug": plan.organization.slug},
        "otherOrganization": {
            "id": plan.other_organization.id,
            "slug": plan.other_organization.slug,
            "apiKey": plan.other_organization.api_key,
        },
        "devices": [
            {
                "name": d.name,
                "platform": d.platform,
                "deviceId": d.device_id,
                "allPlatformId": d.all_platform_id,
                "serialNumber": d.serial_number,
                "provider": d.provider,
                "online": online.get(d.device_id, d.online),
                "apps": d.apps,
            }
            for d in plan.devices
        ],
        "lab": {
            "controlUrl": lab.control_url,
            "amapiUrl": lab.amapi_url,
            "pushyUrl": lab.pushy_url,
            "pubsubUrl": lab.pubsub_url,
            "apnsUrl": lab.apns_url,
            "fcmUrl": lab.fcm_url,
            "wnsUrl": lab.wns_url,
            "webpushUrl": lab.webpush_url,
            "caPath": str(lab.ca_path),
        },
        "metricsUrl": f"{base_url}/metrics",
        "pids": {"server": os.getpid(), "lab": lab.pid},
    }


_ID = (
    """python3 -c 'import json,sys; t=sys.stdin.read(); print(t,file=sys.stderr); print(json.loads(t)["data"]["id"])'"""
)


def printed_calls(plan: DemoPlan, base_url: str) -> list[tuple[str, str]]:
    """The six calls to paste, each with a caption."""
    ids = {d.name: d.device_id for d in plan.devices}
    mdm = f"{base_url}/v1/organizations/{plan.organization.slug}/mdm"
    curl = f"curl -sS -H 'Authorization: Bearer {plan.organization.api_key}'"
    json_body = "-H 'Content-Type: application/json' -d"
    aosp = f"{mdm}/aosp/enterprise/devices/{ids['aosp-builtin-online']}/commands"
    android = f"{mdm}/android/enterprise/devices/{ids['android-offline']}/commands"
    push_body = msgspec.json.encode(
        {
            "os": "package",
            "identifier": ids["package-online"],
            "app": "mdmAgent",
            "type": "notification",
            "notification": {"title": "Hello", "body": "Heliograph says hello", "data": {"from": "demo"}},
        }
    ).decode()
    send = f"PUSH=$({curl} {json_body} '{push_body}' {mdm}/push-notifications/send | {_ID})"
    read = f'{curl} "{mdm}/push-notifications/$PUSH?wait=10"; echo'
    return [
        ("Reboot an AOSP device", f'REBOOT=$({curl} {json_body} \'{{"command":"REBOOT"}}\' {aosp} | {_ID})'),
        ("Did its push arrive?", f'{curl} "{aosp}/$REBOOT/push-status?wait=10"; echo'),
        ("And did it reboot?", f'{curl} "{aosp}/$REBOOT?wait=10"; echo'),
        (
            "Lock an Android device that is offline",
            f'LOCK=$({curl} {json_body} \'{{"type":"LOCK","duration":"86400s"}}\' {android} | {_ID})',
        ),
        ("Cancel that before it comes back", f'{curl} -X POST "{android}/$LOCK/cancel"; echo'),
        ("Send a push to an agent, and see it acknowledged", f"{send}; {read}"),
    ]
