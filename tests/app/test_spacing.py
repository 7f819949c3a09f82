"""Google asks for a few minutes between two eSIMs on one device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heliograph.app.cancel_command import cancel_command
from heliograph.app.setup import add_device
from heliograph.domain.devices import Device
from heliograph.domain.ladder import Command, Issue, Rung
from heliograph.ports.channel import NotTaken
from tests.app.conftest import DEVICE_NAME, Desk

PAUSE_S = 180


async def add_esim(desk: Desk, code: str, device: Device | None = None) -> Command:
    body = {"type": "ADD_ESIM", "addEsimParams": {"activationCode": f"LPA:1$x${code}"}}
    command = await desk.command(body, device)
    await desk.pay()
    return command


async def is_issued(desk: Desk, command: Command) -> bool:
    return (await desk.now(command)).issue is Issue.BOUND


async def waits_for(desk: Desk, command: Command) -> list[Any]:
    return [e.evidence["waitsFor"] for e in await desk.history(command) if "waitsFor" in e.evidence]


async def later(desk: Desk, seconds: float) -> None:
    desk.clock.advance(seconds)
    await desk.pay()


async def finish(desk: Desk, command: Command, status: str, **outcome: Any) -> None:
    metadata = {"type": "ADD_ESIM", "esimStatus": {"status": status}}
    desk.google.finish(str((await desk.now(command)).receipt), metadata=metadata, **outcome)


async def test_the_next_one_waits_for_minutes_and_says_for_which(desk: Desk) -> None:
    first, second, third = [await add_esim(desk, code) for code in "ABC"]
    assert [name for name, _ in desk.google.issued] == [first.id]
    for _ in range(5):
        await later(desk, PAUSE_S / 6)
    found = await desk.now(second)
    assert (found.rung, found.issue) == (Rung.QUEUED, Issue.IDLE)
    assert await waits_for(desk, second) == [first.id]
    await later(desk, PAUSE_S / 6 + 1)
    assert await is_issued(desk, second)
    assert not await is_issued(desk, third)
    await later(desk, PAUSE_S + 1)
    assert await is_issued(desk, third)
    assert len(desk.google.issued) == 3


@pytest.mark.parametrize("status", ["SUCCESS", "INTERNAL_ERROR"])
async def test_one_that_a_device_ran_only_now_counts_from_now(desk: Desk, status: str) -> None:
    first = await add_esim(desk, "A")
    await later(desk, 3600)
    await finish(desk, first, status)
    await later(desk, 60)
    second = await add_esim(desk, "B")
    assert not await is_issued(desk, second)
    await later(desk, PAUSE_S - 10)
    assert not await is_issued(desk, second)
    await later(desk, 11)
    assert await is_issued(desk, second)


@pytest.mark.parametrize("status", ["IN_PROGRESS", "PENDING_USER_ACTION"])
async def test_one_that_a_device_was_at_when_its_time_ended_counts_from_then(desk: Desk, status: str) -> None:
    body = {"type": "ADD_ESIM", "addEsimParams": {"activationCode": "LPA:1$x$A"}, "duration": "600s"}
    first = await desk.command(body)
    await desk.pay()
    await finish(desk, first, status)
    await later(desk, 700)
    assert (await desk.now(first)).rung is Rung.EXPIRED_UNDELIVERED
    second = await add_esim(desk, "B")
    assert not await is_issued(desk, second)
    await later(desk, PAUSE_S + 1)
    assert await is_issued(desk, second)


async def test_one_that_never_ran_keeps_nobody_waiting(desk: Desk) -> None:
    first = await add_esim(desk, "A")
    await finish(desk, first, "STATUS_UNSPECIFIED", error={"code": 1})
    await later(desk, 60)
    assert (await desk.now(first)).rung is Rung.CANCELLED
    assert await is_issued(desk, await add_esim(desk, "B"))


async def test_nor_does_one_that_google_has_not_taken(desk: Desk) -> None:
    desk.google.answers = [NotTaken("quota", after_s=30.0)]
    first, second = await add_esim(desk, "A"), await add_esim(desk, "B")
    await cancel_command(desk.services, desk.work, first.id, desk.android.id, "key:test", "over")
    await desk.pay()
    assert await is_issued(desk, second)


async def test_one_that_waits_is_cancelled_with_proof(desk: Desk) -> None:
    await add_esim(desk, "A")
    second = await add_esim(desk, "B")
    after = await cancel_command(desk.services, desk.work, second.id, desk.android.id, "key:test", "over")
    assert after.rung is Rung.CANCELLED
    await later(desk, PAUSE_S + 1)
    assert len(desk.google.issued) == 1


async def test_only_esims_of_one_device_wait(desk: Desk) -> None:
    await add_esim(desk, "A")
    for body in ({"type": "LOCK"}, {"type": "REMOVE_ESIM", "removeEsimParams": {"iccId": "89"}}):
        command = await desk.command(body)
        await desk.pay()
        assert await is_issued(desk, command)
    other, _ = await add_device(
        desk.services, desk.organization, {"platform": "android", "externalName": f"{DEVICE_NAME}-2"}
    )
    assert await is_issued(desk, await add_esim(desk, "B", other))


async def test_many_later_commands_hide_nothing(desk: Desk) -> None:
    await add_esim(desk, "A")
    for _ in range(130):
        await desk.command({"type": "LOCK"})
    second = await add_esim(desk, "B")
    await desk.pay(times=300)
    assert not await is_issued(desk, second)
    assert len(await waits_for(desk, second)) == 1


async def test_an_operator_may_want_no_pause(desk: Desk) -> None:
    desk.services = replace(desk.services, limits=replace(desk.services.limits, esim_pause_s=0.0))
    assert [await is_issued(desk, await add_esim(desk, code)) for code in "AB"] == [True, True]
