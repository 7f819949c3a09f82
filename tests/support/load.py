"""Requests without end, while something is broken on purpose, and what must be true of them afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
from collections.abc import Sized
from typing import Any

import asyncpg
import httpx2

from heliograph.domain.errors import OutcomeUnknown, StoreUnavailable
from tests.support.crash import GONE, Client, LabClient, Refused, Rig, Unit, until
from tests.support.truth import compared, settled, shown_once

# Lines that a change set writes together; each counts what is there without the other half.
_SUBJECTS = "(SELECT id FROM commands UNION ALL SELECT id FROM pushes UNION ALL SELECT id FROM devices)"  # looked up
_ENTRIES = "(SELECT count(*) FROM history h WHERE h.organization_id = s.organization_id AND h.subject_id = s.id)"
_HALVES = (
    f"SELECT count(*) FROM commands s WHERE s.entries <> {_ENTRIES}",
    f"SELECT count(*) FROM pushes s WHERE s.entries <> {_ENTRIES}",
    f"SELECT count(*) FROM outbox WHERE subject_id NOT IN {_SUBJECTS}",
    f"SELECT count(*) FROM history WHERE subject_id NOT IN {_SUBJECTS}",
)
_SOME = 10
SEED = int(os.environ.get("HELIOGRAPH_TEST_SEED") or random.randrange(1_000_000))


class Load:
    """Sends commands and pushes until told to stop, and remembers what was answered 200.

    `most_open`: so many of a device's commands may not be over; None = any number, which grow on a slow machine.
    """

    def __init__(
        self,
        client: Client,
        units: list[Unit],
        dice: random.Random,
        *,
        pace_s: float = 0.1,
        most_open: int | None = None,
    ) -> None:
        self.client, self.units, self.dice, self.pace_s = client, units, dice, pace_s
        self.most_open = most_open
        self.commands: list[tuple[Unit, str]] = []
        self.pushes: dict[str, tuple[Unit, list[str]]] = {unit.id: (unit, []) for unit in units}
        self.refused: list[httpx2.Response] = []
        self.going = True

    async def run(self) -> None:
        """One sender for each device."""
        await asyncio.gather(*(self._send_to(unit) for unit in self.units))

    async def accepted(self) -> None:
        """Return once some more commands have been accepted."""
        await _grows(self.commands, "commands are accepted")

    async def carried_out(self) -> None:
        """Return once a command that was accepted from now on has run."""
        await self.accepted()
        await self.client.over(*self.commands[-1])

    async def turned_away(self) -> None:
        """Return once some more requests have been refused."""
        await _grows(self.refused, "requests are refused")

    async def _send_to(self, unit: Unit) -> None:
        mine: list[str] = []
        while self.going:
            if self.most_open is not None and len(mine) >= self.most_open:
                await self.client.over(unit, mine[-self.most_open])
            # The server is away now and then; what it does not answer is not counted.
            try:
                if self.dice.random() < 0.3:
                    self.pushes[unit.id][1].append((await self.client.send(unit))["id"])
                else:
                    mine.append((await self.client.create(unit))["id"])
                    self.commands.append((unit, mine[-1]))
            except GONE:
                pass
            except Refused as refused:
                if refused.status != 503:
                    raise
                self.refused.append(refused.answer)
            await asyncio.sleep(self.dice.random() * self.pace_s)


async def _grows(items: Sized, what: str) -> None:
    goal = len(items) + _SOME

    async def has_grown() -> bool:
        return len(items) >= goal

    await until(has_grown, what)


async def check(client: Client, lab: LabClient, units: list[Unit], load: Load) -> None:
    """Everything answered is there, is over, ran once, and was shown once."""
    await settled(client, units)
    for unit, command_id in load.commands:
        assert (await client.command(unit, command_id))["status"] == "DONE"
    found = await compared(client, lab, units)
    assert found.lies == []
    for unit, push_ids in load.pushes.values():
        assert await shown_once(client, lab, unit, push_ids) == []


async def rows(rig: Rig, sql: str) -> list[Any]:
    """What a query of the server's database answers, asked past the server."""
    if rig.database is None:
        with contextlib.closing(sqlite3.connect(rig.data_dir / "heliograph.db")) as file:
            return file.execute(sql).fetchall()
    connection = await asyncpg.connect(rig.database)
    try:
        return list(await connection.fetch(sql))
    finally:
        await connection.close()


async def assert_whole(rig: Rig) -> None:
    """Nothing was written in part."""
    found = [(await rows(rig, sql))[0][0] for sql in _HALVES]
    assert found == [0] * len(_HALVES), found


def assert_unavailable(answer: httpx2.Response) -> None:
    """The documented answer of a server that cannot read or write just now, which tells nothing of the inside."""
    assert answer.status_code == 503, answer.text
    message = answer.json()["error"]["message"]
    assert answer.json() == {"status": False, "error": {"code": 1003, "message": message}}
    assert message in (str(StoreUnavailable()), str(OutcomeUnknown()))
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["x-request-id"]
