"""How records lie in tables: one specification per table, used by every statement of both databases.

The columns of a table stand in the order of its dataclass's fields, so a row becomes a record by position.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from enum import Enum
from functools import cached_property
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec

from heliograph.domain.attempts import Attempts
from heliograph.domain.deliveries import Leg, Push, PushRung
from heliograph.domain.devices import (
    ApiKey,
    Device,
    Enterprise,
    Organization,
    ProviderAccount,
    PushTarget,
)
from heliograph.domain.enrollment import EnrollmentToken, SignUp
from heliograph.domain.ladder import Command, Entry, Issue, Reason, Rung
from heliograph.ports.changes import OutboxItem

T = TypeVar("T")
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """A column's type in the database, and the way there and back for values that are not None."""

    type: str
    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None


def _to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _json(kind: Any) -> Form:
    return Form("text", _to_json, msgspec.json.Decoder(kind).decode)


def _enum(kind: type[Enum]) -> Form:
    return Form("text", attrgetter("value"), kind)


TEXT = Form("text")
TIME = Form("bigint")
NUMBER = Form("bigint")
BYTES = Form("bytea")
FLAG = Form("integer", int, bool)
JSON = _json(dict[str, Any])


@dataclass(frozen=True, eq=False)
class Table(Generic[T]):
    """A table of records. `fixed` columns never change after the insert; the rest of a saved record is overwritten."""

    name: str
    record: type[T]
    forms: dict[str, Form]
    fixed: frozenset[str] = frozenset()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names, in the order of the record's fields."""
        return tuple(f.name for f in fields(self.record))  # type: ignore[arg-type]

    @cached_property
    def names(self) -> str:
        """The columns as a list for SELECT and INSERT."""
        return ", ".join(self.columns)

    @cached_property
    def changing(self) -> tuple[str, ...]:
        """The columns that an update overwrites (the version is counted by the database)."""
        return tuple(c for c in self.columns if c not in self.fixed and c != "version")

    def form(self, column: str) -> Form:
        """How a column is stored."""
        return self.forms.get(column, TEXT)

    def qualified(self, alias: str) -> str:
        """The columns of one table in a join."""
        return ", ".join(f"{alias}.{column}" for column in self.columns)

    def row(self, record: T) -> Row:
        """A record as a row of all columns."""
        return self._packed(self._whole, record)

    def changed_row(self, record: T) -> Row:
        """The columns that an update writes."""
        return self._packed(self._part, record)

    def read(self, row: Iterable[Any]) -> T:
        """The record of a row that was selected with `names` (further columns are left alone)."""
        values = list(row)
        for index, decode in self._decoders:
            if values[index] is not None:
                values[index] = decode(values[index])
        return self.record(*values[: len(self.columns)])

    def _packed(self, how: "_Packing", record: T) -> Row:
        values = list(how.values(record))
        for index, encode in how.encoders:
            if values[index] is not None:
                values[index] = encode(values[index])
        return tuple(values)

    @cached_property
    def _whole(self) -> "_Packing":
        return self._packing(self.columns)

    @cached_property
    def _part(self) -> "_Packing":
        return self._packing(self.changing)

    def _packing(self, columns: tuple[str, ...]) -> "_Packing":
        encoders = [(i, self.form(c).encode) for i, c in enumerate(columns)]
        return _Packing(attrgetter(*columns), [(i, encode) for i, encode in encoders if encode is not None])

    @cached_property
    def _decoders(self) -> list[tuple[int, Callable[[Any], Any]]]:
        decoders = [(i, self.form(c).decode) for i, c in enumerate(self.columns)]
        return [(i, decode) for i, decode in decoders if decode is not None]


@dataclass(frozen=True, slots=True)
class _Packing:
    values: Callable[[Any], Row]
    encoders: list[tuple[int, Callable[[Any], Any]]]


_TIMES = {"created_at": TIME, "updated_at": TIME, "expires_at": TIME, "rung_at": TIME}

COMMANDS = Table(
    "commands",
    Command,
    _TIMES
    | {
        "params": JSON,
        "duration_us": NUMBER,
        "rung": _enum(Rung),
        "secret": BYTES,
        "cancel_requested_at": TIME,
        "issue": _enum(Issue),
        "issue_at": TIME,
        "operation": JSON,
        "reason": _json(Reason),
        "contradicted": _json(tuple[str, ...]),
        "findings": JSON,
        "attempts": _json(Attempts),
        "not_before": TIME,
        "deferrals": NUMBER,
        "entries": NUMBER,
        "version": NUMBER,
    },
    frozenset(
        {
            "id",
            "organization_id",
            "device_id",
            "enterprise_id",
            "platform",
            "type",
            "params",
            "duration_us",
            "created_at",
            "mdm_user_id",
        }
    ),
)

PUSHES = Table(
    "pushes",
    Push,
    _TIMES
    | {
        "message": JSON,
        "rung": _enum(PushRung),
        "sent_at": TIME,
        "provider_expires_at": TIME,
        "pending_devices": NUMBER,
        "answer_at": TIME,
        "attempts": _json(Attempts),
        "legs": _json(tuple[Leg, ...]),
        "entries": NUMBER,
        "version": NUMBER,
    },
    frozenset(
        {
            "id",
            "organization_id",
            "device_id",
            "app",
            "kind",
            "message",
            "created_at",
            "command_id",
        }
    ),
)

HISTORY = Table("history", Entry, {"seq": NUMBER, "at": TIME, "evidence": JSON})

OUTBOX = Table(
    "outbox",
    OutboxItem,
    dict.fromkeys(("due_at", "attempts", "token", "lease_until", "created_at", "priority"), NUMBER),
)

ORGANIZATIONS = Table("organizations", Organization, _TIMES | {"features": _json(dict[str, bool])})

API_KEYS = Table("api_keys", ApiKey, _TIMES | {"permissions": _json(tuple[str, ...]), "revoked_at": TIME})

ENTERPRISES = Table("enterprises", Enterprise, _TIMES | {"credentials": BYTES, "heard_at": TIME})

DEVICES = Table(
    "devices",
    Device,
    _TIMES | {"last_seen_at": TIME, "facts": JSON, "reported_at": TIME, "missed_at": TIME},
    # Seen is noted by a statement of its own, which a description read before must not undo.
    frozenset({"id", "organization_id", "created_at", "last_seen_at"}),
)

PUSH_TARGETS = Table("push_targets", PushTarget, {"registered_at": TIME, "dead_at": TIME})

ACCOUNTS = Table(
    "provider_accounts",
    ProviderAccount,
    _TIMES | {"config": BYTES, "is_default": FLAG, "disabled_at": TIME, "fault_at": TIME},
)

SIGN_UPS = Table("sign_ups", SignUp, _TIMES | {"listed": _json(tuple[str, ...])})

ENROLLMENT_TOKENS = Table("enrollment_tokens", EnrollmentToken, _TIMES | {"one_time_only": FLAG})
