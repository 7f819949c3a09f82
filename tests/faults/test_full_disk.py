"""The disk is full under a running server on SQLite: it says so, keeps what it has, and goes on when there is room.

A limit on the size of the server's files stands for the full disk: it needs no rights and holds on every filesystem.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.crash import Client, Rig, running_rig, until
from tests.support.load import SEED, Load, assert_unavailable, assert_whole, check

ON_A_FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
from heliograph.__main__ import main
main()
"""


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


async def is_ready(client: Client, expected: bool) -> bool:
    answer = await client.http.get("/readyz")
    assert answer.status_code == (200 if answer.json()["status"] else 503)
    return ("store" not in answer.json()["faults"]) is expected


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
                await until(lambda: is_ready(client, False), "it says that it is not ready")
                assert (await client.http.get("/healthz")).status_code == 200
                await client.command(*load.commands[0])  # what is there can be read
                for answer in load.refused:
                    assert_unavailable(answer)
            await load.accepted()
            await until(lambda: is_ready(client, True), "it says that it is ready")
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


def test_a_start_says_so(tmp_path: Path) -> None:
    """In one line, whether it is the first start or a later one."""
    data = tmp_path / "data"
    arguments = ["serve", "all", "--port", "0", "--data-dir", str(data)]
    first = subprocess.run(
        [sys.executable, "-c", ON_A_FULL_DISK, *arguments], capture_output=True, text=True, check=False
    )
    [line] = first.stderr.splitlines()
    assert (first.returncode, line) == (3, f"heliograph: The data directory {data} cannot be used: File too large")
    (data / "secret.key").write_text("1f" * 32)
    later = subprocess.run(
        [sys.executable, "-c", ON_A_FULL_DISK, *arguments], capture_output=True, text=True, check=False
    )
    [line] = later.stderr.splitlines()
    assert (later.returncode, line) == (3, f"heliograph: The data directory {data} cannot be used: File too large")
