"""The statements that find what is due in the outbox: two ways to the same rows.

In order: the index of what is due gives them one after the other, at the price of a look at each row of a pool that is
shut. By pool: a look at each pool, and no row of one that is shut is read. Which is cheaper, `flooded` tells.
"""

# ruff: noqa: S608 - made of the names of our own tables and columns

from dataclasses import dataclass
from typing import Any

from heliograph.ports.changes import PRIORITIES
from heliograph.store.database import Dialect
from heliograph.store.records import OUTBOX

_NEVER = 2**63 - 1
# Of each priority, so many that are due first tell whether what is shut stands in front. They take less than a
# millisecond; a look at a pool costs as much as one at thirty to sixty rows.
FIRST = 1000

# An item of a lane waits while another is claimed or goes before it: what was begun goes before what was not (an older
# one may have been committed later), and else the older.
_GOES_BEFORE = "CASE WHEN (b.attempts > 0) = (o.attempts > 0) THEN b.id < o.id ELSE b.attempts > 0 END"
_LANE_IS_FREE = f"""(o.lane IS NULL OR NOT EXISTS (
    SELECT 1 FROM outbox b WHERE b.lane = o.lane AND b.id <> o.id AND (b.lease_until > {{at}} OR {_GOES_BEFORE})))"""
_CLAIMABLE = f"o.due_at <= $1 AND o.lease_until <= $1 AND {_LANE_IS_FREE.format(at='$1')}"
_FREE = f"o.lease_until = 0 AND {_LANE_IS_FREE.format(at='0')}"

_CLAIM = f"""
UPDATE outbox SET lease_until = $2, token = token + 1, attempts = attempts + 1
WHERE {{due}} RETURNING {OUTBOX.names}
"""
_DUE_IN_ORDER = f"""
due_{{priority}} AS MATERIALIZED (
    SELECT o.id, o.due_at FROM outbox o WHERE o.priority = {{priority}} AND NOT ({{shut}}) AND {_CLAIMABLE}
    ORDER BY o.due_at, o.id LIMIT $3 {{skip_locked}}
)"""
_NEXT_FREE = f"""
SELECT due_at FROM (SELECT o.due_at FROM outbox o WHERE o.priority = {{priority}} AND NOT ({{shut}}) AND {_FREE}
ORDER BY o.due_at LIMIT 1) AS free_{{priority}}
"""
# What is claimed was due before: past the first that is free, no lease can end earlier than that one is due.
_NEXT_LEASE = f"""
SELECT min(o.lease_until) FROM outbox o WHERE o.lease_until > 0 AND o.priority IN (0, 1, 2)
AND o.due_at <= COALESCE($1, {_NEVER}) AND NOT ({{shut}})
"""

# The pools that something is owed to, each found by one look behind the one before it.
_POOLS = """
WITH RECURSIVE pools (priority, pool) AS (
    SELECT p.priority, (SELECT min(o.pool) FROM outbox o WHERE o.priority = p.priority) FROM ({priorities}) AS p
    UNION ALL
    SELECT p.priority, (SELECT min(o.pool) FROM outbox o WHERE o.priority = p.priority AND o.pool > p.pool)
    FROM pools p WHERE p.pool IS NOT NULL
), open_pools (priority, pool) AS MATERIALIZED (
    SELECT p.priority, p.pool FROM pools p WHERE p.pool IS NOT NULL AND NOT ({shut})
)"""
# What is due next in a pool, as one word in whose order it is due: a join with its row is planned as a walk over all
# that is owed, for each step, where the outbox was empty when it was last analyzed; and two words are two looks.
_DIGITS, _BIAS = 19, 10**18
_NEXT_OF_POOL = f"""
SELECT CAST({_BIAS} + o.due_at AS TEXT) || o.id FROM outbox o
WHERE o.priority = {{pool}}.priority AND o.pool = {{pool}}.pool AND {_CLAIMABLE} {{behind}}
ORDER BY o.due_at, o.id LIMIT 1
"""
_DUE_AT, _ID = f"CAST(substr(d.word, 1, {_DIGITS}) AS BIGINT) - {_BIAS}", f"substr(d.word, {_DIGITS + 1})"
# A pool whose first comes n-th among the first ones has no more than $3 - n + 1 of the first $3 of all.
_DUE_BY_POOL = f"""
heads (priority, pool, word) AS MATERIALIZED (
    SELECT p.priority, p.pool, ({_NEXT_OF_POOL.format(pool="p", behind="")}) FROM open_pools p
), due (priority, pool, word, n) AS (
    SELECT * FROM (
        SELECT h.priority, h.pool, h.word, row_number() OVER (ORDER BY h.priority, h.word) AS n
        FROM heads h WHERE h.word IS NOT NULL) AS firsts WHERE n <= $3
    UNION ALL
    SELECT d.priority, d.pool,
        ({_NEXT_OF_POOL.format(pool="d", behind=f"AND (o.due_at, o.id) > ({_DUE_AT}, {_ID})")}), d.n + 1
    FROM due d WHERE d.n < $3 AND d.word IS NOT NULL
), first_due AS MATERIALIZED (
    SELECT o.id FROM outbox o WHERE o.due_at <= $1 AND o.lease_until <= $1 AND {{first_due}} {{skip_locked}}
)"""
_FIRST_DUE = f"""
SELECT id FROM (SELECT {_ID} AS id FROM due d WHERE d.word IS NOT NULL ORDER BY d.priority, d.word LIMIT $3) AS first
"""
_NEXT_BY_POOL = f"""
free (priority, pool, due_at) AS MATERIALIZED (
    SELECT p.priority, p.pool, (SELECT o.due_at FROM outbox o WHERE o.priority = p.priority AND o.pool = p.pool
        AND {_FREE} ORDER BY o.due_at LIMIT 1) FROM open_pools p
)
SELECT min(at) FROM (
    SELECT due_at AS at FROM free
    UNION ALL
    SELECT (SELECT min(o.lease_until) FROM outbox o WHERE o.priority = f.priority AND o.pool = f.pool
        AND o.lease_until > 0 AND o.due_at <= COALESCE(f.due_at, {_NEVER})) FROM free f) AS times
"""
# With half of them open, what is wanted is found among them.
_FLOODED = f"""
(SELECT count(*) FROM (
    SELECT o.pool FROM outbox o WHERE o.priority = {{priority}} AND o.due_at <= COALESCE($1, {_NEVER})
    ORDER BY o.due_at, o.id LIMIT {{first}}) AS o WHERE {{shut}}) > {{first}} / 2
"""


@dataclass(frozen=True, slots=True)
class DueStatements:
    """Their last three parameters are the pools that are shut, for each priority. Before them:

    claim, claim_by_pool: now, lease until, limit. next_free, next_by_pool: nothing. next_lease: when the first that is
    free is due, or NULL. flooded: until when what is due counts, or NULL.
    """

    claim: str
    next_free: str
    next_lease: str
    flooded: str
    claim_by_pool: str
    next_by_pool: str


def due_statements(dialect: Dialect, first: int = FIRST) -> DueStatements:
    """The statements for one of the databases; what is shut is a flood when it is more than half of the `first`."""
    first_due = dialect.among_found("o.id", _FIRST_DUE)
    own: dict[str, Any] = {"skip_locked": dialect.skip_locked, "first": first, "first_due": first_due}

    def each(text: str, join: str, number: int) -> str:
        return join.join(text.format(priority=p, shut=dialect.among("o.pool", number + p), **own) for p in PRIORITIES)

    def shut(row: str, number: int) -> str:
        of = (f"({row}.priority = {p} AND {dialect.among(f'{row}.pool', number + p)})" for p in PRIORITIES)
        return " OR ".join(of)

    def by_pool(text: str, number: int) -> str:
        priorities = " UNION ALL ".join(f"SELECT CAST({p} AS BIGINT) AS priority" for p in PRIORITIES)
        return f"{_POOLS.format(priorities=priorities, shut=shut('p', number))}, {text.format(**own)}"

    def claim(found: str) -> str:
        return _CLAIM.format(due=dialect.among_found("id", found))

    all_due = " UNION ALL ".join(f"SELECT id, due_at, {p} AS priority FROM due_{p}" for p in PRIORITIES)
    in_order = f"SELECT id FROM ({all_due}) AS due ORDER BY priority, due_at, id LIMIT $3"
    return DueStatements(
        claim=f"WITH {each(_DUE_IN_ORDER, ',', 4)} {claim(in_order)}",
        next_free=each(_NEXT_FREE, " UNION ALL ", 1),
        next_lease=_NEXT_LEASE.format(shut=shut("o", 2)),
        flooded=f"SELECT {each(_FLOODED, ' OR ', 2)}",
        claim_by_pool=by_pool(_DUE_BY_POOL, 4) + claim("SELECT id FROM first_due"),
        next_by_pool=by_pool(_NEXT_BY_POOL, 1),
    )
