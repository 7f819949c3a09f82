"""Who waits when Google refuses a look-up, for how long, and who finds out that it is over."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from heliograph.app.look_pauses import LookPauses
from heliograph.app.quota import Quota
from heliograph.app.reconcile import reconcile_once
from heliograph.app.services import SECOND
from heliograph.app.setup import add_device
from heliograph.domain.devices import Device, Enterprise
from heliograph.ports.changes import BACKGROUND, NORMAL
from heliograph.ports.channel import Toll, Unreachable
from tests.app.conftest import Desk, Google

PARTIES = (("project", "p"), ("enterprise", "e"))
PROJECT = PARTIES[0]
STEP = SECOND // 2


def refuse(pauses: LookPauses, asked: float, now: float) -> None:
    pauses.refused(PROJECT, int(asked * SECOND), int(now * SECOND), lambda refusals: 10.0 * refusals)


def place(pauses: LookPauses, now: float, priority: int = NORMAL) -> float | None:
    found = pauses.place(PARTIES, priority, STEP, int(now * SECOND))
    return None if found is None else found / SECOND


def test_all_wait_in_line_behind_the_end_of_the_pause_each_priority_in_its_own() -> None:
    pauses = LookPauses()
    assert place(pauses, 0) is None
    refuse(pauses, 0, 1)
    assert [place(pauses, 2), place(pauses, 3), place(pauses, 4)] == [11.5, 12, 12.5]
    assert [place(pauses, 5, BACKGROUND), place(pauses, 6)] == [11.5, 13]


def test_one_finds_out_while_the_others_wait_for_its_answer() -> None:
    pauses = LookPauses()
    refuse(pauses, 0, 1)
    assert place(pauses, 11) is None
    assert place(pauses, 11.1) == 13.5
    pauses.taken(PARTIES, 11 * SECOND)
    assert place(pauses, 11.2) is None
    assert place(pauses, 11.3) is None


def test_another_one_finds_out_where_the_first_got_no_answer() -> None:
    pauses = LookPauses()
    refuse(pauses, 0, 1)
    assert [place(pauses, 11), place(pauses, 13), place(pauses, 13)] == [None, None, 15.5]


def test_an_answer_that_tells_nothing_lets_the_next_one_find_out() -> None:
    pauses = LookPauses()
    refuse(pauses, 0, 1)
    pauses.untold(PARTIES, 2 * SECOND)
    assert place(pauses, 2) == 11.5, "nobody was finding out"
    assert place(pauses, 12) is None
    pauses.untold(PARTIES, int(12.1 * SECOND))
    assert [place(pauses, 12.2), place(pauses, 12.2)] == [None, 14.7]


def test_the_pause_grows_with_each_refusal_that_was_asked_for_after_the_one_before() -> None:
    pauses = LookPauses()
    for late in range(50):  # on their way when the first was refused
        refuse(pauses, 0, 1 + late / 100)
    assert pauses.end(PARTIES, 2 * SECOND) == 11 * SECOND
    refuse(pauses, 11, 12)
    assert pauses.end(PARTIES, 12 * SECOND) == 32 * SECOND


def test_what_was_asked_before_a_refusal_does_not_end_the_pause() -> None:
    pauses = LookPauses()
    refuse(pauses, 0, 1)
    pauses.taken(PARTIES, SECOND // 2)
    assert pauses.end(PARTIES, 2 * SECOND) is not None


@pytest.mark.parametrize(("status", "asked"), [(429, 1), (403, 2), (401, 2)])
async def test_429_is_about_the_project_and_the_others_about_an_enterprise(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, status: int, asked: int
) -> None:
    other = Enterprise(desk.services.new_id(), desk.organization.id, "android", "enterprises/LC0two", desk.clock.now())
    await desk.work.setup.add_enterprise(other)
    description = {"platform": "android", "externalName": f"{other.name}/devices/d1"}
    second, _ = await add_device(desk.services, desk.organization, description)
    for known in (desk.android, second):
        await desk.command({"type": "LOCK", "duration": "86400s"}, known)
    await desk.pay()
    refused: list[str] = []

    async def refuse_all(_: Google, device: Device, toll: Toll | None = None) -> Unreachable:
        refused.append(str(device.external_name))
        return Unreachable("no", status=status)

    monkeypatch.setattr(Google, "operations", refuse_all)
    desk.clock.advance(1)
    assert await desk.pay() == ["look_up", "look_up"]
    assert len(refused) == asked


async def test_no_token_of_our_own_is_no_refusal_of_googles(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = Quota(desk.services.store.system, desk.clock, 60)
    await desk.command({"type": "LOCK", "duration": "86400s"})
    await desk.pay("issue", times=1)

    async def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(quota, "take", never)
    desk.services = replace(desk.services, quota=quota)
    desk.clock.advance(1)
    assert await desk.pay(times=1) == ["look_up"]
    assert not desk.services.look_pauses


@pytest.mark.parametrize("untold", [Unreachable("no answer in time"), Unreachable("Google answered 503", status=503)])
async def test_a_look_without_an_answer_does_not_hold_up_the_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, untold: Unreachable
) -> None:
    refusal = Unreachable("no", status=429)
    command = await desk.command({"type": "LOCK", "duration": "86400s"})
    await desk.pay()
    answers = [refusal, untold]
    monkeypatch.setattr(Google, "operations", lambda *_: asyncio.sleep(0, answers.pop(0)))
    for _ in range(2):
        desk.clock.advance(30)
        assert await desk.pay(times=1) == ["look_up"]
    assert answers == []
    assert desk.services.look_pauses
    parties = (("project", desk.google.project), ("enterprise", str(command.enterprise_id)))
    assert desk.services.look_pauses.end(parties, desk.clock.elapsed()) is None


async def test_a_round_stays_due_while_look_ups_are_refused(desk: Desk) -> None:
    await reconcile_once(desk.services)
    desk.clock.advance(desk.services.limits.reconcile_every_s + 1)
    desk.services.look_pauses.refused(("project", "p"), 0, desk.clock.elapsed(), lambda _: 30.0)
    desk.google.listed = [{"name": desk.android.external_name, "state": "ACTIVE"}]
    await reconcile_once(desk.services)
    assert desk.google.pages_asked == 0
    desk.clock.advance(31)
    await reconcile_once(desk.services)
    assert desk.google.pages_asked == 1
    assert not desk.services.look_pauses


@pytest.mark.parametrize("status", [401, 403, 429])
async def test_a_round_that_google_refuses_lets_look_ups_wait(desk: Desk, status: int) -> None:
    await reconcile_once(desk.services)
    await desk.command({"type": "LOCK", "duration": "86400s"})
    await desk.pay("issue", times=1)
    desk.clock.advance(desk.services.limits.reconcile_every_s + 1)
    desk.google.page_answers = [Unreachable("no", 20, status)]
    await reconcile_once(desk.services)
    desk.google.finish(next(iter(desk.google.operations_now)))
    await desk.pay()
    assert desk.services.look_pauses
    desk.clock.advance(21)
    await desk.pay()
    assert not desk.services.look_pauses
