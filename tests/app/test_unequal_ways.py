"""Ways of one push that differ: in what they take, in whether they work, in what they can take back."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest

from heliograph.app.agent_line import check_in, open_offers, register_agent
from heliograph.app.cancel_command import cancel_command
from heliograph.app.effects import EFFECTS
from heliograph.app.effects.push import owe_sending, rerouted
from heliograph.app.push_status import PushStatusReader
from heliograph.app.pushes import PushRequest, send_push
from heliograph.app.routes import ChosenTarget
from heliograph.app.setup import add_account
from heliograph.domain.deliveries import Leg, Push, PushRung, push_status
from heliograph.domain.devices import ProviderAccount
from heliograph.ports.changes import BACKGROUND, NORMAL, ChangeSet
from heliograph.ports.push import Accepted, CannotWithdraw, Misconfigured, Rejected, RetryLater, Unavailable, Withdrawn
from heliograph_protocol.messages import CheckIn, PushAck, Register, Target
from tests.app.conftest import Desk
from tests.app.pushing import Provider, one_for_each_kind

GONE = Rejected("gone", token_gone=True)


@pytest.fixture
def ways(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> defaultdict[str, Provider]:
    return one_for_each_kind(desk, monkeypatch)


@pytest.fixture
async def pushy(desk: Desk, ways: defaultdict[str, Provider]) -> ProviderAccount:
    """The app can be reached over our own line, and through Pushy."""
    account = await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    await register(desk, "builtin", "pushy")
    return account


async def register(desk: Desk, *providers: str) -> None:
    targets = [Target(provider=provider, token="" if provider == "builtin" else "t") for provider in providers]
    await register_agent(desk.services, desk.aosp, Register(app="mdmAgent", agent_version="1", targets=targets))


async def notify(desk: Desk, text: str = "hello", source: str = "operator") -> Push:
    request = PushRequest("aosp", desk.aosp.id, "mdmAgent", "notification", None, text, None)
    return await send_push(desk.services, desk.work, request, source)


async def now_of(desk: Desk, push: Push) -> Push:
    found = await desk.work.pushes.find(push.id)
    assert found is not None
    return found


async def offered(desk: Desk) -> list[str]:
    return [offer.id for offer in (await open_offers(desk.services, desk.aosp, "mdmAgent")).pushes]


async def fall_back(desk: Desk) -> None:
    await desk.pay()
    desk.clock.advance(1.1)


async def test_a_push_goes_no_way_that_is_too_narrow_for_it(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    push = await notify(desk, "x" * 5000)
    await fall_back(desk)
    assert await desk.pay() == []
    assert (ways["pushy"].sent, (await now_of(desk, push)).provider) == ([], "builtin")
    assert await offered(desk) == [push.id]


@pytest.mark.parametrize("refusal", [GONE, Rejected("too large")])
async def test_what_one_way_has_taken_is_not_rejected_because_the_next_refuses(
    refusal: Rejected, desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    ways["pushy"].outcomes = [refusal]
    push = await notify(desk)
    await fall_back(desk)
    before = push_status(await now_of(desk, push))
    assert await desk.pay() == ["fall_back", "push"]
    after = await now_of(desk, push)
    assert (after.rung, after.provider, after.reference) == (PushRung.ACCEPTED, "builtin", "p1")
    assert after.legs == (Leg("pushy", pushy.id, None, refused=True),)
    assert push_status(after) == before
    assert await offered(desk) == [push.id]
    [*_, last] = (await desk.work.history.of([push.id]))[push.id]
    assert (last.rung, last.source, last.evidence["refused"]) == ("accepted", "provider:pushy", refusal.reason)
    assert await desk.services.store.system.dead_letters(10) == []


@pytest.mark.parametrize("fault", [Misconfigured("the key is refused"), RetryLater("down")])
async def test_what_was_taken_is_offered_while_the_next_way_cannot_take_it(
    fault: Misconfigured | RetryLater, desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    ways["pushy"].outcomes = [fault] * 20
    push = await notify(desk)
    await fall_back(desk)
    await desk.pay()
    assert (await now_of(desk, push)).rung is PushRung.QUEUED
    assert await offered(desk) == [push.id]
    ack = PushAck(id=push.id, at="2026-01-01T00:00:00Z")
    await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=1, push_acks=[ack]))
    assert (await now_of(desk, push)).rung is PushRung.ACKNOWLEDGED


async def test_what_nobody_has_taken_is_not_offered_yet(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    await register(desk, "pushy")
    ways["pushy"].outcomes = [RetryLater("down")]
    await notify(desk)
    await desk.pay()
    assert await offered(desk) == []


async def test_a_way_that_was_only_busy_is_taken_again_when_the_next_refuses(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    ways["builtin"].outcomes = [RetryLater("busy")] * 4
    ways["pushy"].outcomes = [GONE]
    push = await notify(desk)
    for _ in range(4):
        await desk.pay()
        desk.clock.advance(60)
    after = await now_of(desk, push)
    assert (after.rung, after.provider) == (PushRung.ACCEPTED, "builtin")
    assert after.legs == (Leg("pushy", pushy.id, None, refused=True, attempts=5),)


async def test_what_every_way_refuses_ends(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    ways["builtin"].outcomes = [*([RetryLater("busy")] * 4), Rejected("no")]
    ways["pushy"].outcomes = [Rejected("nor here")]
    push = await notify(desk)
    for _ in range(6):
        await desk.pay()
        desk.clock.advance(60)
    after = await now_of(desk, push)
    assert (after.rung, after.reason) == (PushRung.REJECTED, "no")
    assert (len(ways["builtin"].sent), len(ways["pushy"].sent)) == (5, 1)


async def test_an_account_that_is_out_of_order_is_no_way_out_for_one_that_is_busy(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    await desk.work.setup.note_fault(pushy.id, "the key is refused", desk.clock.now())
    ways["builtin"].outcomes = [RetryLater("busy")] * 5
    push = await notify(desk)
    for _ in range(6):
        await desk.pay()
        desk.clock.advance(60)
    assert ((await now_of(desk, push)).provider, ways["pushy"].sent) == ("builtin", [])


async def test_what_is_owed_by_the_next_way_waits_in_that_accounts_line(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    """Or a paused account would hold up what no longer goes through it."""
    stub = await add_account(desk.services, desk.organization, "stub", "", {}, True)
    await register(desk, "pushy", "stub")
    push = await notify(desk)
    first, second = (pushy, stub) if push.provider == "pushy" else (stub, pushy)
    ways[first.provider].outcomes = [Misconfigured("the key is refused")]
    await desk.pay(times=1)
    now = desk.clock.now()
    [other] = await desk.services.store.system.claim(now, now + 1, 1, [[second.id]] * 3)
    assert other.kind == "reroute"
    [item] = await desk.services.store.system.claim(now, now + 1, 1, [[first.id]] * 3)
    assert (item.kind, item.pool) == ("push", second.id)


async def test_what_can_wait_can_wait_on_the_next_way_too(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk.services.pace, "is_bulk", lambda source, now: True)
    await notify(desk, source="key:bulk")
    await fall_back(desk)
    now = desk.clock.now()
    [item] = await desk.services.store.system.claim(now, now + 15_000_000, 1)
    assert (item.kind, item.priority) == ("fall_back", BACKGROUND)
    await EFFECTS[item.kind](desk.services, item)
    now = desk.clock.now()
    [item] = await desk.services.store.system.claim(now, now + 15_000_000, 1)
    assert (item.kind, item.priority) == ("push", BACKGROUND)


async def test_a_push_is_revoked_only_when_every_way_has_taken_it_back(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    """Providers without names of their own all call it by our id: that does not make them one."""
    command = await desk.command({"command": "LOCK"})
    [push] = await desk.work.pushes.of_command(command.id)
    ways["builtin"].outcomes, ways["pushy"].outcomes = [Accepted(push.id)], [Accepted(push.id)]
    ways["pushy"].withdrawals = [CannotWithdraw("no way")]
    await fall_back(desk)
    await desk.pay()
    await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")
    await desk.pay()
    after = await now_of(desk, push)
    assert (ways["builtin"].withdrawn, ways["pushy"].withdrawn) == ([push.id], [push.id])
    assert after.rung is PushRung.ACCEPTED
    said = [entry.evidence for entry in (await desk.work.history.of([push.id]))[push.id]]
    assert {"notWithdrawn": "no way"} in said
    assert {"withdrawn": push.id} not in said  # the line goes on offering it


async def test_an_earlier_way_that_keeps_it_counts_as_well(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    ways["builtin"].withdrawals = [CannotWithdraw("no way")]
    command = await desk.command({"command": "LOCK"})
    await fall_back(desk)
    await desk.pay()
    await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")
    await desk.pay()
    [push] = await desk.work.pushes.of_command(command.id)
    assert push.rung is PushRung.ACCEPTED
    evidence = [entry.evidence for entry in (await desk.work.history.of([push.id]))[push.id]]
    assert evidence[-2:] == [{"notWithdrawn": "no way"}, {"withdrawn": "p1"}]


async def test_taking_back_ends_with_the_pushs_life(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    """A service that a device chose, and that never answers, leaves nothing owed for ever."""
    ways["builtin"].withdrawals = [Unavailable("down")] * 100
    command = await desk.command({"command": "LOCK"})
    await desk.pay(times=1)
    await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")
    assert "revoke" in await desk.pay()
    desk.clock.advance(60)
    assert "revoke" in await desk.pay()
    desk.clock.advance(8 * 24 * 3600)
    await desk.pay()
    desk.clock.advance(60)
    assert await desk.pay() == []
    [push] = await desk.work.pushes.of_command(command.id)
    last = (await desk.work.history.of([push.id]))[push.id][-1]
    assert last.evidence == {"notWithdrawn": "down"}


@pytest.mark.parametrize("late", [Accepted("a1"), GONE, RetryLater("cut", uncertain=True)])
async def test_the_word_of_a_way_it_has_left_is_not_that_of_the_way_it_goes(
    late: Accepted | Rejected | RetryLater, desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    """A process that stood still while another one took over hears late what its provider said."""
    push = await notify(desk)
    ways["builtin"].outcomes = [late, Rejected("no")]
    now = desk.clock.now()
    [stale] = await desk.services.store.system.claim(now, now + 15_000_000, 1)

    async def another_takes_over() -> None:
        ways["builtin"].meanwhile = Provider.meanwhile
        ways["builtin"].outcomes.reverse()
        desk.clock.advance(16)
        await desk.pay(times=1)

    ways["builtin"].meanwhile = another_takes_over
    await EFFECTS[stale.kind](desk.services, stale)
    between = await now_of(desk, push)
    assert (between.rung, between.provider, between.reference) == (PushRung.QUEUED, "pushy", None)
    assert [leg.reference for leg in between.legs or ()] == ["a1" if isinstance(late, Accepted) else None]
    await desk.pay()
    after = await now_of(desk, push)
    assert (after.rung, after.provider, after.reference) == (PushRung.ACCEPTED, "pushy", "p1")
    assert len(ways["pushy"].sent) == 1


async def test_a_push_lives_no_longer_than_the_way_it_goes_can_keep_it(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its wake would be gone at the service, while we still counted on it."""
    plugin, find = desk.services.providers.plugin("pushy"), desk.services.providers.plugin
    assert plugin is not None
    brief = replace(plugin, max_life_s=3600)
    monkeypatch.setattr(desk.services.providers, "plugin", lambda kind: brief if kind == "pushy" else find(kind))
    push = await notify(desk)
    await fall_back(desk)
    await desk.pay()
    after = await now_of(desk, push)
    assert after.provider == "pushy"
    assert after.expires_at <= desk.clock.now() + 3600 * 1_000_000
    status = push_status(after)
    assert status is not None
    assert status.expires_at == after.expires_at


async def test_what_one_provider_says_is_not_taken_for_the_word_of_the_next(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    reader = PushStatusReader(desk.services)
    await reader.of_command(desk.work, command)
    [push] = await desk.work.pushes.of_command(command.id)
    event = rerouted(desk.services, ChosenTarget("pushy", pushy.id, 3600), "dispatcher", {})
    changes = ChangeSet(push.organization_id)
    changes.move_push(push, event, desk.clock.now())
    owe_sending(desk.services, changes, push, ChosenTarget("pushy", pushy.id, 3600), NORMAL)
    await desk.work.commit(changes)
    await desk.pay(times=1)
    assert not ways["pushy"].asked.is_set()
    await reader.of_command(desk.work, command)
    assert ways["pushy"].asked.is_set()


@pytest.mark.parametrize("silent", ["pushy", "mqtt"])
async def test_who_has_taken_a_push_back_is_not_asked_again_while_another_is_silent(
    silent: str, desk: Desk, ways: defaultdict[str, Provider]
) -> None:
    """It would not know the push any more, as if it had kept it."""
    for kind, config in (("pushy", {"apiKey": "abc"}), ("mqtt", {"url": "mqtt://127.0.0.1"})):
        await add_account(desk.services, desk.organization, kind, "", config, True)
    targets = [Target(provider="pushy", token="t"), Target(provider="mqtt", token="")]
    await register_agent(desk.services, desk.aosp, Register(app="mdmAgent", agent_version="1", targets=targets))
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    desk.clock.advance(61)
    await desk.pay()
    for kind in ("pushy", "mqtt"):
        ways[kind].withdrawals = [Unavailable("down")] * 2 if kind == silent else []
        ways[kind].withdrawals += [Withdrawn(), CannotWithdraw("knows no such push")]
    await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")
    for _ in range(4):
        await desk.pay()
        desk.clock.advance(60)
    [push] = await desk.work.pushes.of_command(command.id)
    assert {kind: len(ways[kind].withdrawn) for kind in ("pushy", "mqtt")} == {"pushy": 1, "mqtt": 1} | {silent: 3}
    assert push.rung is PushRung.REVOKED
    said = [entry.evidence for entry in (await desk.work.history.of([push.id]))[push.id]]
    assert not any("notWithdrawn" in evidence for evidence in said)
    assert [(leg.provider, leg.withdrawn) for leg in push.legs or ()] == (
        [("pushy", True)] if silent == "mqtt" else [("pushy", False), ("mqtt", True)]
    )


async def test_what_the_present_way_may_have_is_not_called_revoked_when_the_others_have_taken_it_back(
    desk: Desk, ways: defaultdict[str, Provider], pushy: ProviderAccount
) -> None:
    command = await desk.command({"command": "LOCK"})
    await fall_back(desk)
    ways["pushy"].outcomes = [RetryLater("cut", uncertain=True)]
    await desk.pay()
    await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")
    desk.clock.advance(60)
    await desk.pay()
    [push] = await desk.work.pushes.of_command(command.id)
    assert (ways["builtin"].withdrawn[0], push.provider, push.rung) == ("p1", "pushy", PushRung.QUEUED)
