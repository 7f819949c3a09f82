"""What the tests of the store work with: one organization with its devices, and short ways to make records."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from heliograph.domain.deliveries import Push, PushRequested
from heliograph.domain.devices import Device, Enterprise, Organization, ProviderAccount
from heliograph.domain.ids import IdMinter
from heliograph.domain.ladder import Command, Noted, Requested
from heliograph.ports.changes import ChangeSet, Debt, OutboxItem
from heliograph.store import AnyStore
from heliograph.store.base import Work
from heliograph.store.database import statement

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND
LATER = NOW + 15 * SECOND

PUT_OFF_TO = NOW + 77 * SECOND
SETTLE: dict[str, Callable[[ChangeSet, OutboxItem], None]] = {
    "settled": lambda changes, item: changes.settle(item),
    "put off": lambda changes, item: changes.put_off(item, PUT_OFF_TO),
    "buried": lambda changes, item: changes.bury(item, "why"),
}

new_id = IdMinter(time.time, os.urandom)
_slugs = itertools.count()


@dataclass
class World:
    """One organization in a store."""

    store: AnyStore
    organization: Organization
    enterprise: Enterprise
    account: ProviderAccount
    device: Device

    @property
    def work(self) -> Work:
        return self.store.unit_of_work(self.organization.id)

    def changes(self) -> ChangeSet:
        return ChangeSet(self.organization.id)

    def command(self, **values: Any) -> Command:
        plain = Command(
            id=new_id(),
            organization_id=self.organization.id,
            device_id=self.device.id,
            enterprise_id=self.enterprise.id,
            platform="aosp",
            type="LOCK",
            params={"text": "grüße 🌞", "n": 1},
            duration_us=60 * SECOND,
            created_at=NOW,
            updated_at=NOW,
            expires_at=NOW + 60 * SECOND,
        )
        return replace(plain, **values)

    def push(self, **values: Any) -> Push:
        plain = Push(
            id=new_id(),
            organization_id=self.organization.id,
            device_id=self.device.id,
            app="mdmAgent",
            kind="notification",
            provider="builtin",
            account_id=None,
            message={"title": "t", "body": "b"},
            created_at=NOW,
            updated_at=NOW,
            expires_at=NOW + 60 * SECOND,
        )
        return replace(plain, **values)

    def debt(self, **values: Any) -> Debt:
        return replace(Debt(new_id(), self.organization.id, "issue", new_id(), NOW), **values)

    async def add(self, *records: Command | Push, **values: Any) -> None:
        """Store records as they are, with the first line of their histories."""
        changes = self.changes()
        for record in records:
            if isinstance(record, Command):
                changes.add_command(record, Requested(source="test"), NOW)
            else:
                changes.add_push(record, PushRequested(source="test"), NOW)
        await self.work.commit(changes)

    async def added_command(self, **values: Any) -> Command:
        command = self.command(**values)
        await self.add(command)
        return await self.read(command.id)

    async def added_push(self, **values: Any) -> Push:
        push = self.push(**values)
        await self.add(push)
        found = await self.work.pushes.find(push.id)
        assert found is not None
        return found

    async def read(self, command_id: str) -> Command:
        found = await self.work.commands.find(command_id)
        assert found is not None
        return found

    async def owe(self, *debts: Debt) -> None:
        changes = self.changes()
        for debt in debts:
            changes.owe(debt)
        await self.work.commit(changes)

    async def claim(self, now: int = NOW, lease_until: int = LATER, limit: int = 100) -> list[OutboxItem]:
        return await self.store.system.claim(now, lease_until, limit)

    async def claim_one(self, now: int = NOW, lease_until: int = LATER) -> OutboxItem:
        [item] = await self.claim(now, lease_until)
        return item

    async def owed(self) -> list[tuple[Any, ...]]:
        """What the outbox holds: (id, due_at, lease_until, token), oldest id first."""
        rows = await self.store.fetch("SELECT id, due_at, lease_until, token FROM outbox ORDER BY id")
        return [tuple(row) for row in rows]

    def noted(self, command: Command, word: str = "x") -> ChangeSet:
        """A change set that moves one command a little."""
        changes = self.changes()
        changes.move(command, Noted(source="test", evidence={"word": word}), NOW)
        return changes


async def new_world(store: AnyStore) -> World:
    organization = Organization(new_id(), f"org-{next(_slugs)}", "Acme", {}, NOW, NOW)
    await store.directory.add_organization(organization)
    setup = store.unit_of_work(organization.id).setup
    enterprise = Enterprise(new_id(), organization.id, "aosp", "main", NOW)
    account = ProviderAccount(new_id(), organization.id, "pushy", "main", b"sealed", NOW, NOW, is_default=True)
    device = Device(new_id(), organization.id, new_id(), "aosp", enterprise.id, "kiosk", "active", NOW, NOW)
    await setup.add_enterprise(enterprise)
    await setup.add_account(account)
    await setup.add_device(device, os.urandom(32))
    return World(store, organization, enterprise, account, device)


async def run_sql(store: AnyStore, sql: str, *args: Any) -> None:
    await store.write(statement(sql, *args))


def bare_set(organization_id: str, **parts: Any) -> ChangeSet:
    """A change set as it stands, without the help of its methods."""
    return ChangeSet(organization_id, **parts)


async def waiting_for_a_lock(connection: Any) -> None:
    """Until somebody waits for a lock of PostgreSQL."""
    async with asyncio.timeout(5):
        while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
