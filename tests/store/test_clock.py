"""What a start learns from the database about the time, lest it begin before what is written there."""

from __future__ import annotations

from heliograph.domain.deliveries import PushRung
from heliograph.domain.ladder import Rung
from heliograph.store import AnyStore
from tests.store.world import NOW, SECOND, World, new_id, run_sql

CAP = 30 * SECOND


def id_of(second: int) -> str:
    """An id that was minted in a second."""
    return f"{second:08x}{new_id()[8:]}"


async def test_an_empty_database_knows_no_time(store: AnyStore) -> None:
    assert await store.high_water() == 0


async def test_time_begins_after_the_second_of_the_newest_id(world: World) -> None:
    second = NOW // SECOND + 500
    await world.add(world.command(id=id_of(second)), world.push(id=id_of(second - 1)))
    assert await world.store.high_water() == (second + 1) * SECOND
    await world.add(world.push(id=id_of(second + 1)))
    assert await world.store.high_water() == (second + 2) * SECOND
    await world.owe(world.debt(id=id_of(second + 2)))
    assert await world.store.high_water() == (second + 3) * SECOND


async def test_time_does_not_begin_before_a_change_of_what_is_not_over(world: World) -> None:
    later = NOW + 1_000_000 * SECOND
    over, live = world.command(id=id_of(1), rung=Rung.SUCCEEDED), world.command(id=id_of(1))
    gone, sent = world.push(id=id_of(1), rung=PushRung.EXPIRED), world.push(id=id_of(1))
    await world.add(over, live, gone, sent)
    expected = NOW
    for table, record in (("commands", over), ("pushes", gone), ("commands", live), ("pushes", sent)):
        later += 1
        await run_sql(world.store, f"UPDATE {table} SET updated_at = {later} WHERE id = '{record.id}'")
        expected = later if record in (live, sent) else expected
        assert await world.store.high_water() == expected


async def test_what_is_due_or_claimed_in_a_far_future_is_brought_forward(world: World) -> None:
    far, near, claimed = world.debt(due_at=NOW + 3600 * SECOND), world.debt(due_at=NOW + SECOND), world.debt()
    await world.owe(far, near, claimed)
    await world.claim(NOW, NOW + 3600 * SECOND)
    await world.store.clamp_times(NOW, CAP)
    found = {row[0]: row[1:3] for row in await world.owed()}
    assert found == {far.id: (NOW + CAP, 0), near.id: (NOW + SECOND, 0), claimed.id: (NOW, NOW + CAP)}
