"""What a process remembers of the provider accounts: never another organization's, and never for long what was."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from heliograph.domain.devices import ProviderAccount
from heliograph.store import AnyStore, PostgresHub, PostgresStore, known_accounts
from heliograph.store.database import LookUp, Rows
from tests.store.world import NOW, World, new_id, new_world
from tests.support.crash import until


async def known(world: World) -> list[ProviderAccount]:
    return list((await world.work.setup.known_accounts()).values())


async def test_a_change_shows_at_once(world: World) -> None:
    setup = world.work.setup
    assert await known(world) == [world.account]
    other = replace(world.account, id=new_id(), is_default=False, created_at=NOW + 1)
    await setup.add_account(other)
    assert await known(world) == [world.account, other]
    await setup.save_account(replace(other, disabled_at=NOW))
    assert await known(world) == [world.account, replace(other, disabled_at=NOW)]
    await setup.note_fault(world.account.id, "refused", NOW + 5)
    assert (await known(world))[0].fault == "refused"


async def test_each_organization_has_its_own(store: AnyStore, world: World) -> None:
    other = await new_world(store)
    assert await known(world) == [world.account]
    assert await known(other) == [other.account]
    assert await known(world) == [world.account]


async def test_what_nobody_told_of_shows_in_the_end(
    store: AnyStore, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_accounts, "_KEPT_S", 0.05)
    assert await known(world) == [world.account]
    await store.reseal(lambda _: b"sealed anew", "fingerprint")  # says nothing: it runs while nothing else does

    async def is_seen() -> bool:
        return (await known(world))[0].config == b"sealed anew"

    await until(is_seen, "the new settings are seen")


async def test_a_read_that_began_before_a_change_is_not_remembered(
    store: AnyStore, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = store.look_up
    has_read, go_on = asyncio.Event(), asyncio.Event()

    async def slow(what: LookUp, *args: object) -> Rows:
        rows = await look_up(what, *args)
        has_read.set()
        await go_on.wait()
        return rows

    monkeypatch.setattr(store, "look_up", slow)
    early = asyncio.create_task(known(world))
    await has_read.wait()
    await world.work.setup.note_fault(world.account.id, "refused", NOW + 5)
    go_on.set()
    assert (await early)[0].fault is None
    assert (await known(world))[0].fault == "refused"


async def test_other_processes_hear_of_a_change(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_accounts, "_KEPT_S", 3600.0)
    hubs = [await PostgresHub.open(dsn) for _ in range(2)]
    here, there = [await PostgresStore.open(dsn, hub) for hub in hubs]
    world = await new_world(here)
    await hubs[1].listening()
    work = there.unit_of_work(world.organization.id)
    assert list((await work.setup.known_accounts()).values()) == [world.account]
    await world.work.setup.note_fault(world.account.id, "refused", NOW + 5)

    async def is_heard_of() -> bool:
        return (await work.setup.known_accounts())[world.account.id].fault == "refused"

    await until(is_heard_of, "the fault is heard of")
    for store in (here, there):
        await store.close()
    for hub in hubs:
        await hub.close()
