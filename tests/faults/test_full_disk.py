"""The disk is full under a running server on SQLite: it says so, keeps what it has, and goes on when there is room.

A limit on the size of the server's files stands for the full disk: it needs no rights and holds on every filesystem.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.support.crash import Rig, running_rig
from tests.support.load import SEED, Load, assert_unavailable, assert_whole, check


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running_rig(tmp_path_factory.mktemp("full"), None) as running:
        yield running


@contextmanager
def full_disk(rig: Rig) -> Iterator[None]:
    """No file of the server's can be written, its log included."""
    server = psutil.Process(rig.server.pid)
    before = server.rlimit(psutil.RLIMIT_FSIZE)
    server.rlimit(psutil.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        server.rlimit(psutil.RLIMIT_FSIZE, before)


async def test_under_load(small: Rig) -> None:
    rig, pid = small, small.server.pid
    units = await rig.add("android", 3) + await rig.add("aosp", 3) + await rig.add("aosp", 1, "pushy")
    async with rig.client() as client, rig.lab_client() as lab:
        load = Load(client, units, random.Random(SEED), pace_s=0.3)
        sending = asyncio.create_task(load.run())

        await load.accepted()
        for _ in range(2):
            with full_disk(rig):
                await load.turned_away()
                answer = await client.http.get("/readyz")
                assert (answer.status_code, "store" in answer.json()["faults"]) == (503, True)
                assert (await client.http.get("/healthz")).status_code == 200
                await client.command(*load.commands[0])  # what is there can be read
                for answer in load.refused:
                    assert_unavailable(answer)
            await load.accepted()
            assert (await client.http.get("/readyz")).json() == {"status": True, "faults": {}}
        load.going = False
        await sending
        await check(client, lab, units, load)
        await assert_whole(rig)
    assert rig.server.pid == pid


async def test_a_refused_request_has_left_nothing(small: Rig) -> None:
    rig = small
    [unit] = await rig.add("aosp", 1)
    async with rig.client() as client:
        command = await client.create(unit)
        await client.over(unit, command["id"])
        with full_disk(rig):
            assert_unavailable(await client.call("POST", unit.path, json={"command": "REBOOT"}))
        assert [record["id"] for record in await client.records(unit)] == [command["id"]]
        await client.over(unit, (await client.create(unit))["id"])
