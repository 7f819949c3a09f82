"""The rules of at most once: what may happen to a command or push id, given what the journal knows of it.

Each method changes the state in memory and puts a line into the journal. The caller commits before it acts on the
change or tells anybody; answers that are given before the commit are never sent before it.
"""

from collections import deque
from collections.abc import Iterable
from typing import Literal

from heliograph_agent import clock
from heliograph_agent.journal import Journal
from heliograph_agent.records import LIVE, CommandRecord, PushRecord, Record
from heliograph_protocol.messages import CheckIn, ClaimedCommand, Report, ReportError


class Ledger:
    """All ids that this agent has ever taken on and may still meet.

    `keep_seconds` and `keep_entries` bound how long, and how many of, the settled ids are remembered.
    """

    def __init__(self, keep_seconds: float, keep_entries: int) -> None:
        self._keep_seconds = keep_seconds
        self._keep_entries = keep_entries
        self._journal: Journal | None = None
        self._queue: deque[str] = deque()
        self._expires: dict[str, float] = {}  # by clock.elapsed(); absent after a restart
        self._deferred_mark: dict[str, int] = {}
        self.damaged = False  # the journal had lines that could not be read
        self.unsaved: set[str] = set()  # ended, but the journal may not have it yet
        self.commands: dict[str, CommandRecord] = {}
        self.pushes: dict[str, PushRecord] = {}

    def load(self, journal: Journal, records: Iterable[Record]) -> bool:
        """Take over what the journal holds. True if the file must be rewritten: secrets lie in it that must not."""
        self._journal = journal
        stale = False
        for record in records:
            if isinstance(record, PushRecord):
                self.pushes[record.id] = record
                continue
            before = self.commands.get(record.id)
            if record.stage in LIVE:
                record.params = record.params or (before.params if before else {})
            else:
                stale = stale or bool(before and before.params)
            self.commands[record.id] = record
        self.damaged = journal.damaged > 0
        if self.damaged:
            self._doubt()
        live = [record for record in self.commands.values() if record.stage in LIVE]
        self._queue.extend(record.id for record in sorted(live, key=lambda record: record.received))
        return stale

    def _doubt(self) -> None:
        """A line is lost: it may be the one that says that a command began, ended, or was cancelled.

        So each command that seems to wait or to run counts as begun, until the effector has said what it knows of it,
        and is not run however sure that is: it may have been put off, and cancelled then. One that was put off, too,
        for a journal of a new name is not given it again.
        """
        for record in self.commands.values():
            put_off = record.stage == "deferred" and not self.expired(record)
            if put_off or record.stage in LIVE:
                record.stage, record.doubtful = "started", True

    def snapshot(self) -> list[Record]:
        """All records that a rewritten journal must hold; the others are forgotten."""
        settled: list[Record] = [c for c in self.commands.values() if c.stage not in LIVE and not c.owed]
        settled += [push for push in self.pushes.values() if not push.owed]
        settled.sort(key=lambda record: record.at, reverse=True)
        oldest = clock.wall() - self._keep_seconds
        for place, record in enumerate(settled):
            if place >= self._keep_entries or record.at < oldest:
                known = self.pushes if isinstance(record, PushRecord) else self.commands
                known.pop(record.id, None)
                self._deferred_mark.pop(record.id, None)
        return [*self.commands.values(), *self.pushes.values()]

    # ------------------------------------------------------------ commands

    def is_new(self, command: ClaimedCommand, sent: int | None) -> bool:
        """Whether to take a claimed command on: an unknown id, or a deferred one that is handed out anew.

        `sent` is the number of the check-in that brought it, None on a line that keeps the order of messages: an old
        answer that arrives late on another connection must not revive what has been deferred since.
        """
        record = self.commands.get(command.id)
        if record is None:
            return True
        if record.stage != "deferred" or "result" in record.owed:
            return False
        return sent is None or sent >= self._deferred_mark.get(record.id, 0)

    def take_on(self, command: ClaimedCommand, at: float) -> CommandRecord:
        """Put a new command down; `at` is `clock.elapsed()` of its arrival. Call `ready` once that is committed."""
        now, life = clock.wall(), command.expires_in_ms / 1000
        record = CommandRecord(
            id=command.id,
            stage="received",
            at=now,
            type=command.type,
            received=now,
            deadline=now + life,
            params=command.params,
            names=len(command.params),
            owed=["acknowledged"],
        )
        self.commands[command.id] = record
        self._expires[command.id] = at + life
        self._put(record, with_params=True)
        return record

    def ready(self, record: CommandRecord) -> None:
        """Let a command that was taken on wait for its turn, unless it does."""
        if record.stage == "received" and record.id not in self._queue:
            self._queue.append(record.id)

    def repeat(self, record: CommandRecord) -> None:
        """A known command was handed out again: owe the server once more what became of it."""
        if record.stage == "cancelled":
            _owe(record, "cancel")
        else:
            _owe(record, "acknowledged")
            if record.report is not None:
                _owe(record, "result")

    def cancel(self, command_id: str) -> Literal["confirmed", "rejected"]:
        """Settle a cancel order: an id that has not begun never will, be it known yet or not.

        A deferral that is still owed stays so: a server that believes the command to run takes the confirmation only
        after it.
        """
        record = self.commands.get(command_id)
        if record is None:
            record = self.commands[command_id] = CommandRecord(id=command_id, stage="cancelled", at=clock.wall())
        elif record.stage in {"started", "finished"}:
            if record.report is not None:
                _owe(record, "result")
            return "rejected"
        self._end(record, "cancelled")
        if "result" not in record.owed:
            record.report = None
        _owe(record, "cancel")
        self._put(record)
        return "confirmed"

    def begin_next(self) -> CommandRecord | None:
        """The next command in the order of receipt, put down as started, or as failed if it came too late."""
        while self._queue:
            record = self.commands.get(self._queue.popleft())
            if record is None or record.stage != "received":
                continue
            if self.expired(record):
                self.expire(record)
            elif record.doubtful:
                self.fail(record, "JOURNAL_DAMAGED", "The journal has lost a line, perhaps a cancel; it was not run.")
            elif len(record.params) != record.names:
                self.fail(
                    record, "JOURNAL_DAMAGED", "The command's parameters cannot be read any more; it was not run."
                )
            else:
                record.stage, record.at = "started", clock.wall()
                self._put(record)
            return record
        return None

    def interrupted(self) -> list[CommandRecord]:
        """Commands that had begun when the agent ended, and of which no end is known."""
        return [record for record in self.commands.values() if record.stage == "started"]

    def begin_again(self, record: CommandRecord) -> None:
        """Put a started command back in its place in the queue; only after proof that it had no effect."""
        record.stage = "received"

    def finish(self, record: CommandRecord, report: Report) -> None:
        """Put down how a command ended: succeeded, failed or deferred. Call `saved` once that is committed."""
        self._end(record, "deferred" if report.rung == "deferred" else "finished")
        record.report = report
        self.unsaved.add(record.id)
        _owe(record, "result")
        self._put(record)

    def saved(self, record: CommandRecord) -> None:
        """The journal has the end of this command: it may be told."""
        self.unsaved.discard(record.id)

    def fail(self, record: CommandRecord, code: str, message: str) -> None:
        """`finish` with a failure."""
        error = ReportError(code=code, message=message)
        at = clock.rfc3339(clock.wall())
        self.finish(record, Report(command_id=record.id, rung="failed", at=at, error=error))

    def expire(self, record: CommandRecord) -> None:
        """`fail` for a command whose effect did not begin in time."""
        self.fail(record, "EXPIRED_BEFORE_START", "The command's time was over before it could begin.")

    def expired(self, record: CommandRecord) -> bool:
        """Whether a command may no longer begin."""
        if record.id in self._expires:
            return clock.elapsed() >= self._expires[record.id]
        # After a restart only the wall clock is left; one that runs before the receipt was set back and proves nothing.
        return not record.received <= clock.wall() < record.deadline

    def settle(self, told: CheckIn, *, next_seq: int) -> None:
        """The server has confirmed a check-in: what it said is owed no more."""
        for report in told.reports:
            record = self.commands.get(report.command_id)
            if record is not None and report.rung == "acknowledged":
                _paid(record, "acknowledged")
            elif record is not None and report == record.report and _paid(record, "result"):
                self._deferred_mark[record.id] = next_seq
                self._put(record, urgent=False)
        for answer in told.cancel_answers:
            record = self.commands.get(answer.command_id)
            if record is not None and answer.outcome == "confirmed" and _paid(record, "cancel"):
                self._put(record, urgent=False)
        for ack in told.push_acks:
            push = self.pushes.get(ack.id)
            if push is not None and push.owed:
                push.owed = False
                self._put(push, urgent=False)

    @property
    def waiting(self) -> int:
        """How many commands are taken on and have not begun."""
        return len(self._queue)

    # ------------------------------------------------------------ pushes

    def has_done(self, push_id: str) -> bool:
        """Whether this push was shown, or needs no showing, and is only to be acknowledged."""
        push = self.pushes.get(push_id)
        return push is not None and push.stage == "done"

    def see(self, push_id: str, *, shows: bool) -> PushRecord:
        """Take a push on; `seen` = it must be shown first, `done` = it can be acknowledged."""
        push = self.pushes.get(push_id)
        if push is None:
            push = PushRecord(id=push_id, stage="seen" if shows else "done", at=clock.wall(), owed=not shows)
            self.pushes[push_id] = push
            self._put(push)
        elif push.stage == "done":
            push.owed = True
        return push

    def shown(self, push: PushRecord) -> None:
        """A notification has been shown."""
        push.stage, push.at, push.owed = "done", clock.wall(), True
        self._put(push)

    # ------------------------------------------------------------

    def _end(self, record: CommandRecord, stage: Literal["finished", "deferred", "cancelled"]) -> None:
        record.stage, record.at, record.params = stage, clock.wall(), {}
        self._expires.pop(record.id, None)
        if record.id in self._queue:
            self._queue.remove(record.id)

    def _put(self, record: Record, *, urgent: bool = True, with_params: bool = False) -> None:
        if self._journal is None:
            raise RuntimeError("the ledger has no journal yet")
        self._journal.put(record, urgent=urgent, with_params=with_params)


def _owe(record: CommandRecord, what: Literal["acknowledged", "result", "cancel"]) -> None:
    if what not in record.owed:
        record.owed.append(what)


def _paid(record: CommandRecord, what: Literal["acknowledged", "result", "cancel"]) -> bool:
    if what not in record.owed:
        return False
    record.owed.remove(what)
    return True
