"""Look-ups that are asked at the same moment get the same answers as those that are asked alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from heliograph.domain.errors import InvalidInput
from heliograph.domain.ladder import Command
from heliograph.store import PostgresStore
from heliograph.store import commands as command_statements
from heliograph.store import devices as device_statements
from heliograph.store import directory as directory_statements
from heliograph.store import setup as setup_statements
from heliograph.store.database import LookUp
from heliograph.store.postgres_reader import _grouped, _shape
from tests.store.world import NOW, World, new_id, new_world, run_sql


async def test_many_at_once(world: World) -> None:
    """Each gets its own record, whatever the number; one that does not exist gets none."""
    commands = [await world.added_command(created_at=NOW + n) for n in range(5)]
    wanted = [command.id for command in commands for _ in range(60)] + [new_id()]
    found = await asyncio.gather(*(world.work.commands.find(command_id) for command_id in wanted))
    assert [None if c is None else c.id for c in found] == [*wanted[:-1], None]
    assert found[0] == commands[0]


async def test_lists_keep_their_order_and_limit(world: World) -> None:
    newest_first = [await world.added_command(created_at=NOW - n) for n in range(6)]
    oldest_first = [command.id for command in reversed(newest_first)]

    async def live(limit: int) -> list[str]:
        return [command.id for command in await world.work.commands.live_of_device(world.device.id, limit)]

    assert await asyncio.gather(*(live(limit) for limit in range(1, 7))) == [oldest_first[:n] for n in range(1, 7)]


async def test_organizations_are_kept_apart(world: World) -> None:
    """Two organizations that ask for one id in the same statement: only its owner sees it."""
    other = await new_world(world.store)
    command = await world.added_command()
    mine, theirs = await asyncio.gather(world.work.commands.find(command.id), other.work.commands.find(command.id))
    assert (mine, theirs) == (command, None)


async def test_sees_what_was_committed_before_it_was_asked(world: World) -> None:
    """However many look-ups are under way."""

    async def write_and_read() -> Command | None:
        command = await world.added_command()
        return await world.work.commands.find(command.id)

    assert None not in await asyncio.gather(*(write_and_read() for _ in range(100)))


async def test_a_bad_argument_concerns_its_caller_alone(world: World) -> None:
    command = await world.added_command()
    asked = [world.work.commands.find(text) for text in (command.id, "\ud800", command.id)]
    first, bad, last = await asyncio.gather(*asked, return_exceptions=True)
    assert first == last == command
    assert isinstance(bad, InvalidInput) or bad is None  # SQLite may look for it; nobody is called so


async def test_a_caller_who_goes_away(world: World) -> None:
    """Takes no answer with it."""
    command = await world.added_command()
    leaving = asyncio.create_task(world.work.commands.find(command.id))
    staying = asyncio.create_task(world.work.commands.find(command.id))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == command


LOOK_UPS: list[LookUp] = [
    value
    for module in (command_statements, device_statements, directory_statements, setup_statements)
    for value in vars(module).values()
    if isinstance(value, LookUp)
]


@pytest.mark.parametrize("what", LOOK_UPS, ids=lambda what: " ".join(what.sql.split())[-60:])
async def test_plans_of_groups(postgres_store: PostgresStore, what: LookUp) -> None:
    """A group of look-ups walks the same indexes, once for each."""
    world = await new_world(postgres_store)
    await world.added_command()
    await world.added_push()
    await run_sql(postgres_store, "ANALYZE")
    samples: dict[str, Any] = {"text": world.organization.id, "bigint": 1, "bytea": b"x"}
    asked = [(number, *(samples[kind] for kind in what.types)) for number in (0, 1)]
    parameters = _shape(what).packed(asked)
    plan = "\n".join(row[0] for row in await postgres_store.fetch(f"EXPLAIN {_grouped(what)}", parameters))
    assert "Seq Scan" not in plan, plan
    assert "Nested Loop" in plan, plan
