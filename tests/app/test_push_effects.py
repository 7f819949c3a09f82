"""What is said of a push is what is known of it, whatever comes between."""

from __future__ import annotations

import pytest

from heliograph.app.cancel_command import cancel_command
from heliograph.app.setup import add_account
from heliograph.app.sweep import sweep_once
from heliograph.domain.deliveries import Push, PushRung
from heliograph.domain.ladder import Command, Entry, Rung
from heliograph.ports.push import CannotWithdraw, Rejected, RetryLater, Unavailable
from tests.app.conftest import Desk
from tests.app.pushing import Provider, in_place_of_all
from tests.app.test_blamed_accounts import fleet, push_to


@pytest.fixture
def provider(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Provider:
    return in_place_of_all(desk, monkeypatch)


async def cancel(desk: Desk, command: Command) -> Command:
    return await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")


async def push_of(desk: Desk, command: Command) -> Push:
    [push] = await desk.work.pushes.of_command(command.id)
    return push


async def entries_of(desk: Desk, push: Push) -> list[Entry]:
    return (await desk.work.history.of([push.id]))[push.id]


async def died_with_it(desk: Desk) -> None:
    """Some process claims what is due and is never heard of again."""
    now = desk.clock.now()
    [lost] = await desk.services.store.system.claim(now, now + 15_000_000, 1)
    assert lost.kind == "push"
    desk.clock.advance(16)


async def test_what_was_taken_while_its_command_was_cancelled_is_withdrawn(desk: Desk, provider: Provider) -> None:
    command = await desk.command({"command": "LOCK"})

    async def cancelled_and_revoked() -> None:
        await cancel(desk, command)
        assert await desk.pay() == ["revoke"]

    provider.meanwhile = cancelled_and_revoked
    assert await desk.pay() == ["push", "revoke"]
    assert provider.withdrawn == ["p1"]
    push = await push_of(desk, command)
    assert (push.rung, push.reference) == (PushRung.REVOKED, "p1")


async def test_what_was_never_sent_is_revoked_without_asking(desk: Desk, provider: Provider) -> None:
    command = await desk.command({"command": "LOCK"})
    await cancel(desk, command)
    await desk.pay()
    assert (provider.sent, provider.withdrawn) == ([], [])
    assert (await push_of(desk, command)).rung is PushRung.REVOKED


async def test_what_was_refused_each_time_is_revoked(desk: Desk, provider: Provider) -> None:
    provider.outcomes = [RetryLater("busy"), RetryLater("busy")]
    command = await desk.command({"command": "LOCK"})
    for _ in provider.outcomes * 2:
        await desk.pay()
        desk.clock.advance(60)
        provider.meanwhile = lambda: cancel(desk, command)
    assert len(provider.sent) == 2
    await desk.pay()
    assert (await push_of(desk, command)).rung is PushRung.REVOKED


async def test_what_may_have_been_taken_is_not_called_revoked(desk: Desk, provider: Provider) -> None:
    provider.outcomes = [RetryLater("no answer", uncertain=True)]
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    await cancel(desk, command)
    desk.clock.advance(60)
    await desk.pay()
    push = await push_of(desk, command)
    assert push.rung is PushRung.QUEUED
    assert (await entries_of(desk, push))[-1].evidence == {"why": "command is over", "unansweredAttempts": 1}
    desk.clock.advance(7 * 24 * 3600)
    await sweep_once(desk.services)
    assert (await push_of(desk, command)).rung is PushRung.EXPIRED


async def test_an_attempt_whose_process_died_may_have_been_taken(desk: Desk, provider: Provider) -> None:
    command = await desk.command({"command": "LOCK"})
    await died_with_it(desk)
    await cancel(desk, command)
    await desk.pay()
    assert (await push_of(desk, command)).rung is PushRung.QUEUED


async def test_an_attempt_whose_process_died_counts_as_uncertain(desk: Desk, provider: Provider) -> None:
    provider.outcomes = [RetryLater("busy")]
    command = await desk.command({"command": "LOCK"})
    await died_with_it(desk)
    await died_with_it(desk)
    await desk.pay()
    push = await push_of(desk, command)
    assert push.attempts is not None
    assert (push.attempts.count, push.attempts.uncertain) == (3, 2)
    desk.clock.advance(60)
    await died_with_it(desk)
    await desk.pay()
    push = await push_of(desk, command)
    queued, attempts, accepted = await entries_of(desk, push)
    assert (queued.rung, attempts.rung, accepted.rung) == ("queued", "queued", "accepted")
    assert (attempts.evidence["attempts"], attempts.evidence["uncertain"]) == (4, 3)
    assert "never recorded" in str(attempts.evidence["reason"])


async def test_a_withdrawal_that_was_refused_is_noted_and_one_without_answer_is_repeated(
    desk: Desk, provider: Provider
) -> None:
    provider.withdrawals = [Unavailable("down"), CannotWithdraw("delivered")]
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    await cancel(desk, command)
    await desk.pay()
    desk.clock.advance(60)
    await desk.pay()
    push = await push_of(desk, command)
    assert (provider.withdrawn, push.rung) == (["p1", "p1"], PushRung.ACCEPTED)
    assert (await entries_of(desk, push))[-1].evidence == {"notWithdrawn": "delivered"}


async def test_attempts_leave_one_line_with_what_they_came_to(desk: Desk, provider: Provider) -> None:
    provider.outcomes = [
        RetryLater("cut", uncertain=True, evidence={"status": None}),
        RetryLater("busy", evidence={"status": 503}),
        Rejected("bad token"),
    ]
    command = await desk.command({"command": "LOCK"})
    for _ in range(3):
        await desk.pay()
        desk.clock.advance(60)
    push = await push_of(desk, command)
    queued, attempts, rejected = await entries_of(desk, push)
    assert (queued.rung, attempts.rung, rejected.rung) == ("queued", "queued", "rejected")
    assert {name: attempts.evidence[name] for name in ("attempts", "uncertain", "reason", "status")} == {
        "attempts": 2,
        "uncertain": 1,
        "reason": "busy",
        "status": 503,
    }


async def test_an_attempt_that_meets_a_change_is_recorded_all_the_same(desk: Desk, provider: Provider) -> None:
    provider.outcomes = [RetryLater("cut", uncertain=True)]
    command = await desk.command({"command": "LOCK"})

    async def expired() -> None:
        desk.clock.advance(8 * 24 * 3600)
        await sweep_once(desk.services)

    provider.meanwhile = expired
    await desk.pay(times=1)
    push = await push_of(desk, command)
    assert push.attempts is not None
    assert (push.rung, push.attempts.uncertain) == (PushRung.EXPIRED, 1)


async def test_a_wake_lives_as_long_as_its_command(desk: Desk, provider: Provider) -> None:
    command = await desk.command({"command": "DISENROLL"})
    assert 0 <= (await push_of(desk, command)).expires_at - command.expires_at < 1_000_000
    await desk.pay()
    assert abs(provider.sent[0].life_s - 7 * 24 * 3600) <= 1
    assert (await desk.now(command)).rung is Rung.ISSUED


async def test_a_push_waits_for_a_process_that_has_its_plug_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """This one is older than the push's provider, or the package that brings it was installed elsewhere only."""
    push = await push_of(desk, await desk.command({"command": "LOCK"}))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(desk.services.providers, "_plugins", {})
        assert await desk.pay() == ["push"]
    waiting = await desk.work.pushes.find(push.id)
    assert waiting is not None
    assert waiting.rung is PushRung.QUEUED
    assert (await entries_of(desk, push))[-1].evidence["reason"] == "this process has no plug-in for builtin"
    desk.clock.advance(60)
    await desk.pay()
    taken = await desk.work.pushes.find(push.id)
    assert taken is not None
    assert taken.rung is PushRung.ACCEPTED


async def test_a_process_without_a_plug_in_leaves_what_waits_for_its_account_to_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it claims each of them every half minute, before the one that could send it, for as long as they live."""
    account = await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    await push_to(desk, *await fleet(desk, 2, "pushy"))
    monkeypatch.setattr(desk.services.providers, "_plugins", {})
    assert await desk.pay(times=1) == ["push"]
    assert list(desk.services.health.paused(desk.clock.now())) == [account.id]


async def test_a_push_is_taken_back_by_a_process_that_has_its_plug_in(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    await cancel(desk, command)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(desk.services.providers, "_plugins", {})
        assert await desk.pay() == ["revoke"]
    assert (await push_of(desk, command)).rung is PushRung.ACCEPTED
    desk.clock.advance(60)
    assert await desk.pay() == ["revoke"]
    assert (await push_of(desk, command)).rung is PushRung.REVOKED
