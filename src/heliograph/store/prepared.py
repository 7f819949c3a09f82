"""A change set made ready for a database: rows instead of records, checked and with its contradictions resolved."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from heliograph.domain.ladder import Entry
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
    topics: frozenset[str] = frozenset()
    touched: frozenset[str] = frozenset()
    in_phases: bool = False
    new_commands: Sequence[Row] = ()
    new_pushes: Sequence[Row] = ()
    saved_commands: Sequence[Row] = ()
    saved_pushes: Sequence[Row] = ()
    entries: Sequence[Row] = ()
    amended: Sequence[Row] = ()
    settled: Sequence[Row] = ()
    withdrawn: Sequence[Row] = ()
    debts: Sequence[Row] = ()


def prepare(changes: ChangeSet) -> Prepared:
    """The rows of a change set. Raises ValueError for one that no use case should have made.

    Made twice for each command and push, and most parts of most sets are empty: none costs what it does not hold.
    """
    organization_id, now = changes.organization_id, time.time_ns() // 1000
    made = Prepared(organization_id, frozenset(changes.topics))
    touched: set[str] = set()
    if changes.new_commands or changes.commands:
        new_commands, commands = _folded(organization_id, changes.new_commands, changes.commands)
        made.new_commands = [COMMANDS.row(c) for c in new_commands]
        made.saved_commands = [_saved(COMMANDS, c) for c in commands]
        touched.update([c.id for c in new_commands], [c.id for c in commands])
    if changes.new_pushes or changes.pushes:
        new_pushes, pushes = _folded(organization_id, changes.new_pushes, changes.pushes)
        made.new_pushes = [PUSHES.row(p) for p in new_pushes]
        made.saved_pushes = [_saved(PUSHES, p) for p in pushes]
        touched.update([p.id for p in new_pushes], [p.id for p in pushes])
    if changes.entries:
        made.entries = _entries(organization_id, changes.entries, touched)
    if changes.amended:
        made.amended = _entries(organization_id, changes.amended, touched)
    _prepare_effects(made, changes, touched, now)
    made.touched = frozenset(touched)
    return made


def _entries(organization_id: str, entries: Sequence[Entry], records: Collection[str]) -> list[Row]:
    for entry in entries:
        if entry.subject_id not in records:
            raise ValueError("a change set holds something that belongs to another record")
    return [(organization_id, *HISTORY.row(entry)) for entry in entries]


def _prepare_effects(made: Prepared, changes: ChangeSet, touched: set[str], now: int) -> None:
    """The rows of the outbox. One statement cannot change a row twice: a set that would is written in phases."""
    keys: list[str] = []
    if changes.settlements:
        settlements = changes.settlements
        if len(settlements) > 1:
            settlements = sorted(settlements, key=lambda s: s.item.id)
        made.settled = [_settled(s, now) for s in settlements]
        items = [s.item for s in settlements]
        touched.update([f"item {item.id}" for item in items])
        keys += {item.key for item in items if item.key is not None}
    if changes.withdrawn:
        withdrawn = sorted(set(changes.withdrawn))
        made.withdrawn = [(made.organization_id, key) for key in withdrawn]
        keys += withdrawn
    if changes.debts:
        debts = _merged(changes.debts)
        for debt in debts:
            if debt.organization_id != made.organization_id:
                raise ValueError("a change set holds something that belongs to another organization")
        made.debts = [_owed(d, now) for d in debts]
        keys += [d.key for d in debts if d.key is not None]
    if keys:
        distinct = set(keys)
        made.in_phases = len(distinct) < len(keys)
        touched.update([f"key {made.organization_id} {key}" for key in distinct])


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
