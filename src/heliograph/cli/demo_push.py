"""The demo's accounts at APNs and WNS, and what the lab has to know of them."""

import secrets
from collections.abc import Callable
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from heliograph.bootstrap import Node
from heliograph.cli.lab_process import Lab
from heliograph.domain.devices import ProviderAccount
from heliograph.domain.fields import Fields

_TEAM = "HELIODEMO1"
_TOPIC = "com.example.heliograph.agent"


class PushPlan(msgspec.Struct, kw_only=True, rename="camel"):
    """What must stay the same over restarts."""

    apns_account_id: str
    apns_key_id: str
    apns_key: str
    wns_account_id: str
    wns_app: str
    wns_secret: str


def make_push_plan(new_id: Callable[[], str]) -> PushPlan:
    """Fresh ids and secrets."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return PushPlan(
        apns_account_id=new_id(),
        apns_key_id=secrets.token_hex(5).upper(),
        apns_key=pem.decode(),
        wns_account_id=new_id(),
        wns_app=f"ms-app://s-1-15-2-{secrets.randbelow(10**9)}",
        wns_secret=secrets.token_hex(16),
    )


async def ensure_push_accounts(node: Node, organization_id: str, plan: PushPlan, lab: Lab) -> None:
    """Make the accounts that the database lacks, and let the lab know their keys."""
    key = {"keyId": plan.apns_key_id, "teamId": _TEAM, "publicKey": plan.apns_key}
    await lab.control("PUT", "/apns/keys", [key])
    await lab.control("PUT", "/wns/apps", [{"clientId": plan.wns_app, "clientSecret": plan.wns_secret}])
    apns = {
        "keyId": plan.apns_key_id,
        "teamId": _TEAM,
        "key": plan.apns_key,
        "topic": _TOPIC,
        "baseUrl": lab.apns_url,
        "ca": lab.ca_path.read_text(),
    }
    wns = {
        "packageSid": plan.wns_app,
        "clientSecret": plan.wns_secret,
        "loginUrl": lab.wns_url,
        "channelHosts": [lab.wns_url.partition("://")[2]],
    }
    await _ensure(node, organization_id, plan.apns_account_id, "apns", apns)
    await _ensure(node, organization_id, plan.wns_account_id, "wns", wns)


async def _ensure(node: Node, organization_id: str, account_id: str, provider: str, config: dict[str, Any]) -> None:
    setup = node.services.store.unit_of_work(organization_id).setup
    if await setup.account(account_id) is not None:
        return
    plugin = node.services.providers.plugin(provider)
    if plugin is None:
        raise LookupError(provider)
    now = node.services.clock.now()
    sealed = node.services.secrets.seal(msgspec.json.encode(plugin.read_config(Fields(config))))
    await setup.add_account(
        ProviderAccount(account_id, organization_id, provider, "demo", sealed, now, now, is_default=True)
    )


def push_spec(plan: PushPlan, provider: str) -> dict[str, Any]:
    """What the lab has to know of a device that is woken through one of them."""
    specs: dict[str, dict[str, Any]] = {"apns": {"apns": {"topic": _TOPIC}}, "wns": {"wns": {"app": plan.wns_app}}}
    return specs.get(provider, {})
