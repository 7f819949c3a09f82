"""Two agents with one secret: what one of them was given, the other neither runs nor cancels."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest
import structlog

from heliograph.app.access import Access, RateLimiter
from heliograph.app.agent_line import check_in, new_offers, open_offers
from heliograph.app.cancel_command import cancel_command
from heliograph.app.sweep import sweep_once
from heliograph.domain.ladder import Command, Rung
from heliograph.http import agent_gateway
from heliograph.http.agent_gateway import AgentGateway
from heliograph.http.answers import Answer, Request
from heliograph_protocol.messages import CancelAnswer, CheckIn, Orders, Report, ReportError
from tests.app.conftest import Desk
from tests.app.test_agent_limits import Known

AT = "2026-01-01T00:00:00Z"
ONE, OTHER = "1" * 32, "2" * 32


async def say(desk: Desk, journal: str, message: CheckIn) -> Orders:
    return await check_in(desk.services, desk.aosp, "mdmAgent", message, journal)


async def claim(desk: Desk, journal: str) -> list[str]:
    return [c.id for c in (await say(desk, journal, CheckIn(seq=1, claim=8))).commands]


async def tell(desk: Desk, journal: str, command: Command, rung: str, **more: float) -> None:
    report = Report(command_id=command.id, rung=rung, at=AT, **more)  # type: ignore[arg-type]
    await say(desk, journal, CheckIn(seq=2, reports=[report]))


async def confirm(desk: Desk, journal: str, command: Command, outcome: Any = "confirmed") -> Rung:
    answer = CancelAnswer(command_id=command.id, outcome=outcome, at=AT)
    await say(desk, journal, CheckIn(seq=3, cancel_answers=[answer]))
    return (await desk.now(command)).rung


async def asked(desk: Desk, command: Command) -> None:
    await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")


async def told_unasked(desk: Desk, journal: str) -> list[Orders]:
    """Over a WebSocket, and in the answer to a check-in over HTTP; without the pushes."""
    told = [orders async for orders in new_offers(desk.services, desk.aosp, "mdmAgent", {"all"}, journal)]
    told.append(await open_offers(desk.services, desk.aosp, "mdmAgent", journal))
    return [orders for orders in told if orders.waiting or orders.cancels]


async def test_a_command_is_given_to_one_of_two_that_claim_at_once(desk: Desk) -> None:
    command = await desk.command({"command": "REBOOT"})
    claims = await asyncio.gather(claim(desk, ONE), claim(desk, OTHER))
    assert sorted(claims) == [[], [command.id]]


@pytest.mark.parametrize("other", [OTHER, ""])
async def test_what_was_claimed_is_handed_out_again_to_the_same_journal_alone(desk: Desk, other: str) -> None:
    command = await desk.command({"command": "REBOOT"})
    assert await claim(desk, ONE) == [command.id]
    orders = await say(desk, other, CheckIn(seq=1, claim=8))
    # Nothing that it would come again for, at once and for ever.
    assert (orders.commands, orders.waiting, orders.more) == ([], False, False)
    assert await told_unasked(desk, other) == []
    assert (await told_unasked(desk, ONE))[0].waiting
    assert await claim(desk, ONE) == [command.id]


@pytest.mark.parametrize("other", [OTHER, ""])
async def test_what_was_put_off_is_handed_out_again_to_the_same_journal_alone(desk: Desk, other: str) -> None:
    command = await desk.command({"command": "REBOOT"})
    await claim(desk, ONE)
    await tell(desk, ONE, command, "deferred", retry_after_seconds=1.0)
    desk.clock.advance(2)
    # A "not now" that comes late may be of one that runs by now.
    assert await claim(desk, other) == []
    assert await told_unasked(desk, other) == []
    assert await claim(desk, ONE) == [command.id]


async def test_only_the_journal_that_was_given_a_command_proves_its_cancel(desk: Desk) -> None:
    command = await desk.command({"command": "REBOOT"})
    await claim(desk, ONE)
    await tell(desk, ONE, command, "acknowledged")
    await asked(desk, command)
    assert await told_unasked(desk, OTHER) == []
    assert (await say(desk, OTHER, CheckIn(seq=1, claim=8))).cancels == []
    # One that never heard of it puts it down as cancelled all the same; meanwhile it may run where it was given.
    assert await confirm(desk, OTHER, command) is Rung.ACKNOWLEDGED
    assert await confirm(desk, OTHER, command, "rejected") is Rung.ACKNOWLEDGED
    assert [o.cancels for o in await told_unasked(desk, ONE)] == [[command.id], [command.id]]
    await tell(desk, ONE, command, "running")
    await tell(desk, ONE, command, "succeeded")
    assert (await desk.now(command)).rung is Rung.SUCCEEDED


async def test_the_journal_that_was_given_a_command_cancels_it(desk: Desk) -> None:
    command = await desk.command({"command": "REBOOT"})
    await claim(desk, ONE)
    await asked(desk, command)
    assert await confirm(desk, ONE, command) is Rung.CANCELLED


@pytest.mark.parametrize("said", [[], ["acknowledged"], ["acknowledged", "running"], ["deferred"]])
@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_what_a_journal_that_is_gone_had_claimed_ends_in_time(
    desk: Desk, said: list[str], is_cancelled: bool
) -> None:
    """Nobody else may run it or let go of it, and it blocks nothing."""
    command = await desk.command({"command": "REBOOT", "duration": 600})
    await claim(desk, ONE)
    for rung in said:
        await tell(desk, ONE, command, rung)
    if is_cancelled:
        await asked(desk, command)
    newer = await desk.command({"command": "LOCK", "duration": 6000})
    assert await claim(desk, OTHER) == [newer.id]
    desk.clock.advance(601)
    assert await claim(desk, OTHER) == [newer.id]
    await sweep_once(desk.services)
    assert (await desk.now(command)).rung is Rung.EXPIRED_RUNNING


async def test_a_journal_that_took_the_place_of_a_damaged_one_tells_how_a_command_ended(desk: Desk) -> None:
    """What was put off, too: it is handed out to nobody any more."""
    command = await desk.command({"command": "REBOOT"})
    await claim(desk, ONE)
    await tell(desk, ONE, command, "deferred")
    error = ReportError(code="JOURNAL_DAMAGED", message="it was not run")
    report = Report(command_id=command.id, rung="failed", at=AT, error=error)
    await say(desk, OTHER, CheckIn(seq=2, reports=[report]))
    assert (await desk.now(command)).rung is Rung.FAILED


async def test_what_was_claimed_before_journals_had_names_is_handed_out_as_ever(desk: Desk) -> None:
    command = await desk.command({"command": "REBOOT"})
    assert await claim(desk, "") == [command.id]
    assert await claim(desk, ONE) == [command.id]
    await asked(desk, command)
    assert await confirm(desk, ONE, command) is Rung.CANCELLED


def orders_of(answer: Answer) -> Orders:
    return msgspec.json.decode(answer.body, type=Orders)


async def by_http(desk: Desk, journal: str, **said: Any) -> Answer:
    gateway = AgentGateway(desk.services, cast(Access, Known(desk)), RateLimiter(0), structlog.get_logger())
    query = f"app=mdmAgent&journal={journal}".encode()
    scope: Any = {"headers": [(b"authorization", b"Bearer hla_of_the_device")], "query_string": query}
    return await gateway.check_in(Request(scope, {}, msgspec.json.encode(CheckIn(seq=1, claim=8, **said))))


async def test_a_check_in_over_http_claims_for_the_journal_that_it_names(desk: Desk) -> None:
    command = await desk.command({"command": "REBOOT"})
    assert [c.id for c in orders_of(await by_http(desk, ONE)).commands] == [command.id]
    assert (await desk.now(command)).claimed_by == ONE
    await asked(desk, command)
    assert orders_of(await by_http(desk, OTHER)) == Orders(seq=1)
    assert orders_of(await by_http(desk, ONE)).cancels == [command.id]


async def test_so_does_one_that_has_waited(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = asyncio.Event()

    async def and_then_waits(*given: Any) -> Orders:
        offers = await open_offers(*given)
        waits.set()
        return offers

    monkeypatch.setattr(agent_gateway, "open_offers", and_then_waits)
    polling = asyncio.create_task(by_http(desk, ONE, wait_seconds=60.0))
    await waits.wait()
    command = await desk.command({"command": "REBOOT"})
    await desk.pay()
    assert [c.id for c in orders_of(await polling).commands] == [command.id]
    assert (await desk.now(command)).claimed_by == ONE


@pytest.mark.parametrize("journal", ["a%20b", "a" * 65, "%C3%A4"])
async def test_the_name_of_a_journal_is_short_and_plain(desk: Desk, journal: str) -> None:
    answer = await by_http(desk, journal)
    assert (answer.status, msgspec.json.decode(answer.body)["code"]) == (400, "invalid_input")
