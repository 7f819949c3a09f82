"""Keeps the planner's statistics in step with tables that grow fast.

Every key begins with the organization, so on a table that was never analyzed all indexes look alike to the planner, and
the plan it keeps may read a whole organization for one row. Autovacuum looks once a minute; a new installation can
take tens of thousands of commands in that time. And the outbox is empty whenever nothing is owed: after autovacuum has
seen it so, every index seems to serve for every row of it, until it is analyzed again. An ANALYZE also makes every
session plan anew.
"""

# ruff: noqa: S608 - made of our own conditions

import asyncio
import logging
from collections.abc import Awaitable, Callable

from heliograph.domain.errors import HeliographError
from heliograph.store.database import Rows

log = logging.getLogger(__name__)

_EVERY_S = 1.0
# An ANALYZE by anybody else is no error: PostgreSQL skips the table, and warns of it in its own log each time.
_MAY = """(
pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE')
OR CASE WHEN CAST(current_setting('server_version_num') AS INTEGER) < 170000 THEN pg_has_role(relowner, 'USAGE')
ELSE has_table_privilege(oid, 'MAINTAIN') END)"""
# Tables of ours that have doubled since they were last looked at; and those that we may not look at.
_OUTGROWN = f"""
SELECT name, may FROM (
    SELECT quote_ident(relname) AS name, {_MAY} AS may,
        pg_relation_size(oid) / current_setting('block_size')::bigint > 2 * relpages + 4 AS outgrown
    FROM pg_class WHERE relkind = 'r' AND relnamespace = to_regnamespace(quote_ident(current_schema()))) AS tables
WHERE outgrown OR NOT may ORDER BY name
"""
# CASE, because AND would count first.
_SEEN_EMPTY = f"""
SELECT relname FROM pg_class WHERE oid = to_regclass('outbox')
AND CASE WHEN reltuples < 100 AND {_MAY} THEN (SELECT count(*) FROM (SELECT FROM outbox LIMIT 500) AS first) = 500 END
"""
_REFUSED = (
    "the database role may not ANALYZE %s: what PostgreSQL knows of them may be old, and statements slow. Let the role "
    "own the database; or, from PostgreSQL 17 on, GRANT MAINTAIN on these tables to it"
)


async def keep_statistics(fetch: Callable[[str], Awaitable[Rows]]) -> None:
    """Analyze what has outgrown its statistics, until cancelled. Only the speed of statements depends on it.

    Tables that the database role may not analyze are left alone for as long as it may not, and named in the log once.
    """
    told = False
    while True:
        await asyncio.sleep(_EVERY_S)
        try:
            tables = await fetch(_OUTGROWN)
            refused = [name for name, may in tables if not may]
            if refused and not told:
                log.warning(_REFUSED, ", ".join(refused))
            told = bool(refused)
            for name in [*(name for name, may in tables if may), *(row[0] for row in await fetch(_SEEN_EMPTY))]:
                await fetch(f"ANALYZE {name}")
        except HeliographError as error:
            log.info("no fresh statistics for now: %s", error.code)
        except Exception:
            log.exception("no fresh statistics for now")
