"""The quota of a Google project: shared, kept, used to the full, and first for who is urgent."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heliograph.app.callers import Caller
from heliograph.app.google_channel import MeteredChannel
from heliograph.app.quota import Pace, Quota
from heliograph.app.setup import create_organization
from heliograph.app.verbs import VERBS, call_verb
from heliograph.domain.devices import Principal
from heliograph.domain.errors import InvalidInput
from heliograph.domain.ladder import Issue, Rung
from heliograph.ports.changes import BACKGROUND, NORMAL, URGENT, OutboxItem
from heliograph.ports.channel import NotTaken, Unreachable
from heliograph.ports.system import TokenOrder
from tests.app.at_google import open_office
from tests.app.conftest import Desk

MICRO = 1_000_000


async def test_no_minute_has_more_than_the_quota(desk: Desk) -> None:
    quota = Quota(desk.services.store.system, desk.clock, 600)
    granted = 0
    for _ in range(60):
        order = quota._order("p", BACKGROUND, 1000)
        granted += await desk.services.store.system.take_tokens(order, desk.clock.now())
        order = quota._order("p", URGENT, 1000)
        granted += await desk.services.store.system.take_tokens(order, desk.clock.now())
        desk.clock.advance(1)
    assert 570 <= granted <= 600


async def test_the_most_urgent_waiter_goes_first(desk: Desk) -> None:
    quota = Quota(desk.services.store.system, desk.clock, 60_000)
    line: list[str] = []

    async def wait(name: str, priority: int) -> None:
        assert await quota.take("p", priority)
        line.append(name)

    slow = [asyncio.create_task(wait("slow", BACKGROUND)) for _ in range(3)]
    await asyncio.gather(*slow, wait("urgent", URGENT), wait("normal", NORMAL))
    assert line[:2] == ["urgent", "normal"]


async def test_where_the_rate_is_high_tokens_are_fetched_ahead(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    system, orders = desk.services.store.system, list[TokenOrder]()
    take_tokens = system.take_tokens

    async def noting(order: TokenOrder, now: int) -> int:
        orders.append(order)
        return await take_tokens(order, now)

    monkeypatch.setattr(system, "take_tokens", noting)
    fast, slow = Quota(system, desk.clock, 600_000), Quota(system, desk.clock, 1000)
    for _ in range(100):
        assert await fast.take("fast", NORMAL)
    assert await fast.take("fast", URGENT)
    assert [order.wanted for order in orders] == [500]
    assert await fast.take("fast", BACKGROUND)  # which must leave more in the bucket
    assert [order.wanted for order in orders] == [500, 500]
    for _ in range(3):
        assert await slow.take("slow", NORMAL)
    assert [order.wanted for order in orders[2:]] == [1, 1, 1]


async def test_who_waits_too_long_is_told(desk: Desk) -> None:
    quota = Quota(desk.services.store.system, desk.clock, 1)
    await desk.services.store.system.take_tokens(quota._order("p", URGENT, 100), desk.clock.now())
    assert not await quota.take("p", URGENT, patience_s=0.05)
    assert await Quota(desk.services.store.system, desk.clock, 0).take("p", BACKGROUND)


async def test_a_command_without_quota_waits_and_nothing_is_begun(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = Quota(desk.services.store.system, desk.clock, 60)
    monkeypatch.setattr(quota, "take", _never)
    desk.services = replace(desk.services, quota=quota)
    command = await desk.command({"type": "LOCK"})
    assert await desk.pay(times=1) == ["issue"]
    waiting = await desk.now(command)
    assert (waiting.rung, waiting.issue, waiting.entries) == (Rung.QUEUED, Issue.IDLE, 1)
    assert desk.google.issued == []
    monkeypatch.undo()
    later = await desk.command({"type": "REBOOT"})
    await desk.pay("issue", times=1)
    assert [(await desk.now(c)).rung for c in (command, later)] == [Rung.ISSUED, Rung.QUEUED]  # it kept its place


async def _never(*_: object) -> bool:
    return False


def test_who_sends_many_at_a_time_is_told_from_the_others() -> None:
    pace, second = Pace(per_minute=60, at_once=3), MICRO
    assert [pace.is_bulk("key:a", n) for n in range(5)] == [False, False, False, True, True]
    assert not pace.is_bulk("key:b", 5)
    assert not pace.is_bulk("key:a", 2 * second)  # one more for each second that went by
    assert not pace.is_bulk("key:a", 3 * second)
    assert not pace.is_bulk("key:a", 3 * second)
    assert pace.is_bulk("key:a", 3 * second)


async def test_the_commands_of_a_bulk_wait_behind_those_of_others(desk: Desk) -> None:
    desk.services = replace(desk.services, pace=Pace(at_once=2))
    bulk = [await desk.command({"type": "LOCK"}) for _ in range(4)]
    items = {item.subject_id: item.priority for item in await _claimed(desk)}
    # One attempt per device and type at a time: only the first of the lane is claimed.
    assert items == {bulk[0].id: NORMAL}
    danger = await desk.command({"type": "REBOOT"})
    assert {item.subject_id: item.priority for item in await _claimed(desk)} == {danger.id: BACKGROUND}


async def _claimed(desk: Desk) -> list[OutboxItem]:
    now = desk.clock.now()
    return list(await desk.services.store.system.claim(now, now + 15 * MICRO, 100))


# ------------------------------------------------------------ keys that nobody has proved


async def test_a_key_that_google_refuses_takes_nothing_of_the_project_that_it_names(tmp_path: Path) -> None:
    """All of the file is what its bringer writes, the account's address as well; the signature is not the account's."""
    async with open_office(tmp_path, per_minute=10) as office:
        refusing = f"{office.lab.urls['amapiUrl']}/no-such-token-endpoint"
        s = replace(office.services, limits=replace(office.services.limits, addresses=frozenset({refusing})))
        assert s.quota is not None
        other = await create_organization(s, "other")
        caller = Caller(other, Principal("0" * 24, other, frozenset({"*"})))
        forged = office.key_file("p", token_uri=refusing)
        await call_verb(s, VERBS["enterprise.add"], caller, {"name": "enterprises/LCother", "credentials": forged})
        assert await s.quota.take_now("p", URGENT)  # one of the four that are there
        for _ in range(3):
            with pytest.raises(InvalidInput, match="no enrollment token"):
                await call_verb(s, VERBS["enrollmentToken.create"], caller, {})
        assert await s.quota.take_now("p", URGENT), "nothing is left for a cancel of the project's owner"


async def test_a_key_file_that_names_another_project_than_its_account_is_refused_at_the_door(tmp_path: Path) -> None:
    async with open_office(tmp_path, per_minute=10) as office:
        key = office.key_file("p", client_email="me@mine.iam.gserviceaccount.com")
        for verb in ("enterprise.add", "enterprise.connect"):
            with pytest.raises(InvalidInput, match="project_id: is not the project of client_email") as refusal:
                await office.verb(verb, name="enterprises/LC1", credentials=key)
            assert [field.path for field in refusal.value.fields] == ["credentials"]


async def test_commands_and_look_ups_with_a_refused_key_take_nothing_either(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota, refused = Quota(desk.services.store.system, desk.clock, 60), Unreachable("the key is refused", 7.0)
    taken: list[str] = []

    async def take(project: str, *_: object) -> bool:
        taken.append(project)
        return True

    async def authorise() -> Unreachable:
        return refused

    monkeypatch.setattr(quota, "take", take)
    monkeypatch.setattr(desk.google, "authorise", authorise)
    channel = MeteredChannel(desk.google, "e", quota, URGENT)
    answers: list[Any] = [await channel.operation("o"), await channel.cancel("o"), await channel.device("d")]
    answers += [await channel.device_page("e", ""), await channel.operations(desk.android)]
    assert answers == [refused] * 5
    assert [channel.refused(answer) for answer in answers] == [None] * 5  # so nobody else's look-ups wait for it
    command = await desk.command({"type": "LOCK"})
    assert await channel.prepare()
    assert await channel.issue(desk.android, command, {}, 5) == NotTaken(refused.reason, refused.after_s)
    assert (taken, desk.google.asked, desk.google.issued) == ([], [], [])
    desk.services = replace(desk.services, quota=quota)
    assert await desk.pay(times=1) == ["issue"]
    assert await desk.pay(times=1) == []  # it is not due again at once
    assert (await desk.now(command)).issue is Issue.IDLE
    monkeypatch.undo()
    desk.clock.advance(60)
    await desk.pay("issue", times=1)
    assert (await desk.now(command)).rung is Rung.ISSUED
