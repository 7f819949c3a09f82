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
    """One kind of row in a change set: where it lies, its columns behind the set's number, and its SQL."""

    name: str
    rows: Callable[[Prepared], list[Row]]
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


_SETTLE = (
    """outbox_locked AS MATERIALIZED (
        SELECT i.* FROM outbox_settled i JOIN outbox o ON o.id = i.id
        WHERE o.token = i.token AND o.organization_id = i.organization_id ORDER BY o.id FOR UPDATE OF o)""",
    """outbox_gone AS (
        DELETE FROM outbox o USING outbox_locked i
        WHERE o.id = i.id AND (i.due_at IS NULL OR i.reason IS NOT NULL) AND {good}
        RETURNING {item}, i.reason, i.died_at)""",
    """outbox_buried AS (
        INSERT INTO dead_letters ({names}, reason, died_at)
        SELECT {names}, reason, died_at FROM outbox_gone WHERE reason IS NOT NULL)""",
    """outbox_put_off AS (
        UPDATE outbox o SET due_at = i.due_at, lease_until = 0 FROM outbox_locked i
        WHERE o.id = i.id AND i.due_at IS NOT NULL AND i.reason IS NULL AND {good})""",
)
_WITHDRAW = """outbox_withdrawn AS (
        DELETE FROM outbox o USING withdrawn i
        WHERE o.organization_id = i.organization_id AND o.key = i.key AND {good})"""


def _settle(good: str) -> list[str]:
    return [text.format(good=good, item=OUTBOX.qualified("o"), names=OUTBOX.names) for text in _SETTLE]


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


def _with_organization(rows: Callable[[Prepared], list[Row]]) -> Callable[[Prepared], list[Row]]:
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
        _settle,
        locks=True,
    ),
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
        "SELECT set_no, id FROM outbox_settled WHERE hard = 1 EXCEPT SELECT set_no, id FROM outbox_locked"
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
            arguments.append(part.shape.packed(rows))
    return (_text(tuple(present)), arguments) if present else None


@cache
def _text(parts: tuple[Part, ...]) -> str:
    inputs: list[str] = []
    changes: list[str] = []
    guards = [_GUARDS[part.name] for part in parts if part.locks]
    good = "i.set_no NOT IN (SELECT set_no FROM bad)" if guards else "TRUE"
    for position, part in enumerate(parts, 1):
        rows = part.shape.rows_of(position, "i")
        inputs.append(f"{part.name} AS MATERIALIZED (SELECT * FROM {rows})")
        changes.extend(part.ctes(good))
    locks = [cte for cte in changes if "_locked AS MATERIALIZED" in cte]
    writes = [cte for cte in changes if cte not in locks]
    bad = ["bad AS MATERIALIZED (SELECT set_no FROM (" + " UNION ALL ".join(f"({g})" for g in guards) + ") AS g)"]
    ctes = inputs + locks + (bad if guards else []) + writes
    return "WITH " + ",\n".join(ctes) + "\n" + ("SELECT DISTINCT set_no FROM bad" if guards else "SELECT 1 WHERE FALSE")
