"""How the places of a dispatcher are shared: by pool, by how long effects last, and in all."""

from __future__ import annotations

from collections import Counter

import pytest

from heliograph.app.places import Places
from heliograph.app.services import Limits
from heliograph.ports.changes import NORMAL

NONE: list[set[str]] = [set(), set(), set()]


def places(concurrency: int = 12, share: int = 4) -> Places:
    return Places(Limits(dispatch_concurrency=concurrency, pool_concurrency=share))


def shut(table: Places) -> list[set[str]]:
    return [set(pools) for pools in table.shut()]


def begin(table: Places, pool: str, count: int = 1, *, waiting: bool = False) -> None:
    for _ in range(count):
        table.begin(pool)
        if waiting:
            table.wait(pool)


@pytest.mark.parametrize(("under_way", "room"), [(0, 4), (3, 1), (4, 2), (5, 1), (6, 2), (7, 1), (8, 4)])
def test_no_more_is_claimed_than_the_fullest_pool_has_room_for(under_way: int, room: int) -> None:
    table = places(concurrency=128)
    begin(table, "a", under_way)
    begin(table, "", 50)
    assert table.room() == room


def test_a_full_pool_is_shut_for_what_can_wait_first() -> None:
    table = places()
    begin(table, "a", 4)
    assert shut(table) == [set(), set(), {"a"}]
    begin(table, "a", 2)
    assert shut(table) == [set(), {"a"}, {"a"}]
    begin(table, "a", 2)
    assert shut(table) == [{"a"}] * 3


def test_what_waits_gives_its_place_to_others_and_keeps_it_in_its_pool() -> None:
    table = places()
    for pool in ("a", "b"):
        begin(table, pool, 6)
    assert (table.free(), table.room()) == (0, 0)
    for pool in ("a", "b"):
        for _ in range(6):
            table.wait(pool)
    assert table.free() == 12
    assert shut(table) == [set(), {"a", "b"}, {"a", "b"}]


def test_slow_pools_get_half_of_the_places_together() -> None:
    table = places(share=3)
    for pool in ("a", "b", "c"):
        begin(table, pool, waiting=True)
    begin(table, "a", 2)
    begin(table, "b", 2)
    begin(table, "quick", 2)
    assert (shut(table), table.room()) == ([set(), set(), {"a", "b"}], 1)  # of any pool, also of one of them
    begin(table, "c", 2)
    assert shut(table) == [{"a", "b", "c"}] * 3
    assert (table.free(), table.room()) == (4, 1)
    table.wait("c")
    assert shut(table) == [set(), set(), {"a", "b", "c"}]


def test_a_pool_is_slow_while_one_of_its_effects_waits_and_until_one_does_not() -> None:
    table = places(concurrency=16, share=8)
    half = [{"a"}] * 3
    begin(table, "a", 2, waiting=True)
    begin(table, "a", 8)
    assert shut(table) == half
    table.end("a", waited=False)
    begin(table, "a")
    assert shut(table) == half  # two wait still
    for _ in range(2):
        table.end("a", waited=True)
    assert shut(table) == half
    table.end("a", waited=False)
    begin(table, "a")
    assert shut(table) == [set(), set(), {"a"}]  # has its share, for what can wait


def test_the_more_hang_the_less_each_gets_and_some_is_always_left() -> None:
    table = places(concurrency=128, share=32)
    got: Counter[str] = Counter()
    for pool in map(str, range(40)):
        while pool not in table.shut()[NORMAL]:
            begin(table, pool, waiting=True)
            got[pool] += 1
    counts = list(got.values())
    assert counts[:10] == [48] * 10
    assert counts == sorted(counts, reverse=True)
    assert 1 <= counts[-1] < 8
    assert table.free() > 8


def hanging(table: Places, count: int) -> Counter[str]:
    """So many pools that are known to be slow, one after the other taking what it gets: how many of each."""
    pools, got = [f"hangs {n}" for n in range(count)], Counter[str]()
    for pool in pools:
        begin(table, pool, waiting=True)
        table.end(pool, waited=True)
    while pools := [pool for pool in pools if pool not in table.shut()[NORMAL]]:
        for pool in pools:
            if pool not in table.shut()[NORMAL]:
                begin(table, pool, waiting=True)
                got[pool] += 1
    return got


@pytest.mark.parametrize("count", [20, 100, 200])
def test_however_many_hang_as_many_as_there_are_places_may_be_under_way_of_others(count: int) -> None:
    table = places(concurrency=16, share=16)
    hanging(table, count)
    for n in range(16):
        assert table.free() >= 16 - n
        assert table.room() > 0
        assert not {"", "a"} & set().union(*shut(table))
        begin(table, f"quick {n}")


def test_what_ends_of_those_that_hang_may_begin_again() -> None:
    table = places(concurrency=16, share=16)
    got = hanging(table, 200)
    assert (got.total(), set(got.values())) == (7 * 16, {1})
    assert shut(table)[0] >= set(got)
    table.end("hangs 0", waited=True)
    assert "hangs 0" not in set().union(*shut(table))
    assert table.room() == 1


def test_among_many_that_hang_there_is_room_for_one_that_is_only_slow() -> None:
    table = places(concurrency=128, share=32)
    hanging(table, 200)
    begin(table, "slow", waiting=True)
    table.end("slow", waited=True)
    assert "slow" not in set().union(*shut(table))


def test_all_that_is_under_way_is_bounded() -> None:
    table = places(concurrency=10)
    begin(table, "", 75, waiting=True)
    assert (table.free(), table.room()) == (5, 1)
    begin(table, "", 5, waiting=True)
    assert (table.free(), table.room()) == (0, 0)


def test_one_place_is_enough_for_slow_pools_too() -> None:
    table = places(concurrency=1)
    begin(table, "a", waiting=True)
    table.end("a", waited=True)
    assert (shut(table), table.room()) == (NONE, 1)


def test_what_has_no_pool_is_never_shut() -> None:
    table = places()
    begin(table, "", 12, waiting=True)
    begin(table, "", 6)
    assert (shut(table), table.room()) == (NONE, 4)
