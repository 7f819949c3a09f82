"""Names that take long to be looked up hold threads, and leave some to others."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from heliograph.domain.fields import Fields
from heliograph.guard import Guard
from heliograph.look_ups import LookUps
from heliograph.outbound import NoConnection, NotSent, Outbound
from heliograph.providers import webpush
from tests.providers.samples import tools
from tests.providers.test_webpush import BASE

SHARE = 2  # of 16 threads, while nobody else has one


class Resolver:
    """Answers at once, but for names that end in `.hangs.example`: for these `until` something happens."""

    def __init__(self) -> None:
        self.until = threading.Event()
        self.asked: Counter[str] = Counter()

    def getaddrinfo(self, host: str, *_: Any, **__: Any) -> Any:
        self.asked[host] += 1
        if host.endswith(".hangs.example"):
            self.until.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("1.1.1.1", 443))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    found = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", found.getaddrinfo)
    yield found
    found.until.set()


def begin(look_ups: LookUps, owner: str, count: int, name: str = "") -> list[asyncio.Task[list[str]]]:
    return [
        asyncio.create_task(look_ups.find(owner, f"{name or n}.{owner}.hangs.example", 443, within_s=30))
        for n in range(count)
    ]


async def well(look_ups: LookUps, owner: str) -> bool:
    return await look_ups.find(owner, f"{owner}.example", 443, within_s=30) == ["1.1.1.1"]


async def test_whoever_has_names_that_hang_leaves_threads_to_others(resolver: Resolver) -> None:
    look_ups = LookUps(16)
    hanging: list[asyncio.Task[list[str]]] = []
    for n in range(11):
        hanging += begin(look_ups, f"sick-{n}", 9)
        await asyncio.sleep(0)
        assert await well(look_ups, f"well-{n}")
    assert not any(task.done() for task in hanging)
    resolver.until.set()
    assert await asyncio.gather(*hanging) == [["1.1.1.1"]] * 99


async def test_a_thread_counts_until_it_is_free_also_where_nobody_waits_any_more(resolver: Resolver) -> None:
    look_ups = LookUps(16)
    hanging = begin(look_ups, "sick", 5)
    await asyncio.sleep(0)
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    with pytest.raises(NoConnection, match="too many look-ups of other names take too long"):
        await look_ups.find("sick", "sick.example", 443, within_s=0.05)
    assert await well(look_ups, "third")
    resolver.until.set()
    assert await well(look_ups, "sick")
    assert resolver.asked.total() == SHARE + 2  # what nobody waited for was not begun later


async def test_a_name_is_looked_up_once_at_a_time(resolver: Resolver) -> None:
    """So one device with such a name leaves its organization all threads but one."""
    look_ups = LookUps(16)
    hanging = begin(look_ups, "acme", 9, "same")
    await asyncio.sleep(0)
    hanging[0].cancel()
    with pytest.raises(NoConnection, match="the look-up of its name takes too long"):
        await look_ups.find("acme", "SAME.acme.hangs.example", 443, within_s=0.05)
    assert await well(look_ups, "acme")
    resolver.until.set()
    assert await asyncio.gather(*hanging[1:]) == [["1.1.1.1"]] * 8
    assert resolver.asked["same.acme.hangs.example"] == 1


async def test_a_fault_of_the_resolver_is_told_to_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise TimeoutError("the resolver's own")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    look_ups = LookUps(16)
    found = await asyncio.gather(*begin(look_ups, "acme", 3), return_exceptions=True)
    assert [str(fault) for fault in found] == ["the resolver's own"] * 3


async def test_a_push_is_told_why() -> None:
    async def late(host: str, port: int) -> list[str]:
        raise NoConnection("the look-up of its name takes too long")

    outbound = Outbound("", transport=Guard(resolve=late).transport())
    answer = await outbound.exchange("GET", "https://slow.example/", deadline_s=30)
    assert answer == NotSent("the look-up of its name takes too long")
    await outbound.close()


async def test_all_accounts_of_an_organization_have_one_share(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_ups = LookUps(16)
    guards: list[Guard] = []
    monkeypatch.setattr("heliograph.guard.look_ups", lambda: look_ups)
    monkeypatch.setattr(webpush, "WebPush", lambda vapid, guard, clock: guards.append(guard))
    for _ in range(SHARE + 1):
        webpush.PLUGIN.build(webpush.PLUGIN.read_config(Fields(BASE)), replace(tools(), organization_id="acme"))
    names = [*(f"{n}.hangs.example" for n in range(SHARE)), "quick.example"]
    asked = [asyncio.create_task(guard.addresses(name, 443)) for guard, name in zip(guards, names, strict=True)]
    await asyncio.sleep(0)
    assert await well(look_ups, "third")
    assert "quick.example" not in resolver.asked
    resolver.until.set()
    assert await asyncio.gather(*asked) == [["1.1.1.1"]] * 3
