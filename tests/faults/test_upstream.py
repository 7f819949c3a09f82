"""Whatever Google and Pushy do: no command is lost, none is issued twice, each record ends where the journal says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.support.crash import SETTLE_S, Client, LabClient, Rig, Unit, fault, until
from tests.support.truth import compared

NOT_FOUND = {"error": {"code": 500, "message": "Requested entity was not found.", "status": "INTERNAL"}}
ACTIONS: dict[str, dict[str, Any]] = {
    "429": {"status": 429},
    "429 with Retry-After": {"status": 429, "retryAfter": 1},
    "500 not found": {"status": 500, "body": json.dumps(NOT_FOUND)},
    "503": {"status": 503},
    "garbage": {"status": 502, "body": "<html>bad gateway</html>"},
    "401": {"status": 401},
    "403": {"status": 403},
    "404": {"status": 404},
    "slow": {"delayMs": 3000},
    "cut before": {"cut": "before"},
    "cut after": {"cut": "after"},
}
SAY_GONE = ("500 not found", "404")
# Behind a device's name: where the call goes. An issue waits for its answer for 10 s, and is looked for afterwards.
CALLS = {
    "issue": ":issueCommand$",
    "list": "/operations$",
    "get": "/operations/[0-9]+$",
    "cancel": "/operations/[0-9]+:cancel$",
    "devices.get": "$",
}
TOO_SLOW = {"delayMs": 11_000}
TOKEN_TRIES = 2


@dataclass(frozen=True)
class Cell:
    """One call that goes wrong in one way, on a device of its own."""

    call: str
    action: str
    unit: Unit

    @property
    def rule(self) -> dict[str, Any]:
        """The fault."""
        action = TOO_SLOW if (self.call, self.action) == ("issue", "slow") else ACTIONS[self.action]
        # 401 is answered at once with another token; what is uncertain is looked for before another try.
        times = 3 if self.call != "issue" else 2 if self.action == "401" else 1
        return fault("amapi", f"{self.unit.external}{CALLS[self.call]}", times=times, **action)

    @property
    def endings(self) -> tuple[str, ...]:
        """How the record may end. Google's word that there is no such device ends what was not issued yet."""
        if self.call in ("issue", "devices.get") and self.action in SAY_GONE:
            return ("failed",)
        return ("done", "cancelled") if self.call in ("get", "cancel") else ("done",)

    async def begin(self, client: Client, lab: LabClient) -> str:
        """The id of a new command, cancelled where that is what goes wrong."""
        # Of these devices the records say nothing, and a REBOOT depends on how a device is managed.
        kind = {"type": "REBOOT", "duration": "3600s"} if self.call == "devices.get" else {"type": "LOCK"}
        command = await client.create(self.unit, **kind)
        if self.call in ("get", "cancel"):
            await until(partial(_is_known, client, self.unit, command["id"]), "Google accepts")
            answer = await client.cancel(self.unit, command["id"])
            assert answer.status_code == 200, answer.text
            await lab.put(self.unit, online=True)
        return str(command["id"])


async def _are_gone(client: Client, lab: LabClient, begun: Mapping[Cell, str]) -> bool:
    """Whether each fault has met all that it was for, or its command is over without."""
    in_force = {rule["match"]["path"] for rule in await lab.ask("GET", "/faults")}
    left = [(cell, command_id) for cell, command_id in begun.items() if cell.rule["match"]["path"] in in_force]
    return all([(await client.command(cell.unit, command_id, 1))["status"] != "PENDING" for cell, command_id in left])


async def _is_known(client: Client, unit: Unit, command_id: str) -> bool:
    return bool((await client.command(unit, command_id))["_config"].get("name"))


async def wrong_of(client: Client, lab: LabClient, unit: Unit, endings: Sequence[str]) -> list[str]:
    """What is wrong with the one command of a device."""
    found = await compared(client, lab, [unit])
    [ending] = found.counts
    wrong = [] if ending in endings else [f"ended as {ending}"]
    if len(await lab.operations(unit)) != (ending != "failed"):
        wrong.append("issued twice, or never")
    return found.lies + wrong


async def test_every_call_to_google_in_every_way(rig: Rig) -> None:
    """All at once, since what takes longest is waiting for an attempt without an answer to stay absent. What Google
    refuses to one lets its whole project wait, so that some faults only come once others are gone.
    """
    pairs = [(call, action) for call in CALLS for action in ACTIONS]
    units = await rig.add("android", len(pairs))
    cells = [Cell(*pair, unit) for pair, unit in zip(pairs, units, strict=True)]
    async with rig.client() as client, rig.lab_client() as lab:
        for cell in cells:
            if cell.call in ("get", "cancel"):
                await lab.put(cell.unit, online=False)
        await lab.faults(*(cell.rule for cell in cells))
        ids = await asyncio.gather(*(cell.begin(client, lab) for cell in cells))
        begun = dict(zip(cells, ids, strict=True))
        await until(partial(_are_gone, client, lab, begun), "the faults are gone", 2 * SETTLE_S)
        await asyncio.gather(*(client.over(cell.unit, command_id) for cell, command_id in begun.items()))
        left = await lab.ask("GET", "/faults")
        await lab.faults()
        wrongs = {(c.call, c.action): await wrong_of(client, lab, c.unit, c.endings) for c in cells}
    assert {where: wrong for where, wrong in wrongs.items() if wrong} == {}
    unmet = [(c.call, c.action) for c in cells if c.rule in left]
    assert unmet == [], "these faults have met nobody"


async def test_a_quota_of_nothing(rig: Rig) -> None:
    """A project that Google has not approved: commands wait, and go once there is one."""
    [unit] = await rig.add("android", 1)
    async with rig.client() as client, rig.lab_client() as lab:
        await lab.ask("PUT", "/settings", {"amapi": {"quotaLimit": 0}})
        command = await client.create(unit)
        await until(partial(_was_refused, client, unit, command["id"]), "Google refuses")
        waiting = await client.command(unit, command["id"])
        assert (waiting["status"], waiting["_config"]) == ("PENDING", {})
        await lab.ask("DELETE", "/settings")
        await client.over(unit, command["id"])
        assert await wrong_of(client, lab, unit, ["done"]) == []


async def _was_refused(client: Client, unit: Unit, command_id: str) -> bool:
    history = (await client.command(unit, command_id))["progress"]["history"]
    return any("429" in str(entry.get("evidence")) for entry in history)


@pytest.mark.parametrize("action", ACTIONS)
async def test_asking_for_a_token(rig: Rig, action: str) -> None:
    enterprise = f"enterprises/LC0token{list(ACTIONS).index(action):02d}"
    await rig.connect(enterprise)
    [unit] = await rig.add("android", 1, enterprise=enterprise)
    async with rig.client() as client, rig.lab_client() as lab:
        asked = len(await lab.requests("amapi", "/token"))
        await lab.faults(fault("amapi", "^/token$", times=TOKEN_TRIES, **ACTIONS[action]))
        command = await client.create(unit)
        await client.over(unit, command["id"])
        assert await wrong_of(client, lab, unit, ["done"]) == []
        assert len(await lab.requests("amapi", "/token")) > asked


@pytest.mark.parametrize("action", ["429 with Retry-After", "503", "garbage", "slow", "cut before", "cut after"])
async def test_pushing(rig: Rig, action: str) -> None:
    [unit] = await rig.add("aosp", 1, "pushy")
    async with rig.client() as client, rig.lab_client() as lab:
        await lab.faults(fault("pushy", "^/push$", times=2, **ACTIONS[action]))
        command = await client.create(unit)
        assert (await client.over(unit, command["id"]))["status"] == "DONE"
        assert (await compared(client, lab, [unit])).lies == []
