"""The room that an organization's answers have until they are taken."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from heliograph.http import room
from heliograph.http.operations import Call
from heliograph.http.problems import Problem
from heliograph.http.room import NoRoom, Place, Room, Rooms


async def waiting(room_: Room, bytes_: int) -> asyncio.Task[Place]:
    """Somebody who has to wait."""
    task = asyncio.create_task(room_.take(bytes_))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_room_is_given_out_in_order_and_never_twice() -> None:
    room_ = Room(10)
    first = await room_.take(8)
    large = await waiting(room_, 5)
    small = await waiting(room_, 1)  # there is room for it, but others asked before
    first.shrink(6)
    first.shrink(9)
    await asyncio.sleep(0)
    assert not large.done()
    first.leave()
    first.leave()
    (await large).leave()
    (await small).leave()
    assert room_.is_empty
    (await room_.take(10)).leave()


async def test_what_is_larger_than_the_room_has_all_of_it() -> None:
    room_ = Room(10)
    place = await room_.take(11)
    other = await waiting(room_, 1)
    place.leave()
    (await other).leave()
    assert room_.is_empty


async def test_who_gives_up_holds_up_nobody() -> None:
    room_ = Room(10)
    place = await room_.take(6)
    gone = await waiting(room_, 9)
    next_ = await waiting(room_, 4)
    gone.cancel()
    (await next_).leave()
    place.leave()
    assert room_.is_empty
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_who_gives_up_at_the_moment_of_its_turn_gives_it_back() -> None:
    room_ = Room(10)
    place = await room_.take(10)
    gone = await waiting(room_, 10)
    place.leave()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert room_.is_empty


async def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PATIENCE_S", 0.01)
    rooms = Rooms(10)
    kept = await rooms.take("one", 10)
    with pytest.raises(NoRoom):
        await rooms.take("one", 1)
    api, organization = SimpleNamespace(rooms=rooms), SimpleNamespace(id="one")
    call: Any = SimpleNamespace(api=api, organization=organization, place=None)
    with pytest.raises(Problem) as refused:
        await Call.take_room(call, 1)
    assert (refused.value.status, refused.value.code) == (503, 1003)
    kept.leave()
    await Call.take_room(call, 1)
    await Call.take_room(call, 10)  # instead of the one before


async def test_organizations_do_not_wait_for_each_other() -> None:
    rooms = Rooms(10)
    one = await rooms.take("one", 10)
    two = await rooms.take("two", 10)
    one.leave()
    (await rooms.take("one", 10)).leave()
    two.leave()
