"""SIGKILL under load loses no push and strands none; what reached a service twice says in its record that it may have.

The services are the lab's, in this process, and count what reaches the devices.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Sized
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.crash import GONE, Client, Refused, Unit, fault, until
from tests.support.demo import STORES, new_database
from tests.support.load import SEED, assert_whole, rows
from tests.support.push_fakes import PLATFORM, SENDING, PushSite, Tenant, running_site

PROVIDERS = list(PLATFORM)
SENDERS = 16
FIFTHS = 5
PLACES = 128  # in the dispatcher
HANGS = "wns"  # not Web Push, which bounds by itself what waits for one service
SICK = 5  # accounts that hang at the same time: their shares, of 32 and more, are more than all places
OVERTAKEN = 100  # of the flood: what was under way, 32 for an account, and what ends while the other is stored
STILL_S = 60  # nothing moved for so long: what is left is stranded


@pytest.fixture(params=STORES)
def database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    with new_database(request.param, request) as name:
        yield name


@pytest.fixture
async def site(database: str | None, tmp_path: Path) -> AsyncIterator[PushSite]:
    async with running_site(tmp_path, database) as running:
        yield running


class Load:
    """Sends pushes until told to stop; `accepted` holds the ids that were answered 200."""

    def __init__(self, tenant: Tenant, dice: random.Random) -> None:
        self.client, self.units, self.dice = tenant.client, tenant.units, dice
        self.accepted: list[str] = []
        self.going = True

    async def run(self) -> None:
        await asyncio.gather(*(self._send() for _ in range(SENDERS)))

    async def _send(self) -> None:
        while self.going:
            pushed = await sent(self.client, self.dice.choice(self.units))
            if pushed is None:
                await asyncio.sleep(0.05)
            else:
                self.accepted.append(pushed)

    async def reach(self, count: int) -> None:
        """Return once so many have been accepted, which takes as long as it moves."""
        while (before := len(self.accepted)) < count:
            await grows(self.accepted, before)


async def grows(items: Sized, count: int) -> None:
    async def holds() -> bool:
        return len(items) > count

    await until(holds, "pushes are accepted")


async def sent(client: Client, unit: Unit) -> str | None:
    """A push; None where the server is away, so that it may have been taken or not."""
    try:
        return str((await client.send(unit))["id"])
    except GONE:
        return None
    except Refused as refused:
        if refused.status != 503:
            raise
        return None


async def owed(site: PushSite) -> int:
    return int((await rows(site.rig, "SELECT count(*) FROM outbox WHERE kind = 'push'"))[0][0])


async def all_sent(site: PushSite, accepted: Collection[str]) -> None:
    """Nothing is owed any more, which takes as long as it moves, and what was sent has arrived."""
    loop = asyncio.get_running_loop()
    last, since = -1, loop.time()
    while left := await owed(site):
        reached = len(site.fakes.order)
        if reached != last:
            last, since = reached, loop.time()
        assert loop.time() - since < STILL_S, f"{left} pushes are stranded"
        await asyncio.sleep(0.2)

    async def have_arrived() -> bool:
        return site.fakes.received.keys() >= set(accepted)

    await until(have_arrived, "every push arrives; else some are lost")


def uncertain_of(attempts: str | None) -> int:
    """How many attempts a record says may have been taken without an answer."""
    return int(json.loads(attempts)["uncertain"]) if attempts else 0


async def verdict(site: PushSite, accepted: list[str]) -> Counter[str]:
    """What became of the pushes, by the devices' count and by the records; every contradiction fails."""
    received, found = site.fakes.received, Counter[str]()
    records = {row[0]: row for row in await rows(site.rig, "SELECT id, rung, attempts FROM pushes")}
    for push_id in accepted:
        _, rung, attempts = records[push_id]
        times, uncertain = received[push_id], uncertain_of(attempts)
        assert rung == "accepted", f"{push_id} is {rung}: {attempts}"
        assert times >= 1, f"{push_id} is lost: {attempts}"
        assert times - 1 <= uncertain, f"{push_id} came {times} times, and its record says {attempts}"
        found["duplicates"] += times - 1
        found["flagged"] += uncertain > 0
    unanswered = set(records) - set(accepted)  # stored, and the server died before it could say so
    assert all(records[push_id][1] == "accepted" and received[push_id] for push_id in unanswered)
    assert set(received) <= set(records)
    assert await rows(site.rig, "SELECT id FROM dead_letters") == []
    return found + Counter(accepted=len(accepted), unanswered=len(unanswered))


async def kill_under_load(site: PushSite, goal: int, kills: int, gap_s: float) -> None:
    dice = random.Random(SEED)
    async with site.tenant("busy", PROVIDERS, each=3) as tenant:
        load = Load(tenant, dice)
        sending = asyncio.create_task(load.run())
        for kill in range(1, kills + 1):
            await load.reach(goal * kill // (kills + 1))
            site.fakes.cut_after_sending(kill % 3 + 1)
            await asyncio.sleep(dice.uniform(0, gap_s))
            await site.restart_server()
        await load.reach(goal)
        load.going = False
        await sending
        site.fakes.faults()
        await all_sent(site, load.accepted)
        found = await verdict(site, load.accepted)
        await assert_whole(site.rig)
        print(f"\n{site.rig.store}, seed {SEED}: {kills} kills, {dict(found)}; 0 lost, 0 stranded")
        assert found["duplicates"]  # the connections that were cut
        twice = next(push_id for push_id in load.accepted if site.fakes.received[push_id] > 1)
        assert flagged(await tenant.client.push(twice))


def flagged(push: dict[str, Any]) -> int:
    """How many attempts of a push may have been taken without an answer, as the API tells it."""
    return sum(entry["evidence"].get("uncertain", 0) for entry in push["progress"]["history"])


async def test_at_random_instants_under_load(site: PushSite) -> None:
    await kill_under_load(site, 600, 3, 0.5)


@pytest.mark.soak
async def test_at_many_random_instants_under_load(site: PushSite) -> None:
    await kill_under_load(site, 100_000, 40, 5.0)


async def test_between_sent_and_recorded(site: PushSite) -> None:
    """The services have a push each when the server dies, and their answers are never seen: the records say so."""
    async with site.tenant("one", PROVIDERS) as tenant:
        site.fakes.faults(*(fault(p, path, times=1, delayMs=60_000) for p, path in SENDING.items()))
        push_ids = [(await tenant.client.send(unit))["id"] for unit in tenant.units]

        async def asked() -> bool:
            return all(site.fakes.sends(provider) for provider in PROVIDERS)

        await until(asked, "the server sends")
        await site.restart_server()
        await all_sent(site, push_ids)
        for push_id in push_ids:
            push = await tenant.client.push(push_id)
            assert (push["status"], flagged(push)) == ("accepted", 1)
            assert 1 <= site.fakes.received[push_id] <= 2
        assert [site.fakes.sends(provider) for provider in PROVIDERS] == [2] * len(PROVIDERS)


async def crowd_out(site: PushSite, flood: int) -> None:
    """Accounts whose provider answers after 30 s, a flood to another, and a third's pushes that go ahead of it."""
    loop = asyncio.get_running_loop()
    async with (
        AsyncExitStack() as stack,
        site.tenant("busy", ["pushy"]) as busy,
        site.tenant("third", ["apns"]) as third,
    ):
        sick = [await stack.enter_async_context(site.tenant(f"sick-{n}", [HANGS])) for n in range(SICK)]
        slow, slower = (fault(p, SENDING[p], delayMs=ms) for p, ms in (("pushy", 2_000), (HANGS, 30_000)))
        site.fakes.faults(slow, slower)
        began = loop.time()
        await asyncio.gather(*(one.client.send(one.units[0]) for one in sick for _ in range(200 // SICK)))

        async def hang() -> bool:
            return site.fakes.sends(HANGS) >= PLACES

        await until(hang, "as many hang as there are places for all providers together")
        await arrives(site, third)
        print(f"\n{site.rig.store}: the third's push arrived {loop.time() - began:.2f} s after the first that hangs")
        assert await rows(site.rig, "SELECT id FROM pushes WHERE attempts IS NOT NULL") == []  # all hang still
        load = Load(busy, random.Random(SEED))
        sending = asyncio.create_task(load.run())
        for part in range(1, FIFTHS + 1):
            await load.reach(flood * part // FIFTHS)
            waiting = len(load.accepted) - sum(site.fakes.received[push_id] for push_id in load.accepted)
            assert waiting > 2 * OVERTAKEN  # else this would tell nothing
            began = loop.time()
            ahead = await arrives(site, third)
            print(f"{site.rig.store}: {waiting} waited, {ahead} went before, {loop.time() - began:.2f} s to arrive")
            assert ahead < OVERTAKEN
        load.going = False
        await sending
        assert await rows(site.rig, f"SELECT id FROM pushes WHERE provider = '{HANGS}' AND rung <> 'queued'") == []


async def arrives(site: PushSite, tenant: Tenant) -> int:
    """Send one push; how many others reached their devices between its acceptance and its arrival."""
    push_id = (await tenant.client.send(tenant.units[0]))["id"]
    before = len(site.fakes.order)

    async def has_arrived() -> int:
        return site.fakes.received[push_id]

    await until(has_arrived, "the third's push arrives")
    return max(0, site.fakes.order.index(push_id) - before)


async def test_a_slow_provider_and_a_flood_keep_nobody_else_waiting(site: PushSite) -> None:
    await crowd_out(site, 2_000)


@pytest.mark.soak
async def test_a_slow_provider_and_a_large_flood_keep_nobody_else_waiting(site: PushSite) -> None:
    await crowd_out(site, 100_000)
