"""What is owed: claimed by one, fenced by a token, in the order of its lane, and never lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from heliograph.domain.errors import Conflict
from heliograph.domain.ladder import Command, Issue, Rung
from heliograph.ports.changes import BACKGROUND, NORMAL, URGENT, Debt, OutboxItem, Settlement
from heliograph.store import AnyStore
from tests.store.world import LATER, NOW, PUT_OFF_TO, SECOND, SETTLE, World, bare_set, new_id, new_world


async def test_what_is_due_is_claimed_once(world: World) -> None:
    debts = [world.debt(due_at=NOW - 2, key="k", lane="l"), world.debt(due_at=NOW - 1), world.debt(due_at=NOW + 1)]
    await world.owe(*debts)
    items = await world.claim()
    assert [item.id for item in items] == [debts[0].id, debts[1].id]
    first = items[0]
    expected = OutboxItem(
        first.id,
        world.organization.id,
        "issue",
        debts[0].subject_id,
        NOW - 2,
        1,
        1,
        LATER,
        first.created_at,
        lane="l",
        key="k",
    )
    assert first == expected
    assert await world.claim() == []


async def test_a_limit_takes_the_longest_due(world: World) -> None:
    debts = [world.debt(due_at=NOW - n) for n in range(5)]
    await world.owe(*debts)
    assert [i.id for i in await world.claim(limit=2)] == [debts[4].id, debts[3].id]


async def test_an_expired_lease_is_claimed_again_with_a_new_token(world: World) -> None:
    await world.owe(world.debt())
    first = await world.claim_one()
    assert await world.claim(now=LATER - 1) == []
    second = await world.claim_one(now=LATER, lease_until=LATER + SECOND)
    assert (second.token, second.attempts) == (2, 2)
    late = world.changes()
    late.settle(first)
    with pytest.raises(Conflict):
        await world.work.commit(late)
    await settle(world, second)
    assert await world.owed() == []


async def settle(world: World, item: OutboxItem) -> None:
    changes = world.changes()
    changes.settle(item)
    await world.work.commit(changes)


async def test_a_lease_is_renewed_only_while_it_holds(world: World, store: AnyStore) -> None:
    await world.owe(world.debt(), world.debt())
    lost, held = await world.claim()
    await store.system.renew([], LATER)
    await world.claim(now=LATER, lease_until=LATER + 1, limit=1)  # takes `lost` over
    await store.system.renew([lost, held], LATER + 9)
    assert {row[0]: row[2] for row in await world.owed()} == {lost.id: LATER + 1, held.id: LATER + 9}


@pytest.mark.parametrize("how", SETTLE)
async def test_a_settlement_after_a_renewal_counts(world: World, store: AnyStore, how: str) -> None:
    await world.owe(world.debt())
    item = await world.claim_one()
    await store.system.renew([item], LATER + 9)
    changes = world.changes()
    SETTLE[how](changes, item)
    await world.work.commit(changes)
    assert await world.owed() == ([(item.id, PUT_OFF_TO, 0, 1)] if how == "put off" else [])
    assert [reason for _, reason in await store.system.dead_letters(9)] == (["why"] if how == "buried" else [])


@pytest.mark.parametrize("how", SETTLE)
async def test_a_settlement_after_another_claim_is_refused(world: World, store: AnyStore, how: str) -> None:
    await world.owe(world.debt())
    item = await world.claim_one()
    again = await world.claim_one(now=LATER, lease_until=LATER + 9)
    changes = world.noted(await world.added_command())
    SETTLE[how](changes, item)
    with pytest.raises(Conflict):
        await world.work.commit(changes)
    assert await world.owed() == [(item.id, item.due_at, LATER + 9, again.token)]
    assert await store.system.dead_letters(9) == []


async def test_put_off(world: World) -> None:
    await world.owe(world.debt())
    item = await world.claim_one()
    changes = world.changes()
    changes.put_off(item, NOW + 100)
    await world.work.commit(changes)
    assert await world.owed() == [(item.id, NOW + 100, 0, 1)]
    assert await world.claim(now=NOW + 99) == []
    assert (await world.claim_one(now=NOW + 100)).attempts == 2


async def test_buried_with_a_reason(world: World, store: AnyStore) -> None:
    await world.owe(world.debt(key="k"), world.debt())
    keyed, free = sorted(await world.claim(), key=lambda i: i.key or "z")
    changes = world.changes()
    changes.bury(keyed, "no good")
    await world.work.commit(changes)
    await world.work.commit(bare_set(world.organization.id, settlements=[Settlement(free, due_at=NOW, dead="both")]))
    assert await world.owed() == []
    assert await store.system.dead_letters(10) == [(free, "both"), (keyed, "no good")]
    assert await store.system.dead_letters(1) == [(free, "both")]


async def test_debts_of_one_key_are_one(world: World) -> None:
    first = world.debt(key="k", due_at=NOW + 50)
    await world.owe(first)
    await world.owe(world.debt(key="k", due_at=NOW + 10))
    await world.owe(world.debt(key="k", due_at=NOW + 90), world.debt(key="k", due_at=NOW + 70))
    assert await world.owed() == [(first.id, NOW + 10, 0, 2)]


async def test_a_bumped_item_is_claimed_again_and_fences_its_worker(world: World) -> None:
    await world.owe(world.debt(key="k"))
    old = await world.claim_one()
    await world.owe(world.debt(key="k"))
    command = await world.added_command()
    changes = world.noted(command)
    changes.settle(old)
    await world.work.commit(changes)  # soft: only the settlement is left out
    assert (await world.read(command.id)).version == 2
    again = await world.claim_one()
    assert again.id == old.id
    await settle(world, again)
    assert await world.owed() == []


@pytest.mark.parametrize("how", ["put_off", "bury"])
async def test_a_fenced_worker_neither_puts_off_nor_buries(world: World, store: AnyStore, how: str) -> None:
    await world.owe(world.debt(key="k"))
    old = await world.claim_one()
    await world.owe(world.debt(key="k", due_at=NOW - 5))
    changes = world.changes()
    changes.put_off(old, LATER) if how == "put_off" else changes.bury(old, "x")
    await world.work.commit(changes)
    assert await world.owed() == [(old.id, NOW - 5, 0, 2)]
    assert await store.system.dead_letters(1) == []


async def test_a_fenced_worker_changes_nothing_where_its_burial_is_hard(world: World, store: AnyStore) -> None:
    await world.owe(world.debt(key="k"))
    old = await world.claim_one()
    await world.owe(world.debt(key="k"))
    command = await world.added_command()
    changes = world.noted(command)
    changes.bury(old, "x", hard=True)
    with pytest.raises(Conflict):
        await world.work.commit(changes)
    assert ((await world.read(command.id)).version, await store.system.dead_letters(1)) == (1, [])


async def test_the_settlement_of_a_withdrawn_item_is_soft_too(world: World) -> None:
    await world.owe(world.debt(key="k"))
    item = await world.claim_one()
    changes = world.changes()
    changes.withdraw("k")
    changes.withdraw("unknown")
    await world.work.commit(changes)
    assert await world.owed() == []
    await settle(world, item)


async def test_the_settlement_of_an_item_without_a_key_is_hard(world: World) -> None:
    await world.owe(world.debt())
    item = await world.claim_one()
    command = await world.added_command()
    await settle(world, item)
    changes = world.noted(command)
    changes.settle(item)
    with pytest.raises(Conflict):
        await world.work.commit(changes)
    assert (await world.read(command.id)).version == 1


async def test_what_nobody_has_claimed_is_taken_unless_somebody_does(world: World) -> None:
    def owed(**values: Any) -> Debt:
        return world.debt(**{"kind": "push", "pool": "a", "key": new_id(), **values})

    claimed, *free = owed(due_at=NOW - 9), *(owed(due_at=NOW + n) for n in (3, 1, 2))
    others = [owed(pool="b"), owed(kind="revoke"), owed(priority=BACKGROUND)]
    await world.owe(claimed, *free, *others)
    assert (await world.claim_one(NOW - 9)).id == claimed.id
    other = await new_world(world.store)
    assert await other.work.pushes.waiting("a", NORMAL, 9) == []
    first, second = await world.work.pushes.waiting("a", NORMAL, 2)
    [third] = await world.work.pushes.waiting("a", NORMAL, 2, second)
    assert [first.id, second.id, third.id] == [free[1].id, free[2].id, free[0].id]

    async def move(item: OutboxItem, key: str | None) -> None:
        changes = world.changes()
        changes.take(item)
        changes.owe(world.debt(key=key, pool="c", kind="push"))
        await world.work.commit(changes)

    await move(first, first.key)
    assert [item.id for item in await world.work.pushes.waiting("a", NORMAL, 9)] == [second.id, third.id]
    assert len(await world.work.pushes.waiting("c", NORMAL, 9)) == 1
    assert await world.claim(NOW + 3) != []
    for item in (second, third):
        with pytest.raises(Conflict):
            await move(item, item.key)
    assert len(await world.work.pushes.waiting("c", NORMAL, 9)) == 0  # the one that was moved is claimed, too


async def test_settled_and_owed_again_in_one_set(world: World) -> None:
    await world.owe(world.debt(key="k"))
    item = await world.claim_one()
    changes = world.changes()
    changes.settle(item)
    again = world.debt(key="k", due_at=NOW + 7)
    changes.owe(again)
    await world.work.commit(changes)
    assert await world.owed() == [(again.id, NOW + 7, 0, 0)]


async def test_settled_late_and_owed_again_in_one_set(world: World) -> None:
    await world.owe(world.debt(key="k"))
    item = await world.claim_one()
    await world.owe(world.debt(key="k", due_at=NOW - 1))
    changes = world.changes()
    changes.settle(item)
    changes.owe(world.debt(key="k", due_at=NOW + 7))
    await world.work.commit(changes)
    assert await world.owed() == [(item.id, NOW - 1, 0, 3)]


async def test_buried_and_withdrawn_in_one_set(world: World, store: AnyStore) -> None:
    await world.owe(world.debt(key="k"))
    item = await world.claim_one()
    changes = world.changes()
    changes.bury(item, "why")
    changes.withdraw("k")
    owed = world.debt(key="k2")
    changes.withdraw("k2")
    changes.owe(owed)
    await world.work.commit(changes)
    assert [row[0] for row in await world.owed()] == [owed.id]
    assert await store.system.dead_letters(5) == [(item, "why")]


async def test_a_refused_set_in_phases_writes_nothing(world: World) -> None:
    command = await world.added_command()
    await world.work.commit(world.noted(command))
    await world.owe(world.debt(key="k"))
    item = await world.claim_one()
    before = await world.owed()
    changes = world.noted(command)
    changes.settle(item)
    changes.owe(world.debt(key="k", due_at=NOW + 7))
    with pytest.raises(Conflict):
        await world.work.commit(changes)
    assert await world.owed() == before


async def test_an_item_of_another_organization_is_not_settled(world: World) -> None:
    await world.owe(world.debt())
    item = await world.claim_one()
    other = await new_world(world.store)
    with pytest.raises(Conflict):
        await settle(other, item)
    keyed = replace(item, key="k")  # soft: the set is written, the settlement is not
    await settle(other, keyed)
    assert len(await world.owed()) == 1


async def test_a_lane_is_walked_in_order(world: World) -> None:
    first, second, third = world.debt(lane="l", due_at=NOW + 5), world.debt(lane="l"), world.debt(lane="l")
    free = world.debt()
    await world.owe(third, second, first, free)
    assert (await world.claim_one()).id == free.id  # the first is not due, and holds the lane
    head = await world.claim_one(now=NOW + 5)
    assert head.id == first.id
    assert await world.claim(now=NOW + 6) == []
    put_off = world.changes()
    put_off.put_off(head, NOW + 50)
    await world.work.commit(put_off)
    assert await world.claim(now=NOW + 6) == []
    head = await world.claim_one(now=NOW + 50, lease_until=NOW + 60)
    await settle(world, head)
    assert (await world.claim_one(now=NOW + 51)).id == second.id


async def test_an_older_item_that_arrives_late_waits_for_the_one_that_was_begun(world: World) -> None:
    older, newer = world.debt(lane="l"), world.debt(lane="l")
    await world.owe(newer)
    held = await world.claim_one()
    await world.owe(older)
    assert await world.claim() == []
    assert (await world.claim_one(now=held.lease_until)).id == newer.id  # it was begun


async def test_two_claimers_never_share_an_item_nor_a_lane(world: World, store: AnyStore) -> None:
    lanes = [None, "a", "b", "c"]
    await world.owe(*(world.debt(lane=lanes[n % 4]) for n in range(80)))
    seen: list[str] = []
    running: set[str] = set()

    async def worker() -> None:
        while batch := await store.system.claim(NOW, LATER, 7):
            for item in batch:
                assert item.lane is None or item.lane not in running
                running.add(item.lane or item.id)
            await asyncio.sleep(0)
            seen.extend(item.id for item in batch)
            for item in batch:
                running.discard(item.lane or item.id)
            await asyncio.gather(*(settle(world, item) for item in batch))

    while await world.owed():
        await asyncio.gather(*(worker() for _ in range(6)))
    assert len(seen) == len(set(seen)) == 80


async def test_next_due(world: World, store: AnyStore) -> None:
    assert await store.system.next_due() is None
    head, blocked = world.debt(lane="l", due_at=NOW + 9), world.debt(lane="l", due_at=NOW - 9)
    await world.owe(head, blocked)
    assert await store.system.next_due() == NOW + 9  # what waits behind another does not count
    await world.owe(world.debt(due_at=NOW + 5))
    assert await store.system.next_due() == NOW + 5
    await world.claim(now=NOW + 10, lease_until=LATER)
    assert await store.system.next_due() == LATER
    await world.owe(world.debt(due_at=LATER + 5))
    assert await store.system.next_due() == LATER
    await world.owe(world.debt(due_at=NOW + 11))
    assert await store.system.next_due() == NOW + 11


async def test_counts(world: World, store: AnyStore) -> None:
    await world.owe(world.debt(), world.debt())
    await world.added_command()
    item = (await world.claim(limit=1))[0]
    changes = world.changes()
    changes.bury(item, "x")
    await world.work.commit(changes)
    counts = await store.system.counts()
    accounts = {"push_accounts_out_of_order": 0, "push_credentials_expire_at": 0}
    assert counts == {"outbox_issue": 1, "dead_letters": 1, "commands_live": 1, **accounts}
    await world.work.setup.note_fault(world.account.id, "refused", NOW)
    await world.work.setup.save_account(replace(world.account, expires_at=NOW + 5))
    counts = await store.system.counts()
    assert (counts["push_accounts_out_of_order"], counts["push_credentials_expire_at"]) == (1, NOW + 5)
    await world.owe(world.debt(priority=BACKGROUND))
    owed = [await store.system.owed("issue", priority) for priority in (NORMAL, BACKGROUND)]
    assert [*owed, await store.system.owed("push", BACKGROUND)] == [1, 2, 0]


async def test_what_is_owed_to_each_pool(store: AnyStore, world: World) -> None:
    for pool in ("one", "one", "two", ""):
        await world.owe(world.debt(kind="cancel", pool=pool))
    await world.owe(world.debt(kind="cancel", pool="two", priority=BACKGROUND))
    owed = await store.system.owed_by_pool("cancel", NORMAL)
    assert sorted(owed) == [(world.organization.id, "one", 2), (world.organization.id, "two", 1)]


async def test_a_clock_that_jumped_back(world: World, store: AnyStore) -> None:
    await world.owe(world.debt(due_at=NOW + 500), world.debt(due_at=NOW))
    await world.claim(lease_until=NOW + 900)
    await store.clamp_times(NOW - 100, 30)
    assert [row[1:3] for row in await world.owed()] == [(NOW - 70, 0), (NOW - 70, NOW - 70)]


async def test_what_is_urgent_goes_first_and_what_can_wait_last(world: World) -> None:
    background = world.debt(due_at=NOW - 30, priority=BACKGROUND)
    normal = world.debt(due_at=NOW - 20)
    urgent = world.debt(due_at=NOW - 10, priority=URGENT)
    await world.owe(background, normal, urgent)
    assert [item.id for item in await world.claim(limit=2)] == [urgent.id, normal.id]
    assert [item.id for item in await world.claim(limit=2)] == [background.id]


async def test_a_full_pool_gives_only_what_is_urgent_and_a_closed_one_nothing(world: World) -> None:
    await world.owe(world.debt(pool="a"), world.debt(pool="a", priority=URGENT), world.debt(pool="b"), world.debt())
    claimed = await world.store.system.claim(NOW, LATER, 10, [["a"], ["a", "b"], ["a", "b"]])
    assert [item.pool for item in claimed] == [""]
    assert await world.store.system.next_due([["a"], ["a", "b"], ["a", "b"]]) == LATER
    claimed = await world.store.system.claim(NOW, LATER, 10, [[], ["a", "b"], []])
    assert [(item.pool, item.priority) for item in claimed] == [("a", URGENT)]
    assert await world.store.system.next_due([[], ["a", "b"], []]) == LATER
    assert [item.pool for item in await world.claim()] == ["a", "b"]


async def test_commands_that_nothing_is_owed_for(world: World, store: AnyStore) -> None:
    def command(**values: Any) -> Command:
        return world.command(platform="android", **values)

    over, aosp = command(rung=Rung.SUCCEEDED), world.command()
    queued, bound = command(created_at=NOW - 2), command(rung=Rung.ISSUED, issue=Issue.BOUND, created_at=NOW - 1)
    await world.add(over, aosp, queued, bound, command())
    assert [c.id for c in (await store.system.silent_commands(2))] == [queued.id, bound.id]
    debts = [("issue", queued.id), ("look_up", world.device.id)]
    await world.owe(*(world.debt(kind=kind, subject_id=of, key=f"{kind}:{of}") for kind, of in debts))
    assert len(await store.system.silent_commands(9)) == 1
    await world.claim()  # what is under way is owed
    assert len(await store.system.silent_commands(9)) == 1


async def test_rounds(store: AnyStore) -> None:
    async def begin(now: int) -> bool:
        return await store.system.begin_round("devices", "e", now, now + 100)

    assert not await begin(NOW)  # the first time plans the first round
    assert not await begin(NOW + 99)
    begun = await asyncio.gather(*(begin(NOW + 100) for _ in range(4)))
    assert sorted(begun) == [False, False, False, True]
    await store.system.end_round("devices", "e", NOW + 101, "a fault")
    assert not await begin(NOW + 199)
    assert await begin(NOW + 50)  # the clock was ahead
    await store.system.end_round("devices", "e", NOW + 51, None)
    counts = await store.system.counts()
    assert (counts["rounds_begun_devices"], counts["rounds_failed_devices"]) == (2, 1)
    [row] = await store.fetch("SELECT completed_at, fault FROM rounds")
    assert tuple(row) == (NOW + 51, None)


async def test_what_was_begun_in_a_lane_goes_before_an_older_one_that_came_later(world: World) -> None:
    """A process that stands still commits what it had named long before; the lane must not let it overtake."""
    late, begun = world.debt(lane="l"), world.debt(lane="l")
    await world.owe(begun)
    changes = world.changes()
    changes.put_off(await world.claim_one(), NOW + 1)
    await world.work.commit(changes)
    await world.owe(late)
    assert await world.claim() == []
    assert await world.store.system.next_due() == NOW + 1
    again = await world.claim_one(now=NOW + 1)
    assert again.id == begun.id
    await settle(world, again)
    assert [item.id for item in await world.claim(now=NOW + 2)] == [late.id]
