"""SIGKILL at any instant loses nothing, runs nothing twice, and leaves no record that says otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from tests.support.crash import Refused, Rig, fault, until
from tests.support.load import SEED, Load, check
from tests.support.truth import compared, settled


async def kill_under_load(rig: Rig, kills: int) -> None:
    dice = random.Random(SEED)
    units = await rig.add("android", 4) + await rig.add("aosp", 4) + await rig.add("aosp", 2, "pushy")
    async with rig.client() as client:
        load = Load(client, units, dice)
        sending = asyncio.create_task(load.run())
        for _ in range(kills):
            await asyncio.sleep(dice.uniform(0.2, 1.2))
            await (rig.restart_server() if dice.random() < 0.5 else rig.restart_everything())
        load.going = False
        await sending
        async with rig.lab_client() as lab:
            await check(client, lab, units, load)
    pushes = sum(len(ids) for _, ids in load.pushes.values())
    print(f"\n{rig.store}, seed {SEED}: {kills} kills, {len(load.commands)} commands and {pushes} pushes, none lost")
    assert load.commands
    assert pushes


async def test_at_random_instants_under_load(rig: Rig) -> None:
    await kill_under_load(rig, 4)


@pytest.mark.soak
async def test_at_many_random_instants_under_load(rig: Rig) -> None:
    await kill_under_load(rig, 100)


async def test_the_lab_with_its_agents_alone(rig: Rig) -> None:
    """Agents, Google and Pushy are gone at once; the server stays."""
    units = await rig.add("android", 2) + await rig.add("aosp", 2) + await rig.add("aosp", 1, "pushy")
    async with rig.client() as client:
        load = Load(client, units, random.Random(SEED))
        sending = asyncio.create_task(load.run())
        for _ in range(2):
            await asyncio.sleep(0.5)
            await rig.restart_lab()
        load.going = False
        await sending
        async with rig.lab_client() as lab:
            await check(client, lab, units, load)


@pytest.mark.parametrize(
    ("service", "path", "platform", "provider"),
    [("amapi", ":issueCommand$", "android", "builtin"), ("pushy", "^/push$", "aosp", "pushy")],
)
@pytest.mark.parametrize("moment", ["before it was sent", "before the answer was recorded"])
async def test_between_accepted_and_recorded(
    rig: Rig, moment: str, service: str, path: str, platform: str, provider: str
) -> None:
    """The call hangs at the provider when the server dies: not taken yet, or taken and the answer never seen."""
    [unit] = await rig.add(platform, 1, provider)
    async with rig.client() as client, rig.lab_client() as lab:
        before = len(await lab.requests(service, path.strip("^$")))
        action = {"cut": "before"} if moment == "before it was sent" else {"delayMs": 60_000}
        await lab.faults(fault(service, path, **action))
        command = await client.create(unit)

        async def tried() -> bool:
            return len(await lab.requests(service, path.strip("^$"))) > before

        await until(tried, "the server calls the provider")
        rig.server.kill()
        await lab.faults()
        rig.server.start()
        record = await client.over(unit, command["id"])
        assert record["status"] == "DONE"
        found = await compared(client, lab, [unit])
        assert (found.counts, found.lies) == ({"done": 1}, [])


async def test_between_accepted_and_sent(rig: Rig) -> None:
    """No dispatcher ever saw it: the server died right after its answer."""
    units = await rig.add("android", 1) + await rig.add("aosp", 1)
    async with rig.client() as client:
        made = [(unit, (await client.create(unit))["id"]) for unit in units]
        rig.server.kill()
        rig.server.start()
        for unit, command_id in made:
            assert (await client.over(unit, command_id))["status"] == "DONE"
        async with rig.lab_client() as lab:
            assert (await compared(client, lab, units)).lies == []


async def test_a_cancel_that_was_answered_holds_over_a_kill(rig: Rig) -> None:
    units = await rig.add("android", 3, online=False) + await rig.add("aosp", 3)
    async with rig.client() as client, rig.lab_client() as lab:
        for unit in units[3:]:
            await lab.put(unit, online=False)
        cancelled = []
        for unit in units:
            command = await client.create(unit)
            answer = (await client.cancel(unit, command["id"])).json()["data"]
            if answer["status"] == "CANCEL":
                cancelled.append((unit, command["id"]))
        await rig.restart_everything()
        for unit in units:
            with contextlib.suppress(Refused):
                await lab.put(unit, online=True)
        await settled(client, units)
        for unit, command_id in cancelled:
            assert (await client.command(unit, command_id))["status"] == "CANCEL"
        assert cancelled
        assert (await compared(client, lab, units)).lies == []
