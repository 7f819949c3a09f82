"""Pulling the notifications of enterprises: how much at a time, for how long, and from where."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from heliograph.app.listening import ENTERPRISES_TOPIC, listen_forever, take_batch
from heliograph.app.notifications import Verdict
from heliograph.app.setup import add_enterprise
from heliograph.domain.devices import Enterprise
from heliograph.domain.errors import StoreUnavailable
from heliograph.ports.channel import Gone, Notification, Received, TooMuch, Unreachable
from tests.app.conftest import Desk
from tests.app.telling import ENTERPRISE_NAME, Mailbox, enterprise_of


@asynccontextmanager
async def listening(desk: Desk) -> AsyncIterator[None]:
    """Somebody pulls the notifications of the enterprise, which has a subscription now."""
    how = {"subscription": "projects/p/subscriptions/s", "credentials": b"{}"}
    await add_enterprise(desk.services, desk.organization, ENTERPRISE_NAME, how)
    task = asyncio.create_task(listen_forever(desk.services))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_one_message_s_fault_does_not_stop_the_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def take(_: Any, __: Any, notification: Notification) -> Verdict:
        faults: dict[str, Exception] = {"breaks": RuntimeError("x"), "no store": StoreUnavailable()}
        if notification.id in faults:
            raise faults[notification.id]
        return Verdict[notification.id]

    monkeypatch.setattr("heliograph.app.listening.take_notification", take)
    names = ("TAKEN", "breaks", "IGNORED", "no store", "LATER")
    batch = [Received(f"ack {name}", Notification(name, "TEST")) for name in names]
    mailbox = Mailbox()
    await take_batch(desk.services, await enterprise_of(desk), mailbox, batch)
    assert mailbox.acknowledged == ["ack TAKEN", "ack IGNORED"]
    assert mailbox.later == ["ack breaks", "ack no store", "ack LATER"]


async def test_what_is_too_much_at_a_time_is_pulled_in_smaller_parts(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    pulled = asyncio.Event()

    class Full(Mailbox):
        async def pull(self, limit: int) -> list[Received] | TooMuch | Gone | Unreachable:
            asked.append(limit)
            if len(asked) == 7:
                pulled.set()
                await asyncio.Event().wait()
            return TooMuch() if limit > 2 else []

    async def subscription(_: Enterprise) -> Full:
        return Full()

    async def sleep(_: float) -> None:
        pass

    monkeypatch.setattr(desk.services.channels, "subscription", subscription)
    monkeypatch.setattr("heliograph.app.listening.asyncio.sleep", sleep)
    async with listening(desk), asyncio.timeout(30):
        await pulled.wait()
    assert asked == [100, 25, 6, 1, 2, 3, 1]


async def test_who_listens_follows_the_enterprise_to_another_address(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the former one, each pull would replace the channel that the commands go by."""
    addresses: asyncio.Queue[str | None] = asyncio.Queue()

    class Waiting(Mailbox):
        async def pull(self, limit: int) -> list[Received] | TooMuch | Gone | Unreachable:
            await asyncio.Event().wait()
            return []

    async def subscription(enterprise: Enterprise) -> Waiting:
        addresses.put_nowait(enterprise.api_url)
        return Waiting()

    monkeypatch.setattr(desk.services.channels, "subscription", subscription)
    async with listening(desk), asyncio.timeout(10):
        assert await addresses.get() is None
        await add_enterprise(desk.services, desk.organization, ENTERPRISE_NAME, {"api_url": "https://two.example"})
        desk.services.wakeups.notify([ENTERPRISES_TOPIC])
        assert await addresses.get() == "https://two.example"


async def test_one_wrong_answer_ends_the_pulls_for_no_day(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands before Google may say that it is away until tomorrow."""
    answers: list[Unreachable] = [Unreachable("Google answered 503", 86_400.0), Unreachable("down", 20.0)]
    pauses: list[float] = []
    pulled = asyncio.Event()

    class Away(Mailbox):
        async def pull(self, limit: int) -> list[Received] | TooMuch | Gone | Unreachable:
            if not answers:
                pulled.set()
                await asyncio.Event().wait()
            return answers.pop(0)

    async def subscription(_: Enterprise) -> Away:
        return Away()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(desk.services.channels, "subscription", subscription)
    monkeypatch.setattr("heliograph.app.listening.asyncio.sleep", sleep)
    async with listening(desk), asyncio.timeout(30):
        await pulled.wait()
    assert pauses == [desk.services.limits.retry_after_cap_s, 20.0]


async def test_who_says_at_once_that_nothing_came_is_not_asked_without_a_pause(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits_s, pulls, pauses = [0.0, 90.0, 0.0], 0, []
    pulled = asyncio.Event()

    class Empty(Mailbox):
        async def pull(self, limit: int) -> list[Received] | TooMuch | Gone | Unreachable:
            nonlocal pulls
            if pulls == len(waits_s):
                pulled.set()
                await asyncio.Event().wait()
            desk.clock.advance(waits_s[pulls])
            pulls += 1
            return []

    async def subscription(_: Enterprise) -> Empty:
        return Empty()

    async def sleep(seconds: float) -> None:
        pauses.append((pulls, seconds))

    monkeypatch.setattr(desk.services.channels, "subscription", subscription)
    monkeypatch.setattr("heliograph.app.listening.asyncio.sleep", sleep)
    async with listening(desk), asyncio.timeout(30):
        await pulled.wait()
    assert pauses == [(1, 1.0), (3, 1.0)]
