"""The only reads before an organization is known."""

# ruff: noqa: S608 - made of the names of our own tables and columns

from heliograph.domain.devices import ApiKey, Device, Enterprise, Organization, Principal
from heliograph.domain.errors import Conflict
from heliograph.store.database import Database, LookUp, statement
from heliograph.store.inserts import insert_of
from heliograph.store.records import API_KEYS, DEVICES, ENTERPRISES, ORGANIZATIONS

_PRINCIPAL = f"""
SELECT {API_KEYS.qualified("k")}, {ORGANIZATIONS.qualified("o")}
FROM api_keys k JOIN organizations o ON o.id = k.organization_id WHERE k.hash = $1
"""
_ORGANIZATION = f"""
SELECT {ORGANIZATIONS.names} FROM organizations WHERE id = $1 OR slug = $1
ORDER BY CASE WHEN id = $1 THEN 0 ELSE 1 END LIMIT 1
"""
_ORGANIZATIONS = f"SELECT {ORGANIZATIONS.names} FROM organizations ORDER BY created_at, id"
_DEVICE = LookUp(f"SELECT {DEVICES.names} FROM devices WHERE agent_secret_hash = $1", ("bytea",))
_ENTERPRISES = f"SELECT {ENTERPRISES.names} FROM enterprises WHERE platform = 'android'"


class SqlDirectory:
    """See ports.store.Directory."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def principal(self, key_hash: bytes) -> tuple[Principal, ApiKey] | None:
        """The holder of an API key, revoked and expired ones included."""
        rows = await self._database.fetch(_PRINCIPAL, key_hash)
        if not rows:
            return None
        key = API_KEYS.read(rows[0])
        organization = ORGANIZATIONS.read(tuple(rows[0])[len(API_KEYS.columns) :])
        return Principal(key.id, organization, frozenset(key.permissions), key.expires_at), key

    async def organization(self, reference: str) -> Organization | None:
        """An organization by id or slug."""
        rows = await self._database.fetch(_ORGANIZATION, reference)
        return ORGANIZATIONS.read(rows[0]) if rows else None

    async def organizations(self) -> list[Organization]:
        """All organizations, oldest first."""
        return [ORGANIZATIONS.read(row) for row in await self._database.fetch(_ORGANIZATIONS)]

    async def add_organization(self, organization: Organization, enterprise: Enterprise | None = None) -> None:
        """Store an organization, with an enterprise of its own."""
        rows = [statement(insert_of(ORGANIZATIONS), *ORGANIZATIONS.row(organization))]
        if enterprise is not None:
            rows.append(statement(insert_of(ENTERPRISES), *ENTERPRISES.row(enterprise)))
        try:
            await self._database.write(*rows)
        except Conflict:
            raise Conflict("An organization with this slug exists") from None

    async def device_by_secret(self, secret_hash: bytes) -> Device | None:
        """The device that an agent's secret belongs to."""
        rows = await self._database.look_up(_DEVICE, secret_hash)
        return DEVICES.read(rows[0]) if rows else None

    async def enterprise(self, enterprise_id: str) -> Enterprise | None:
        """An enterprise at Google, of any organization."""
        rows = await self._database.fetch(f"{_ENTERPRISES} AND id = $1", enterprise_id)
        return ENTERPRISES.read(rows[0]) if rows else None

    async def enterprises(self) -> list[Enterprise]:
        """The enterprises at Google of all organizations."""
        return [ENTERPRISES.read(row) for row in await self._database.fetch(f"{_ENTERPRISES} ORDER BY created_at, id")]
