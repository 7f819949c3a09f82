"""Does the server tell the truth? Its records against what the devices did and what Google held."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from heliograph.domain.ladder import Command, Entry, Rung
from tests.schedules.google import CANCELLED, ENDS_RECORD, Operation
from tests.schedules.store import BEGAN, FLEET, ORGANIZATION, ProcessStore
from tests.schedules.world import SETTLED_S, World

_UNEXECUTED = (Rung.CANCELLED, Rung.EXPIRED_UNDELIVERED, Rung.EXPIRED_RUNNING, Rung.UNDELIVERABLE)


async def lies_of(world: World) -> tuple[list[str], str]:
    """Every contradiction, and a text that says how the schedule ended."""
    store = ProcessStore(world.database)
    work = store.unit_of_work(ORGANIZATION.id)
    ids = [str(row[0]) for row in world.database.read("SELECT id FROM commands ORDER BY id", ())]
    histories = await work.history.of(ids)
    lies = [f"{answered} was accepted, and is not there" for answered in world.answered if answered not in ids]
    ended = []
    for command_id in ids:
        command = await work.commands.find(command_id)
        assert command is not None
        operations = [o for o in world.google.ledger if o.command_id == command_id]
        reason = command.reason.code if command.reason else ""
        executed = sum(o.executed for o in operations)
        where = f"{command_id[-6:]} {command.type} {command.rung.value} {reason}"
        ended.append(f"{where} executed {executed}, issued {len(operations)}, at {command.rung_at}")
        found = [*_of_record(world, command, operations), *_of_history(world, command, histories[command_id])]
        lies += [f"{where}: {lie}" for lie in found]
    moved = world.database.read("SELECT * FROM moved", ())
    lies += [f"{row[0][-6:]} was {row[1]} and became {row[2]}" for row in moved]
    owed = world.database.read("SELECT kind, subject_id FROM outbox UNION ALL SELECT 'dead', id FROM dead_letters", ())
    lies += [f"still owed: {row[0]} of {row[1]}" for row in owed]
    lies += _of_devices(world)
    return lies, "; ".join(ended)


def _of_devices(world: World) -> Iterator[str]:
    """One record for each phone, once Google's word that it is the same one was taken."""
    names = [str(row[0]) for row in world.database.read("SELECT external_name FROM devices ORDER BY id", ())]
    for first in FLEET:
        of_phone = [name for name in names if name.rstrip("x") == first.external_name]
        is_introduced = max(of_phone, key=len, default="") in world.introduced
        if not of_phone or (is_introduced and len(of_phone) > 1):
            yield f"{first.name} has records of {of_phone}"


def _of_record(world: World, command: Command, operations: list[Operation]) -> Iterator[str]:
    if not command.is_over:
        yield f"is open at {world.ended_at:.0f} s"
        return
    if len(operations) > 1:
        yield f"issued {len(operations)} times"
    if command.id in world.promised and command.rung is not Rung.CANCELLED:
        yield "somebody was told that it is cancelled"
    executed = sum(o.executed for o in operations)
    if executed > (command.rung is Rung.SUCCEEDED) and not _is_unknown(command):
        yield f"the device ran it {executed} times"
    if command.rung is Rung.SUCCEEDED and executed != 1:
        yield "the device did not run it"
    for operation in operations[:1]:
        yield from _of_operation(world, command, operation)
    if not operations and command.receipt is not None:
        yield f"{command.receipt} is no operation of it"
    if not operations and _is_unknown(command) and not _phone_is_gone(world, command):
        yield "nothing was lost: it was never issued"
    yield from _of_time(world, command, operations)


def _of_operation(world: World, command: Command, operation: Operation) -> Iterator[str]:
    is_lost = operation.forgotten or _is_away(world, operation.device)
    # An answer that was lost leaves nobody to say what was meant.
    if command.type in ENDS_RECORD and world.meant.get(command.id, operation.device) != operation.device:
        yield f"{operation.device} was not meant"
    if _is_unknown(command):
        if not is_lost:
            yield f"nothing was lost: {operation.shown}"
        return
    if command.receipt != operation.name:
        yield f"knows {command.receipt}, not {operation.name}"
    if command.rung is Rung.CANCELLED and (operation.error or {}).get("code") != CANCELLED:
        yield f"was not cancelled: {operation.shown}"
    if (operation.error or {}).get("code") == CANCELLED and command.rung is not Rung.CANCELLED:
        yield "was cancelled"
    if operation.expired and command.rung is not Rung.EXPIRED_UNDELIVERED:
        yield "had expired"
    if operation.error_code and command.rung is not Rung.FAILED:
        yield "had failed on the device"


def _of_time(world: World, command: Command, operations: list[Operation]) -> Iterator[str]:
    """Nothing may take longer than documented once faults are gone, nor past its time."""
    over_at = (command.rung_at - BEGAN - world.set_forward_us) / 1_000_000
    healed = world.healed_at or 0.0
    latest = max([healed, *(o.ended_at for o in operations)])
    if not operations or _is_unknown(command) or command.type in ENDS_RECORD:
        latest = max(latest, (command.expires_at - BEGAN) / 1_000_000)
    if over_at > latest + SETTLED_S:
        yield f"was over only at {over_at:.1f} s, {over_at - latest:.1f} s late"


def _of_history(world: World, command: Command, history: list[Entry]) -> Iterator[str]:
    if [entry.seq for entry in history] != list(range(command.entries)):
        yield f"{command.entries} entries, not {[entry.seq for entry in history]}"
    if history and history[-1].rung != command.rung.value:
        yield f"the history ends with {history[-1].rung}"
    if any(before.at > after.at + 1_000_000 for before, after in pairwise(history)):
        yield "the history goes back in time"
    strays = [entry.evidence["stray"] for entry in history if "stray" in entry.evidence]
    # An answer may come after the device is gone: the record is told that there was an operation after all.
    if strays and not (_is_unknown(command) and _phone_is_gone(world, command)):
        yield f"strays: {strays}"


def _is_unknown(command: Command) -> bool:
    return command.rung is Rung.FAILED and command.reason is not None and command.reason.code == "outcome_unknown"


def _phone_is_gone(world: World, command: Command) -> bool:
    first = (command.device_name or "").rstrip("x")
    names = [name for name in world.google.phones if name.rstrip("x") == first]
    return any(_is_away(world, name) for name in names)


def _is_away(world: World, name: str) -> bool:
    """Whether Google has dropped a device, or it has another name now, so that nobody may learn of it any more."""
    phone = world.google.phones[name]
    return phone.dropped or phone.away
