"""Whatever Google and Pushy do: no command is lost, none is issued twice, each record ends where the journal says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.crash import Rig, fault
from tests.support.truth import compared, settled

ACTIONS: dict[str, dict[str, Any]] = {
    "429": {"status": 429},
    "429 with Retry-After": {"status": 429, "retryAfter": 1},
    "500": {"status": 500},
    "503": {"status": 503},
    "garbage": {"status": 502, "body": "<html>bad gateway</html>"},
    "401": {"status": 401},
    "403": {"status": 403},
    "slow": {"delayMs": 3000},
    "cut before": {"cut": "before"},
    "cut after": {"cut": "after"},
}


@pytest.mark.parametrize("action", ACTIONS)
async def test_issuing(rig: Rig, action: str) -> None:
    [unit] = await rig.add("android", 1)
    async with rig.client() as client, rig.lab_client() as lab:
        await lab.faults(fault("amapi", f"{unit.external}:issueCommand", times=1, **ACTIONS[action]))
        command = await client.create(unit)
        assert (await client.over(unit, command["id"]))["status"] == "DONE"
        found = await compared(client, lab, [unit])
        assert (found.counts, found.lies) == ({"done": 1}, [])
        assert len(await lab.operations(unit)) == 1


@pytest.mark.parametrize("action", ACTIONS)
async def test_reading_and_cancelling(rig: Rig, action: str) -> None:
    online, offline = await rig.add("android", 2)
    async with rig.client() as client, rig.lab_client() as lab:
        await lab.put(offline, online=False)
        path = f"({online.external}|{offline.external})/operations"
        await lab.faults(fault("amapi", path, times=3, **ACTIONS[action]))
        await client.create(online)
        waiting = await client.create(offline)
        answer = await client.cancel(offline, waiting["id"])
        assert answer.status_code == 200
        await lab.put(offline, online=True)
        await settled(client, [online, offline])
        assert (await compared(client, lab, [online, offline])).lies == []


@pytest.mark.parametrize("action", ["429 with Retry-After", "503", "garbage", "slow", "cut before", "cut after"])
async def test_pushing(rig: Rig, action: str) -> None:
    [unit] = await rig.add("aosp", 1, "pushy")
    async with rig.client() as client, rig.lab_client() as lab:
        await lab.faults(fault("pushy", "^/push$", times=2, **ACTIONS[action]))
        command = await client.create(unit)
        assert (await client.over(unit, command["id"]))["status"] == "DONE"
        assert (await compared(client, lab, [unit])).lies == []
