"""Which address a push goes to: the account of the device, of the address, of the organization, or none at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliograph.app.agent_line import register_agent
from heliograph.app.pushes import choose_target
from heliograph.app.setup import add_account
from heliograph.domain.devices import PushTarget
from heliograph_protocol.messages import Register, Target
from tests.app.conftest import Desk


async def account(desk: Desk, name: str, *, default: bool = False) -> str:
    added = await add_account(desk.services, desk.organization, "pushy", name, {"apiKey": "abc"}, default)
    return added.id


async def chosen(desk: Desk, device_account: str | None = None) -> tuple[str, str | None]:
    device = replace(desk.aosp, provider_account_id=device_account)
    found = await choose_target(desk.services, desk.work, device, "mdmAgent")
    assert found is not None
    return found.provider, found.account_id


@pytest.fixture
async def both(desk: Desk) -> None:
    """The app can be reached over our own line, which comes first by name, and through Pushy."""
    targets = [Target(provider="pushy", token="t"), Target(provider="builtin")]
    await register_agent(desk.services, desk.aosp, Register(app="mdmAgent", agent_version="1", targets=targets))


async def with_own_account(desk: Desk, account_id: str) -> None:
    now = desk.clock.now()
    targets = [
        PushTarget(desk.aosp.id, "mdmAgent", "pushy", account_id, "t", now),
        PushTarget(desk.aosp.id, "mdmAgent", "builtin", None, "", now),
    ]
    await desk.work.devices.register(desk.aosp.id, "mdmAgent", targets, now)


async def test_the_devices_account_comes_first(desk: Desk, both: None) -> None:
    default, own, devices = [await account(desk, n, default=n == "default") for n in ("default", "own", "devices")]
    await with_own_account(desk, own)
    assert await chosen(desk, devices) == ("pushy", devices)
    assert await chosen(desk, default) == ("pushy", default)


async def test_then_that_of_the_address(desk: Desk) -> None:
    own = await account(desk, "own")
    await account(desk, "default", default=True)
    await with_own_account(desk, own)
    assert await chosen(desk) == ("pushy", own)


async def test_then_the_organizations_default(desk: Desk, both: None) -> None:
    await account(desk, "first")
    default = await account(desk, "default", default=True)
    assert await chosen(desk) == ("pushy", default)


async def test_then_our_own_line(desk: Desk, both: None) -> None:
    assert await chosen(desk) == ("builtin", None)


async def test_a_disabled_account_is_passed_over(desk: Desk, both: None) -> None:
    default = await account(desk, "default", default=True)
    stored = await desk.work.setup.account(default)
    assert stored is not None
    now = desk.clock.now()
    disabled = replace(stored, id=desk.services.new_id(), is_default=False, disabled_at=now)
    await desk.work.setup.add_account(disabled)
    assert await chosen(desk, disabled.id) == ("pushy", default)


async def test_an_account_without_an_address_of_its_kind_is_passed_over(desk: Desk) -> None:
    assert await chosen(desk, await account(desk, "main")) == ("builtin", None)
