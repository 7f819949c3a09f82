"""A push that nothing is heard of goes another way; the first acknowledgement counts, and the rest is taken back."""

from __future__ import annotations

import pytest

from heliograph.app.agent_line import check_in, open_offers, register_agent
from heliograph.app.cancel_command import cancel_command
from heliograph.app.push_status import PushStatusReader
from heliograph.app.setup import add_account
from heliograph.domain.deliveries import Leg, Push, PushRung, push_status
from heliograph.domain.ladder import Command
from heliograph.ports.push import CannotWithdraw, Misconfigured, Pending, Rejected, RetryLater, Unavailable, Withdrawn
from heliograph_protocol.messages import CheckIn, PushAck, Register, Target
from tests.app.conftest import Desk
from tests.app.pushing import Provider, in_place_of_all


@pytest.fixture
async def provider(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Provider:
    """The app can be reached over our own line and through Pushy; one provider answers for both."""
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    targets = [Target(provider="pushy", token="t"), Target(provider="builtin")]
    await register_agent(desk.services, desk.aosp, Register(app="mdmAgent", agent_version="1", targets=targets))
    return in_place_of_all(desk, monkeypatch)


async def push_of(desk: Desk, command: Command) -> Push:
    [push] = await desk.work.pushes.of_command(command.id)
    return push


async def acknowledge(desk: Desk, push: Push) -> None:
    ack = PushAck(id=push.id, at="2026-01-01T00:00:00Z")
    await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=1, push_acks=[ack]))


async def rerouted(desk: Desk, provider: Provider) -> tuple[Command, Push]:
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    desk.clock.advance(1.1)
    assert await desk.pay() == ["fall_back", "push"]
    return command, await push_of(desk, command)


async def test_the_line_first_then_the_service(desk: Desk, provider: Provider) -> None:
    _, push = await rerouted(desk, provider)
    assert (push.provider, push.rung, push.reference) == ("pushy", PushRung.ACCEPTED, "p2")
    assert push.legs == (Leg("builtin", None, "p1"),)
    assert [message.id for message in provider.sent] == [push.id, push.id]
    desk.clock.advance(100)
    assert "push" not in await desk.pay()


async def test_what_is_acknowledged_in_time_goes_no_other_way(desk: Desk, provider: Provider) -> None:
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    await acknowledge(desk, await push_of(desk, command))
    desk.clock.advance(1.1)
    assert await desk.pay() == ["fall_back"]
    push = await push_of(desk, command)
    assert (push.provider, push.rung, push.legs) == ("builtin", PushRung.ACKNOWLEDGED, None)


async def test_what_was_said_of_its_delivery_stays_said(desk: Desk, provider: Provider) -> None:
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    before = push_status(await push_of(desk, command))
    desk.clock.advance(1.1)
    assert await desk.pay(times=1) == ["fall_back"]
    assert before is not None
    between = push_status(await push_of(desk, command))
    await desk.pay()
    after = push_status(await push_of(desk, command))
    assert [s.sent_at for s in (between, after) if s] == [before.sent_at] * 2


async def history_of(desk: Desk, push: Push) -> list[tuple[str, dict[str, object]]]:
    return [(entry.rung, entry.evidence) for entry in (await desk.work.history.of([push.id]))[push.id]]


async def test_the_first_acknowledgement_counts_and_the_rest_is_taken_back(desk: Desk, provider: Provider) -> None:
    """By which way it came, the agent does not say: over the line as well as through the service."""
    _, push = await rerouted(desk, provider)
    await acknowledge(desk, push)
    assert await desk.pay() == ["revoke"]
    assert provider.withdrawn == ["p1", "p2"]
    after = await desk.work.pushes.find(push.id)
    assert after is not None
    assert after.rung is PushRung.ACKNOWLEDGED
    said = [("acknowledged", {"withdrawn": "p1"}), ("acknowledged", {"withdrawn": "p2"})]
    assert (await history_of(desk, push))[-2:] == said
    await acknowledge(desk, push)
    assert await desk.pay() == []


async def test_the_way_that_has_delivered_it_keeps_nothing_and_is_not_named(desk: Desk, provider: Provider) -> None:
    _, push = await rerouted(desk, provider)
    provider.withdrawals = [Withdrawn(), CannotWithdraw("it knows no such push")]
    await acknowledge(desk, push)
    await desk.pay()
    assert provider.withdrawn == ["p1", "p2"]
    assert (await history_of(desk, push))[-1] == ("acknowledged", {"withdrawn": "p1"})


async def test_what_its_provider_has_delivered_is_not_taken_back_there(desk: Desk, provider: Provider) -> None:
    command, push = await rerouted(desk, provider)
    provider.statuses = [Pending(0)]
    await PushStatusReader(desk.services).of_command(desk.work, command)
    await acknowledge(desk, push)
    assert await desk.pay() == ["revoke"]
    assert provider.withdrawn == ["p1"]


async def test_what_went_one_way_only_costs_its_provider_no_request_more(desk: Desk, provider: Provider) -> None:
    provider.outcomes = [Rejected("no")]
    command = await desk.command({"command": "LOCK"})
    assert await desk.pay() == ["push", "push"]
    await acknowledge(desk, await push_of(desk, command))
    assert await desk.pay() == []
    assert provider.withdrawn == []


async def test_what_is_acknowledged_while_it_goes_another_way_is_taken_back_there(
    desk: Desk, provider: Provider
) -> None:
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    desk.clock.advance(1.1)
    assert await desk.pay(times=1) == ["fall_back"]
    push = await push_of(desk, command)

    async def acknowledged() -> None:
        await acknowledge(desk, push)
        assert await desk.pay() == []

    provider.meanwhile = acknowledged
    assert await desk.pay() == ["push"]
    desk.clock.advance(30)
    assert await desk.pay() == ["revoke"]
    assert provider.withdrawn == ["p1", "p2"]
    assert (await push_of(desk, command)).rung is PushRung.ACKNOWLEDGED


async def test_what_every_way_has_taken_back_is_not_taken_back_again(desk: Desk, provider: Provider) -> None:
    command, push = await rerouted(desk, provider)
    await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")
    await desk.pay()
    await acknowledge(desk, push)
    assert await desk.pay() == []
    assert (await push_of(desk, command)).rung is PushRung.ACKNOWLEDGED
    assert provider.withdrawn == ["p1", "p2"]


async def test_of_a_cancelled_command_both_are_taken_back(desk: Desk, provider: Provider) -> None:
    command, _ = await rerouted(desk, provider)
    provider.withdrawals = [Unavailable("down"), Withdrawn(), Withdrawn(), CannotWithdraw("knows no such push")]
    await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")
    await desk.pay()
    desk.clock.advance(60)
    await desk.pay()
    push = await push_of(desk, command)
    assert (provider.withdrawn, push.rung) == (["p1", "p2", "p1"], PushRung.REVOKED)


async def test_what_was_taken_before_is_not_called_unsent_when_its_command_is_over(
    desk: Desk, provider: Provider
) -> None:
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    desk.clock.advance(1.1)
    assert await desk.pay(times=1) == ["fall_back"]
    provider.withdrawals = [CannotWithdraw("no way")]
    await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")
    await desk.pay()
    push = await push_of(desk, command)
    assert (push.rung, push.provider, push.reference) == (PushRung.ACCEPTED, "builtin", "p1")
    assert provider.withdrawn[0] == "p1"


@pytest.mark.parametrize("refusal", [Rejected("gone", token_gone=True), Rejected("no"), Misconfigured("key")])
async def test_a_refusal_goes_the_next_way_at_once(
    refusal: Rejected | Misconfigured, desk: Desk, provider: Provider
) -> None:
    provider.outcomes = [refusal]
    command = await desk.command({"command": "LOCK"})
    assert await desk.pay() == ["push", "push"]
    push = await push_of(desk, command)
    left = Leg("builtin", None, None, refused=isinstance(refusal, Rejected), attempts=1)
    assert (push.provider, push.rung, push.legs) == ("pushy", PushRung.ACCEPTED, (left,))
    assert push.attempts is not None
    assert (push.attempts.count, push.attempts.uncertain) == (1, 0)


async def test_a_provider_that_cannot_now_is_waited_for_a_while(desk: Desk, provider: Provider) -> None:
    provider.outcomes = [*(RetryLater("busy") for _ in range(3)), RetryLater("cut", uncertain=True)]
    command = await desk.command({"command": "LOCK"})
    for expected in ("builtin", "builtin", "builtin", "pushy"):
        await desk.pay(times=1)
        assert (await push_of(desk, command)).provider == expected
        desk.clock.advance(60)
    await desk.pay()
    attempts = (await push_of(desk, command)).attempts
    assert attempts is not None
    assert (attempts.count, attempts.uncertain) == (4, 1)  # none more on the way that took it


async def test_with_no_other_way_a_refusal_is_final(desk: Desk, provider: Provider) -> None:
    provider.outcomes = [Rejected("no"), Rejected("nor here")]
    command = await desk.command({"command": "LOCK"})
    assert await desk.pay() == ["push", "push"]
    push = await push_of(desk, command)
    assert (push.rung, push.reason) == (PushRung.REJECTED, "nor here")


async def test_the_last_way_is_the_next_check_in(desk: Desk, provider: Provider) -> None:
    """Whatever way a push went, an agent that comes to us is offered what it has not acknowledged."""
    _, push = await rerouted(desk, provider)
    offers = await open_offers(desk.services, desk.aosp, "mdmAgent")
    assert [offer.id for offer in offers.pushes] == [push.id]
