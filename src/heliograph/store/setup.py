"""What an operator sets up in an organization. Not hot: each write is a small transaction of its own."""

# ruff: noqa: S608 - made of the names of our own tables and columns

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from heliograph.domain.devices import ApiKey, Device, Enterprise, Organization, ProviderAccount
from heliograph.domain.errors import Conflict, NotFound
from heliograph.store.database import Database, Statement, statement
from heliograph.store.inserts import insert_of
from heliograph.store.joining import give_up, join
from heliograph.store.known_accounts import KnownAccounts
from heliograph.store.records import ACCOUNTS, API_KEYS, DEVICES, ENTERPRISES, ORGANIZATIONS, Table

T = TypeVar("T")

_UPDATE_DEVICE = (
    "UPDATE devices SET "
    + ", ".join(f"{column} = ${n}" for n, column in enumerate(DEVICES.changing, 3))
    + " WHERE organization_id = $1 AND id = $2"
)
_UNCHANGED_SINCE = f" AND updated_at = ${len(DEVICES.changing) + 3}"
# Each name belongs to one device for good. Fails for one that is another's.
_NAME = """
INSERT INTO device_names (organization_id, name, device_id)
SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT) WHERE NOT EXISTS (
    SELECT 1 FROM device_names WHERE organization_id = $1 AND name = $2 AND device_id = $3)
"""
# What is changed together: credentials belong to the address that they are sent to.
_ENTERPRISE_CHANGES = (("credentials", "api_url"), ("subscription",), ("push_audience",), ("push_email",))
_HEARD = """
UPDATE enterprises SET heard_at = $3
WHERE organization_id = $1 AND id = $2 AND (heard_at IS NULL OR heard_at < $3)
"""
_RENEW_AGENT = "UPDATE devices SET agent_secret_hash = $3 WHERE organization_id = $1 AND id = $2"
_AGENT = "SELECT agent_secret_hash FROM devices WHERE organization_id = $1 AND id = $2"
# A change as any other: who read the record before must read it again.
_REPLACE_DEFAULT = """
UPDATE provider_accounts SET is_default = 0, updated_at = updated_at + 1
WHERE organization_id = $1 AND provider = $2 AND is_default = 1
"""
# Only for the sake of one that will be saved.
_REPLACE_DEFAULT_BY = f"""{_REPLACE_DEFAULT} AND id <> $3 AND EXISTS (
    SELECT 1 FROM provider_accounts WHERE organization_id = $1 AND id = $3
    AND (CAST($4 AS BIGINT) IS NULL OR updated_at = CAST($4 AS BIGINT)))
"""
_ACCOUNT_CHANGES = ("name", "config", "updated_at", "is_default", "disabled_at", "expires_at")
_UPDATE_ACCOUNT = (
    "UPDATE provider_accounts SET "
    + ", ".join(f"{column} = ${n}" for n, column in enumerate(_ACCOUNT_CHANGES, 3))
    + " WHERE organization_id = $1 AND id = $2"
)
_ACCOUNT_UNCHANGED = f" AND updated_at = ${len(_ACCOUNT_CHANGES) + 3}"
_NOTE_FAULT = """
UPDATE provider_accounts
SET fault = $3, fault_at = CASE WHEN CAST($3 AS TEXT) IS NULL THEN NULL ELSE CAST($4 AS BIGINT) END
WHERE organization_id = $1 AND id = $2 AND COALESCE(fault, '') <> COALESCE(CAST($3 AS TEXT), '')
AND (CAST($5 AS BIGINT) IS NULL OR updated_at = $5) RETURNING id
"""
# Keys are revoked, and made by keys, one at a time: else one that a revocation did not see yet would live on, and two
# revocations would lock the same keys in different orders.
_FAMILIES = "keys"
_MAKER_STANDS = """
SELECT 1 WHERE NOT EXISTS (
    SELECT 1 FROM api_keys WHERE organization_id = $1 AND id = $2 AND revoked_at IS NOT NULL)
"""
_REVOKE = """
UPDATE api_keys SET revoked_at = CASE WHEN revoked_at IS NULL THEN $3 ELSE revoked_at END
WHERE organization_id = $1 AND id = $2 RETURNING id
"""
_REVOKE_WITH_CREATED = """
WITH RECURSIVE family (id) AS (
    SELECT id FROM api_keys WHERE organization_id = $1 AND id = $2
    UNION SELECT k.id FROM api_keys k JOIN family f ON k.created_by = f.id WHERE k.organization_id = $1
)
UPDATE api_keys SET revoked_at = CASE WHEN revoked_at IS NULL THEN $3 ELSE revoked_at END
WHERE organization_id = $1 AND id IN (SELECT id FROM family) RETURNING id
"""
_UPDATE_ORGANIZATION = """
UPDATE organizations SET name = $2, features = $3, updated_at = $4 WHERE id = $1 AND updated_at = $5 RETURNING id
"""


class Setup:
    """See ports.store.SetupRepository."""

    def __init__(self, database: Database, organization_id: str, known_accounts: KnownAccounts) -> None:
        self._database = database
        self._organization_id = organization_id
        self._known_accounts = known_accounts

    async def enterprise(self, enterprise_id: str) -> Enterprise | None:
        """One enterprise."""
        return await self._one(ENTERPRISES, enterprise_id)

    async def enterprises(self) -> list[Enterprise]:
        """All enterprises, oldest first."""
        return await self._all(ENTERPRISES)

    async def add_enterprise(self, enterprise: Enterprise) -> None:
        """Store an enterprise."""
        await self._add(
            "An enterprise with this name exists",
            statement(insert_of(ENTERPRISES), *self._own(ENTERPRISES, enterprise)),
        )

    async def save_enterprise(self, enterprise: Enterprise, changed: Collection[str]) -> None:
        """Overwrite what has changed of how an enterprise is reached and heard."""
        values = dict(zip(ENTERPRISES.columns, self._own(ENTERPRISES, enterprise), strict=True))
        columns = [column for group in _ENTERPRISE_CHANGES if {*group} & {*changed} for column in group]
        if columns:
            listed = ", ".join(f"{column} = ${n}" for n, column in enumerate(columns, 3))
            sql = f"UPDATE enterprises SET {listed} WHERE organization_id = $1 AND id = $2"
            changes = (values[column] for column in columns)
            await self._database.write(statement(sql, self._organization_id, enterprise.id, *changes))

    async def heard_of_enterprise(self, enterprise_id: str, now: int) -> None:
        """Note that a notification has come."""
        await self._database.write(statement(_HEARD, self._organization_id, enterprise_id, now))

    async def add_device(
        self, device: Device, agent_secret_hash: bytes | None, *, former_names: Sequence[str] = ()
    ) -> None:
        """Store a device, with the hash of its agent's secret and its former names."""
        await self._add(
            "This device exists, or its enterprise or provider account does not",
            statement(insert_of(DEVICES, "agent_secret_hash"), *self._own(DEVICES, device), agent_secret_hash),
            *self._names(device, former_names),
        )

    def _names(self, device: Device, former_names: Sequence[str]) -> list[Statement]:
        names = {name for name in (device.external_name, *former_names) if name is not None}
        return [statement(_NAME, self._organization_id, name, device.id) for name in sorted(names)]

    async def replace_agent_secret(self, device_id: str, agent_secret_hash: bytes) -> None:
        """Let another secret open the agent line for a device."""
        await self._database.write(statement(_RENEW_AGENT, self._organization_id, device_id, agent_secret_hash))

    async def save_device(
        self, device: Device, *, read_at: int | None = None, former_names: Sequence[str] = ()
    ) -> None:
        """Overwrite a device's description; NotFound where there is none.

        With `read_at`, the `updated_at` of the record that was read: Conflict when it has changed since.
        """
        saved, *_ = await self._add(
            "The device was changed meanwhile, or its enterprise or provider account does not exist",
            *self._saved(device, read_at, former_names),
        )
        if not saved:
            raise NotFound

    def _saved(self, device: Device, read_at: int | None, former_names: Sequence[str]) -> list[Statement]:
        self._own(DEVICES, device)
        guard, more = ("", ()) if read_at is None else (_UNCHANGED_SINCE, (read_at,))
        sql, changed = f"{_UPDATE_DEVICE}{guard} RETURNING id", DEVICES.changed_row(device)
        save = statement(sql, self._organization_id, device.id, *changed, *more, must=read_at is not None)
        return [save, *self._names(device, former_names)]

    async def join_devices(
        self,
        device: Device,
        others: Sequence[Device],
        *,
        read_at: int,
        present: Device | None = None,
        former_names: Sequence[str] = (),
    ) -> None:
        """Save a device, and join to it other records of the same one. The secret of its agent is that of `present`, or
        of the newest record that has one.
        """
        ids = {name for other in others for name in (other.id, other.all_platform_id)}
        records = sorted((device, *others), key=lambda d: (d.created_at, d.id), reverse=True)
        secrets = {d.id: await self._agent_secret(d) for d in records}
        in_turn = ([] if present is None else [present.id]) + [d.id for d in records]
        holder = next((d for d in in_turn if secrets[d] is not None), device.id)
        renew = statement(_RENEW_AGENT, self._organization_id, device.id, secrets[holder])
        save, *names = self._saved(device, read_at, [*former_names, *ids])
        await self._add(
            "One of the devices was changed meanwhile",
            *(give_up(other, secrets[other.id]) for other in others),
            save,
            *(statement_ for other in others for statement_ in join(self._database.dialect, device, other)),
            *names,
            *([] if holder == device.id else [renew]),
        )

    async def _agent_secret(self, device: Device) -> bytes | None:
        rows = await self._database.fetch(_AGENT, self._organization_id, device.id)
        return rows[0][0] if rows else None

    async def account(self, account_id: str) -> ProviderAccount | None:
        """One provider account."""
        return await self._one(ACCOUNTS, account_id)

    async def accounts(self) -> list[ProviderAccount]:
        """All provider accounts, oldest first."""
        return await self._all(ACCOUNTS)

    async def known_accounts(self, *, anew: bool = False) -> Mapping[str, ProviderAccount]:
        """All provider accounts by their ids, oldest first: see ports.store."""
        return await self._known_accounts.of(self._organization_id, anew=anew)

    async def add_account(self, account: ProviderAccount) -> None:
        """Store a provider account; a default one replaces the default of its kind."""
        insert = statement(insert_of(ACCOUNTS), *self._own(ACCOUNTS, account))
        replace = statement(_REPLACE_DEFAULT, self._organization_id, account.provider)
        await self._add("This provider account exists", *([replace, insert] if account.is_default else [insert]))
        self._known_accounts.changed()

    async def save_account(self, account: ProviderAccount, *, read_at: int | None = None) -> None:
        """Overwrite a provider account, but for its fault; NotFound where there is none.

        With `read_at`, the `updated_at` of the record that was read: Conflict when it has changed since.
        """
        values = dict(zip(ACCOUNTS.columns, self._own(ACCOUNTS, account), strict=True))
        changed = [values[column] for column in _ACCOUNT_CHANGES]
        replace = statement(_REPLACE_DEFAULT_BY, self._organization_id, account.provider, account.id, read_at)
        guard, more = ("", ()) if read_at is None else (_ACCOUNT_UNCHANGED, (read_at,))
        update = statement(f"{_UPDATE_ACCOUNT}{guard} RETURNING id", self._organization_id, account.id, *changed, *more)
        *_, saved = await self._database.write(*([replace, update] if account.is_default else [update]))
        if not saved:
            raise NotFound if read_at is None else Conflict("The account was changed meanwhile")
        self._known_accounts.changed()

    async def note_fault(self, account_id: str, fault: str | None, now: int, made_at: int | None = None) -> bool:
        """Note why pushes do not go through an account, or that they do, unless it has changed since `made_at`."""
        said = (account_id, fault, now, made_at)
        [noted] = await self._database.write(statement(_NOTE_FAULT, self._organization_id, *said))
        if noted:
            self._known_accounts.changed()
        return bool(noted)

    async def key(self, key_id: str) -> ApiKey | None:
        """One API key."""
        return await self._one(API_KEYS, key_id)

    async def keys(self) -> list[ApiKey]:
        """All API keys, oldest first."""
        return await self._all(API_KEYS)

    async def add_key(self, key: ApiKey, secret_hash: bytes) -> None:
        """Store a key by its hash. Conflict when the key that made it is revoked."""
        insert = statement(insert_of(API_KEYS, "hash"), *self._own(API_KEYS, key), secret_hash)
        if key.created_by is None:
            await self._add("This API key exists", insert)
            return
        stands = statement(_MAKER_STANDS, self._organization_id, key.created_by, must=True)
        await self._add("The API key that made this one is revoked", stands, insert, alone=_FAMILIES)

    async def revoke_key(self, key_id: str, now: int, *, with_created: bool = True) -> bool:
        """Revoke a key, and those that it made, and so on; the time of the first revocation stays."""
        revoke = _REVOKE_WITH_CREATED if with_created else _REVOKE
        [rows] = await self._database.write(statement(revoke, self._organization_id, key_id, now), alone=_FAMILIES)
        return bool(rows)

    async def save_organization(self, organization: Organization, *, read_at: int) -> None:
        """Overwrite name and features. Conflict when `updated_at` is not that of the record that was read any more."""
        if organization.id != self._organization_id:
            raise ValueError("another organization")
        _, _, name, features, _, updated_at = ORGANIZATIONS.row(organization)
        changed = (organization.id, name, features, updated_at)
        await self._database.write(statement(_UPDATE_ORGANIZATION, *changed, read_at, must=True))

    async def _one(self, table: Table[T], record_id: str) -> T | None:
        rows = await self._database.fetch(
            f"SELECT {table.names} FROM {table.name} WHERE organization_id = $1 AND id = $2",
            self._organization_id,
            record_id,
        )
        return table.read(rows[0]) if rows else None

    async def _all(self, table: Table[T]) -> list[T]:
        rows = await self._database.fetch(
            f"SELECT {table.names} FROM {table.name} WHERE organization_id = $1 ORDER BY created_at, id",
            self._organization_id,
        )
        return [table.read(row) for row in rows]

    async def _add(self, conflict: str, *statements: Statement, alone: str | None = None) -> list[Any]:
        try:
            return await self._database.write(*statements, alone=alone)
        except Conflict:
            raise Conflict(conflict) from None

    def _own(self, table: Table[T], record: T) -> tuple[Any, ...]:
        """The row of a record, which must be one of this organization."""
        if getattr(record, "organization_id", None) != self._organization_id:
            raise ValueError("a record of another organization")
        return table.row(record)
