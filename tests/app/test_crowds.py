"""Many commands of one device that cannot go on do not hide the newer ones that can."""

from __future__ import annotations

import asyncio

import pytest

from heliograph.app import agent_line
from heliograph.app.agent_line import check_in, new_offers, open_offers
from heliograph.app.cancel_command import cancel_command
from heliograph.app.effects import look_up, strays
from heliograph.app.effects.upstream import look_at_once
from heliograph.domain.ladder import Command, Issue, IssueStarted, Rung
from heliograph.ports.changes import ChangeSet
from heliograph.ports.channel import Uncertain
from heliograph_protocol.messages import CheckIn, Orders, Report, ReportedRung
from tests.app.conftest import Desk
from tests.app.test_absence import look

AT = "2026-01-01T00:00:00Z"
ONE, OTHER = "1" * 32, "2" * 32
FEW = 4


@pytest.fixture(autouse=True)
def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are read at once, that a crowd need not be large."""
    for module, name in ((agent_line, "_MAX_LIVE"), (look_up, "_MAX_OPEN"), (strays, "_MAX_LIVE")):
        monkeypatch.setattr(module, name, FEW)


async def say(desk: Desk, message: CheckIn, journal: str = ONE) -> Orders:
    return await check_in(desk.services, desk.aosp, "mdmAgent", message, journal)


async def claim(desk: Desk, journal: str = ONE) -> list[str]:
    return [c.id for c in (await say(desk, CheckIn(seq=1, claim=64), journal)).commands]


async def tell(desk: Desk, ids: list[str], rung: str, journal: str = ONE) -> None:
    reports = [Report(command_id=i, rung=rung, at=AT, retry_after_seconds=6 * 3600.0) for i in ids]  # type: ignore[arg-type]
    await say(desk, CheckIn(seq=2, reports=reports), journal)


async def crowd(desk: Desk, rung: str | None, journal: str = ONE) -> list[str]:
    """Commands that the device has claimed, and what it said of them."""
    commands = await asyncio.gather(*(desk.command({"command": "REBOOT", "duration": 90_000}) for _ in range(FEW)))
    ids = [command.id for command in commands]
    assert set(await claim(desk, journal)) == set(ids)
    if rung is not None:
        await tell(desk, ids, rung, journal)
    return ids


async def told_unasked(desk: Desk) -> list[Orders]:
    told = [orders async for orders in new_offers(desk.services, desk.aosp, "mdmAgent", {"all"}, ONE)]
    return [*told, await open_offers(desk.services, desk.aosp, "mdmAgent", ONE)]


@pytest.mark.parametrize(
    ("rung", "journal"),
    [("deferred", ONE), ("acknowledged", ONE), ("running", ONE), (None, OTHER), ("deferred", OTHER)],
)
async def test_an_agent_is_given_what_it_can_run(desk: Desk, rung: str | None, journal: str) -> None:
    """A car that drives says "not now" to everything for six hours; or another journal was given the others."""
    await crowd(desk, rung, journal)
    lock = await desk.command({"command": "LOCK"})
    assert [orders.waiting for orders in await told_unasked(desk)] == [True, True]
    assert await claim(desk) == [lock.id]


async def test_an_agent_is_given_what_it_can_run_behind_what_was_never_claimed_in_time(desk: Desk) -> None:
    """Nobody has swept yet."""
    await asyncio.gather(*(desk.command({"command": "REBOOT", "duration": 60}) for _ in range(FEW)))
    desk.clock.advance(61)
    lock = await desk.command({"command": "LOCK"})
    assert await claim(desk) == [lock.id]


async def test_an_agent_is_asked_to_let_go_of_what_it_holds(desk: Desk) -> None:
    await crowd(desk, "deferred")
    lock = await desk.command({"command": "LOCK"})
    assert await claim(desk) == [lock.id]
    await tell(desk, [lock.id], "acknowledged")
    await cancel_command(desk.services, desk.work, lock.id, desk.aosp.id, "key:x", "over")
    assert [orders.cancels for orders in await told_unasked(desk)] == [[lock.id], [lock.id]]
    assert (await say(desk, CheckIn(seq=3, claim=8))).cancels == [lock.id]


async def test_whatever_an_agent_reports_of_counts(desk: Desk) -> None:
    """Also when it is not among the first, and twice in one message."""
    ids = await crowd(desk, "acknowledged")
    ids += await crowd(desk, "acknowledged")
    rungs: tuple[ReportedRung, ...] = ("running", "succeeded")
    reports = [Report(command_id=i, rung=rung, at=AT) for i in ids for rung in rungs]
    await say(desk, CheckIn(seq=3, claim=8, reports=reports))
    assert [c for c in [await desk.work.commands.find(i) for i in ids] if c and c.rung is not Rung.SUCCEEDED] == []


async def waiting_at_google(desk: Desk) -> Command:
    """LOCKs wait behind one whose attempt cannot be told from somebody else's two; a newer REBOOT is at Google."""
    desk.google.answers = [Uncertain("timeout")]
    await desk.command({"type": "LOCK", "duration": "864000s"})
    await desk.pay("issue", times=1)
    for _ in range(2):
        desk.google.accept("LOCK")
    await asyncio.gather(*(desk.command({"type": "LOCK", "duration": "864000s"}) for _ in range(FEW)))
    reboot = await desk.command({"type": "REBOOT", "duration": "864000s"})
    await desk.pay()
    assert (await desk.now(reboot)).issue is Issue.BOUND
    return await desk.now(reboot)


async def test_what_is_at_google_is_looked_at_behind_what_waits(desk: Desk) -> None:
    reboot = await waiting_at_google(desk)
    desk.google.finish(reboot.receipt or "")
    for _ in range(5):
        await look(desk, 60)
    assert (await desk.now(reboot)).rung is Rung.SUCCEEDED


async def test_a_device_that_is_gone_is_looked_at_for_what_is_at_google(desk: Desk) -> None:
    await waiting_at_google(desk)
    await look(desk, 300)
    await look(desk, 1)
    await look_at_once(desk.services, desk.work, desk.android)
    desk.clock.advance(1)
    assert "look_up" in await desk.pay("look_up", times=1)


async def test_an_attempt_under_way_is_seen_behind_what_waits(desk: Desk) -> None:
    """Its operation is not bound yet, and must not be taken for a stray one."""
    await asyncio.gather(*(desk.command({"type": "LOCK"}) for _ in range(FEW)))
    command = await desk.command({"type": "LOCK"})
    changes = ChangeSet(desk.organization.id)
    changes.move(await desk.now(command), IssueStarted(source="amapi"), desk.clock.now())
    await desk.work.commit(changes)
    assert await strays._is_being_issued(desk.work, command)
