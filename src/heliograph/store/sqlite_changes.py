"""Writes one prepared change set to SQLite, inside the savepoint that the writer has opened."""

# ruff: noqa: S608 - made of the names of our own tables and columns

import sqlite3
from collections.abc import Sequence
from typing import Any

from heliograph.domain.errors import Conflict
from heliograph.store.prepared import Prepared
from heliograph.store.records import COMMANDS, HISTORY, OUTBOX, PUSHES, Row, Table


def _insert(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def _update(table: Table[Any]) -> str:
    assignments = ", ".join(f"{column} = ?" for column in table.changing)
    return (
        f"UPDATE {table.name} SET {assignments}, version = version + 1 "
        "WHERE organization_id = ? AND id = ? AND version = ?"
    )


_NEW_COMMAND = _insert("commands", COMMANDS.columns)
_NEW_PUSH = _insert("pushes", PUSHES.columns)
_NEW_ENTRY = _insert("history", ("organization_id", *HISTORY.columns))
_AMEND = _NEW_ENTRY.replace("INSERT", "INSERT OR REPLACE", 1)
_SAVE_COMMAND = _update(COMMANDS)
_SAVE_PUSH = _update(PUSHES)
_PAY = "DELETE FROM outbox WHERE id = ? AND token = ? AND organization_id = ?"
_PUT_OFF = "UPDATE outbox SET due_at = ?, lease_until = 0 WHERE id = ? AND token = ? AND organization_id = ?"
_BURY = (
    f"INSERT INTO dead_letters ({OUTBOX.names}, reason, died_at) SELECT {OUTBOX.names}, ?, ? FROM outbox "
    "WHERE id = ? AND token = ? AND organization_id = ?"
)
_WITHDRAW = "DELETE FROM outbox WHERE organization_id = ? AND key = ?"
_OWE = (
    _insert("outbox", OUTBOX.columns)
    + " ON CONFLICT (organization_id, key) DO UPDATE SET due_at = min(due_at, excluded.due_at),"
    " priority = min(priority, excluded.priority), lease_until = 0, token = token + 1"
)


def write_changes(connection: sqlite3.Connection, prepared: Prepared) -> None:
    """Write it, or raise Conflict when one of its guards fails: the caller then rolls back to the savepoint."""
    _save(connection, _SAVE_COMMAND, prepared.organization_id, prepared.saved_commands)
    _save(connection, _SAVE_PUSH, prepared.organization_id, prepared.saved_pushes)
    for row in prepared.settled:
        _settle(connection, prepared.organization_id, row)
    for sql, rows in (
        (_NEW_COMMAND, prepared.new_commands),
        (_NEW_PUSH, prepared.new_pushes),
        (_NEW_ENTRY, prepared.entries),
        (_AMEND, prepared.amended),
        (_WITHDRAW, prepared.withdrawn),
        (_OWE, prepared.debts),
    ):
        for row in rows:
            connection.execute(sql, row)


def _save(connection: sqlite3.Connection, sql: str, organization_id: str, rows: Sequence[Row]) -> None:
    for record_id, version, *values in rows:
        if connection.execute(sql, (*values, organization_id, record_id, version)).rowcount != 1:
            raise Conflict


def _settle(connection: sqlite3.Connection, organization_id: str, row: Row) -> None:
    item_id, token, hard, due_at, dead, now = row
    fence = (item_id, token, organization_id)
    if dead is not None:
        connection.execute(_BURY, (dead, now, *fence))
    if due_at is not None and dead is None:
        done = connection.execute(_PUT_OFF, (due_at, *fence))
    else:
        done = connection.execute(_PAY, fence)
    if hard and done.rowcount != 1:
        raise Conflict("Somebody else took over what this was about")
