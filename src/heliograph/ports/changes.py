"""Change sets: what a use case hands to the store, committed as a whole or not at all.

A use case reads records with their versions, applies the pure rules, and states the result here. The store commits
many change sets of the same moment together, yet each fails alone: when one of its records was changed by somebody
else, the whole set is refused with `Conflict` and nothing of it is written.
"""

from dataclasses import dataclass, field

from heliograph.domain.deliveries import Push, PushEvent, PushStep, apply_push
from heliograph.domain.ladder import Command, Entry, Event, Step, apply
from heliograph.domain.record import record

URGENT, NORMAL, BACKGROUND = PRIORITIES = (0, 1, 2)
"""URGENT: somebody waits for it, or it stops something. BACKGROUND: it can wait."""


@record
class Debt:
    """An effect to be owed: becomes an outbox item in the transaction that makes it due.

    `key`: items with the same key are one (a second one only brings the due time forward and makes
    it more urgent). `lane`: items of a lane
    are claimed one at a time in the order of their ids. `pool`: what goes through the same enterprise or account; no
    pool may take every place in a dispatcher. `priority`: URGENT goes first.
    """

    id: str
    organization_id: str
    kind: str
    subject_id: str
    due_at: int
    lane: str | None = None
    key: str | None = None
    pool: str = ""
    priority: int = NORMAL


@record
class OutboxItem:
    """An effect owed, claimed by this process until `lease_until`; `token` fences the claim."""

    id: str
    organization_id: str
    kind: str
    subject_id: str
    due_at: int
    attempts: int
    token: int
    lease_until: int
    created_at: int
    lane: str | None = None
    key: str | None = None
    pool: str = ""
    priority: int = NORMAL


@record
class Settlement:
    """What becomes of a claimed item: paid (`due_at` None, no `dead`), put off, or dead with a reason.

    `hard`: if somebody has claimed it since, nothing of the change set holds.
    """

    item: OutboxItem
    due_at: int | None = None
    dead: str | None = None
    hard: bool = False


@dataclass(slots=True)
class ChangeSet:
    """Everything one use case changes. Bound to one organization."""

    organization_id: str
    new_commands: list[Command] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    new_pushes: list[Push] = field(default_factory=list)
    pushes: list[Push] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    amended: list[Entry] = field(default_factory=list)  # take the place of entries that are stored
    debts: list[Debt] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)
    topics: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        parts = (self.new_commands, self.commands, self.new_pushes, self.pushes, self.entries, self.debts)
        return any(parts) or bool(self.withdrawn or self.settlements)

    def add_command(self, command: Command, event: Event, now: int) -> Command:
        """A new command, with the first line of its history."""
        step = apply(command, event, now=now)
        self.new_commands.append(step.command)
        self._keep(step.entry, 0)
        return step.command

    def move(self, command: Command, event: Event, now: int) -> Command:
        """Apply an event to a command that was read from the store; nothing is written when it changes nothing.

        Several events may be applied in turn: pass the command that the call before answered.
        """
        step: Step = apply(command, event, now=now)
        if step.command is command:
            return command
        self._keep(step.entry, command.entries)
        held = next((i for i, c in enumerate(self.commands) if c.id == command.id), None)
        if held is not None:
            self.commands[held] = step.command
        else:
            self.commands.append(step.command)
        self.topics.add(f"command:{command.id}")
        return step.command

    def hold(self, command: Command) -> None:
        """Conflict if a command has changed since it was read: what is stated here depends on it."""
        if all(held.id != command.id for held in self.commands):
            self.commands.append(command)

    def add_push(self, push: Push, event: PushEvent, now: int) -> Push:
        """A new push, with the first line of its history."""
        step = apply_push(push, event, now=now)
        self.new_pushes.append(step.push)
        self._keep(step.entry, 0)
        return step.push

    def move_push(self, push: Push, event: PushEvent, now: int) -> Push:
        """Apply an event to a push that was read from the store."""
        step: PushStep = apply_push(push, event, now=now)
        if step.push is push:
            return push
        self._keep(step.entry, push.entries)
        held = next((i for i, p in enumerate(self.pushes) if p.id == push.id), None)
        if held is not None:
            self.pushes[held] = step.push
        else:
            self.pushes.append(step.push)
        self.topics.add(f"push:{push.id}")
        if push.command_id is not None:
            self.topics.add(f"command:{push.command_id}")  # whoever waits for its push-status
        return step.push

    def owe(self, debt: Debt) -> None:
        """Owe an effect."""
        self.debts.append(debt)
        self.topics.add("outbox")

    def withdraw(self, key: str, *, has_lane: bool = False) -> None:
        """Drop what is owed under a key, claimed or not (the record that it is about no longer needs it)."""
        self.withdrawn.append(key)
        if has_lane:
            self.topics.add("outbox")  # what waits behind it may go on

    def settle(self, item: OutboxItem) -> None:
        """The claimed effect is paid."""
        self._end(Settlement(item))

    def take(self, item: OutboxItem) -> None:
        """The effect is paid; Conflict if somebody has claimed it since it was read, or since its claim ran out."""
        self._end(Settlement(item, hard=True))

    def put_off(self, item: OutboxItem, due_at: int) -> None:
        """The claimed effect is tried again at `due_at`."""
        self.settlements.append(Settlement(item, due_at=due_at))
        self.topics.add("outbox")

    def bury(self, item: OutboxItem, reason: str, *, hard: bool = False) -> None:
        """The claimed effect is given up; the reason stays among the dead letters. `hard`: Conflict as of `take`."""
        self._end(Settlement(item, dead=reason, hard=hard))

    def _end(self, settlement: Settlement) -> None:
        self.settlements.append(settlement)
        if settlement.item.lane is not None:
            self.topics.add("outbox")  # what waits behind it may go on

    def wake_device(self, device_id: str) -> None:
        """Tell the process that holds the device's connection that something waits for it."""
        self.topics.add(f"device:{device_id}")

    def _keep(self, entry: Entry | None, known: int) -> None:
        """An entry behind the `known` ones is new; another takes the place of the one with its number."""
        if entry is None:
            return
        if entry.seq >= known:
            self.entries.append(entry)
            return
        for entries in (self.entries, self.amended):
            for place, held in enumerate(entries):
                if (held.subject_id, held.seq) == (entry.subject_id, entry.seq):
                    entries[place] = entry
                    return
        self.amended.append(entry)
