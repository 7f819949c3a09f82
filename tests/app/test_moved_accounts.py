"""A push that waits for an account goes through the one that its address uses by now."""

from __future__ import annotations

from collections import defaultdict

import pytest

from heliograph.app.effects import EFFECTS
from heliograph.app.setup import add_account, update_account
from heliograph.domain.deliveries import PushRung
from heliograph.domain.devices import ProviderAccount
from heliograph.ports.push import Misconfigured, Outcome, RetryLater
from tests.app.conftest import Desk
from tests.app.pushing import Provider
from tests.app.test_blamed_accounts import fleet, now_of, push_to


@pytest.fixture
def accounts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> defaultdict[str, Provider]:
    """What answers behind each account, as long as that is not disabled."""
    found: defaultdict[str, Provider] = defaultdict(Provider)

    async def of_account(organization_id: str, kind: str, account_id: str | None) -> Provider | None:
        account = await desk.work.setup.account(account_id or "")
        return None if account is None or account.disabled_at is not None else found[account.id]

    monkeypatch.setattr(desk.services.providers, "provider", of_account)
    return found


async def pushy(desk: Desk, *, is_default: bool) -> ProviderAccount:
    return await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, is_default)


@pytest.mark.parametrize("disabled", [True, False])
async def test_what_waits_for_an_account_goes_through_the_one_that_takes_its_place(
    disabled: bool, desk: Desk, accounts: defaultdict[str, Provider]
) -> None:
    broken, works = await pushy(desk, is_default=True), await pushy(desk, is_default=False)
    accounts[broken.id].outcomes = [Misconfigured("the key is refused")] * 100
    pushes = await push_to(desk, *await fleet(desk, 3, "pushy"))
    await desk.pay()
    await update_account(desk.services, works, {"default": True})
    if disabled:
        await update_account(desk.services, broken, {"disabled": True})
    desk.clock.advance(60)
    await desk.pay()
    assert [(push.rung, push.account_id) for push in await now_of(desk, pushes)] == [(PushRung.ACCEPTED, works.id)] * 3


@pytest.mark.parametrize("trouble", [Misconfigured("the key is refused"), RetryLater("limit", 300, account_wide=True)])
@pytest.mark.parametrize("is_new", [True, False])
async def test_it_does_not_wait_for_the_end_of_a_pause(
    is_new: bool, trouble: Outcome, desk: Desk, accounts: defaultdict[str, Provider]
) -> None:
    broken = await pushy(desk, is_default=True)
    works = None if is_new else await pushy(desk, is_default=False)
    accounts[broken.id].outcomes = [trouble] * 100
    pushes = await push_to(desk, *await fleet(desk, 5, "pushy"))
    assert await desk.pay(times=1) == ["push"]
    assert await paid_but_for(desk, broken) == ["reroute"]  # to where, nobody has said yet
    if works is None:
        works = await pushy(desk, is_default=True)
    else:
        await update_account(desk.services, works, {"default": True})
    assert await paid_but_for(desk, broken) == ["reroute", *["push"] * 5]
    assert [push.account_id for push in await now_of(desk, pushes)] == [works.id] * 5
    assert len(accounts[broken.id].sent) == 1


async def paid_but_for(desk: Desk, paused: ProviderAccount) -> list[str]:
    """Pay what is due as a dispatcher does while an account is paused."""
    paid, now = [], desk.clock.now()
    while items := await desk.services.store.system.claim(now, now + 15_000_000, 1, [[paused.id]] * 3):
        paid.append(items[0].kind)
        await EFFECTS[items[0].kind](desk.services, items[0])
        now = desk.clock.now()
    return paid
