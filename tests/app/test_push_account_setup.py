"""Accounts at push providers as they are changed: by two at a time, and after a fault."""

from __future__ import annotations

import asyncio

from heliograph.app.setup import add_account, open_config, update_account
from heliograph.domain.devices import ProviderAccount
from tests.app.conftest import Desk


async def made(desk: Desk) -> ProviderAccount:
    return await add_account(desk.services, desk.organization, "pushy", "main", {"apiKey": "old"}, True)


async def stored(desk: Desk, account: ProviderAccount) -> ProviderAccount:
    found = await desk.work.setup.account(account.id)
    assert found is not None
    return found


async def test_of_two_who_change_an_account_at_once_none_undoes_the_other(desk: Desk) -> None:
    """Else whoever renames it could let pushes through an account that was just disabled."""
    account = await made(desk)
    await asyncio.gather(
        update_account(desk.services, account, {"disabled": True}),
        update_account(desk.services, account, {"name": "till"}),
        update_account(desk.services, account, {"config": {"apiKey": "new"}}),
        update_account(desk.services, account, {"config": {"requestsPerMinute": 7}}),
    )
    after = await stored(desk, account)
    assert (after.name, after.disabled_at is not None) == ("till", True)
    config = open_config(desk.services, after)
    assert (config["apiKey"], config["requestsPerMinute"]) == ("new", 7)


async def test_new_settings_end_the_fault_of_the_old_ones(desk: Desk) -> None:
    account = await made(desk)
    await desk.work.setup.note_fault(account.id, "the key is refused", desk.clock.now())
    await update_account(desk.services, account, {"name": "till"})
    assert (await stored(desk, account)).fault == "the key is refused"
    shown = await update_account(desk.services, account, {"config": {"apiKey": "new"}})
    assert (shown.fault, shown.fault_at) == (None, None)
    assert (await stored(desk, account)).fault is None
