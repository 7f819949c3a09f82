"""Commands, pushes and their histories, of one organization."""

# ruff: noqa: S608 - made of the names of our own tables and columns

from collections.abc import Sequence

from heliograph.domain.deliveries import Push
from heliograph.domain.devices import PushTarget
from heliograph.domain.ladder import Command, Entry, Issue
from heliograph.ports.changes import OutboxItem
from heliograph.ports.pages import Page, PageQuery
from heliograph.store.database import LookUp, Reader
from heliograph.store.paging import order_by, page_of
from heliograph.store.records import COMMANDS, HISTORY, OUTBOX, PUSHES
from heliograph.store.targets import read_with_targets, with_targets

# As in the partial indexes, to the letter: only then do the databases see that an index serves.
LIVE = "rung IN ('queued', 'held', 'scheduled', 'issued', 'deferred', 'delivered', 'acknowledged', 'running')"
ERASES = "type IN ('RELINQUISH_OWNERSHIP', 'WIPE')"
OPEN_PUSH = "rung IN ('queued', 'accepted')"
OFFERED = "(rung IN ('accepted', 'provider_delivered') OR (rung = 'queued' AND legs IS NOT NULL))"

_SORTS = ("created_at", "updated_at", "type", "rung")
_OF_DEVICE = "FROM commands WHERE organization_id = $1 AND device_id = $2"

_FIND = LookUp(
    f"""
SELECT {COMMANDS.names} FROM commands
WHERE organization_id = $1 AND id = $2 AND (CAST($3 AS TEXT) IS NULL OR device_id = $3)
""",
    ("text", "text", "text"),
)
_FIND_BY_RECEIPT = f"SELECT {COMMANDS.names} FROM commands WHERE organization_id = $1 AND receipt = $2"
_LIVE = LookUp(
    f"SELECT {COMMANDS.names} {_OF_DEVICE} AND {LIVE} ORDER BY created_at, id LIMIT $3", ("text", "text", "bigint")
)
_LIVE_OF_ISSUE = LookUp(
    f"SELECT {COMMANDS.names} {_OF_DEVICE} AND {LIVE} AND issue = $3 ORDER BY created_at, id LIMIT $4",
    ("text", "text", "text", "bigint"),
)
# `Command.is_due_to`, before the limit: what is not due must not hide what is.
_DUE_TO_AGENT = LookUp(
    f"""
SELECT {COMMANDS.names} {_OF_DEVICE} AND {LIVE} AND (claimed_by IS NULL OR claimed_by = $3) AND (
    rung = 'delivered'
    OR (cancel_requested_at IS NOT NULL AND rung IN ('acknowledged', 'deferred'))
    OR (cancel_requested_at IS NULL AND rung IN ('queued', 'issued', 'deferred')
        AND expires_at > $4 AND COALESCE(not_before, 0) <= $4)
) ORDER BY created_at, id LIMIT $5
""",
    ("text", "text", "text", "bigint", "bigint"),
)

_ENDED_ERASURES = f"""
SELECT {COMMANDS.names} {_OF_DEVICE} AND {ERASES} AND rung IN ('succeeded', 'failed')
ORDER BY created_at DESC, id DESC LIMIT $3
"""

_FIND_PUSH = LookUp(f"SELECT {PUSHES.names} FROM pushes WHERE organization_id = $1 AND id = $2", ("text", "text"))
_FIND_PUSH_WITH_TARGETS = LookUp(
    with_targets(PUSHES, _FIND_PUSH.sql, device="r.device_id", app="r.app"), ("text", "text")
)
_PUSHES_OF_COMMAND = LookUp(
    f"""
SELECT {PUSHES.names} FROM pushes WHERE organization_id = $1 AND command_id = $2 ORDER BY created_at DESC, id DESC
""",
    ("text", "text"),
)
_OFFERS = LookUp(
    f"""
SELECT {PUSHES.names} FROM pushes
WHERE organization_id = $1 AND device_id = $2 AND app = $3 AND {OFFERED} AND expires_at > $4
AND (created_at, id) > ($5, $6) ORDER BY created_at, id LIMIT $7
""",
    ("text", "text", "text", "bigint", "bigint", "text", "bigint"),
)
_WAITING = f"""
SELECT {OUTBOX.names} FROM outbox
WHERE priority = $1 AND pool = $2 AND (due_at, id) > ($3, $4)
AND organization_id = $5 AND kind = 'push' AND lease_until = 0
ORDER BY due_at, id LIMIT $6
"""

_HISTORY = f"SELECT {HISTORY.names} FROM history WHERE organization_id = $1"
_HISTORY_OF_ONE = LookUp(f"{_HISTORY} AND subject_id = $2 ORDER BY seq", ("text", "text"))


class Commands:
    """See ports.store.CommandRepository."""

    def __init__(self, reader: Reader, organization_id: str) -> None:
        self._reader = reader
        self._organization_id = organization_id

    async def find(self, command_id: str, device_id: str | None = None) -> Command | None:
        """One command."""
        rows = await self._reader.look_up(_FIND, self._organization_id, command_id, device_id)
        return COMMANDS.read(rows[0]) if rows else None

    async def find_by_receipt(self, receipt: str) -> Command | None:
        """The command that an upstream operation belongs to."""
        rows = await self._reader.fetch(_FIND_BY_RECEIPT, self._organization_id, receipt)
        return COMMANDS.read(rows[0]) if rows else None

    async def list_of_device(self, device_id: str, query: PageQuery) -> Page[Command]:
        """A page of a device's commands."""
        ordered = f"{_OF_DEVICE} {order_by(query, _SORTS)} LIMIT $3 OFFSET $4"
        return await page_of(self._reader, COMMANDS, ordered, _OF_DEVICE, (self._organization_id, device_id), query)

    async def live_of_device(self, device_id: str, limit: int, issue: Issue | None = None) -> list[Command]:
        """A device's commands that are not over, oldest first."""
        asked = self._organization_id, device_id
        if issue is None:
            rows = await self._reader.look_up(_LIVE, *asked, limit)
        else:
            rows = await self._reader.look_up(_LIVE_OF_ISSUE, *asked, issue.value, limit)
        return [COMMANDS.read(row) for row in rows]

    async def due_to_agent(self, device_id: str, journal: str, now: int, limit: int) -> list[Command]:
        """A device's commands about which the agent with this journal has something to do, oldest first."""
        rows = await self._reader.look_up(_DUE_TO_AGENT, self._organization_id, device_id, journal, now, limit)
        return [COMMANDS.read(row) for row in rows]

    async def ended_erasures(self, device_id: str, limit: int) -> list[Command]:
        """A device's commands that succeeded or failed, of the types that may erase it, newest first."""
        rows = await self._reader.fetch(_ENDED_ERASURES, self._organization_id, device_id, limit)
        return [COMMANDS.read(row) for row in rows]

    async def bound_receipts(self, receipts: Sequence[str]) -> set[str]:
        """Which of these upstream names are bound to commands, of any organization."""
        dialect = self._reader.dialect
        sql = f"SELECT receipt FROM commands WHERE receipt IS NOT NULL AND {dialect.among('receipt', 1)}"
        return {row[0] for row in await self._reader.fetch(sql, dialect.pack(receipts))}


class Pushes:
    """See ports.store.PushRepository."""

    def __init__(self, reader: Reader, organization_id: str) -> None:
        self._reader = reader
        self._organization_id = organization_id

    async def find(self, push_id: str) -> Push | None:
        """One push."""
        rows = await self._reader.look_up(_FIND_PUSH, self._organization_id, push_id)
        return PUSHES.read(rows[0]) if rows else None

    async def find_with_targets(self, push_id: str) -> tuple[Push, list[PushTarget]] | None:
        """One push, with the addresses of its app."""
        rows = await self._reader.look_up(_FIND_PUSH_WITH_TARGETS, self._organization_id, push_id)
        return read_with_targets(PUSHES, rows) if rows else None

    async def of_command(self, command_id: str) -> list[Push]:
        """All pushes made for a command, newest first."""
        rows = await self._reader.look_up(_PUSHES_OF_COMMAND, self._organization_id, command_id)
        return [PUSHES.read(row) for row in rows]

    async def offers(self, device_id: str, app: str, now: int, limit: int, behind: Push | None = None) -> list[Push]:
        """Pushes that an app has not acknowledged."""
        place = (-1, "") if behind is None else (behind.created_at, behind.id)
        rows = await self._reader.look_up(_OFFERS, self._organization_id, device_id, app, now, *place, limit)
        return [PUSHES.read(row) for row in rows]

    async def waiting(
        self, account_id: str, priority: int, limit: int, behind: OutboxItem | None = None
    ) -> list[OutboxItem]:
        """The effects owed that send pushes through an account."""
        place = (-1, "") if behind is None else (behind.due_at, behind.id)
        rows = await self._reader.fetch(_WAITING, priority, account_id, *place, self._organization_id, limit)
        return [OUTBOX.read(row) for row in rows]


class History:
    """See ports.store.HistoryRepository."""

    def __init__(self, reader: Reader, organization_id: str) -> None:
        self._reader = reader
        self._organization_id = organization_id

    async def of(self, subject_ids: Sequence[str]) -> dict[str, list[Entry]]:
        """The entries of each record, oldest first."""
        if len(subject_ids) == 1:
            rows = await self._reader.look_up(_HISTORY_OF_ONE, self._organization_id, subject_ids[0])
        else:
            dialect = self._reader.dialect
            sql = f"{_HISTORY} AND {dialect.among('subject_id', 2)} ORDER BY subject_id, seq"
            rows = await self._reader.fetch(sql, self._organization_id, dialect.pack(subject_ids))
        histories: dict[str, list[Entry]] = {subject_id: [] for subject_id in subject_ids}
        for row in rows:
            entry = HISTORY.read(row)
            histories[entry.subject_id].append(entry)
        return histories
