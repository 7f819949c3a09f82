"""Devices of one organization and the addresses of their apps."""

# ruff: noqa: S608 - made of the names of our own tables and columns

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from heliograph.domain.devices import Device, PushTarget
from heliograph.domain.ids import is_id
from heliograph.ports.pages import DeviceFilter, Page, PageQuery
from heliograph.store.database import Database, LookUp, Rows, statement
from heliograph.store.inserts import insert_of
from heliograph.store.paging import order_by, page_of
from heliograph.store.records import DEVICES, PUSH_TARGETS
from heliograph.store.targets import read_with_targets, with_targets

_SORTS = ("created_at", "updated_at", "name", "state")
_OF_PLATFORM = "FROM devices WHERE organization_id = $1 AND (CAST($2 AS TEXT) IS NULL OR platform = $2)"

_FIND = LookUp(f"SELECT {DEVICES.names} {_OF_PLATFORM} AND id = $3", ("text", "text", "text"))
# By platform before id: in the order of ids alone SQLite would walk the whole organization.
_FIND_ON_ALL_PLATFORMS = LookUp(
    f"SELECT {DEVICES.names} {_OF_PLATFORM} AND all_platform_id = $3 ORDER BY platform, id LIMIT 1",
    ("text", "text", "text"),
)
_BY_NAME = """
FROM device_names n JOIN devices d ON d.organization_id = n.organization_id AND d.id = n.device_id
WHERE n.organization_id = $1"""
_FIND_BY_FORMER_ID = LookUp(
    f"SELECT {DEVICES.qualified('d')} {_BY_NAME} AND n.name = $3 AND (CAST($2 AS TEXT) IS NULL OR d.platform = $2)",
    ("text", "text", "text"),
)
# One statement after the other: one with an OR may be planned as a walk over the whole organization.
_FINDS = (_FIND, _FIND_ON_ALL_PLATFORMS, _FIND_BY_FORMER_ID)
_FINDS_WITH_TARGETS = tuple(
    LookUp(with_targets(DEVICES, find.sql, device="r.id", app="$4"), (*find.types, "text")) for find in _FINDS
)
_FIND_BY_ALIAS = f"""
SELECT {DEVICES.names} FROM devices WHERE organization_id = $1 AND platform = $2 AND id IN (
    SELECT id FROM devices WHERE organization_id = $1 AND serial_number = $3
    UNION SELECT id FROM devices WHERE organization_id = $1 AND imei = $3
    UNION SELECT id FROM devices WHERE organization_id = $1 AND enrollment_specific_id = $3
) ORDER BY id LIMIT 2
"""
_FIND_BY_EXTERNAL_NAME = f"""
SELECT {DEVICES.names} FROM devices WHERE organization_id = $1 AND external_name = $2 ORDER BY id LIMIT 1
"""
_OF_ENTERPRISE = f"""
SELECT {DEVICES.names} FROM devices WHERE organization_id = $1 AND enterprise_id = $2 AND id > $3 ORDER BY id LIMIT $4
"""
_TARGETS = LookUp(
    f"""
SELECT {PUSH_TARGETS.names} FROM push_targets
WHERE organization_id = $1 AND device_id = $2 AND (CAST($3 AS TEXT) IS NULL OR app = $3)
ORDER BY registered_at DESC, app, provider
""",
    ("text", "text", "text"),
)
_FORGET = "DELETE FROM push_targets WHERE organization_id = $1 AND device_id = $2 AND app = $3"
_REGISTER = insert_of(PUSH_TARGETS, "organization_id")
_SEEN = """
UPDATE devices SET last_seen_at = $3
WHERE organization_id = $1 AND id = $2 AND (last_seen_at IS NULL OR last_seen_at < $3)
"""
_REVIVE = "UPDATE push_targets AS t SET dead_at = NULL, dead_reason = NULL"
_GIVEN_UP = "WHERE t.organization_id = $1 AND t.provider = $2 AND t.dead_at >= $3"
# The device's own account, else the address's own, else the default, as in app.routes.
_USABLE = """
SELECT a.id FROM provider_accounts a
WHERE a.organization_id = $1 AND a.provider = $2 AND a.disabled_at IS NULL AND"""
_THROUGH = f"""CAST($4 AS TEXT) = COALESCE(
    ({_USABLE} a.id = (
        SELECT d.provider_account_id FROM devices d WHERE d.organization_id = $1 AND d.id = t.device_id)),
    ({_USABLE} a.id = t.account_id),
    ({_USABLE} a.is_default = 1))"""
# Of those that were registered since the provider's word, it says nothing; nor an account of another's, nor of what its
# present settings would hear.
_QUARANTINE = f"""
UPDATE push_targets AS t SET dead_at = $8, dead_reason = $9
WHERE t.organization_id = $1 AND t.provider = $2 AND t.token = $3 AND (CAST($4 AS TEXT) IS NULL OR {_THROUGH})
AND t.device_id = $5 AND t.app = $6 AND t.registered_at <= $7 AND t.dead_at IS NULL
AND (CAST($10 AS BIGINT) IS NULL OR EXISTS (
    SELECT 1 FROM provider_accounts a WHERE a.organization_id = $1 AND a.id = $4 AND a.updated_at = $10))
"""


# A name of its own: inside the class, `list` is a method.
_Targets = list[PushTarget]
_Found = list[Device]


class Devices:
    """See ports.store.DeviceRepository."""

    def __init__(self, database: Database, organization_id: str) -> None:
        self._database = database
        self._organization_id = organization_id

    async def find(self, platform: str | None, device_id: str) -> Device | None:
        """A device by its platform id or all-platform id, or by those of a record that was joined to its own."""
        rows = await self._first(_FINDS, device_id, platform, device_id)
        return DEVICES.read(rows[0]) if rows else None

    async def find_with_targets(self, platform: str | None, device_id: str, app: str) -> tuple[Device, _Targets] | None:
        """A device, with the push addresses of one of its apps."""
        rows = await self._first(_FINDS_WITH_TARGETS, device_id, platform, device_id, app)
        return read_with_targets(DEVICES, rows) if rows else None

    async def _first(self, finds: Sequence[LookUp], device_id: str, *args: str | None) -> Rows:
        """What the first finds that finds anything."""
        for what in finds[: None if is_id(device_id) else -1]:
            rows = await self._database.look_up(what, self._organization_id, *args)
            if rows:
                return rows
        return []

    async def find_by_external_name(self, name: str) -> Device | None:
        """The device that the upstream calls `name`."""
        rows = await self._database.fetch(_FIND_BY_EXTERNAL_NAME, self._organization_id, name)
        return DEVICES.read(rows[0]) if rows else None

    async def known_as(self, names: Sequence[str]) -> dict[str, Device]:
        """The devices that have, or had, these names."""
        among, pack = self._database.dialect.among("n.name", 2), self._database.dialect.pack
        sql = f"SELECT {DEVICES.qualified('d')}, n.name {_BY_NAME} AND {among}"
        rows = await self._database.fetch(sql, self._organization_id, pack(names))
        return {str(row[len(DEVICES.columns)]): DEVICES.read(row) for row in rows}

    async def find_by_alias(self, platform: str, alias: str) -> _Found:
        """Devices with exactly this serial number, IMEI or enrollment-specific id; at most two."""
        rows = await self._database.fetch(_FIND_BY_ALIAS, self._organization_id, platform, alias)
        return [DEVICES.read(row) for row in rows]

    async def list(self, platform: str | None, query: PageQuery, only: DeviceFilter | None = None) -> Page[Device]:
        """A page of devices."""
        where, args = self._narrowed(_OF_PLATFORM, (self._organization_id, platform), only or DeviceFilter())
        ordered = f"{where} {order_by(query, _SORTS)} LIMIT ${len(args) + 1} OFFSET ${len(args) + 2}"
        return await page_of(self._database, DEVICES, ordered, where, args, query)

    def _narrowed(self, where: str, args: tuple[Any, ...], only: DeviceFilter) -> tuple[str, tuple[Any, ...]]:
        dialect = self._database.dialect
        if only.nothing:
            where += " AND 1 = 0"
        if not only.with_deleted:
            where += " AND state <> 'DELETED'"
        if only.mdm_user_id is not None:
            args = (*args, only.mdm_user_id)
            where += f" AND mdm_user_id = ${len(args)}"
        if only.states is not None:
            args = (*args, dialect.pack(only.states))
            where += f" AND {dialect.among('state', len(args))}"
        return where, args

    async def of_enterprise(self, enterprise_id: str, behind: str, limit: int) -> _Found:
        """Devices of an enterprise in the order of their ids."""
        rows = await self._database.fetch(_OF_ENTERPRISE, self._organization_id, enterprise_id, behind, limit)
        return [DEVICES.read(row) for row in rows]

    async def targets(self, device_id: str, app: str | None = None) -> _Targets:
        """The push addresses of a device's apps, newest first."""
        rows = await self._database.look_up(_TARGETS, self._organization_id, device_id, app)
        return [PUSH_TARGETS.read(row) for row in rows]

    async def register(self, device_id: str, app: str, targets: Sequence[PushTarget], now: int) -> None:
        """Replace an app's addresses and note that the device was seen."""
        organization_id = self._organization_id
        latest = {t.provider: replace(t, device_id=device_id, app=app) for t in targets}
        await self._database.write(
            statement(_SEEN, organization_id, device_id, now),
            statement(_FORGET, organization_id, device_id, app),
            *(statement(_REGISTER, *PUSH_TARGETS.row(target), organization_id) for target in latest.values()),
        )

    async def quarantine(
        self,
        target: PushTarget,
        reason: str,
        since: int,
        now: int,
        account_id: str | None = None,
        made_at: int | None = None,
    ) -> None:
        """Use an address no more, unless it was registered after `since`, or is not reached through the account now, or
        that has changed since `made_at`.
        """
        place = (target.provider, target.token, account_id, target.device_id, target.app)
        said = (since, now, reason, made_at)
        await self._database.write(statement(_QUARANTINE, self._organization_id, *place, *said))

    async def revive(self, provider: str, since: int, account_id: str | None = None) -> None:
        """Use addresses again that were given up since then, those of one account or all."""
        given = (self._organization_id, provider, since)
        if account_id is None:
            await self._database.write(statement(f"{_REVIVE} {_GIVEN_UP}", *given))
        else:
            await self._database.write(statement(f"{_REVIVE} {_GIVEN_UP} AND {_THROUGH}", *given, account_id))
