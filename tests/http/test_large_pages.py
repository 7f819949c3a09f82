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
from heliograph.http.operations import LARGE_PAGES
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


class Making:
    """Makes pages of `count` records of `size` bytes, and knows how many are under way that have become large."""

    def __init__(self, count: int, size: int) -> None:
        self.ids, self.size = [str(n) for n in range(count)], size
        self.api = SimpleNamespace(large_pages=asyncio.Semaphore(LARGE_PAGES))
        self.pieces = self.most = 0
        self.large: set[object] = set()

    async def one(self) -> PageOf[Any]:
        me, so_far = object(), 0

        async def read(ids: Sequence[str]) -> list[str]:
            return [id_.rjust(self.size) for id_ in ids]

        async def shown(records: list[str]) -> list[str]:
            nonlocal so_far
            self.pieces += 1
            if so_far > LARGE_BYTES:
                self.large.add(me)
                self.most = max(self.most, len(self.large))
            so_far += len(records) * (self.size + 3)
            return records

        query = SimpleNamespace(page=PageQuery(limit=len(self.ids)))
        call: Any = SimpleNamespace(api=self.api, query=query, headers={})
        try:
            return await page_of(call, Page(self.ids, len(self.ids), read), shown)
        finally:
            self.large.discard(me)


async def test_two_large_pages_are_made_at_a_time() -> None:
    making = Making(300, 20_000)
    pages = await asyncio.gather(*(making.one() for _ in range(6)))
    assert making.most == LARGE_PAGES
    for page in pages:
        assert [item.strip() for item in msgspec.json.decode(msgspec.json.encode(page))["items"]] == making.ids


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
