"""A process that issues, cancels and executes until it is killed, and prints each fact it was told.

Lines: `issued NAME`, `cancelled NAME`, `done NAME`. A fact that was printed has to be true for ever.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from tests.lab.amapi.rig import Rig, running


async def _one(rig: Rig, index: int) -> None:
    name = (await rig.issue(("d1", "d2")[index % 2], {"type": "LOCK", "duration": "86400s"}))["name"]
    _tell("issued", name)
    if index % 3 == 0:
        await rig.cancel(name)
    operation = await rig.done(name)
    _tell("cancelled" if operation.get("error", {}).get("code") == 1 else "done", name)


def _tell(fact: str, name: str) -> None:
    sys.stdout.write(f"{fact} {name}\n")
    sys.stdout.flush()


async def main(directory: Path) -> None:
    async with running(directory) as rig:
        rig.settings.cancel_delay = 0
        for round_ in itertools.count():
            await asyncio.gather(*(_one(rig, round_ * 20 + index) for index in range(20)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
