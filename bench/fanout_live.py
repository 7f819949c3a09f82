"""A fan-out in real time, for two minutes: two servers on one PostgreSQL, over HTTP, with Google's emulator of the lab.

The emulator keeps the quota in fixed windows of a minute and answers 429 beyond it.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.fanout import PER_MINUTE, share
from tests.support.crash import Client, LabClient, Rig, Unit, running_rig

DEVICES = 1_900  # more than the quota takes while they are created and measured
SECONDS = 120.0
_AT_A_TIME = 16
_IMPORTED_AT_ONCE = 1_000
_PAUSE_S = 1.5
_SETTINGS = {
    "HELIOGRAPH_AMAPI_REQUESTS_PER_MINUTE": str(PER_MINUTE),
    "HELIOGRAPH_LOOK_UP_CAP_S": "30",
    "HELIOGRAPH_LOOK_UPS_PER_MINUTE": "120",
}

Say = Callable[[str], None]


def run(dsn: str, say: Say, seconds: float = SECONDS) -> dict[str, Any]:
    """Measure once. Blocking: it starts processes and has an event loop of its own."""
    with tempfile.TemporaryDirectory(prefix="heliograph-bench-") as folder:
        say("starting the lab and two servers")
        with running_rig(Path(folder), dsn, **_SETTINGS) as rig:
            key = (rig.data_dir / "secret.key").read_text().strip()
            second = rig.node("second", "all", "--port", "0", data_dir=rig.folder / "second", HELIOGRAPH_SECRET_KEY=key)
            second.start()
            try:
                measured = asyncio.run(_measure(rig, say, seconds))
            finally:
                second.kill()
    return {
        "what": f"a fan-out under way, quota {PER_MINUTE}/min, real time, two servers and the emulator",
        "rounds": [measured],
        "median": {name: statistics.median([value]) for name, value in measured.items()},
    }


async def _measure(rig: Rig, say: Say, seconds: float) -> dict[str, float]:
    async with rig.client() as client, rig.lab_client() as lab:
        await lab.ask("PUT", "/settings", {"amapi": {"quotaLimit": PER_MINUTE, "quotaWindow": 60}})
        say(f"making {DEVICES:,} devices")
        units: list[Unit] = []
        while len(units) < DEVICES:
            units += await rig.add("android", min(_IMPORTED_AT_ONCE, DEVICES - len(units)), online=False)
        say(f"creating {DEVICES:,} commands")
        await _create_all(client, units)
        person = (await rig.operator("key.create", rig.organization, permissions=["*"]))["secret"]
        say(f"measuring for {seconds:g} s")
        before, began_s = await _asked(lab), time.monotonic()
        waits = await _work(client, person, units, began_s + seconds)
        lasted_s, after = time.monotonic() - began_s, await _asked(lab)
        left = (await client.command(units[-1], (await client.records(units[-1]))[0]["id"]))["progress"]
        assert "queue" in left, "the fan-out was over before the measurement"
    return {
        "quotaUsed": (after["accepted"] - before["accepted"]) / (PER_MINUTE * lasted_s / 60),
        "refusedByGoogle": after["refused"],
        "interactive": len(waits),
        "waitP50Ms": share(waits, 0.5) * 1000,
        "waitP99Ms": share(waits, 0.99) * 1000,
    }


async def _create_all(client: Client, units: list[Unit]) -> None:
    at_a_time = asyncio.Semaphore(_AT_A_TIME)

    async def create(unit: Unit) -> None:
        async with at_a_time:
            await client.create(unit, duration="86400s")

    await asyncio.gather(*(create(unit) for unit in units))


async def _asked(lab: LabClient) -> dict[str, int]:
    """What Google has been asked for so far."""
    [project] = (await lab.ask("GET", "/quota"))["projects"]
    return {name: int(project[name]) for name in ("accepted", "refused")}


async def _work(client: Client, key: str, units: list[Unit], until_s: float) -> list[float]:
    """One command after the other with a key of its own; how long each took from the create until Google had it."""
    waits: list[float] = []
    fleet = itertools.cycle(units)
    while time.monotonic() < until_s:
        unit = next(fleet)
        began_s = time.monotonic()
        made = await client.call(
            "POST",
            unit.path,
            json={"type": "REBOOT", "duration": "86400s"},
            headers={"Authorization": f"Bearer {key}"},
        )
        while not (await client.command(unit, made.json()["data"]["id"]))["_config"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        waits.append(time.monotonic() - began_s)
        await asyncio.sleep(_PAUSE_S)
    return waits
