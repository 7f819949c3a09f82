"""Commands that are cancelled at a random moment around their execution, on many devices at a time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.crash import Client, LabClient, Unit
from tests.support.truth import Findings, compared

Json = dict[str, Any]

# How a cancel ends at Google, by script; drawn once per device.
ENDS = ("wins", "loses", "lost", "501", "400", "404")
ENDS_WEIGHTS = (14, 2, 1, 1, 1, 1)
MOST_AT_ONCE = 3
PACE = 1.02
AWAY = 0.15  # share of the rounds in which the device is away for a while: some cancels win, however slow they are
SHORT = 0.06  # share of the rounds in which the commands have a second to live
SLOW = 0.5  # share of the devices with another script than `wins` that take longer than a cancel waits
SLOW_MS = 2500


@dataclass
class Race:
    """`runs` commands in all. The span of random delays follows the outcomes, so that both ends are met often."""

    client: Client
    lab: LabClient
    units: Sequence[Unit]
    runs: int
    seed: int
    span_s: float
    latency_ms: tuple[int, int]
    left: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    async def run(self) -> Findings:
        """Race on all devices, then compare everything with the journals."""
        self.left = self.runs
        await asyncio.gather(*(self._on(unit, random.Random(f"{self.seed} {n}")) for n, unit in enumerate(self.units)))
        found = await compared(self.client, self.lab, self.units)
        found.lies += self.broken
        return found

    async def _on(self, unit: Unit, rng: random.Random) -> None:
        script = rng.choices(ENDS, ENDS_WEIGHTS)[0] if unit.platform == "android" else "wins"
        slow = script != "wins" and rng.random() < SLOW
        latency_ms = SLOW_MS if slow else rng.randint(*self.latency_ms)
        await self.lab.put(unit, latencyMs=latency_ms, outcome={"cancel": script})
        while self.left > 0:
            at_once = min(rng.choice((1, 1, 1, MOST_AT_ONCE)), self.left)
            self.left -= at_once
            short, away_s = rng.random() < SHORT, rng.uniform(0, 2) if rng.random() < AWAY else 0
            if away_s:
                await self.lab.put(unit, online=False)
            runs = [asyncio.create_task(self._one(unit, rng, short=short)) for _ in range(at_once)]
            if away_s:
                await asyncio.sleep(away_s)
                await self.lab.put(unit, online=True)
            await asyncio.gather(*runs)

    async def _one(self, unit: Unit, rng: random.Random, *, short: bool) -> None:
        # One that expires is given the time to do so.
        delay_s = rng.uniform(0, self.span_s) + (rng.uniform(0, 2) if short else 0)
        life: Json = {"duration": "1s" if unit.platform == "android" else 1} if short else {}
        made = await self.client.create(unit, **life)
        await asyncio.sleep(delay_s)
        answer = await self.client.cancel(unit, made["id"])
        said = self._said(unit, answer.status_code, answer.json())
        self.answers[said] += 1
        record = await self.client.over(unit, made["id"])
        self._follow(record["status"])
        self._judge(said, f"{unit.name} {made['id']}", record)

    def _follow(self, status: str) -> None:
        """Cancel later when too many cancels win, earlier when too many come too late."""
        self.span_s *= PACE if status == "CANCEL" else 1 / PACE

    def _said(self, unit: Unit, status: int, body: Json) -> str:
        if status == 200:
            return str(body["data"]["status"])
        assert (status, body["error"]["code"]) == (400, 5052), body
        return "5052"

    def _judge(self, said: str, where: str, record: Json) -> None:
        """What a cancel has answered stays true."""
        if said == "CANCEL" and record["status"] != "CANCEL":
            self.broken.append(f"{where}: cancelled, then {record['progress']}")
        if said == "5052" and record["status"] == "CANCEL":
            self.broken.append(f"{where}: refused as over, then {record['progress']}")
        if said not in ("CANCEL", "PENDING", "5052"):
            self.broken.append(f"{where}: a cancel answered {said}")
