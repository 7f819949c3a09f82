"""How much one page may hold, and who has to wait while a large one is made."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from heliograph.domain.errors import InvalidInput
from heliograph.http.operations import LARGE_PAGES, PAGES
from heliograph.http.pages import LARGE_BYTES, MAX_BYTES, page_of
from heliograph.http.wire import PageOf
from heliograph.ports.pages import PIECE, Page, PageQuery
from tests.support.client import data_of, fields_of
from tests.support.demo import Demo

COUNT = 300  # of commands as large as the API takes them: 18 MB


def test_a_page_that_is_too_large_is_refused_with_a_limit_that_fits(demo: Demo) -> None:
    api = demo.new_organization()
    device = api.new_device("aosp").device
    message = "x" * 60_000
    made = [api.create(device, {"command": "LOCK", "params": {"message": message}})["id"] for _ in range(COUNT)]
    refused = api.get(device.commands, limit=10_000)
    assert fields_of(refused) == ["limit"]
    [field] = refused.json()["error"]["data"]["fields"]
    fitting = re.match(r"must be at most (\d+) ", field["reason"])
    assert fitting is not None, field
    found: list[str] = []
    while len(found) < COUNT:
        answer = api.get(device.commands, limit=int(fitting[1]), page=len(found) // int(fitting[1]) + 1)
        assert len(answer.content) <= MAX_BYTES + 1024
        found += [item["id"] for item in data_of(answer)["items"]]
    assert found == made
    assert fields_of(api.get(device.commands, limit=int(fitting[1]) + 1)) == ["limit"]
    assert [item["id"] for item in data_of(api.get(device.commands))["items"]] == made[:25]


# ------------------------------------------------------------ the rule by itself


class Record:
    """One that is counted as long as anybody holds it."""

    def __init__(self, making: Making, id_: str) -> None:
        self.making, self.id = making, id_
        making.alive += 1
        making.most_alive = max(making.most_alive, making.alive)

    def __del__(self) -> None:
        self.making.alive -= 1


class Making:
    """Makes pages of `count` records of `size` bytes, and knows how many are under way that have become large."""

    def __init__(self, count: int, size: int) -> None:
        self.ids, self.size = [str(n) for n in range(count)], size
        self.api = SimpleNamespace(pages=asyncio.Semaphore(PAGES), large_pages=asyncio.Semaphore(LARGE_PAGES))
        self.pieces = self.most = self.alive = self.most_alive = 0
        self.large: set[object] = set()
        self.asked: list[int] = []

    async def one(self) -> PageOf[Any]:
        me, so_far = object(), 0

        async def find() -> Page[Record]:
            nonlocal so_far
            so_far = 0
            self.large.discard(me)
            return Page(self.ids, len(self.ids), read)

        async def read(ids: Sequence[str]) -> list[Record]:
            await asyncio.sleep(0)  # as a database that is asked over a network
            return [Record(self, id_) for id_ in ids]

        async def shown(records: list[Record]) -> list[str]:
            nonlocal so_far
            await asyncio.sleep(0)
            self.pieces += 1
            if so_far > LARGE_BYTES:
                self.large.add(me)
                self.most = max(self.most, len(self.large))
            so_far += len(records) * (self.size + 3)
            return [record.id.rjust(self.size) for record in records]

        async def take_room(bytes_: int) -> None:
            self.asked.append(bytes_)

        query = SimpleNamespace(page=PageQuery(limit=len(self.ids)))
        call: Any = SimpleNamespace(api=self.api, query=query, headers={}, take_room=take_room)
        try:
            return await page_of(call, find, shown)
        finally:
            self.large.discard(me)


async def test_two_large_pages_are_made_at_a_time() -> None:
    making = Making(300, 20_000)
    pages = await asyncio.gather(*(making.one() for _ in range(6)))
    assert making.most == LARGE_PAGES
    for page in pages:
        assert [item.strip() for item in msgspec.json.decode(msgspec.json.encode(page))["items"]] == making.ids


async def test_however_many_ask_few_records_are_in_memory() -> None:
    """Who waits for its turn has read nothing, also where a page turned out to be large."""
    making = Making(2 * PIECE, 30_000)
    pages = await asyncio.gather(*(making.one() for _ in range(60)))
    assert making.most_alive <= (PAGES + LARGE_PAGES) * 2 * PIECE
    assert making.asked.count(LARGE_BYTES) == making.asked.count(MAX_BYTES) == len(pages)


async def test_a_small_page_takes_little_room() -> None:
    making = Making(10, 1_000)
    await making.one()
    assert making.asked == [LARGE_BYTES]


async def test_who_is_refused_gives_up_the_place() -> None:
    making = Making(2_000, 20_000)
    for _ in range(LARGE_PAGES + 1):
        with pytest.raises(InvalidInput):
            await making.one()
    assert making.pieces < (LARGE_PAGES + 1) * len(making.ids) / PIECE / 2  # nor is what cannot fit made to the end


async def test_a_single_record_is_shown_however_large_it_is() -> None:
    page = await Making(1, MAX_BYTES + 1).one()
    assert len(msgspec.json.encode(page)) > MAX_BYTES


async def test_all_others_get_a_turn_between_the_pieces_of_a_page() -> None:
    making = Making(1_000, 1_000)
    turns: list[int] = []

    async def other() -> None:
        while True:
            turns.append(making.pieces)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await making.one()
    task.cancel()
    assert set(turns) >= set(range(1, len(making.ids) // PIECE))
