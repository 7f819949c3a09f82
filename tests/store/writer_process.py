"""A process that writes until it is killed, and says on its standard output what was answered.

Arguments: the database (a data directory or a URL), then ids of organization, enterprise and device.
"""

from __future__ import annotations

import asyncio
import sys

from heliograph.domain.ladder import Command, Requested
from heliograph.ports.changes import ChangeSet, Debt
from heliograph.store import Hub, open_store
from tests.store.world import NOW, SECOND, new_id


async def main(database: str, organization_id: str, enterprise_id: str, device_id: str) -> None:
    store = await open_store(database, Hub())
    work = store.unit_of_work(organization_id)

    async def client() -> None:
        while True:
            plain = Command(
                id=new_id(),
                organization_id=organization_id,
                device_id=device_id,
                enterprise_id=enterprise_id,
                platform="aosp",
                type="LOCK",
                params={},
                duration_us=SECOND,
                created_at=NOW,
                updated_at=NOW,
                expires_at=NOW,
            )
            changes = ChangeSet(organization_id)
            command = changes.add_command(plain, Requested(source="test"), NOW)
            changes.owe(Debt(new_id(), organization_id, "issue", command.id, NOW))
            await work.commit(changes)
            sys.stdout.write(command.id + "\n")
            sys.stdout.flush()

    await asyncio.gather(*(client() for _ in range(16)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
