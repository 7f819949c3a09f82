"""Several processes on one PostgreSQL: a dispatcher may die or stop for a while, and nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import pytest

from tests.support.child import Child
from tests.support.crash import Client, LabClient, Rig, Unit, fault, running_rig, until
from tests.support.demo import new_database
from tests.support.load import SEED, Load, assert_whole, check
from tests.support.truth import compared

ISSUE = ":issueCommand"
# A lease and this window are no shorter than a call to Google may take: after both nobody sends what he had begun.
PATIENT = {"HELIOGRAPH_UNCERTAINTY_WINDOW_S": "6"}


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """An API process; the dispatchers are started by the tests."""
    with (
        new_database("postgres", request) as database,
        running_rig(tmp_path_factory.mktemp("site"), database, "api", **PATIENT) as rig,
    ):
        yield rig


@contextmanager
def dispatchers(rig: Rig, *names: str) -> Iterator[list[Child]]:
    """Dispatchers beside the API, not started. At the end those that run are ended, with nothing to complain about."""
    children = [rig.node(name, "dispatcher", data_dir=rig.data_dir) for name in names]
    try:
        yield children
        for child in children:
            if child.process is not None:
                assert child.end() == 0
            assert "Traceback" not in child.complaints()
    finally:
        for child in children:
            child.kill()


async def tries(lab: LabClient, unit: Unit) -> int:
    """How often Google was asked to issue a command to this device."""
    return len(await lab.requests("amapi", f"{unit.external}{ISSUE}"))


async def tried(lab: LabClient, unit: Unit) -> None:
    async def holds() -> bool:
        return await tries(lab, unit) > 0

    await until(holds, "Google is asked")


async def in_flight(client: Client, lab: LabClient, unit: Unit, first: Child) -> str:
    """A command that the first dispatcher has handed to Google, whose answer takes longer than the test."""
    await lab.faults(fault("amapi", f"{unit.external}{ISSUE}", times=1, delayMs=60_000))
    first.launch()
    command = await client.create(unit)
    await tried(lab, unit)
    return str(command["id"])


async def test_one_is_killed_with_a_command_in_flight(site: Rig) -> None:
    [unit] = await site.add("android", 1)
    with dispatchers(site, "killed", "heir") as (first, second):
        async with site.client() as client, site.lab_client() as lab:
            command_id = await in_flight(client, lab, unit, first)
            first.kill()
            second.launch()
            assert (await client.over(unit, command_id))["status"] == "DONE"
            found = await compared(client, lab, [unit])
            assert (found.counts, found.lies, await tries(lab, unit)) == ({"done": 1}, [], 1)


async def test_one_stops_beyond_its_lease_and_goes_on(site: Rig) -> None:
    """It comes back with an answer for a command that is no longer its own, and cannot spoil what the other did."""
    [unit] = await site.add("android", 1)
    with dispatchers(site, "stopped", "other") as (first, second):
        async with site.client() as client, site.lab_client() as lab:
            command_id = await in_flight(client, lab, unit, first)
            os.kill(first.pid, signal.SIGSTOP)
            second.launch()
            settled = await client.over(unit, command_id)
            os.kill(first.pid, signal.SIGCONT)
            assert settled["status"] == "DONE"
            assert first.end() == 0  # with all that it had to say
            assert await client.command(unit, command_id) == settled
            found = await compared(client, lab, [unit])
            assert (found.counts, found.lies, await tries(lab, unit)) == ({"done": 1}, [], 1)


CLAIMING = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND state = 'idle in transaction'
"""


async def stop_in_a_claim(rig: Rig, dispatcher: Child) -> None:
    """SIGSTOP in the middle of a claim, which holds the lock on claims. A few dozen tries find such an instant."""
    connection = await asyncpg.connect(rig.database)

    async def stopped() -> bool:
        os.kill(dispatcher.pid, signal.SIGSTOP)
        if await connection.fetchval(CLAIMING):
            return True
        os.kill(dispatcher.pid, signal.SIGCONT)
        return False

    await until(stopped, "a dispatcher claims")
    await connection.close()


async def test_under_load(site: Rig) -> None:
    units = await site.add("android", 3) + await site.add("aosp", 2) + await site.add("aosp", 1, "pushy")
    with dispatchers(site, "one", "two", "three") as (one, two, three):
        async with site.client() as client, site.lab_client() as lab:
            load = Load(client, units, random.Random(SEED), pace_s=0.4, most_open=30)
            sending = asyncio.create_task(load.run())
            one.launch()
            two.launch()
            await load.carried_out()
            one.kill()
            await load.carried_out()
            await stop_in_a_claim(site, two)
            three.launch()
            until_now = list(load.commands)
            for unit, command_id in until_now:  # what the stopped one had claimed is taken over
                assert (await client.over(unit, command_id))["status"] == "DONE"
            os.kill(two.pid, signal.SIGCONT)
            await load.carried_out()
            load.going = False
            await sending
            assert two.end() == 0
            await check(client, lab, units, load)
            await assert_whole(site)
