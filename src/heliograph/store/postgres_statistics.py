"""Keeps the planner's statistics in step with tables that grow fast.

Every key begins with the organization, so on a table that was never analyzed all indexes look alike to the planner, and
the plan it keeps may read a whole organization for one row. Autovacuum looks once a minute; a new installation can
take tens of thousands of commands in that time. And the outbox is empty whenever nothing is owed: after autovacuum has
seen it so, every index seems to serve for every row of it, until it is analyzed again. An ANALYZE also makes every
session plan anew.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from heliograph.domain.errors import HeliographError
from heliograph.store.database import Rows

log = logging.getLogger(__name__)

_EVERY_S = 1.0
# Tables of ours that have doubled since they were last looked at.
_OUTGROWN = """
SELECT quote_ident(relname) FROM pg_class
WHERE relkind = 'r' AND relnamespace = to_regnamespace(current_schema())
AND pg_relation_size(oid) / current_setting('block_size')::bigint > 2 * relpages + 4
"""
_SEEN_EMPTY = """
SELECT relname FROM pg_class WHERE oid = to_regclass('outbox') AND reltuples < 100
AND (SELECT count(*) FROM (SELECT FROM outbox LIMIT 500) AS first) = 500
"""


async def keep_statistics(fetch: Callable[[str], Awaitable[Rows]]) -> None:
    """Analyze what has outgrown its statistics, until cancelled. Only the speed of statements depends on it."""
    while True:
        await asyncio.sleep(_EVERY_S)
        try:
            for row in [*await fetch(_OUTGROWN), *await fetch(_SEEN_EMPTY)]:
                await fetch(f"ANALYZE {row[0]}")
        except HeliographError as error:
            log.info("no fresh statistics for now: %s", error.code)
        except Exception:
            log.exception("no fresh statistics for now")
