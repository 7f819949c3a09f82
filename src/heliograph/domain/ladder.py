"""The ladder: every state a command can be in, and the only statement of how it may move.

    queued → held|scheduled → issued → delivered → acknowledged → running → succeeded | failed
                                                                          | expired_undelivered | expired_running
                                                                          | cancelled | superseded | undeliverable

`apply` is pure: a command and an event give the command after it and the history entry that proves it. An event that
the table does not know for the rung is stale (late, doubled, or overtaken): the rung stays, and a result that
contradicts a terminal rung is kept as evidence, once of each kind. Times are microseconds since the epoch (UTC).
"""

from dataclasses import field, replace
from typing import Any

from heliograph.domain.attempts import one_more
from heliograph.domain.commands import (
    CLAIMABLE,
    CORRECTABLE,
    LETS_GO,
    LIVE,
    OUTCOME_UNKNOWN,
    OVER_UNCLAIMED,
    TERMINAL,
    UNCLAIMED,
    Command,
    Entry,
    Issue,
    Reason,
    Rung,
)
from heliograph.domain.deferral import pause_us
from heliograph.domain.record import changed, record

# With those of the record: whoever reads a move needs both.
__all__ = [
    "CLAIMABLE",
    "CORRECTABLE",
    "LETS_GO",
    "LIVE",
    "MAX_ENTRIES",
    "OUTCOME_UNKNOWN",
    "TERMINAL",
    "TRANSITIONS",
    "UNCLAIMED",
    "Acknowledged",
    "CancelRequested",
    "Cancelled",
    "Claimed",
    "Command",
    "Deferred",
    "Entry",
    "Event",
    "Expired",
    "Failed",
    "Held",
    "Issue",
    "IssueRefused",
    "IssueStarted",
    "Issued",
    "Noted",
    "Reason",
    "Released",
    "Requested",
    "Rung",
    "Scheduled",
    "Started",
    "Step",
    "Strayed",
    "Succeeded",
    "Superseded",
    "Undeliverable",
    "apply",
]

# Entries of one history. Whoever repeats themselves beyond it (a device that defers and begins a thousand times) still
# moves the command, but only what ends it is kept.
MAX_ENTRIES = 100


@record(kw_only=True)
class Event:
    """Something that happened. `source` = who says so (`key:…`, `provider:pushy`, `agent`, `amapi`, `sweeper`)."""

    source: str
    evidence: dict[str, Any] = field(default_factory=dict)


class Requested(Event):
    """The command was accepted: it is in the database."""


@record(kw_only=True)
class Noted(Event):
    """Worth keeping, moves nothing (for example the upstream's answer to a cancel). Of `findings` (see Command) those
    that are None are taken back. Findings without evidence leave no line.
    """

    findings: dict[str, Any] | None = None


@record(kw_only=True)
class IssueStarted(Noted):
    """An attempt to hand it to the upstream service begins; from here on it may have been accepted. `device_name` =
    upstream's name of the device that it goes to.
    """

    device_name: str | None = None


class IssueRefused(Noted):
    """The upstream proved that it did not accept; another attempt follows. All share one entry, with the last
    `evidence["reason"]`.
    """


class Strayed(Event):
    """The upstream holds an operation of this command beside what the record says: it is being cancelled there."""


@record(kw_only=True)
class Issued(Event):
    """On its way: accepted upstream (`receipt` = the operation's name), or its push was accepted (`push_id`)."""

    receipt: str | None = None
    operation: dict[str, Any] | None = None
    push_id: str | None = None


@record(kw_only=True)
class Claimed(Event):
    """The agent (its `journal`, None = unnamed) asked for it, and this is committed: now only the device decides."""

    journal: str | None = None


class Acknowledged(Event):
    """The agent has it in its journal."""


@record(kw_only=True)
class Started(Event):
    """The agent began to run it. `rejects_cancel` = that is its answer when it is asked to let go of it."""

    rejects_cancel: bool = False


@record(kw_only=True)
class Deferred(Event):
    """The device says: not now. It may be claimed again after a pause; `wish_us` = how long the device wants it."""

    wish_us: int | None = None


@record(kw_only=True)
class Succeeded(Event):
    """It ran and did what it should."""

    operation: dict[str, Any] | None = None


@record(kw_only=True)
class Failed(Event):
    """It will not succeed. `executed` = the device itself says that it tried, which corrects an expiry.

    `by_agent` = an agent says so, whose word counts only for what it has claimed.
    """

    reason: Reason
    executed: bool = False
    by_agent: bool = False
    operation: dict[str, Any] | None = None


@record(kw_only=True)
class Undeliverable(Event):
    """There is no device to take it."""

    reason: Reason


@record(kw_only=True)
class Expired(Event):
    """Its time ran out before an outcome was heard. `by_agent` as of a failure: it came too late to begin."""

    by_agent: bool = False
    operation: dict[str, Any] | None = None


class CancelRequested(Event):
    """Somebody asked to cancel. Proven at once where nobody was given the command; else the channel decides."""


@record(kw_only=True)
class Cancelled(Event):
    """Proof that it will not run: the operation ended with code 1, or the agent journalled the refusal."""

    operation: dict[str, Any] | None = None


class Superseded(Event):
    """A newer command took its place before anybody was given it."""


class Held(Event):
    """Waits for an approval."""


class Scheduled(Event):
    """Waits for its time."""


class Released(Event):
    """Waits no longer."""


R = Rung
_CLAIMED = (R.DELIVERED, R.ACKNOWLEDGED, R.RUNNING, R.DEFERRED)
TRANSITIONS: dict[tuple[Rung, type[Event]], Rung] = {
    (R.QUEUED, Held): R.HELD,
    (R.QUEUED, Scheduled): R.SCHEDULED,
    (R.HELD, Released): R.QUEUED,
    (R.SCHEDULED, Released): R.QUEUED,
    (R.QUEUED, Issued): R.ISSUED,
    **{(r, Claimed): R.DELIVERED for r in CLAIMABLE},
    (R.DELIVERED, Acknowledged): R.ACKNOWLEDGED,
    **{(r, Started): R.RUNNING for r in (R.DELIVERED, R.ACKNOWLEDGED, R.DEFERRED)},
    **{(r, Deferred): R.DEFERRED for r in (R.DELIVERED, R.ACKNOWLEDGED, R.RUNNING)},
    **{(r, Succeeded): R.SUCCEEDED for r in (R.ISSUED, *_CLAIMED, *CORRECTABLE)},
    **{(r, Failed): R.FAILED for r in (R.QUEUED, R.ISSUED, *_CLAIMED, *CORRECTABLE)},
    **{(r, Undeliverable): R.UNDELIVERABLE for r in (R.QUEUED, R.HELD, R.SCHEDULED, R.ISSUED)},
    **{(r, Expired): R.EXPIRED_UNDELIVERED for r in UNCLAIMED},
    **{(r, Expired): R.EXPIRED_RUNNING for r in _CLAIMED},
    **{(r, Cancelled): R.CANCELLED for r in (*UNCLAIMED, R.DELIVERED, R.ACKNOWLEDGED, R.DEFERRED)},
    **{(r, Superseded): R.SUPERSEDED for r in UNCLAIMED},
}

_RESULTS = (Succeeded, Failed, Cancelled)


@record
class Step:
    """What one event did: the command after it, and the entry to store (None = nothing new was learnt).

    An entry whose number is below the count of the command before takes the place of that one.
    """

    command: Command
    entry: Entry | None


def apply(command: Command, event: Event, *, now: int) -> Step:
    """The command after `event`. Pure; never raises for an event in the wrong place: stale events change nothing."""
    if isinstance(event, CancelRequested):
        return _request_cancel(command, event, now)
    target = TRANSITIONS.get((command.rung, type(event)))
    if isinstance(event, Requested | IssueStarted | IssueRefused):
        return _note_attempt(command, event, now)
    if isinstance(event, Strayed):
        return _entered(command, event, now)
    if isinstance(event, Noted):
        return Step(command, None) if command.is_over else _entered(command, event, now, **_found(command, event))
    if target is None or not _may_move(command, event):
        return _stale(command, event, now)
    learnt: dict[str, Any] = {
        "rung": target,
        "rung_at": now,
        "reason": event.reason if isinstance(event, Failed | Undeliverable) else None,
        "secret": None if target in TERMINAL else command.secret,
    }
    return _entered(command, event, now, **(learnt | _learnt(command, event, now)))


def _may_move(command: Command, event: Event) -> bool:
    """The rules that a table of rungs cannot say."""
    if _of_nothing_given(command, event):
        return False
    if isinstance(event, Failed) and command.rung in CORRECTABLE:
        return event.executed  # "I cannot tell" or "too late" is no evidence of execution
    if isinstance(event, Superseded):
        return command.never_reached_anyone
    if isinstance(event, Claimed | Acknowledged | Started | Deferred):
        # What was put off begins with another claim: a report that says so before it is one of the time before.
        is_late = isinstance(event, Started) and command.rung is Rung.DEFERRED and not event.rejects_cancel
        return command.platform != "android" and not is_late  # Google's to run, never our agent's
    if isinstance(event, Expired):
        return command.issue is not Issue.OPEN  # it may have been accepted: the upstream knows, we do not
    return True


def _of_nothing_given(command: Command, event: Event) -> bool:
    """Whether a device says how a command ended that it was never given: the claim is what authorises."""
    if command.platform == "android" or command.rung not in (*UNCLAIMED, *OVER_UNCLAIMED):
        return False
    ran = isinstance(event, Succeeded) or (isinstance(event, Failed) and event.executed)
    return ran or (not command.is_over and isinstance(event, Failed | Expired) and event.by_agent)


def _learnt(command: Command, event: Event, now: int) -> dict[str, Any]:
    """What an event tells besides the rung."""
    learnt: dict[str, Any] = {}
    if (operation := getattr(event, "operation", None)) is not None:
        learnt["operation"] = operation
    if isinstance(event, Issued):
        if event.receipt is not None:
            learnt |= {"receipt": event.receipt, "issue": Issue.BOUND, "issue_at": now, "secret": None}
        if event.push_id is not None:
            learnt["push_id"] = event.push_id
    elif isinstance(event, Expired):
        learnt["reason"] = Reason("EXPIRED", "not carried out within its duration")
    elif isinstance(event, Claimed):
        learnt["claimed_by"] = event.journal
    elif isinstance(event, Deferred):
        learnt |= {"deferrals": command.deferrals + 1, "not_before": now + pause_us(command.deferrals, event.wish_us)}
    return learnt


def _found(command: Command, event: Noted) -> dict[str, Any]:
    if not event.findings:
        return {}
    found = (command.findings or {}) | event.findings
    return {"findings": {name: value for name, value in found.items() if value is not None} or None}


def _entered(command: Command, event: Event, now: int, **learnt: Any) -> Step:
    after = changed(command, **learnt, updated_at=now)
    is_full = command.entries >= MAX_ENTRIES and not after.is_over and not isinstance(event, CancelRequested)
    if is_full or (isinstance(event, Noted) and event.findings and not event.evidence):
        return Step(after if learnt or not isinstance(event, Noted) else command, None)
    after = changed(after, entries=command.entries + 1)
    return Step(after, Entry(command.id, command.entries, after.rung.value, now, event.source, event.evidence))


def _note_attempt(command: Command, event: Event, now: int) -> Step:
    """Events that stay on `queued`: the request itself and the attempts to issue it."""
    if command.rung is not Rung.QUEUED or command.issue is Issue.BOUND:
        return Step(command, None)
    if isinstance(event, IssueStarted):
        name = event.device_name or command.device_name
        began = {"issue": Issue.OPEN, "issue_at": now, "device_name": name, **_found(command, event)}
        if command.attempts is not None:  # the summary of the attempts counts this one
            return Step(replace(command, **began, updated_at=now), None)
        return _entered(command, event, now, **began)
    if isinstance(event, IssueRefused):
        return _refused(command, event, now)
    return _entered(command, event, now, rung_at=now)


def _refused(command: Command, event: IssueRefused, now: int) -> Step:
    reason = str(event.evidence.get("reason", ""))
    attempts = one_more(command.attempts, seq=command.entries, reason=reason, uncertain=False, now=now)
    entries = max(command.entries, attempts.seq + 1)
    learnt = {"issue": Issue.IDLE, "attempts": attempts, "entries": entries} | _found(command, event)
    after = changed(command, **learnt, updated_at=now)
    evidence = event.evidence | attempts.evidence
    return Step(after, Entry(command.id, attempts.seq, after.rung.value, attempts.first_at, event.source, evidence))


def _request_cancel(command: Command, event: CancelRequested, now: int) -> Step:
    asked_at = command.cancel_requested_at
    if command.is_over or (asked_at is not None and not command.never_reached_anyone):
        return Step(command, None)
    proven = {"rung": Rung.CANCELLED, "rung_at": now, "secret": None} if command.never_reached_anyone else {}
    return _entered(command, event, now, cancel_requested_at=now if asked_at is None else asked_at, **proven)


def _stale(command: Command, event: Event, now: int) -> Step:
    """Nothing moves. A push accepted late still leaves its id; a result that contradicts the rung stays as evidence."""
    if isinstance(event, Issued) and event.push_id is not None and event.push_id != command.push_id:
        return Step(replace(command, push_id=event.push_id, updated_at=now), None)
    if _of_nothing_given(command, event) or (command.is_over and _is_news(command, event)):
        return _contradicted(command, event, now)
    return Step(command, None)


def _contradicted(command: Command, event: Event, now: int) -> Step:
    kind, known = type(event).__name__.lower(), command.contradicted or ()
    if kind in known:
        return Step(command, None)
    after = replace(command, contradicted=(*known, kind), entries=command.entries + 1, updated_at=now)
    evidence = {**event.evidence, "contradicts": kind}
    return Step(after, Entry(command.id, command.entries, command.rung.value, now, event.source, evidence))


def _is_news(command: Command, event: Event) -> bool:
    """Whether a result says something else than the end of the record does."""
    operation = getattr(event, "operation", None)
    if operation is not None and operation == command.operation:
        return False  # the same answer, read by another clock
    if isinstance(event, Expired):
        # Our own judgement is none; and what failed by an error before its time has expired by the same error after it.
        tells = command.rung in (Rung.SUCCEEDED, Rung.CANCELLED) or command.is_unknown
        return operation is not None and tells
    return isinstance(event, _RESULTS) and not _same_result(command, event)


def _same_result(command: Command, event: Event) -> bool:
    if command.is_unknown and isinstance(event, Failed):
        return event.reason.code == OUTCOME_UNKNOWN  # that it failed for sure is news
    repeated = {Rung.SUCCEEDED: Succeeded, Rung.FAILED: Failed, Rung.CANCELLED: Cancelled}
    return isinstance(event, repeated.get(command.rung, ()))
