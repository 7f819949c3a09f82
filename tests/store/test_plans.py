"""The cost of what is asked all the time does not grow with history: the plans use the partial indexes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from heliograph.domain.deliveries import PushRung
from heliograph.domain.ladder import Issue, Rung
from heliograph.ports.changes import NORMAL
from heliograph.ports.pages import PageQuery
from heliograph.store import AnyStore, PostgresStore, SqliteStore
from heliograph.store.database import LookUp
from heliograph.store.due import due_statements
from heliograph.store.sqlite import _named
from tests.store.world import LATER, NOW, World, new_id, run_sql


class Spy:
    """Notes the statements that a store is given."""

    def __init__(self, store: AnyStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.seen: list[tuple[str, tuple[Any, ...]]] = []
        fetch = store.fetch

        async def noting(sql: str, *args: Any) -> Any:
            self.seen.append((sql, args))
            return await fetch(sql, *args)

        monkeypatch.setattr(store, "fetch", noting)
        if isinstance(store, PostgresStore):  # SQLite answers a look-up by a fetch
            look_up = store.look_up

            async def noting_too(what: LookUp, *args: Any) -> Any:
                self.seen.append((what.sql, args))
                return await look_up(what, *args)

            monkeypatch.setattr(store, "look_up", noting_too)

    async def plan(self, number: int = 0) -> str:
        sql, args = self.seen[number]
        if isinstance(self.store, SqliteStore):
            rows = self.store._reader().execute(f"EXPLAIN QUERY PLAN {sql}", _named(args)).fetchall()
            return "\n".join(row[3] for row in rows)
        return "\n".join(row[0] for row in await self.store.fetch(f"EXPLAIN {sql}", *args))


@pytest.fixture
def spy(store: AnyStore, monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(store, monkeypatch)


async def fill(world: World) -> None:
    """A device with a long history and a little that is live, among others."""
    others = [replace(world.device, id=new_id()) for _ in range(5)]
    for other in others:
        await world.work.setup.add_device(other, None)
    devices = [world.device, *others]
    old = [world.command(rung=Rung.SUCCEEDED, device_id=d.id) for d in devices for _ in range(150)]
    live = [world.command() for _ in range(4)]
    pushes = [world.push(rung=PushRung.ACKNOWLEDGED) for _ in range(400)] + [world.push(rung=PushRung.ACCEPTED)]
    changes = world.changes()
    changes.new_commands.extend((*old, *live))
    changes.new_pushes.extend(pushes)
    for n in range(50):
        changes.owe(world.debt(due_at=NOW + n, lane=f"lane-{n % 20}"))
    await world.work.commit(changes)
    if not isinstance(world.store, SqliteStore):
        await run_sql(world.store, "ANALYZE")


def assert_uses(plan: str, *indexes: str) -> None:
    for index in indexes:
        assert index in plan, plan
    assert "Seq Scan" not in plan, plan
    assert "SCAN commands\n" not in plan + "\n", plan
    assert "TEMP B-TREE" not in plan, plan
    assert "Sort" not in plan, plan


async def test_live_commands(world: World, spy: Spy) -> None:
    await fill(world)
    assert len(await world.work.commands.live_of_device(world.device.id, 100)) == 4
    assert await world.work.commands.live_of_device(world.device.id, 100, Issue.BOUND) == []
    assert len(await world.work.commands.due_to_agent(world.device.id, "", NOW, 100)) == 4
    for number in range(3):
        assert_uses(await spy.plan(number), "commands_live")


async def test_offers(world: World, spy: Spy) -> None:
    await fill(world)
    assert len(await world.work.pushes.offers(world.device.id, "mdmAgent", NOW, 10)) == 1
    assert_uses(await spy.plan(), "pushes_offered")


async def test_records_with_the_addresses_of_an_app(world: World, spy: Spy) -> None:
    """The addresses of a few rows are sorted; nothing else is read than these."""
    await fill(world)
    push = await world.added_push()
    spy.seen.clear()
    await world.work.devices.find_with_targets(None, new_id(), "mdmAgent")
    await world.work.pushes.find_with_targets(push.id)
    assert len(spy.seen) == 4
    for number in range(4):
        plan = await spy.plan(number)
        assert "Seq Scan" not in plan, plan
        assert re.search(r"push_targets_pkey|SEARCH t USING .*INDEX", plan), plan
        assert "(organization_id=?)\n" not in plan, plan  # a walk over the whole organization


async def test_expiry(world: World, spy: Spy) -> None:
    await fill(world)
    await world.store.system.expired_commands(LATER * 2, 100)
    await world.store.system.expired_pushes(LATER * 2, 100)
    assert_uses(await spy.plan(0), "commands_expiring")
    assert_uses(await spy.plan(1), "pushes_expiring")


async def test_list_and_receipts(world: World, spy: Spy) -> None:
    await fill(world)
    await world.work.commands.list_of_device(world.device.id, PageQuery())
    await world.work.commands.bound_receipts(["r"])
    assert_uses(await spy.plan(0), "commands_in_order")
    assert_uses(await spy.plan(2), "commands_receipt")


async def test_what_may_have_erased_a_device(world: World, spy: Spy) -> None:
    await fill(world)
    await world.work.commands.ended_erasures(world.device.id, 100)
    assert_uses(await spy.plan(0), "commands_erasing")


async def test_next_due(world: World, spy: Spy) -> None:
    await fill(world)
    await world.store.system.next_due()
    assert_uses(await spy.plan(0), "outbox_due", "outbox_lanes")
    assert_uses(await spy.plan(1), "outbox_due")


async def test_a_place_in_the_queue(world: World, spy: Spy) -> None:
    """Whoever stands in front costs little: what is behind is not read."""
    await fill(world)
    await world.store.system.place(world.organization.id, "k")
    # Either index ends at the place; with so few rows PostgreSQL takes the smaller one.
    assert_uses(await spy.plan(0), "outbox_pools" if isinstance(world.store, SqliteStore) else "outbox_due")


async def test_what_waits_for_an_account(world: World, spy: Spy) -> None:
    await fill(world)
    await world.work.pushes.waiting(world.account.id, NORMAL, 10)
    assert_uses(await spy.plan(), "outbox_pools")


async def test_silent_commands(world: World, spy: Spy) -> None:
    """What is over is not read for them."""
    await fill(world)
    await world.store.system.silent_commands(10)
    plan = await spy.plan(0)
    assert "commands_" in plan, plan
    assert "Seq Scan on commands" not in plan, plan


async def test_keys_and_aliases(world: World, spy: Spy) -> None:
    await fill(world)
    await world.work.commands.find(new_id())
    await world.work.pushes.of_command(new_id())
    await world.work.devices.find("aosp", new_id())
    await world.work.devices.find_by_alias("aosp", "x")
    await world.store.directory.principal(b"x")
    await world.store.directory.device_by_secret(b"x")
    for number in range(len(spy.seen)):
        plan = await spy.plan(number)
        assert "Seq Scan" not in plan, plan
        assert "SCAN commands" not in plan, plan
        assert "SCAN devices" not in plan, plan
        assert "(organization_id=?)\n" not in plan + "\n", plan  # a walk over the whole organization
    assert_uses(await spy.plan(1), "pushes_of_command")


async def test_claim(world: World) -> None:
    """A claim walks the index of what is due, or that of the pools, and looks up lanes in theirs."""
    await fill(world)
    due = due_statements(world.store.dialect)
    # The few that each priority gives are sorted once more; what is due is never read as a whole. PostgreSQL does not
    # show what is looked up in the steps of a recursion.
    for sql, index, times in ((due.claim, "outbox_due", 3), (due.claim_by_pool, "outbox_pools", 2)):
        plan = await plan_of_claim(world.store, sql)
        assert plan.count(index) >= times, plan
        assert "outbox_lanes" in plan, plan
        assert "Seq Scan on outbox" not in plan, plan
        assert "SCAN o\n" not in plan + "\n", plan


async def plan_of_claim(store: AnyStore, sql: str) -> str:
    none = store.dialect.pack([])
    arguments = (NOW, LATER, 10, none, none, none)
    if isinstance(store, SqliteStore):
        rows = store._reader().execute(f"EXPLAIN QUERY PLAN {sql}", _named(arguments)).fetchall()
        return "\n".join(row[3] for row in rows)
    return "\n".join(row[0] for row in await store.fetch(f"EXPLAIN {sql}", *arguments))
