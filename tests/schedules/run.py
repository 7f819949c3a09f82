"""Carries out schedules, one seed after the other."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from structlog.testing import capture_logs

from tests.schedules.loop import SimulatedLoop
from tests.schedules.oracle import lies_of
from tests.schedules.process import task_factory
from tests.schedules.store import Database, ProcessStore
from tests.schedules.world import World


@dataclass(frozen=True)
class Ending:
    """How one schedule ended; `lies` is empty where records and journals agree."""

    seed: int
    lies: list[str]
    text: str
    log: list[str]


class Stage:
    """Where schedules are carried out."""

    def __init__(self) -> None:
        self._database = Database()
        loop = SimulatedLoop()
        try:
            loop.run_until_complete(self._database.fill(ProcessStore(self._database)))
        finally:
            loop.close()

    def play(self, seed: int, *, traced: bool = False) -> Ending:
        """Carry out the schedule of a seed."""
        log: list[str] = []
        state = random.getstate()
        random.seed(seed)  # back-off draws from the module
        loop = SimulatedLoop()
        loop.set_task_factory(task_factory)
        asyncio.set_event_loop(loop)
        self._database.begin()
        try:
            with capture_logs() as complaints:
                lies, text = loop.run_until_complete(self._play(seed, loop, log if traced else None))
            lies += [str(line) for line in complaints if line["log_level"] in ("error", "critical")]
        finally:
            self._database.undo()
            loop.close()
            asyncio.set_event_loop(None)
            random.setstate(state)
        return Ending(seed, lies, text, log)

    async def _play(self, seed: int, loop: SimulatedLoop, log: list[str] | None) -> tuple[list[str], str]:
        world = World(self._database, seed, loop, log)
        await world.run()
        return await lies_of(world)
