"""Change sets: written as a whole or not at all, each for itself, whatever happens to the caller."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from heliograph.domain.attempts import Attempts
from heliograph.domain.deliveries import PushAccepted, PushAttempted
from heliograph.domain.errors import Conflict, InvalidInput, StoreUnavailable
from heliograph.domain.ladder import Claimed, Entry, Issue, IssueStarted, Reason, Requested, Rung
from heliograph.ports.changes import ChangeSet
from heliograph.store import AnyStore, Hub
from tests.store.world import NOW, World, bare_set, new_id, new_world, run_sql


async def test_records_come_back_as_they_were(world: World) -> None:
    command = world.command(
        rung=Rung.FAILED,
        rung_at=NOW + 1,
        mdm_user_id="u",
        secret=b"\x00\xff",
        cancel_requested_at=NOW + 2,
        issue=Issue.BOUND,
        issue_at=NOW + 3,
        receipt="enterprises/e/devices/d/operations/1",
        operation={"name": "x", "done": True},
        reason=Reason("CODE", "words"),
        push_id=new_id(),
        attempts=Attempts(0, 3, 1, NOW, NOW + 4, "busy"),
        not_before=NOW + 5,
        deferrals=2,
        claimed_by="j",
        entries=1,
    )
    push = world.push(
        account_id=world.account.id,
        command_id=command.id,
        reference="r",
        sent_at=NOW,
        provider_expires_at=NOW + 9,
        pending_devices=0,
        answer_at=NOW + 8,
        reason="why",
        attempts=Attempts(0, 2, 0, NOW, NOW + 6, "down"),
        entries=1,
    )
    entry = Entry(command.id, 0, "failed", NOW, "key:k", {"a": [1, None, "ü\u0000"]})
    await world.work.commit(bare_set(world.organization.id, new_commands=[command], new_pushes=[push], entries=[entry]))
    assert await world.work.commands.find(command.id) == command
    assert await world.work.pushes.find(push.id) == push
    assert await world.work.history.of([command.id, "none"]) == {command.id: [entry], "none": []}


async def test_further_attempts_are_added_to_the_entry_of_the_first(world: World) -> None:
    push = await world.added_push()
    for reason in ("busy", "down"):
        changes = world.changes()
        for _ in range(2):
            push = changes.move_push(push, PushAttempted(source="test", reason=reason), NOW)
        await world.work.commit(changes)
        push = await world.work.pushes.find(push.id) or push
    changes = world.changes()
    changes.move_push(push, PushAccepted(source="test", reference="r"), NOW)
    await world.work.commit(changes)
    entries = (await world.work.history.of([push.id]))[push.id]
    assert [(e.seq, e.rung, e.evidence.get("attempts"), e.evidence.get("reason")) for e in entries] == [
        (0, "queued", None, None),
        (1, "queued", 4, "down"),
        (2, "accepted", None, None),
    ]


async def test_a_saved_record_is_overwritten_and_counts_its_version(world: World) -> None:
    command = await world.added_command(platform="android")
    changes = world.changes()
    moved = changes.move(command, IssueStarted(source="dispatcher"), NOW + 5)
    await world.work.commit(changes)
    assert await world.read(command.id) == replace(moved, version=command.version + 1)
    histories = await world.work.history.of([command.id])
    assert [(e.seq, e.source) for e in histories[command.id]] == [(0, "test"), (1, "dispatcher")]


async def test_every_column_that_may_change_is_saved(world: World) -> None:
    command = await world.added_command()
    other = replace(
        command,
        updated_at=NOW + 1,
        expires_at=NOW + 2,
        rung=Rung.FAILED,
        rung_at=NOW + 3,
        secret=b"s",
        cancel_requested_at=NOW + 4,
        issue=Issue.OPEN,
        issue_at=NOW + 5,
        receipt="r",
        operation={"o": 1},
        reason=Reason("c", "m"),
        push_id=new_id(),
        entries=7,
    )
    await world.work.commit(bare_set(world.organization.id, commands=[other]))
    assert await world.read(command.id) == replace(other, version=2)


async def test_a_stale_version_is_refused(world: World) -> None:
    command = await world.added_command()
    await world.work.commit(world.noted(command, "first"))
    with pytest.raises(Conflict):
        await world.work.commit(world.noted(command, "second"))
    [_, entry] = (await world.work.history.of([command.id]))[command.id]
    assert entry.evidence == {"word": "first"}


async def test_the_version_alone_refuses(world: World) -> None:
    """Without a line of history, whose number would clash as well."""
    command, push = await world.added_command(), await world.added_push()
    for stale in (
        {"commands": [replace(command, updated_at=NOW + 1)]},
        {"pushes": [replace(push, updated_at=NOW + 1)]},
    ):
        await world.work.commit(bare_set(world.organization.id, **stale))
        with pytest.raises(Conflict):
            await world.work.commit(bare_set(world.organization.id, **stale))


async def test_a_stale_push_is_refused(world: World) -> None:
    push = await world.added_push()
    changes = [world.changes(), world.changes()]
    for one in changes:
        one.move_push(push, PushAccepted(source="test", reference="r"), NOW)
    await world.work.commit(changes[0])
    with pytest.raises(Conflict):
        await world.work.commit(changes[1])


async def test_an_unknown_record_is_refused(world: World) -> None:
    with pytest.raises(Conflict):
        await world.work.commit(world.noted(world.command()))


async def everything(world: World) -> dict[str, Any]:
    """What the tables hold, for before and after."""
    tables = ("commands", "pushes", "history", "outbox", "dead_letters")
    return {t: sorted(map(repr, map(tuple, await world.store.fetch(f"SELECT * FROM {t}")))) for t in tables}


@pytest.mark.parametrize("stale_first", [True, False])
async def test_a_refused_set_writes_nothing_at_all(world: World, stale_first: bool) -> None:
    stale, fresh = await world.added_command(), await world.added_command()
    if not stale_first:
        stale, fresh = fresh, stale
    await world.work.commit(world.noted(stale))
    await world.owe(world.debt(), world.debt(key="kept"))
    [free, _keyed] = sorted(await world.claim(), key=lambda item: item.key or "")
    before = await everything(world)
    changes = world.noted(stale)
    changes.move(fresh, Claimed(source="agent"), NOW)
    changes.add_command(world.command(), Requested(source="x"), NOW)
    changes.owe(world.debt())
    changes.owe(world.debt(key="new"))
    changes.withdraw("kept")
    changes.settle(free)
    with pytest.raises(Conflict):
        await world.work.commit(changes)
    assert await everything(world) == before


async def test_one_bad_set_of_many_fails_alone(world: World) -> None:
    """Sent in the same instant, so that they leave as one batch: stale ones, and ones that break a constraint."""
    stale = await world.added_command()
    await world.work.commit(world.noted(stale))
    good = [world.command() for _ in range(20)]
    sets = [bare_set(world.organization.id, new_commands=[c]) for c in good]
    sets.insert(3, world.noted(stale))
    sets.insert(7, bare_set(world.organization.id, new_commands=[world.command(device_id=new_id())]))
    sets.insert(13, bare_set(world.organization.id, new_commands=[world.command(type="a\ud800")]))
    results = await asyncio.gather(*(world.work.commit(s) for s in sets), return_exceptions=True)
    failures = {i: type(r) for i, r in enumerate(results) if r is not None}
    assert set(failures) == {3, 7, 13}
    assert failures[3] is failures[7] is Conflict
    assert failures[13] is InvalidInput
    for command in good:
        assert await world.work.commands.find(command.id) is not None


async def test_sets_of_one_moment_that_touch_the_same_record_run_one_after_the_other(world: World) -> None:
    command = await world.added_command()
    results = await asyncio.gather(
        *(world.work.commit(world.noted(command, str(n))) for n in range(10)), return_exceptions=True
    )
    assert sum(r is None for r in results) == 1
    assert sum(isinstance(r, Conflict) for r in results) == 9
    assert (await world.read(command.id)).version == 2


async def test_the_commit_of_a_cancelled_caller_still_lands(world: World) -> None:
    commands = [world.command() for _ in range(5)]
    tasks = [asyncio.create_task(world.add(c)) for c in commands]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(r, asyncio.CancelledError) for r in results)
    await world.store.close()  # writes what is queued
    with pytest.raises(StoreUnavailable):
        await world.add(world.command())


async def test_cancelled_commits_are_readable(world: World) -> None:
    command = world.command()
    task = asyncio.create_task(world.add(command))
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(5):
        while await world.work.commands.find(command.id) is None:  # noqa: ASYNC110 - that is what is tested
            await asyncio.sleep(0.01)


async def test_waiters_are_woken_after_the_commit(world: World, hub: Hub) -> None:
    command = await world.added_command()
    with hub.subscribe(f"command:{command.id}") as waiter:
        await world.work.commit(world.noted(command))
        assert await waiter.wait(1)
        with pytest.raises(Conflict):
            await world.work.commit(world.noted(command))
        assert not await waiter.wait(0.01)
    empty = world.changes()
    empty.wake_device("d")
    with hub.subscribe("device:d") as waiter:
        await world.work.commit(empty)
        assert await waiter.wait(0)


async def test_made_and_moved_in_one_set(world: World) -> None:
    changes = world.changes()
    command = changes.add_command(world.command(platform="android"), Requested(source="a"), NOW)
    command = changes.move(command, IssueStarted(source="b"), NOW)
    await world.work.commit(changes)
    assert await world.read(command.id) == command
    assert len((await world.work.history.of([command.id]))[command.id]) == 2


async def test_a_set_is_bound_to_its_organization(store: AnyStore, world: World) -> None:
    other = await new_world(store)
    foreign = other.command()
    with pytest.raises(ValueError, match="another organization"):
        await world.work.commit(ChangeSet(other.organization.id))
    with pytest.raises(ValueError, match="another organization"):
        await world.work.commit(bare_set(world.organization.id, new_commands=[foreign]))
    with pytest.raises(ValueError, match="another"):
        await world.work.commit(bare_set(world.organization.id, debts=[other.debt()]))
    entry = Entry(foreign.id, 0, "queued", NOW, "x", {})
    with pytest.raises(ValueError, match="another"):
        await world.work.commit(bare_set(world.organization.id, entries=[entry]))
    command = await world.added_command()
    with pytest.raises(ValueError, match="twice"):
        await world.work.commit(bare_set(world.organization.id, commands=[command, command]))


async def test_the_database_refuses_rows_across_organizations(store: AnyStore, world: World) -> None:
    """The second lock: even a record that lies about its organization finds no device, enterprise or account there."""
    other = await new_world(store)
    foreign_command = await other.added_command()
    for record in (
        world.command(device_id=other.device.id),
        world.command(enterprise_id=other.enterprise.id),
    ):
        with pytest.raises(Conflict):
            await world.work.commit(bare_set(world.organization.id, new_commands=[record]))
    for push in (
        world.push(device_id=other.device.id),
        world.push(account_id=other.account.id),
        world.push(command_id=foreign_command.id),
    ):
        with pytest.raises(Conflict):
            await world.work.commit(bare_set(world.organization.id, new_pushes=[push]))
    stolen = replace(foreign_command, organization_id=world.organization.id, rung=Rung.CANCELLED)
    with pytest.raises(Conflict):
        await world.work.commit(bare_set(world.organization.id, commands=[stolen]))
    assert await other.read(foreign_command.id) == foreign_command


async def test_the_database_knows_the_rungs(world: World) -> None:
    command, push = await world.added_command(), await world.added_push()
    for table, record_id in (("commands", command.id), ("pushes", push.id)):
        with pytest.raises(Conflict):
            await run_sql(world.store, f"UPDATE {table} SET rung = 'nonsense' WHERE id = $1", record_id)


async def test_large_sets(world: World) -> None:
    """More rows in one set, and more sets at once, than fit a batch."""
    many = [world.command() for _ in range(500)]
    await world.add(*many)
    stored = [await world.read(c.id) for c in many]
    await asyncio.gather(*(world.work.commit(world.noted(c)) for c in stored))
    [row] = await world.store.fetch("SELECT count(*), sum(version) FROM commands")
    assert tuple(row) == (500, 1000)


async def test_errors_never_show_a_statement_or_a_value(world: World) -> None:
    secret = b"canary-canary-canary"
    command = world.command(secret=secret)
    await world.add(command)
    with pytest.raises(Conflict) as caught:
        await world.add(command)
    text = repr(caught.value) + repr(caught.value.__cause__) + str(caught.value)
    assert "canary" not in text
    assert command.id not in text
    assert "INSERT" not in text
