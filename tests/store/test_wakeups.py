"""Wake-ups: nothing that happens after the subscription is missed, in this process and in others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import asyncpg
import pytest

from heliograph.store import Hub, PostgresHub, open_hub
from heliograph.store.postgres_hub import _payloads
from tests.support.postgres import Postgres


async def test_a_notification_before_the_wait_is_not_missed() -> None:
    hub = Hub()
    with hub.subscribe("a") as waiter:
        hub.notify(["b", "a"])
        hub.notify(["a"])
        assert await waiter.wait(0)
        assert not await waiter.wait(0)
        assert not await waiter.wait(0.01)


async def test_a_waiter_is_woken() -> None:
    hub = Hub()
    with hub.subscribe("a") as first, hub.subscribe("a") as second, hub.subscribe("b") as other:
        waits = [asyncio.create_task(w.wait(5)) for w in (first, second)]
        quiet = asyncio.create_task(other.wait(0.05))
        await asyncio.sleep(0)
        hub.notify(["a"])
        assert await asyncio.gather(*waits) == [True, True]
        assert not await quiet


async def test_a_cancelled_wait_and_an_ended_subscription_leave_nothing() -> None:
    hub = Hub()
    with hub.subscribe("a") as waiter:
        task = asyncio.create_task(waiter.wait(5))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hub.notify(["a"])
        assert await waiter.wait(0)
    assert hub._waiting == {}
    hub.notify(["a"])
    assert not await waiter.wait(0)


async def test_ten_thousand_subscribers_cost_little() -> None:
    hub = Hub()
    waiters = [hub.subscribe(f"device:{n}") for n in range(10_000)]
    for waiter in waiters:
        waiter.__enter__()
    started = time.process_time()
    for n in range(10_000):
        hub.notify([f"device:{n}", "command:x", "outbox"])
    assert time.process_time() - started < 1
    assert await waiters[77].wait(0)
    hub.notify_all()
    assert all([await waiter.wait(0) for waiter in waiters])


def test_payloads_fit() -> None:
    topics = [f"device:{n:024d}" for n in range(1000)] + ["x" * 9000]
    payloads = list(_payloads("me", topics))
    assert all(len(p.encode()) <= 7500 for p in payloads)
    assert [t for p in payloads for t in p.split("\n")[1:]] == topics[:-1]
    assert len(payloads) < 10


@pytest.fixture
async def hubs(dsn: str) -> AsyncIterator[list[PostgresHub]]:
    hubs = [await PostgresHub.open(dsn) for _ in range(2)]
    for hub in hubs:
        await hub.listening()
    yield hubs
    for hub in hubs:
        await hub.close()


async def test_other_processes_hear_it_once(hubs: list[PostgresHub]) -> None:
    here, there = hubs
    with here.subscribe("a") as mine, there.subscribe("a") as theirs, there.subscribe("b") as other:
        here.notify({"a"})
        assert await mine.wait(0)
        assert await theirs.wait(5)
        assert not await mine.wait(0.2)  # its own echo is ignored
        assert not await other.wait(0)
        there.notify([f"t{n}" for n in range(2000)] + ["a"])
        assert await mine.wait(5)


async def test_what_was_said_last_is_heard(hubs: list[PostgresHub], dsn: str) -> None:
    """A command line that revokes a key ends at once after it."""
    brief = await PostgresHub.open(dsn)
    with hubs[1].subscribe("keys") as theirs:
        brief.notify(["keys"])
        await brief.close()
        assert await theirs.wait(5)


async def test_the_same_topic_again_while_the_first_is_on_its_way() -> None:
    """It stands for another change, which those who heard of the first may not have seen."""
    hub, slow = PostgresHub("postgresql://unused"), _SlowConnection()
    hub.notify(["a"])
    sender = asyncio.create_task(hub._send(cast(Any, slow)))
    await slow.began.wait()
    hub.notify(["a"])
    slow.goes_on.set()
    async with asyncio.timeout(5):
        await slow.sent_twice.wait()
    sender.cancel()
    assert [payloads[0].split("\n")[1:] for payloads in slow.sent] == [["a"], ["a"]]


class _SlowConnection:
    """Takes its time with the first statement."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self.began, self.goes_on, self.sent_twice = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def execute(self, _sql: str, _channel: str, payloads: list[str]) -> None:
        self.sent.append(payloads)
        self.began.set()
        if len(self.sent) == 2:
            self.sent_twice.set()
        await self.goes_on.wait()


async def test_listening_comes_back(hubs: list[PostgresHub], dsn: str) -> None:
    here, there = hubs
    with there.subscribe("a") as theirs:
        await cut_connections(dsn)
        await asyncio.sleep(0.1)
        here.notify(["lost on the way, or kept"])
        assert await theirs.wait(10)  # woken once when it listens again, because something may have been missed
        await asyncio.gather(here.listening(), there.listening())
        async with asyncio.timeout(10):
            while True:
                here.notify(["a"])
                if await theirs.wait(0.3):
                    break


async def cut_connections(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()


async def test_a_hub_without_its_database_still_serves_this_process(postgres: Postgres) -> None:
    hub = await open_hub(postgres.dsn("no_such_database"))
    with hub.subscribe("a") as waiter:
        hub.notify(["a"])
        assert await waiter.wait(0)
        for n in range(60_000):
            hub.notify([f"topic-{n}"])
        await asyncio.sleep(0.2)
    await hub.close()
    assert type(await open_hub("./var")) is Hub


async def test_a_watch_is_called_for_its_topic_and_not_when_everybody_is_woken() -> None:
    hub, calls = Hub(), []
    with hub.watch("a", lambda: calls.append(1)):
        hub.notify(["b"])
        hub.notify_all()
        assert calls == []
        hub.notify(["a"])
    hub.notify(["a"])
    assert calls == [1]


async def test_a_call_may_end_its_own_watch() -> None:
    hub = Hub()
    watch = hub.watch("a", lambda: watch.__exit__(None, None, None))
    with watch, hub.subscribe("a") as other:
        hub.notify(["a"])
        assert await other.wait(0)
