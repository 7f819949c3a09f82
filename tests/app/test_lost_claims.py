"""A claim that ran out while its push was on the way: another process is at it, and decides."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress

import pytest

from heliograph.app.agent_line import check_in
from heliograph.app.cancel_command import cancel_command
from heliograph.app.effects import EFFECTS
from heliograph.app.setup import add_account
from heliograph.domain.deliveries import PushCollapsed, PushRung
from heliograph.domain.errors import Conflict
from heliograph.ports.changes import ChangeSet, OutboxItem
from heliograph.ports.push import CannotWithdraw, Misconfigured, Outcome, Rejected, RetryLater
from heliograph_protocol.messages import CheckIn, PushAck
from tests.app.conftest import Desk
from tests.app.pushing import Provider, one_for_each_kind
from tests.app.test_blamed_accounts import MQTT, fleet, now_of, push_to

REFUSED = Misconfigured("the key is refused")


@pytest.fixture
def ways(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> defaultdict[str, Provider]:
    return one_for_each_kind(desk, monkeypatch)


async def test_what_goes_another_way_is_owed_there_whoever_decides(
    desk: Desk, ways: defaultdict[str, Provider]
) -> None:
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    broker = await add_account(desk.services, desk.organization, "mqtt", "", MQTT, True)
    [push] = await push_to(desk, *await fleet(desk, 1, "pushy", "mqtt"))
    ways["pushy"].outcomes = [REFUSED] * 2
    system, now = desk.services.store.system, desk.clock.now()
    [first] = await system.claim(now, now + 15_000_000, 1)
    desk.clock.advance(16)  # the process that has it stands still
    now = desk.clock.now()
    [second] = await system.claim(now, now + 15_000_000, 1)
    assert second.id == first.id
    with pytest.raises(Conflict):
        await EFFECTS["push"](desk.services, first)
    await EFFECTS["push"](desk.services, second)
    now = desk.clock.now()
    owed = await system.claim(now, now + 15_000_000, 9)
    assert [item.pool for item in owed if item.kind == "push"] == [broker.id]
    for item in owed:
        await EFFECTS[item.kind](desk.services, item)
    [after] = await now_of(desk, [push])
    assert (after.rung, after.provider) == (PushRung.ACCEPTED, "mqtt")
    assert after.attempts is not None
    assert (after.attempts.count, after.attempts.uncertain) == (2, 1)


async def test_what_was_collapsed_on_its_way_goes_no_other(desk: Desk, ways: defaultdict[str, Provider]) -> None:
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    await add_account(desk.services, desk.organization, "mqtt", "", MQTT, True)
    [push] = await push_to(desk, *await fleet(desk, 1, "pushy", "mqtt"))

    async def collapse() -> None:
        changes, [current] = ChangeSet(desk.organization.id), await now_of(desk, [push])
        changes.move_push(current, PushCollapsed(source="dispatcher"), desk.clock.now())
        changes.withdraw(f"push:{push.id}")
        await desk.work.commit(changes)

    ways["pushy"].outcomes, ways["pushy"].meanwhile = [REFUSED], collapse
    assert await desk.pay() == ["push", "reroute"]
    [after] = await now_of(desk, [push])
    assert (after.rung, after.provider, after.legs) == (PushRung.COLLAPSED, "pushy", None)
    assert after.attempts is not None
    assert after.attempts.reason == REFUSED.reason


async def claimed_twice(desk: Desk) -> tuple[OutboxItem, OutboxItem]:
    """The claim of a process that stands still, and that of the one that has taken over since."""
    system, now = desk.services.store.system, desk.clock.now()
    [first] = await system.claim(now, now + 15_000_000, 1)
    desk.clock.advance(16)
    now = desk.clock.now()
    [second] = await system.claim(now, now + 15_000_000, 1)
    assert first.id == second.id
    return first, second


async def test_who_has_lost_its_claim_calls_no_push_revoked(desk: Desk, ways: defaultdict[str, Provider]) -> None:
    """Another process may be at it: only that one knows whether a provider has it."""
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    [device] = await fleet(desk, 1, "pushy")
    command = await desk.command({"command": "LOCK"}, device)
    first, second = await claimed_twice(desk)

    async def cancelled() -> None:
        await cancel_command(desk.services, desk.work, command.id, device.id, "key:x", "over")
        with suppress(Conflict):
            await EFFECTS["push"](desk.services, first)

    ways["pushy"].meanwhile, ways["pushy"].withdrawals = cancelled, [CannotWithdraw("too late")]
    await EFFECTS["push"](desk.services, second)
    await desk.pay()
    [push] = await desk.work.pushes.of_command(command.id)
    assert (push.rung, push.reference, ways["pushy"].withdrawn) == (PushRung.ACCEPTED, "p1", ["p1"])


async def test_who_has_lost_its_claim_calls_no_push_rejected(desk: Desk, ways: defaultdict[str, Provider]) -> None:
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    [push] = await push_to(desk, *await fleet(desk, 1, "pushy"))
    first, second = await claimed_twice(desk)

    async def refused() -> None:
        ways["pushy"].meanwhile, ways["pushy"].outcomes = Provider.meanwhile, [Rejected("not as it is")]
        with suppress(Conflict):
            await EFFECTS["push"](desk.services, first)

    ways["pushy"].meanwhile = refused
    await EFFECTS["push"](desk.services, second)
    [after] = await now_of(desk, [push])
    assert (after.rung, after.reference) == (PushRung.ACCEPTED, "p2")
    assert after.attempts is not None
    assert after.attempts.uncertain == 1  # nobody has recorded what became of the first


async def test_a_late_answer_counts_where_the_push_has_come_back_to_its_way(
    desk: Desk, ways: defaultdict[str, Provider]
) -> None:
    """Else it waits there to be sent again, and nobody knows under which name it can be taken back."""
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    await add_account(desk.services, desk.organization, "mqtt", "", MQTT, True)
    [push] = await push_to(desk, *await fleet(desk, 1, "pushy", "mqtt"))
    first, second = await claimed_twice(desk)

    async def to_and_fro() -> None:
        ways["pushy"].meanwhile = Provider.meanwhile
        ways["pushy"].outcomes, ways["mqtt"].outcomes = [RetryLater("busy")] * 3, [RetryLater("busy")] * 8
        await EFFECTS["push"](desk.services, second)
        while ways["mqtt"].outcomes:
            desk.clock.advance(31)
            await desk.pay(times=1)
        [back] = await now_of(desk, [push])
        assert (back.rung, back.provider) == (PushRung.QUEUED, "pushy")

    ways["pushy"].meanwhile = to_and_fro
    await EFFECTS["push"](desk.services, first)
    [after] = await now_of(desk, [push])
    assert (after.rung, after.provider, after.reference) == (PushRung.ACCEPTED, "pushy", "p4")
    await desk.pay()
    assert len(ways["pushy"].sent) == 4


async def test_a_late_answer_makes_no_lost_attempts_of_those_that_failed_before_it(
    desk: Desk, ways: defaultdict[str, Provider]
) -> None:
    """They were of the time before the push left its way and came back to it."""
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    await add_account(desk.services, desk.organization, "mqtt", "", MQTT, True)
    [push] = await push_to(desk, *await fleet(desk, 1, "pushy", "mqtt"))
    busy = RetryLater("busy")
    ways["pushy"].outcomes = [busy] * 2
    for _ in range(2):
        await desk.pay(times=1)
        desk.clock.advance(31)
    first, second = await claimed_twice(desk)

    async def to_and_fro() -> None:
        ways["pushy"].meanwhile = Provider.meanwhile
        ways["pushy"].outcomes, ways["mqtt"].outcomes = [busy], [busy] * 8
        await EFFECTS["push"](desk.services, second)
        while ways["mqtt"].outcomes:
            desk.clock.advance(31)
            await desk.pay(times=1)

    ways["pushy"].meanwhile = to_and_fro
    await EFFECTS["push"](desk.services, first)
    [after] = await now_of(desk, [push])
    assert (after.rung, after.provider, after.unanswered) == (PushRung.ACCEPTED, "pushy", 1)


@pytest.mark.parametrize(("answer", "uncertain"), [(None, 1), (RetryLater("busy"), 0)])
async def test_an_attempt_whose_process_died_is_told_of_what_has_moved_on(
    answer: Outcome | None, uncertain: int, desk: Desk, ways: defaultdict[str, Provider]
) -> None:
    """It may have been taken: so nobody counts the one that is known for the only one."""
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    [device] = await fleet(desk, 1, "pushy")
    [push] = await push_to(desk, device)
    now = desk.clock.now()
    [item] = await desk.services.store.system.claim(now, now + 15_000_000, 1)
    if answer is not None:
        ways["pushy"].outcomes = [answer]
        await EFFECTS["push"](desk.services, item)
    acks = CheckIn(push_acks=[PushAck(id=push.id, at="2026-01-01T00:00:00Z")])
    await check_in(desk.services, device, "mdmAgent", acks)
    desk.clock.advance(16)
    assert await desk.pay() == ["push"]
    [after] = await now_of(desk, [push])
    assert (after.rung, after.unanswered) == (PushRung.ACKNOWLEDGED, uncertain)


async def test_of_a_claim_that_was_lost_while_another_took_over_the_acceptance_is_no_loss(
    desk: Desk, ways: defaultdict[str, Provider]
) -> None:
    """One of both claims came to it; what the third one finds was sent once."""
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    [push] = await push_to(desk, *await fleet(desk, 1, "pushy"))
    first, second = await claimed_twice(desk)
    await EFFECTS["push"](desk.services, first)
    await EFFECTS["push"](desk.services, second)
    [after] = await now_of(desk, [push])
    assert (after.rung, after.unanswered, len(ways["pushy"].sent)) == (PushRung.ACCEPTED, 0, 1)
