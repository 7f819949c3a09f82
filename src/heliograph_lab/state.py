"""A durable key-value store for the emulators, and the devices' journal; both in the lab's one file."""

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from heliograph_lab.database import Database

Event = Literal["received", "acknowledged", "executed", "displayed"]
Put = tuple[str, str, Any]  # namespace, key, JSON-able value (msgspec structs included)
Key = tuple[str, str]  # namespace, key

_UPSERT = (
    "INSERT INTO state (namespace, key, value) VALUES (?, ?, ?) "
    "ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value"
)
_APPEND = "INSERT INTO journal (device_id, event, command_id, operation, push_id, item) VALUES (?, ?, ?, ?, ?, ?)"


def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC, microseconds, `Z`."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class JournalItem(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, rename="camel"):
    """One fact that a device knows about itself; the members are those of the control API."""

    at: str
    event: Event
    command_id: str | None = None
    operation: str | None = None
    push_id: str | None = None
    type: str | None = None
    title: str | None = None
    body: str | None = None
    data: dict[str, Any] | None = None


class Entry(msgspec.Struct, frozen=True):
    """A journal item and the device whose journal it belongs to."""

    device_id: str
    item: JournalItem


def entry(device_id: str, event: Event, *, at: datetime | None = None, **fields: Any) -> Entry:
    """Make an entry. `at` is real time unless given: what a device did is compared with the server's records."""
    return Entry(device_id, JournalItem(at=timestamp(at or datetime.now(UTC)), event=event, **fields))


class StateStore:
    """Values per namespace. Writes are durable when they return; reads see what is committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, namespace: str, key: str) -> Any:
        """The value, or None."""
        rows = self._database.rows("SELECT value FROM state WHERE namespace = ? AND key = ?", (namespace, key))
        return msgspec.json.decode(rows[0][0]) if rows else None

    def all(self, namespace: str) -> dict[str, Any]:
        """Every key of the namespace with its value, in the order of the keys."""
        rows = self._database.rows("SELECT key, value FROM state WHERE namespace = ? ORDER BY key", (namespace,))
        return {key: msgspec.json.decode(value) for key, value in rows}

    async def put(self, namespace: str, key: str, value: Any) -> None:
        """Store one value."""
        await self.put_many([(namespace, key, value)])

    async def delete(self, namespace: str, key: str) -> None:
        """Forget one value; none there is no error."""
        await self.put_many([], deletes=[(namespace, key)])

    async def put_many(self, puts: Iterable[Put], deletes: Iterable[Key] = ()) -> None:
        """Store and forget any number of values in one commit: all of it or nothing."""
        work = Changes(puts=puts, deletes=deletes)
        await self._database.write(work)


class Journal:
    """What each device has received, shown and done: its own truth, which the server never reads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, device_id: str, event: Event, **fields: Any) -> None:
        """Append one item; it is on disk when this returns."""
        await self._database.write(Changes(journal=[entry(device_id, event, **fields)]))

    def items(self, device_id: str) -> list[JournalItem]:
        """The device's items, oldest first."""
        rows = self._database.rows("SELECT item FROM journal WHERE device_id = ? ORDER BY seq", (device_id,))
        return [msgspec.json.decode(row[0], type=JournalItem) for row in rows]

    def executed(self, device_id: str, *, command_id: str | None = None, operation: str | None = None) -> bool:
        """Whether the effect of this command (AOSP) or operation (Android) is in the journal."""
        if (command_id is None) == (operation is None):
            raise ValueError("give either command_id or operation")
        column = "command_id" if command_id is not None else "operation"
        return self._has(column, device_id, "executed", command_id or operation)

    def displayed(self, device_id: str, push_id: str) -> bool:
        """Whether the device has shown this push."""
        return self._has("push_id", device_id, "displayed", push_id)

    def _has(self, column: str, device_id: str, event: Event, value: str | None) -> bool:
        # The event stands in the text, or SQLite could not use the partial index.
        where = f"device_id = ? AND {column} = ? AND event = '{event}'"
        return bool(self._database.rows(f"SELECT 1 FROM journal WHERE {where} LIMIT 1", (device_id, value)))  # noqa: S608


class Changes:
    """A set of changes of both kinds, encoded on the caller's thread and applied by the writer in one commit."""

    def __init__(self, *, journal: Iterable[Entry] = (), puts: Iterable[Put] = (), deletes: Iterable[Key] = ()) -> None:
        self._puts = [(namespace, key, msgspec.json.encode(value)) for namespace, key, value in puts]
        self._deletes = list(deletes)
        self._entries = [
            (
                e.device_id,
                e.item.event,
                e.item.command_id,
                e.item.operation,
                e.item.push_id,
                msgspec.json.encode(e.item),
            )
            for e in journal
        ]

    def __call__(self, connection: sqlite3.Connection) -> None:
        connection.executemany(_UPSERT, self._puts)
        connection.executemany("DELETE FROM state WHERE namespace = ? AND key = ?", self._deletes)
        connection.executemany(_APPEND, self._entries)
