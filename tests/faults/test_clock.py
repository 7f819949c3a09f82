"""The wall clock jumps back, under a running server or before it starts again: time goes on from where it was."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.crash import Client, Rig, Unit, running_rig
from tests.support.truth import compared

Json = dict[str, Any]
HOUR_S = 3600
# The server with a wall clock that a file sets off.
PROGRAM = """
import sys, time
real, file = time.time_ns, sys.argv.pop(1)
time.time_ns = lambda: real() + int(open(file).read()) * 10**9
from heliograph.__main__ import main
main()
"""


class Wall:
    """The server's wall clock."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.ahead_s = 0
        self.set(0)

    def set(self, ahead_s: int) -> None:
        """Set it to so many seconds ahead of the real time."""
        self.ahead_s = ahead_s
        fresh = self.file.with_suffix(".new")
        fresh.write_text(str(ahead_s))
        fresh.replace(self.file)

    def jump(self, seconds: int) -> None:
        """Set it forward or back."""
        self.set(self.ahead_s + seconds)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Wall]]:
    folder = tmp_path_factory.mktemp("clock")
    wall = Wall(folder / "ahead")
    program = [sys.executable, "-c", PROGRAM, str(wall.file)]
    with running_rig(folder, None, program=program) as rig:
        yield rig, wall


async def assert_in_order(client: Client, unit: Unit) -> None:
    """By id, by time of creation and within each history, everything is in the order in which it happened."""
    page = await client.ask("GET", unit.path, params={"sort": "createdAt:asc"})
    ids = [record["id"] for record in page["items"]]
    assert ids == sorted(ids)
    for record in page["items"]:
        times = [entry["at"] for entry in record["progress"]["history"]]
        assert times == sorted(times), record["progress"]
        assert record["createdAt"] <= times[0]
    times = [record["createdAt"] for record in page["items"]]
    assert all(one <= other for one, other in itertools.pairwise(times))


async def expires_in_time(client: Client, unit: Unit) -> None:
    """A device that is away lets a command of a second run out of time, which takes no hour."""
    command = await client.create(unit, duration=1)
    assert (await client.over(unit, command["id"]))["status"] == "EXPIRED"


async def test_under_a_running_server(place: tuple[Rig, Wall]) -> None:
    rig, wall = place
    kiosk, away = await rig.add("aosp", 2)
    async with rig.client() as client, rig.lab_client() as lab:
        await lab.put(away, online=False)
        for _ in range(2):
            await client.over(kiosk, (await client.create(kiosk))["id"])
            wall.jump(-HOUR_S)
            await client.over(kiosk, (await client.create(kiosk))["id"])
            await expires_in_time(client, away)
            assert (await client.http.get("/readyz")).status_code == 200
        await assert_in_order(client, kiosk)
        await assert_in_order(client, away)
        assert (await compared(client, lab, [kiosk, away])).lies == []


async def test_before_a_restart(place: tuple[Rig, Wall]) -> None:
    rig, wall = place
    kiosk, away = await rig.add("aosp", 2)
    async with rig.client() as client, rig.lab_client() as lab:
        await lab.put(away, online=False)
        wall.jump(2 * HOUR_S)
        await client.over(kiosk, (await client.create(kiosk))["id"])
        waiting = await client.create(away)
        wall.jump(-HOUR_S)
        await rig.restart_server()
        await client.over(kiosk, (await client.create(kiosk))["id"])
        await expires_in_time(client, away)
        await lab.put(away, online=True)
        assert (await client.over(away, waiting["id"]))["status"] == "DONE"
        await assert_in_order(client, kiosk)
        await assert_in_order(client, away)
        assert (await compared(client, lab, [kiosk, away])).lies == []
