"""Keys that make keys, revoked at the same moment on PostgreSQL: none that comes from a revoked key lives on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from heliograph.domain.devices import ApiKey
from heliograph.domain.errors import Conflict
from heliograph.store import Hub, PostgresStore
from tests.store.world import NOW, World, new_id, new_world, waiting_for_a_lock


@pytest.fixture(params=["", "?default_transaction_isolation=repeatable%20read"], ids=["usual", "set by an operator"])
async def world(request: pytest.FixtureRequest, dsn: str) -> AsyncIterator[World]:
    """However isolated PostgreSQL keeps transactions of others: who had to wait for a lock sees what was done there."""
    store = await PostgresStore.open(dsn + request.param, Hub())
    yield await new_world(store)
    await store.close()


async def test_a_key_that_is_made_while_its_maker_is_being_revoked_is_none(world: World, dsn: str) -> None:
    """The revocation has looked for the family already, and is not committed yet: nobody who reads sees it."""
    setup = world.work.setup
    root = ApiKey(new_id(), world.organization.id, "root", "hlg_ab", ("*",), NOW)
    maker = replace(root, id=new_id(), created_at=NOW + 1, created_by=root.id)
    child = replace(root, id=new_id(), created_at=NOW + 2, created_by=maker.id)
    await setup.add_key(root, b"root")
    await setup.add_key(maker, b"maker")
    blocker = await asyncpg.connect(dsn)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT FROM api_keys WHERE id = $1 FOR UPDATE", maker.id)
    revoking = asyncio.create_task(setup.revoke_key(root.id, NOW + 5))
    await waiting_for_a_lock(blocker)
    making = asyncio.create_task(setup.add_key(child, b"child"))
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    while not making.done() and await blocker.fetchval(waiting) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await transaction.commit()
    await blocker.close()
    assert await revoking
    with pytest.raises(Conflict):
        await making
    assert [key.revoked_at for key in await setup.keys()] == [NOW + 5, NOW + 5]
