"""A command as a record: the rungs it can stand on, and what is known of it. How it moves: `ladder`."""

from enum import StrEnum
from typing import Any

from heliograph.domain.attempts import Attempts
from heliograph.domain.record import record


class Rung(StrEnum):
    """Where a command is. The names are the vocabulary of the product for all platforms."""

    QUEUED = "queued"
    HELD = "held"
    SCHEDULED = "scheduled"
    ISSUED = "issued"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    ACKNOWLEDGED = "acknowledged"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED_UNDELIVERED = "expired_undelivered"
    EXPIRED_RUNNING = "expired_running"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    UNDELIVERABLE = "undeliverable"


TERMINAL = frozenset(
    {
        Rung.SUCCEEDED,
        Rung.FAILED,
        Rung.EXPIRED_UNDELIVERED,
        Rung.EXPIRED_RUNNING,
        Rung.CANCELLED,
        Rung.SUPERSEDED,
        Rung.UNDELIVERABLE,
    }
)
LIVE = frozenset(Rung) - TERMINAL

# Terminal rungs that say only "we never heard": evidence that the command did run corrects them, once.
CORRECTABLE = frozenset({Rung.EXPIRED_UNDELIVERED, Rung.EXPIRED_RUNNING, Rung.UNDELIVERABLE})

# The agent holds nothing yet: no claim was committed, so nothing authorises the device to run it.
UNCLAIMED = frozenset({Rung.QUEUED, Rung.HELD, Rung.SCHEDULED, Rung.ISSUED})

# So ends what no agent ever claimed: after a claim it is `expired_running`.
OVER_UNCLAIMED = frozenset({Rung.EXPIRED_UNDELIVERED, Rung.UNDELIVERABLE})

# Claimed, and not known to have begun: the agent can still be asked to let go of it.
LETS_GO = frozenset({Rung.DELIVERED, Rung.ACKNOWLEDGED, Rung.DEFERRED})

# The reason of a failure of which nobody can tell any more what happened.
OUTCOME_UNKNOWN = "outcome_unknown"

# What a claim may take. A deferred command was claimed once, so only the agent can prove that it will not run: its
# "not now" may arrive late, when it has already begun after all.
CLAIMABLE = frozenset({Rung.QUEUED, Rung.ISSUED, Rung.DEFERRED})


class Issue(StrEnum):
    """What is known about handing a command to the upstream service that runs it (Android only)."""

    IDLE = "idle"  # no attempt, or each ended in an answer that proves non-acceptance
    OPEN = "open"  # an attempt is in flight (or its process died): it may have been accepted
    BOUND = "bound"  # accepted: the operation's name is known


@record
class Reason:
    """Why a command failed: a stable code and a sentence for people."""

    code: str
    message: str = ""


@record
class Entry:
    """One line of a record's history. `rung` is where the record stood after it."""

    subject_id: str
    seq: int
    rung: str
    at: int
    source: str
    evidence: dict[str, Any]


@record
class Command:
    """One instruction to one device, with a life. `secret` is sealed (encrypted) and leaves once it is not needed.

    `attempts` = the attempts to issue it that failed. `not_before` = when a deferred command may be claimed again,
    `deferrals` = how often it was deferred. `claimed_by` = the name of the journal of the agent that claimed it; None
    where nobody did, or one that says no name. `contradicted` = the kinds of results that were heard and did not count;
    each is in the history once. `device_name` = upstream's name of the device that is meant, then of the
    one that the last attempt went to. `findings` = what was noted and later decisions go by; a history has bounds.
    """

    id: str
    organization_id: str
    device_id: str
    enterprise_id: str
    platform: str
    type: str
    params: dict[str, Any]
    duration_us: int
    created_at: int
    updated_at: int
    expires_at: int
    rung: Rung = Rung.QUEUED
    rung_at: int = 0
    mdm_user_id: str | None = None
    secret: bytes | None = None
    cancel_requested_at: int | None = None
    issue: Issue = Issue.IDLE
    issue_at: int | None = None
    receipt: str | None = None
    operation: dict[str, Any] | None = None
    reason: Reason | None = None
    push_id: str | None = None
    attempts: Attempts | None = None
    not_before: int | None = None
    deferrals: int = 0
    claimed_by: str | None = None
    contradicted: tuple[str, ...] | None = None
    device_name: str | None = None
    findings: dict[str, Any] | None = None
    entries: int = 0
    version: int = 1

    @property
    def is_over(self) -> bool:
        """Whether the rung is terminal."""
        return self.rung in TERMINAL

    @property
    def is_unknown(self) -> bool:
        """Whether it is over and nobody could tell what became of it."""
        return self.rung is Rung.FAILED and self.reason is not None and self.reason.code == OUTCOME_UNKNOWN

    @property
    def never_reached_anyone(self) -> bool:
        """Proof that the command cannot run: nobody who could run it was ever given it."""
        if self.platform == "android":
            return self.issue is Issue.IDLE and self.rung in (Rung.QUEUED, Rung.HELD, Rung.SCHEDULED)
        return self.rung in UNCLAIMED

    def is_for_journal(self, journal: str) -> bool:
        """Whether an agent with a journal of this name may be given it, or can prove that it will not run. Of what one
        journal was given, another one can tell nothing: two agents may have one secret, or a device a new journal.
        """
        return self.claimed_by in (None, journal)

    def may_be_claimed(self, now: int) -> bool:
        """Whether an agent that asks is given it."""
        waits = self.rung in CLAIMABLE and self.cancel_requested_at is None
        return waits and now < self.expires_at and now >= (self.not_before or 0)

    def waits_for_agent(self, now: int) -> bool:
        """Whether the agent has something to do about it: claim it, or answer a cancel."""
        asks = self.cancel_requested_at is not None and self.rung in LETS_GO
        return asks or self.may_be_claimed(now)

    def is_due_to(self, journal: str, now: int) -> bool:
        """Whether the agent with this journal has something to do about it now: claim it, take again what it has not
        acknowledged, or answer a cancel. The store has the same rule in SQL.
        """
        return self.is_for_journal(journal) and (self.rung is Rung.DELIVERED or self.waits_for_agent(now))
