"""Does the server tell the truth? Its records against the journals of the devices and the books of Google.

A lie is a sentence about a record that says otherwise than the device's own journal, or about something that ran
without a record. No lie is excused: what is still open counts as one, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.crash import Client, LabClient, Unit

Json = dict[str, Any]


@dataclass
class Findings:
    """How records ended, and every contradiction."""

    counts: Counter[str] = field(default_factory=Counter)
    lies: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        said = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        return f"{said or 'nothing'}; lies {len(self.lies)}"

    def add(self, other: Findings) -> None:
        """Take over what was found elsewhere."""
        self.counts += other.counts
        self.lies += other.lies


def outcome_of(record: Json) -> str:
    """How a record says it ended: done, failed, expired, cancelled, or that it is open or not known."""
    rung: str = record["progress"]["rung"]
    reason = str(record.get("config", {}).get("error") or "") + str(record["progress"]["history"][-1])
    if "outcome_unknown" in reason:
        return "unknown"
    names = {"succeeded": "done", "failed": "failed", "cancelled": "cancelled", "undeliverable": "failed"}
    return "expired" if rung.startswith("expired") else names.get(rung, "open")


_STATUS = {
    "android": {"done": "DONE", "failed": "DONE", "expired": "DONE", "cancelled": "CANCEL", "unknown": "DONE"},
    "aosp": {"done": "DONE", "failed": "ERROR", "expired": "EXPIRED", "cancelled": "CANCEL", "unknown": "ERROR"},
}


def compare(unit: Unit, records: Sequence[Json], journal: Sequence[Json], operations: Sequence[Json]) -> Findings:
    """All records of a device against its journal and, for Android, against the operations that Google holds."""
    key = "operation" if unit.platform == "android" else "commandId"
    ran = Counter(item[key] for item in journal if item["event"] == "executed")
    found = Findings()
    known: Counter[str] = Counter()
    for record in records:
        name = record["_config"].get("name") if unit.platform == "android" else record["id"]
        outcome = outcome_of(record)
        found.counts[outcome] += 1
        where = f"{unit.name} {record['id']} ({outcome}, {name})"
        if outcome in ("open", "unknown"):
            found.lies.append(f"{where}: {record['progress']}")
        elif record["status"] != _STATUS[unit.platform][outcome]:
            found.lies.append(f"{where}: shown as {record['status']}")
        times = ran[name] if name else 0
        if times != (1 if outcome == "done" else 0):
            found.lies.append(f"{where}: ran {times} times; {record['progress']}")
        if name:
            known[name] += 1
    found.lies += [f"{unit.name}: {name} belongs to {n} records" for name, n in known.items() if n > 1]
    found.lies += [f"{unit.name}: {name} ran, and no record knows it" for name in ran if name not in known]
    held = {operation["name"] for operation in operations}
    found.lies += [f"{unit.name}: {name} was issued, and no record knows it" for name in held if name not in known]
    return found


async def compared(client: Client, lab: LabClient, units: Iterable[Unit]) -> Findings:
    """`compare` for several devices, asked now."""
    found = Findings()
    for unit in units:
        operations = await lab.operations(unit) if unit.platform == "android" else []
        found.add(compare(unit, await client.records(unit), await lab.journal(unit), operations))
    return found


async def settled(client: Client, units: Iterable[Unit]) -> None:
    """Return once no command of these devices is open. Each is given the documented time."""
    for unit in units:
        for record in await client.records(unit):
            if record["status"] == "PENDING":
                await client.over(unit, record["id"])


async def shown_once(client: Client, lab: LabClient, unit: Unit, push_ids: Iterable[str]) -> list[str]:
    """What is wrong with pushes that were accepted for a device that is online: each is shown once, and says so."""
    wrong = []
    for push_id in push_ids:
        push = await client.push(push_id, wait=30)
        if push["status"] not in ("acknowledged", "executed"):
            wrong.append(f"{unit.name} push {push_id}: {push}")
    shown = Counter(item["pushId"] for item in await lab.journal(unit) if item["event"] == "displayed")
    wrong += [
        f"{unit.name} push {push_id}: shown {shown[push_id]} times" for push_id in push_ids if shown[push_id] != 1
    ]
    return wrong
