"""Turns: bounded, first come first served, alone on a connection that is not proved, and none is ever lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from heliograph.ports.transport import Cause, NotProcessed
from heliograph.providers.transport.streams import Admission, Streams, Turn

CLOSED = NotProcessed(Cause.CLOSED)


async def enter(streams: Streams) -> Turn:
    turn = await streams.enter()
    assert isinstance(turn, Turn)
    return turn


async def queue(streams: Streams, count: int) -> list[asyncio.Task[Admission]]:
    tasks = [asyncio.create_task(streams.enter()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def admitted(tasks: list[asyncio.Task[Admission]]) -> list[int]:
    return [number for number, task in enumerate(tasks) if task.done()]


async def test_one_goes_first_and_the_others_follow_once_it_was_answered() -> None:
    streams = Streams(3)
    probe = await enter(streams)
    waiting = await queue(streams, 4)
    assert (probe.probe, admitted(waiting)) == (True, [])
    streams.prove(probe)
    streams.leave(probe)
    await asyncio.sleep(0)
    assert admitted(waiting) == [0, 1, 2]
    second = waiting[1].result()
    assert second == Turn(probe=False)
    streams.leave(second)
    await asyncio.sleep(0)
    assert admitted(waiting) == [0, 1, 2, 3]


async def test_a_probe_that_proves_nothing_is_followed_by_another() -> None:
    streams = Streams(3)
    probe = await enter(streams)
    waiting = await queue(streams, 2)
    streams.leave(probe)
    await asyncio.sleep(0)
    assert admitted(waiting) == [0]
    assert waiting[0].result() == Turn(probe=True)
    waiting[1].cancel()


async def test_a_doubt_lets_one_go_beside_those_of_the_old_connection() -> None:
    streams = Streams(3)
    probe = await enter(streams)
    streams.prove(probe)
    streams.leave(probe)
    old = await enter(streams)
    streams.doubt()
    waiting = await queue(streams, 2)
    assert admitted(waiting) == [0]
    streams.prove(old)
    streams.leave(old)  # an answer over the old connection lets nobody follow
    await asyncio.sleep(0)
    assert admitted(waiting) == [0]
    waiting[1].cancel()


async def test_those_who_wait_can_be_turned_away() -> None:
    streams = Streams(1)
    probe = await enter(streams)
    waiting = await queue(streams, 2)
    streams.turn_away(NotProcessed(Cause.NO_TRUST))
    assert await asyncio.gather(*waiting) == [NotProcessed(Cause.NO_TRUST)] * 2
    later = await queue(streams, 1)
    streams.close()
    assert await later[0] == CLOSED
    streams.leave(probe)
    assert await streams.enter() == CLOSED
    assert streams.take() is None


async def test_whose_time_is_over_gets_no_turn_and_the_others_keep_their_places() -> None:
    streams, loop = Streams(1), asyncio.get_running_loop()
    probe = await enter(streams)
    untils = (loop.time() + 3600, None, loop.time(), loop.time() + 3600, loop.time())
    waiting = [asyncio.create_task(streams.enter(until)) for until in untils]
    late = NotProcessed(Cause.NO_TURN)
    assert (await waiting[2], await waiting[4]) == (late, late)
    for number in (0, 1, 3):
        streams.leave(probe)
        await asyncio.sleep(0)
        assert [n for n in (0, 1, 3) if waiting[n].done()] == [n for n in (0, 1, 3) if n <= number]
    assert streams.take() is None
    streams.leave(probe)
    assert streams.take() == Turn(probe=True)


async def test_one_that_gets_its_turn_as_the_end_comes_does_not_use_it() -> None:
    streams = Streams(1)
    probe = await enter(streams)
    waiting = await queue(streams, 1)
    streams.leave(probe)
    streams.close()
    assert await waiting[0] == CLOSED


@pytest.mark.parametrize("seed", range(20))
async def test_no_turn_is_lost_whoever_is_cancelled_and_when(seed: int) -> None:
    chance = random.Random(seed)
    streams, running, most = Streams(4), 0, 0

    async def work() -> None:
        nonlocal running, most
        turn = await enter(streams)
        running += 1
        most = max(most, running)
        try:
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            if chance.random() < 0.8:
                streams.prove(turn)
            elif chance.random() < 0.5:
                streams.doubt()
        finally:
            running -= 1
            streams.leave(turn)

    tasks = [asyncio.create_task(work()) for _ in range(200)]
    while pending := [task for task in tasks if not task.done()]:
        if chance.random() < 0.5:
            chance.choice(pending).cancel()
        await asyncio.sleep(0)
    assert 1 <= most <= 4
    probe = await enter(streams)
    streams.prove(probe)
    streams.leave(probe)
    assert len([await enter(streams) for _ in range(4)]) == 4
    assert streams.take() is None
