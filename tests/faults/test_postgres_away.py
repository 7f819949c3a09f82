"""PostgreSQL goes away under a running server and comes back: nothing accepted is lost, no restart is needed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.crash import Client, Refused, Rig, running_rig, until
from tests.support.load import SEED, Load, assert_unavailable, assert_whole, check
from tests.support.restartable import RestartablePostgres, restartable
from tests.support.truth import compared

Json = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """A server and the PostgreSQL that it works on."""

    rig: Rig
    postgres: RestartablePostgres


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with restartable() as postgres, running_rig(tmp_path_factory.mktemp("away"), postgres.url) as rig:
        yield Pair(rig, postgres)


async def readiness(client: Client) -> tuple[int, Json]:
    answer = await client.http.get("/readyz")
    return answer.status_code, answer.json()


async def is_not_ready(client: Client) -> bool:
    status, body = await readiness(client)
    return (status, body["status"]) == (503, False) and "store" in body["faults"]


async def is_ready(client: Client) -> bool:
    return await readiness(client) == (200, {"status": True, "faults": {}})


async def test_under_load(pair: Pair) -> None:
    rig, pid = pair.rig, pair.rig.server.pid
    units = await rig.add("android", 3) + await rig.add("aosp", 3) + await rig.add("aosp", 1, "pushy")
    async with rig.client() as client, rig.lab_client() as lab:
        load = Load(client, units, random.Random(SEED), pace_s=0.3)
        sending = asyncio.create_task(load.run())

        await load.accepted()
        for _ in range(2):
            pair.postgres.stop()
            await load.turned_away()
            await until(lambda: is_not_ready(client), "the server is not ready")
            assert (await client.http.get("/healthz")).status_code == 200
            assert_unavailable(await client.call("GET", units[0].path))
            for answer in load.refused:
                assert_unavailable(answer)
            pair.postgres.start()
            await until(lambda: is_ready(client), "the server is ready again")
            await load.accepted()
        load.going = False
        await sending
        await check(client, lab, units, load)
        await assert_whole(rig)
    assert rig.server.pid == pid


async def test_who_waits_and_who_is_connected(pair: Pair) -> None:
    """A wait that is cut short says so; the next one waits again, and the agents have come back by themselves."""
    rig = pair.rig
    [kiosk, away] = await rig.add("aosp", 2)
    async with rig.client() as client, rig.lab_client() as lab:
        await lab.put(away, online=False)
        command = await client.create(away)
        waiting = asyncio.create_task(client.call("GET", f"{away.path}/{command['id']}", params={"wait": 30}))
        await client.command(away, command["id"])  # an answer later, the wait is open
        pair.postgres.stop()
        assert_unavailable(await waiting)
        with pytest.raises(Refused):
            await client.send(kiosk)
        await lab.put(away, online=True)  # its agent now comes before the database does
        pair.postgres.start()
        await until(lambda: is_ready(client), "the server is ready again")
        again = asyncio.create_task(client.command(away, command["id"], wait=30))
        sent = await client.send(kiosk)
        assert (await again)["status"] == "DONE"
        assert (await client.push(sent["id"], wait=30))["status"] in ("acknowledged", "executed")
        assert (await compared(client, lab, [kiosk, away])).lies == []
