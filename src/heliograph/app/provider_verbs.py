"""The set-up verbs on accounts at push providers. Listed in app/verbs.py."""

import asyncio
from typing import Any

from heliograph.app import setup
from heliograph.app.callers import Caller, permit_address
from heliograph.app.services import Services
from heliograph.domain.devices import ProviderAccount
from heliograph.domain.errors import NotFound
from heliograph.domain.fields import Fields
from heliograph.domain.times import time_text
from heliograph.ports.push import ProbeAnswer, Unavailable, Works

Json = dict[str, Any]
_PROBE_S = 10


def shown_account(account: ProviderAccount) -> Json:
    """An account as answers show it, without its settings."""
    return {
        "id": account.id,
        "provider": account.provider,
        "name": account.name,
        "default": account.is_default,
        "disabled": account.disabled_at is not None,
        "expiresAt": None if account.expires_at is None else time_text(account.expires_at),
        "fault": account.fault,
        "faultAt": None if account.fault_at is None else time_text(account.fault_at),
    }


async def add_provider(s: Services, caller: Caller, body: Fields) -> Json:
    """Make an account."""
    provider, name = body.text("provider", required=True), body.text("name")
    config, default = body.json_object("config"), body.boolean("default")
    _permit_addresses(s, caller, body, provider or "", config)
    body.raise_if_wrong()
    return shown_account(
        await setup.add_account(s, caller.organization, provider or "", name or "", config or {}, bool(default))
    )


def _permit_addresses(s: Services, caller: Caller, body: Fields, kind: str, config: Json | None) -> None:
    plugin = s.providers.plugin(kind)
    if plugin is None or caller.names_addresses:
        return
    for member, usual in plugin.addresses.items():
        said = (config or {}).get(member)
        for address in said if isinstance(said, list) else [said]:
            if isinstance(address, str) and address.rstrip("/") != usual:
                permit_address(s, body, f"config.{member}", address)


async def list_providers(s: Services, caller: Caller, body: Fields) -> Json:
    """All accounts."""
    body.raise_if_wrong()
    return {"items": [shown_account(a) for a in await s.store.unit_of_work(caller.organization.id).setup.accounts()]}


async def _found(s: Services, caller: Caller, account_id: str | None) -> ProviderAccount:
    account = await s.store.unit_of_work(caller.organization.id).setup.account((account_id or "").lower())
    if account is None:
        raise NotFound
    return account


async def get_provider(s: Services, caller: Caller, body: Fields) -> Json:
    """One account, with the names of its settings; only where credentials go is shown as a value."""
    account_id = body.text("id", required=True)
    body.raise_if_wrong()
    account = await _found(s, caller, account_id)
    plugin = s.providers.plugin(account.provider)
    config = setup.open_config(s, account)
    addresses = {member: config[member] for member in (plugin.addresses if plugin else ()) if config.get(member)}
    return {**shown_account(account), "settings": sorted(config), "addresses": addresses}


async def update_provider(s: Services, caller: Caller, body: Fields) -> Json:
    """Change an account; what is left out stays as it is."""
    account_id, name = body.text("id", required=True), body.text("name")
    config, default, disabled = body.json_object("config"), body.boolean("default"), body.boolean("disabled")
    body.raise_if_wrong()
    account = await _found(s, caller, account_id)
    _permit_addresses(s, caller, body, account.provider, config)
    body.raise_if_wrong()
    said = {"name": name, "config": config, "default": default, "disabled": disabled}
    return shown_account(await setup.update_account(s, account, said))


async def test_provider(s: Services, caller: Caller, body: Fields) -> Json:
    """Ask the provider whether it takes the account, without reaching any device."""
    account_id = body.text("id", required=True)
    body.raise_if_wrong()
    accounts = await s.store.unit_of_work(caller.organization.id).setup.known_accounts(anew=True)  # what is tested
    account = accounts.get((account_id or "").lower())
    if account is None:
        raise NotFound
    if account.disabled_at is not None:
        return {"works": False, "detail": "the account is disabled"}
    if s.providers.plugin(account.provider) is None:
        return {"works": False, "detail": f"this installation has no plug-in for {account.provider}"}
    provider = await s.providers.provider(caller.organization.id, account.provider, account.id)
    if provider is None:
        return {"works": False, "detail": "the account was disabled or deleted meanwhile"}
    try:
        async with asyncio.timeout(_PROBE_S):
            answer: ProbeAnswer = await provider.probe()
    except TimeoutError:
        answer = Unavailable(f"no answer within {_PROBE_S} s")
    if isinstance(answer, Works):
        return {"works": True, "detail": answer.detail}
    return {"works": False, "detail": answer.reason}
