"""One SQL statement that writes many change sets: guards first, then every table, each set for itself.

    WITH inputs (the rows of each part, each with the number of its set)
       , locks of the rows that a set was decided on, in the order of their ids, where they are still as they were read
       , bad = numbers of the sets of which a row is missing there
       , INSERT, UPDATE and DELETE of what belongs to the other sets
    SELECT the bad ones

The text depends only on which parts a batch has, so there are few texts and the server keeps their plans.
"""

# ruff: noqa: S608 - made of the names of our own tables and columns

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from heliograph.store.postgres_rows import Shape
from heliograph.store.prepared import Prepared
from heliograph.store.records import COMMANDS, HISTORY, OUTBOX, PUSHES, Row, Table

Columns = tuple[tuple[str, str], ...]

_ORGANIZATION = ("organization_id", "text")


@dataclass(frozen=True, eq=False)
class Part:
    """One kind of row in a change set: where it lies, its columns behind the set's number, and its SQL.

    Without columns it is about rows that another part gives to the statement, and only adds SQL.
    """

    name: str
    rows: Callable[[Prepared], Sequence[Row]]
    columns: Columns
    ctes: Callable[[str], list[str]]
    locks: bool = False

    @cached_property
    def shape(self) -> Shape:
        """Its rows as a parameter, with the set's number before them."""
        return Shape(("set_no", "integer"), *self.columns)


def _typed(table: Table[Any], columns: Sequence[str]) -> Columns:
    return tuple((column, table.form(column).type) for column in columns)


def _save(table: Table[Any]) -> Callable[[str], list[str]]:
    name = table.name
    locked = (
        f"{name}_locked AS MATERIALIZED (SELECT i.set_no, i.id FROM {name}_saved i JOIN {name} r"
        " ON r.organization_id = i.organization_id AND r.id = i.id WHERE r.version = i.version"
        " ORDER BY r.id FOR UPDATE OF r)"
    )
    assignments = ", ".join(f"{column} = i.{column}" for column in table.changing)
    update = (
        f"{name}_updated AS (UPDATE {name} r SET {assignments}, version = r.version + 1 FROM {name}_saved i"
        " WHERE r.organization_id = i.organization_id AND r.id = i.id AND {good})"
    )
    return lambda good: [locked, update.format(good=good)]


def _insert(name: str, table: str, columns: Sequence[str], more: str = "") -> Callable[[str], list[str]]:
    listed = ", ".join(columns)
    return lambda good: [
        f"{name}_inserted AS (INSERT INTO {table} ({listed}) SELECT {listed} FROM {name} i WHERE {good}{more})"
    ]


def _told(column: str, kind: str) -> str:
    """What the settlement of a row of the outbox says."""
    return f"CAST((SELECT jsonb_object_agg(i.id, i.{column}) FROM outbox_held i) ->> o.id AS {kind})"


# The outbox is joined with nothing: while PostgreSQL takes it for empty, a join reads all of it for each row. Looking
# for one list costs one walk at worst, and IS TRUE keeps IN from becoming a join. PostgreSQL asks both conditions again
# of a row that has changed by the time it is locked.
_LOCK = (
    """outbox_locked AS MATERIALIZED (
        SELECT o.id FROM outbox o WHERE o.id = ANY(ARRAY(SELECT i.id FROM outbox_settled i))
        AND ((o.id, o.token, o.organization_id) IN (SELECT i.id, i.token, i.organization_id FROM outbox_settled i))
            IS TRUE
        ORDER BY o.id FOR UPDATE OF o)""",
    """outbox_held AS MATERIALIZED (
        SELECT * FROM outbox_settled i WHERE (i.id IN (SELECT id FROM outbox_locked)) IS TRUE AND {good})""",
)
_HELD = "o.id = ANY(ARRAY(SELECT i.id FROM outbox_held i WHERE {}))"
_PAY = (f"outbox_paid AS (DELETE FROM outbox o WHERE {_HELD.format('i.due_at IS NULL AND i.reason IS NULL')})",)
_BURY = (
    f"""outbox_given_up AS (
        DELETE FROM outbox o WHERE {_HELD.format("i.reason IS NOT NULL")}
        RETURNING {OUTBOX.qualified("o")}, {_told("reason", "TEXT")} AS reason,
            {_told("died_at", "BIGINT")} AS died_at)""",
    f"""outbox_buried AS (
        INSERT INTO dead_letters ({OUTBOX.names}, reason, died_at)
        SELECT {OUTBOX.names}, reason, died_at FROM outbox_given_up)""",
)
_PUT_OFF = (
    f"""outbox_put_off AS (
        UPDATE outbox o SET due_at = {_told("due_at", "BIGINT")}, lease_until = 0
        WHERE {_HELD.format("i.due_at IS NOT NULL AND i.reason IS NULL")})""",
)
_WITHDRAW = """outbox_withdrawn AS (
        DELETE FROM outbox o WHERE o.id = ANY(ARRAY(
            SELECT (SELECT k.id FROM outbox k WHERE k.organization_id = i.organization_id AND k.key = i.key)
            FROM withdrawn i WHERE {good}))
        AND ((o.organization_id, o.key) IN (SELECT i.organization_id, i.key FROM withdrawn i)) IS TRUE)"""


def _becomes(row: Row) -> tuple[str, ...]:
    _, _, _, due_at, reason, _ = row
    return _BURY if reason is not None else _PAY if due_at is None else _PUT_OFF


def _settlement(name: str, ctes: tuple[str, ...]) -> Part:
    """One of the things that become of what is settled: what no set of a batch needs costs it nothing."""
    return Part(name, lambda p: [row for row in p.settled if _becomes(row) is ctes], (), lambda _: list(ctes))


def _lock(good: str) -> list[str]:
    return [text.format(good=good) for text in _LOCK]


def _withdraw(good: str) -> list[str]:
    return [_WITHDRAW.format(good=good)]


_HISTORY_COLUMNS = ("organization_id", *HISTORY.columns)
_AMEND = (
    "history_amended AS (UPDATE history h SET rung = i.rung, at = i.at, source = i.source, evidence = i.evidence"
    " FROM amended i WHERE h.organization_id = i.organization_id AND h.subject_id = i.subject_id AND h.seq = i.seq"
    " AND {good})"
)
_BRING_FORWARD = (
    " ON CONFLICT (organization_id, key) DO UPDATE SET due_at = least(outbox.due_at, excluded.due_at),"
    " priority = least(outbox.priority, excluded.priority), lease_until = 0, token = outbox.token + 1"
)


def _with_organization(rows: Callable[[Prepared], Sequence[Row]]) -> Callable[[Prepared], list[Row]]:
    return lambda p: [(p.organization_id, *row) for row in rows(p)]


def _saved_columns(table: Table[Any]) -> Columns:
    return (_ORGANIZATION, ("id", "text"), ("version", "bigint"), *_typed(table, table.changing))


PARTS = (
    Part(
        "commands_saved",
        _with_organization(lambda p: p.saved_commands),
        _saved_columns(COMMANDS),
        _save(COMMANDS),
        locks=True,
    ),
    Part(
        "pushes_saved", _with_organization(lambda p: p.saved_pushes), _saved_columns(PUSHES), _save(PUSHES), locks=True
    ),
    Part(
        "outbox_settled",
        _with_organization(lambda p: p.settled),
        (
            _ORGANIZATION,
            ("id", "text"),
            ("token", "bigint"),
            ("hard", "integer"),
            ("due_at", "bigint"),
            ("reason", "text"),
            ("died_at", "bigint"),
        ),
        _lock,
        locks=True,
    ),
    _settlement("outbox_paid", _PAY),
    _settlement("outbox_buried", _BURY),
    _settlement("outbox_put_off", _PUT_OFF),
    Part(
        "new_commands",
        lambda p: p.new_commands,
        _typed(COMMANDS, COMMANDS.columns),
        _insert("new_commands", "commands", COMMANDS.columns),
    ),
    Part(
        "new_pushes",
        lambda p: p.new_pushes,
        _typed(PUSHES, PUSHES.columns),
        _insert("new_pushes", "pushes", PUSHES.columns),
    ),
    Part(
        "entries",
        lambda p: p.entries,
        _typed(HISTORY, _HISTORY_COLUMNS),
        _insert("entries", "history", _HISTORY_COLUMNS),
    ),
    Part(
        "amended",
        lambda p: p.amended,
        _typed(HISTORY, _HISTORY_COLUMNS),
        lambda good: [_AMEND.format(good=good)],
    ),
    Part("withdrawn", lambda p: p.withdrawn, (_ORGANIZATION, ("key", "text")), _withdraw),
    Part(
        "debts",
        lambda p: p.debts,
        _typed(OUTBOX, OUTBOX.columns),
        _insert("debts", "outbox", OUTBOX.columns, _BRING_FORWARD),
    ),
)
WITHDRAWN, DEBTS = PARTS[-2:]
_GUARDS = {
    "commands_saved": "SELECT set_no, id FROM commands_saved EXCEPT SELECT set_no, id FROM commands_locked",
    "pushes_saved": "SELECT set_no, id FROM pushes_saved EXCEPT SELECT set_no, id FROM pushes_locked",
    "outbox_settled": (
        "SELECT set_no, id FROM outbox_settled WHERE hard = 1 AND id NOT IN (SELECT id FROM outbox_locked)"
    ),
}


def build(batch: Sequence[Prepared], parts: Sequence[Part] = PARTS) -> tuple[str, list[Any]] | None:
    """The statement that writes these sets, with its arguments; None when there is nothing to write."""
    present: list[Part] = []
    arguments: list[Any] = []
    for part in parts:
        rows = [(number, *row) for number, prepared in enumerate(batch) for row in part.rows(prepared)]
        if rows:
            present.append(part)
            if part.columns:
                arguments.append(part.shape.packed(rows))
    return (_text(tuple(present)), arguments) if present else None


@cache
def _text(parts: tuple[Part, ...]) -> str:
    inputs: list[str] = []
    changes: list[str] = []
    guards = [_GUARDS[part.name] for part in parts if part.locks]
    good = "i.set_no NOT IN (SELECT set_no FROM bad)" if guards else "TRUE"
    for part in parts:
        if part.columns:
            rows = part.shape.rows_of(len(inputs) + 1, "i")
            inputs.append(f"{part.name} AS MATERIALIZED (SELECT * FROM {rows})")
        changes.extend(part.ctes(good))
    locks = [cte for cte in changes if "_locked AS MATERIALIZED" in cte]
    writes = [cte for cte in changes if cte not in locks]
    bad = ["bad AS MATERIALIZED (SELECT set_no FROM (" + " UNION ALL ".join(f"({g})" for g in guards) + ") AS g)"]
    ctes = inputs + locks + (bad if guards else []) + writes
    return "WITH " + ",\n".join(ctes) + "\n" + ("SELECT DISTINCT set_no FROM bad" if guards else "SELECT 1 WHERE FALSE")
