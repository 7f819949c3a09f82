"""A change set made ready for a database: rows instead of records, checked and with its contradictions resolved."""

import time
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from heliograph.ports.changes import ChangeSet, Debt, Settlement
from heliograph.store.records import COMMANDS, HISTORY, PUSHES, Row, Table


class _Versioned(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def organization_id(self) -> str: ...

    @property
    def version(self) -> int: ...


R = TypeVar("R", bound=_Versioned)


@dataclass(slots=True)
class Prepared:
    """Rows to write.

    new_*, entries: whole rows. amended: as entries, in place of what is stored. saved_*: (id, version that was read,
    changing columns …). settled: (id, token, hard, due_at, reason, time). debts: whole outbox rows. `touched` names
    what no two sets of one statement may share.
    """

    organization_id: str
    new_commands: list[Row] = field(default_factory=list)
    new_pushes: list[Row] = field(default_factory=list)
    saved_commands: list[Row] = field(default_factory=list)
    saved_pushes: list[Row] = field(default_factory=list)
    entries: list[Row] = field(default_factory=list)
    amended: list[Row] = field(default_factory=list)
    settled: list[Row] = field(default_factory=list)
    withdrawn: list[Row] = field(default_factory=list)
    debts: list[Row] = field(default_factory=list)
    topics: frozenset[str] = frozenset()
    touched: frozenset[str] = frozenset()
    in_phases: bool = False


def prepare(changes: ChangeSet) -> Prepared:
    """The rows of a change set. Raises ValueError for one that no use case should have made."""
    organization_id = changes.organization_id
    new_commands, commands = _folded(organization_id, changes.new_commands, changes.commands)
    new_pushes, pushes = _folded(organization_id, changes.new_pushes, changes.pushes)
    debts = _merged(changes.debts)
    records = {record.id for group in (new_commands, commands, new_pushes, pushes) for record in group}
    for entry in (*changes.entries, *changes.amended):
        if entry.subject_id not in records:
            raise ValueError("a change set holds something that belongs to another record")
    for debt in debts:
        if debt.organization_id != organization_id:
            raise ValueError("a change set holds something that belongs to another organization")
    settled_keys = {s.item.key for s in changes.settlements if s.item.key is not None}
    owed_keys = {d.key for d in debts if d.key is not None}
    withdrawn = set(changes.withdrawn)
    now = time.time_ns() // 1000
    return Prepared(
        organization_id,
        [COMMANDS.row(c) for c in new_commands],
        [PUSHES.row(p) for p in new_pushes],
        [_saved(COMMANDS, c) for c in commands],
        [_saved(PUSHES, p) for p in pushes],
        [(organization_id, *HISTORY.row(entry)) for entry in changes.entries],
        [(organization_id, *HISTORY.row(entry)) for entry in changes.amended],
        [_settled(s, now) for s in sorted(changes.settlements, key=lambda s: s.item.id)],
        [(organization_id, key) for key in sorted(withdrawn)],
        [_owed(d, now) for d in debts],
        frozenset(changes.topics),
        frozenset(
            records
            | {f"item {s.item.id}" for s in changes.settlements}
            | {f"key {organization_id} {key}" for key in settled_keys | owed_keys | withdrawn}
        ),
        # One statement cannot change a row twice: such a set is written in phases.
        bool((settled_keys & (owed_keys | withdrawn)) or owed_keys & withdrawn),
    )


def _folded(organization_id: str, new: list[R], saved: list[R]) -> tuple[list[R], list[R]]:
    """New and saved records; one that was made and moved in the same set is inserted as it is at the end."""
    for record in (*new, *saved):
        if record.organization_id != organization_id:
            raise ValueError("a change set holds a record of another organization")
    if len(new) + len(saved) < 2:
        return new, saved
    final = {record.id: record for record in saved}
    if len(final) != len(saved) or len({record.id for record in new}) != len(new):
        raise ValueError("a change set holds a record twice")
    inserted = [final.pop(record.id, record) for record in new]
    return inserted, sorted(final.values(), key=lambda record: record.id)


def _merged(debts: list[Debt]) -> list[Debt]:
    """Debts with one of each key: the earliest, as urgent as the most urgent."""
    if len(debts) < 2:
        return debts
    keyed: dict[str, Debt] = {}
    free: list[Debt] = []
    for debt in debts:
        if debt.key is None:
            free.append(debt)
            continue
        other = keyed.get(debt.key, debt)
        first = min(other, debt, key=lambda d: d.due_at)
        keyed[debt.key] = replace(first, priority=min(other.priority, debt.priority))
    return sorted((*free, *keyed.values()), key=lambda debt: debt.key or "")


def _saved(table: Table[R], record: R) -> Row:
    return (record.id, record.version, *table.changed_row(record))


def _settled(settlement: Settlement, now: int) -> Row:
    item = settlement.item
    hard = 1 if item.key is None or settlement.hard else 0
    return (item.id, item.token, hard, settlement.due_at, settlement.dead, now)


def _owed(debt: Debt, now: int) -> Row:
    return (
        debt.id,
        debt.organization_id,
        debt.kind,
        debt.subject_id,
        debt.due_at,
        0,
        0,
        0,
        now,
        debt.lane,
        debt.key,
        debt.pool,
        debt.priority,
    )
