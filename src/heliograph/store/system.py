"""The cross-organization half: the outbox, and what has run out of time."""

# ruff: noqa: S608 - made of the names of our own tables and columns

from collections.abc import Sequence
from typing import Any

from heliograph.domain.deliveries import Push
from heliograph.domain.ladder import Command
from heliograph.ports.changes import OutboxItem
from heliograph.ports.system import NONE_SHUT, Place, TokenOrder
from heliograph.store.commands import LIVE, OPEN_PUSH
from heliograph.store.database import Database, statement
from heliograph.store.due import due_statements
from heliograph.store.records import COMMANDS, OUTBOX, PUSHES

# The pair is compared as text so that one statement, whatever the number of items, fits both databases.
_RENEW = """
UPDATE outbox SET lease_until = $1
WHERE {ids} AND {fences}
"""
_EXPIRED_COMMANDS = f"""
SELECT {COMMANDS.names} FROM commands
WHERE {LIVE} AND (platform <> 'android' OR issue = 'idle') AND expires_at <= $1
ORDER BY expires_at, id LIMIT $2
"""
# What is owed for a command is owed in the same commit as its move, so a statement never sees one without the other.
# Each is looked up: NOT EXISTS is a join, planned as one with all that is owed where PostgreSQL last saw nothing owed.
_SILENT = f"""
SELECT {COMMANDS.names} FROM commands c
WHERE {LIVE} AND platform = 'android' AND (
    SELECT o.id FROM outbox o WHERE o.organization_id = c.organization_id
    AND o.key = CASE WHEN c.issue = 'bound' THEN 'look_up:' || c.device_id ELSE 'issue:' || c.id END) IS NULL
ORDER BY created_at, id LIMIT $1
"""
_EXPIRED_PUSHES = f"""
SELECT {PUSHES.names} FROM pushes WHERE {OPEN_PUSH} AND expires_at <= $1 ORDER BY expires_at, id LIMIT $2
"""
# Our own line is no address that can die: it stays with its device.
_FORGET_TARGETS = """
DELETE FROM push_targets WHERE dead_at < $1 OR (registered_at < $2 AND token <> '') RETURNING device_id
"""
_DEAD = f"SELECT {OUTBOX.names}, reason FROM dead_letters ORDER BY died_at DESC, id DESC LIMIT $1"
_OWED = "SELECT count(*) FROM outbox WHERE kind = $1 AND priority <= $2"
_OWED_TO = (
    "SELECT organization_id, pool, count(*) FROM outbox WHERE kind = $1 AND priority <= $2 AND pool <> ''"
    " GROUP BY organization_id, pool"
)
_COUNTS = f"""
SELECT 'outbox_' || kind, count(*) FROM outbox GROUP BY kind
UNION ALL SELECT 'dead_letters', count(*) FROM dead_letters
UNION ALL SELECT 'commands_live', count(*) FROM commands WHERE {LIVE}
UNION ALL SELECT 'push_accounts_out_of_order', count(*) FROM provider_accounts
    WHERE fault IS NOT NULL AND disabled_at IS NULL
UNION ALL SELECT 'push_credentials_expire_at', COALESCE(min(expires_at), 0) FROM provider_accounts
    WHERE disabled_at IS NULL
UNION ALL SELECT 'rounds_begun_' || kind, sum(begun) FROM rounds GROUP BY kind
UNION ALL SELECT 'rounds_failed_' || kind, sum(failed) FROM rounds GROUP BY kind
"""
# A round that is further away than the next one can be was planned by a clock that was ahead.
_ROUND_DUE = "SELECT due_at FROM rounds WHERE kind = $1 AND subject = $2 AND due_at > $3 AND due_at <= $4"
_FIRST_ROUND = """
INSERT INTO rounds (kind, subject, due_at, begun, failed) VALUES ($1, $2, $3, 0, 0)
ON CONFLICT (kind, subject) DO NOTHING RETURNING kind
"""
_BEGIN_ROUND = """
UPDATE rounds SET due_at = $4, begun = begun + 1
WHERE kind = $1 AND subject = $2 AND (due_at <= $3 OR due_at > $4) RETURNING kind
"""
_END_ROUND = """
UPDATE rounds SET completed_at = CASE WHEN CAST($4 AS TEXT) IS NULL THEN $3 ELSE completed_at END, fault = $4,
    failed = failed + CASE WHEN CAST($4 AS TEXT) IS NULL THEN 0 ELSE 1 END
WHERE kind = $1 AND subject = $2
"""
# A bucket begins full. `granted` is only there to be returned.
_FILL = (
    """INSERT INTO quotas (project, tokens, at, granted) VALUES ($1, $2, $3, 0) ON CONFLICT (project) DO NOTHING""",
    """
UPDATE quotas SET at = CASE WHEN at > $2 THEN at ELSE $2 END, tokens = CASE
    WHEN at > $2 THEN tokens
    WHEN $2 - at > 60000000 OR tokens + ($2 - at) * $3 / 60 > $4 THEN $4
    ELSE tokens + ($2 - at) * $3 / 60 END
WHERE project = $1
""",
)
_TAKEN = """CASE WHEN tokens - $2 < 1000000 THEN 0
    WHEN (tokens - $2) / 1000000 > $3 THEN $3 ELSE (tokens - $2) / 1000000 END"""
_TAKE = f"""
UPDATE quotas SET granted = {_TAKEN}, tokens = tokens - 1000000 * {_TAKEN} WHERE project = $1 RETURNING granted
"""
_SLOWER = "SELECT 1 FROM outbox WHERE lane = $1 AND priority > $2 LIMIT 1"
_HASTEN = "UPDATE outbox SET priority = $2 WHERE lane = $1 AND priority > $2"
# In two parts, each of which walks the index of what is due no further than to the place itself.
_PLACE = """
SELECT (SELECT count(*) FROM outbox o WHERE o.priority < m.priority AND o.pool = m.pool AND o.kind = m.kind)
    + (SELECT count(*) FROM outbox o WHERE o.priority = m.priority AND (o.due_at, o.id) < (m.due_at, m.id)
        AND o.pool = m.pool AND o.kind = m.kind), m.due_at
FROM outbox m WHERE m.organization_id = $1 AND m.key = $2
"""


class System:
    """See ports.system.SystemWork."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due = due_statements(database.dialect)

    async def claim(
        self, now: int, lease_until: int, limit: int, shut: Sequence[Sequence[str]] = NONE_SHUT
    ) -> list[OutboxItem]:
        """Claim due effects by priority, then in the order in which they are due."""
        pools = self._packed(shut)
        sql = self._due.claim_by_pool if await self._flooded(now, shut) else self._due.claim
        # One claim at a time: two that look at a lane in the same instant would each find it free.
        [rows] = await self._database.write(statement(sql, now, lease_until, limit, *pools), alone="claim")
        return sorted((OUTBOX.read(row) for row in rows), key=lambda item: (item.priority, item.due_at, item.id))

    async def renew(self, items: Sequence[OutboxItem], lease_until: int) -> None:
        """Prolong claims that still hold."""
        if not items:
            return
        dialect = self._database.dialect
        sql = _RENEW.format(ids=dialect.among("id", 2), fences=dialect.among("id || ' ' || CAST(token AS TEXT)", 3))
        ids = dialect.pack([item.id for item in items])
        fences = dialect.pack([f"{item.id} {item.token}" for item in items])
        await self._database.write(statement(sql, lease_until, ids, fences))

    async def next_due(self, shut: Sequence[Sequence[str]] = NONE_SHUT) -> int | None:
        """When the next effect is due or its lease runs out; what waits in a lane behind another does not count."""
        pools = self._packed(shut)
        if await self._flooded(None, shut):
            [[at]] = await self._database.fetch(self._due.next_by_pool, *pools)
            return None if at is None else int(at)
        free = await self._database.fetch(self._due.next_free, *pools)
        first = min((row[0] for row in free), default=None)
        [[lease]] = await self._database.fetch(self._due.next_lease, first, *pools)
        return min((at for at in (first, lease) if at is not None), default=None)

    def _packed(self, shut: Sequence[Sequence[str]]) -> list[Any]:
        return [self._database.dialect.pack(pools) for pools in shut]

    async def _flooded(self, due: int | None, shut: Sequence[Sequence[str]]) -> bool:
        """Whether so much of what is due first, by `due`, is shut that it is cheaper to look at every other pool.

        Both ways find the same; only what they cost depends on this.
        """
        if not any(shut):
            return False
        [[flooded]] = await self._database.fetch(self._due.flooded, due, *self._packed(shut))
        return bool(flooded)

    async def expired_commands(self, now: int, limit: int) -> list[Command]:
        """Live commands past `expires_at` that no upstream operation decides."""
        return [COMMANDS.read(row) for row in await self._database.fetch(_EXPIRED_COMMANDS, now, limit)]

    async def expired_pushes(self, now: int, limit: int) -> list[Push]:
        """Pushes past `expires_at` that are not over."""
        return [PUSHES.read(row) for row in await self._database.fetch(_EXPIRED_PUSHES, now, limit)]

    async def forget_targets(self, *, dead_before: int, unused_before: int) -> int:
        """Drop addresses that were given up, or last registered, before these times."""
        [dropped] = await self._database.write(statement(_FORGET_TARGETS, dead_before, unused_before))
        return len(dropped)

    async def dead_letters(self, limit: int) -> list[tuple[OutboxItem, str]]:
        """Effects that were given up, newest first, with the reason."""
        rows = await self._database.fetch(_DEAD, limit)
        return [(OUTBOX.read(row), row[len(OUTBOX.columns)]) for row in rows]

    async def owed(self, kind: str, priority: int) -> int:
        """How many effects of a kind are owed that are at least so urgent."""
        [[count]] = await self._database.fetch(_OWED, kind, priority)
        return int(count)

    async def owed_by_pool(self, kind: str, priority: int) -> list[tuple[str, str, int]]:
        """The same of each pool that has any, with its organization."""
        rows = await self._database.fetch(_OWED_TO, kind, priority)
        return [(str(organization_id), str(pool), int(count)) for organization_id, pool, count in rows]

    async def take_tokens(self, order: TokenOrder, now: int) -> int:
        """How many of the wanted tokens were there."""
        begin, fill = _FILL
        *_, [[granted]] = await self._database.write(
            statement(begin, order.project, order.most, now),
            statement(fill, order.project, now, order.per_minute, order.most),
            statement(_TAKE, order.project, order.left, order.wanted),
            alone="quota",
        )
        return int(granted)

    async def hasten(self, lane: str, priority: int) -> None:
        """Make what is owed in a lane at least so urgent."""
        if await self._database.fetch(_SLOWER, lane, priority):  # rare: most lanes are empty
            await self._database.write(statement(_HASTEN, lane, priority))

    async def place(self, organization_id: str, key: str) -> Place | None:
        """Where the effect with this key stands among those of its kind and pool."""
        rows = await self._database.fetch(_PLACE, organization_id, key)
        return Place(int(rows[0][0]), int(rows[0][1])) if rows else None

    async def silent_commands(self, limit: int) -> list[Command]:
        """Android commands that are not over and that nothing is owed for any more."""
        return [COMMANDS.read(row) for row in await self._database.fetch(_SILENT, limit)]

    async def begin_round(self, kind: str, subject: str, now: int, next_at: int) -> bool:
        """Whether a round is due; one process is told so."""
        if await self._database.fetch(_ROUND_DUE, kind, subject, now, next_at):
            return False
        first, begun = await self._database.write(
            statement(_FIRST_ROUND, kind, subject, next_at), statement(_BEGIN_ROUND, kind, subject, now, next_at)
        )
        return bool(begun) and not first

    async def end_round(self, kind: str, subject: str, now: int, fault: str | None) -> None:
        """How a round went."""
        await self._database.write(statement(_END_ROUND, kind, subject, now, fault))

    async def counts(self) -> dict[str, int]:
        """Figures for the metrics."""
        return {str(name): int(count) for name, count in await self._database.fetch(_COUNTS)}
