"""Which ways lead to an app, in which order, and through whose account."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliograph.app.agent_line import register_agent
from heliograph.app.routes import routes_to
from heliograph.app.setup import add_account
from heliograph.domain.devices import PushTarget
from heliograph_protocol.messages import Register, Target
from tests.app.conftest import Desk

LINE = ("builtin", None)


async def account(desk: Desk, name: str, *, default: bool = False) -> str:
    added = await add_account(desk.services, desk.organization, "pushy", name, {"apiKey": "abc"}, default)
    return added.id


async def chosen(desk: Desk, device_account: str | None = None) -> list[tuple[str, str | None]]:
    device = replace(desk.aosp, provider_account_id=device_account)
    targets = await desk.work.devices.targets(device.id, "mdmAgent")
    found = await routes_to(desk.services, desk.work, device, targets)
    return [(route.provider, route.account_id) for route in found]


@pytest.fixture
async def both(desk: Desk) -> None:
    """The app can be reached over our own line and through Pushy."""
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
    assert await chosen(desk, devices) == [LINE, ("pushy", devices)]
    assert await chosen(desk, default) == [LINE, ("pushy", default)]


async def test_then_that_of_the_address(desk: Desk) -> None:
    own = await account(desk, "own")
    await account(desk, "default", default=True)
    await with_own_account(desk, own)
    assert await chosen(desk) == [LINE, ("pushy", own)]


async def test_then_the_organizations_default(desk: Desk, both: None) -> None:
    await account(desk, "first")
    default = await account(desk, "default", default=True)
    assert await chosen(desk) == [LINE, ("pushy", default)]


async def test_without_an_account_only_our_own_line_is_left(desk: Desk, both: None) -> None:
    assert await chosen(desk) == [LINE]


async def test_a_disabled_account_is_passed_over(desk: Desk, both: None) -> None:
    default = await account(desk, "default", default=True)
    stored = await desk.work.setup.account(default)
    assert stored is not None
    now = desk.clock.now()
    disabled = replace(stored, id=desk.services.new_id(), is_default=False, disabled_at=now)
    await desk.work.setup.add_account(disabled)
    assert await chosen(desk, disabled.id) == [LINE, ("pushy", default)]


async def test_an_account_without_an_address_of_its_kind_is_passed_over(desk: Desk) -> None:
    assert await chosen(desk, await account(desk, "main")) == [LINE]
