"""An account's limit is for all requests: what asks about a push, or takes it back, takes a token as the push did."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from heliograph.app.agent_line import register_agent
from heliograph.app.cancel_command import cancel_command
from heliograph.app.push_status import PushStatusReader
from heliograph.app.quota import AccountQuotas
from heliograph.app.setup import add_account
from heliograph.domain.deliveries import PushRung
from heliograph.domain.devices import ProviderAccount
from heliograph.domain.errors import StoreUnavailable
from heliograph.domain.ladder import Command
from heliograph.ports.changes import URGENT
from heliograph.ports.push import Pending, Unavailable
from heliograph.ports.system import TokenOrder
from heliograph_protocol.messages import Register, Target
from tests.app.conftest import Desk
from tests.app.pushing import Provider, in_place_of_all

MANY = 40
PER_MINUTE = 800


@pytest.fixture
def provider(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Provider:
    monkeypatch.setattr(desk.services.providers, "per_minute", lambda account_id: PER_MINUTE)
    return in_place_of_all(desk, monkeypatch)


@pytest.fixture
async def account(desk: Desk, provider: Provider) -> ProviderAccount:
    """At Pushy, and the only way to the device."""
    account = await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    await register(desk, Target(provider="pushy", token="t"))
    return account


async def register(desk: Desk, *targets: Target) -> None:
    message = Register(app="mdmAgent", agent_version="1", targets=list(targets))
    await register_agent(desk.services, desk.aosp, message)


def limit(desk: Desk) -> None:
    quotas = AccountQuotas(desk.services.store.system, desk.clock, patience_s=0.1)
    desk.services = replace(desk.services, account_quotas=quotas)


async def use_up(desk: Desk, account: ProviderAccount) -> int:
    """Take what the account has left; says how much that was."""
    burst = PER_MINUTE // 25
    order = TokenOrder(f"push:{account.id}", burst, 0, burst * 1_000_000, 1)  # refilled so slowly that none comes
    return await desk.services.store.system.take_tokens(order, desk.clock.now())


async def issued(desk: Desk, number: int) -> list[Command]:
    """Commands whose pushes were taken before the account had a limit."""
    commands = [await desk.command({"command": "LOCK"}) for _ in range(number)]
    await desk.pay(times=3 * number)
    return commands


async def cancel(desk: Desk, command: Command) -> None:
    await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")


async def test_asking_for_the_status_takes_tokens(desk: Desk, provider: Provider, account: ProviderAccount) -> None:
    commands = await issued(desk, MANY)
    limit(desk)
    provider.statuses = [Pending(1)] * MANY
    reader = PushStatusReader(desk.services)
    reports = await asyncio.gather(*(reader.of_command(desk.work, command) for command in commands))
    asked = MANY - len(provider.statuses)
    assert 0 < asked < MANY
    assert len([report for report in reports if report.age_s is not None]) == MANY - asked


async def test_without_a_token_the_record_answers_at_once(
    desk: Desk, provider: Provider, account: ProviderAccount
) -> None:
    [command] = await issued(desk, 1)
    provider.statuses = [Pending(1, desk.clock.now() + 60_000_000)]
    before = await PushStatusReader(desk.services).of_command(desk.work, command)
    limit(desk)
    desk.clock.advance(7)
    assert await use_up(desk, account) > 0
    provider.statuses = [Pending(0)]
    async with asyncio.timeout(5):
        after = await PushStatusReader(desk.services).of_command(desk.work, command)
    assert (after.status, after.source, after.is_final) == (before.status, "provider", False)
    assert after.age_s is not None
    assert after.age_s >= 7
    assert provider.statuses == [Pending(0)]


async def test_a_withdrawal_takes_a_token_and_waits_for_one(
    desk: Desk, provider: Provider, account: ProviderAccount
) -> None:
    commands = await issued(desk, MANY)
    limit(desk)
    for command in commands:
        await cancel(desk, command)
    assert await desk.pay(times=3 * MANY) == ["revoke"] * MANY
    assert 0 < len(provider.withdrawn) < MANY
    for _ in range(20):
        desk.clock.advance(60)
        await desk.pay(times=3 * MANY)
    assert sorted(provider.withdrawn) == sorted({f"p{number + 1}" for number in range(MANY)})
    pushes = [push for command in commands for push in await desk.work.pushes.of_command(command.id)]
    assert {push.rung for push in pushes} == {PushRung.REVOKED}


async def test_of_several_ways_none_is_asked_until_all_can_be(
    desk: Desk, provider: Provider, account: ProviderAccount
) -> None:
    """One that has taken a push back says the next time that it knows no such push: that would not be revoked."""
    await register(desk, Target(provider="pushy", token="t"), Target(provider="builtin"))
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    desk.clock.advance(1.1)
    await desk.pay()
    limit(desk)
    await use_up(desk, account)
    await cancel(desk, command)
    assert await desk.pay() == ["revoke"]
    assert provider.withdrawn == []
    desk.clock.advance(60)
    await desk.pay()
    [push] = await desk.work.pushes.of_command(command.id)
    assert (provider.withdrawn, push.rung) == (["p1", "p2"], PushRung.REVOKED)


async def test_what_makes_no_request_takes_no_token(
    desk: Desk, provider: Provider, account: ProviderAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own line has no account; and a limit that is for pushes alone, as FCM's, counts nothing else."""
    plugin = desk.services.providers.plugin("pushy")
    assert plugin is not None
    [command] = await issued(desk, 1)
    limit(desk)
    await use_up(desk, account)
    monkeypatch.setattr(desk.services.providers, "plugin", lambda kind: replace(plugin, limits_all=False))
    await PushStatusReader(desk.services).of_command(desk.work, command)
    assert provider.asked.is_set()
    await cancel(desk, command)
    await desk.pay()
    assert provider.withdrawn == ["p1"]


async def test_a_store_that_is_away_gives_no_token(
    desk: Desk, account: ProviderAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(order: TokenOrder, now: int) -> int:
        raise StoreUnavailable

    monkeypatch.setattr(desk.services.store.system, "take_tokens", away)
    quotas = AccountQuotas(desk.services.store.system, desk.clock)
    assert not await quotas.take_now(account.id, PER_MINUTE, URGENT)
    assert await quotas.take_now(account.id, 0, URGENT)


async def test_the_reason_is_told(desk: Desk, provider: Provider, account: ProviderAccount) -> None:
    [command] = await issued(desk, 1)
    limit(desk)
    await use_up(desk, account)
    [push] = await desk.work.pushes.of_command(command.id)
    said = await PushStatusReader(desk.services)._answer(push)
    assert said == Unavailable("the account's requests of this minute are used up")
