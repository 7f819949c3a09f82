"""The push ladder: what is known about one push, with who said so.

    queued → accepted → provider_delivered → acknowledged → executed, or collapsed | revoked | expired | rejected

"Accepted by the provider" is never called delivered. An acknowledgement by the agent outranks everything else.
Times are microseconds since the epoch (UTC).
"""

from dataclasses import field, replace
from enum import StrEnum
from typing import Any

from heliograph.domain.attempts import Attempts, one_more
from heliograph.domain.ladder import MAX_ENTRIES, Entry
from heliograph.domain.record import changed, record


class PushRung(StrEnum):
    """Where a push is."""

    QUEUED = "queued"
    ACCEPTED = "accepted"
    PROVIDER_DELIVERED = "provider_delivered"
    ACKNOWLEDGED = "acknowledged"
    EXECUTED = "executed"
    COLLAPSED = "collapsed"
    REVOKED = "revoked"
    EXPIRED = "expired"
    REJECTED = "rejected"


P = PushRung
PUSH_FINAL = frozenset({P.ACKNOWLEDGED, P.EXECUTED, P.COLLAPSED, P.REVOKED, P.EXPIRED, P.REJECTED})


@record
class Leg:
    """A provider that a push went to before the one it goes to now. `reference` None = it never took the push, or
    never said so. `refused`: it never will. `attempts`: how many had failed by then, on this way and those before.
    `withdrawn`: it has taken it back (so the present way is told of, too, when that has while another has not yet).
    """

    provider: str
    account_id: str | None
    reference: str | None
    refused: bool = False
    attempts: int = 0
    withdrawn: bool = False


@record
class Push:
    """One message to one app on one device. `command_id` is set on a push that wakes the device for a command.

    `reference` is the provider's id of the accepted push, `sent_at` our time of the first acceptance (never changed),
    `pending_devices` and `answer_at` the provider's last word, `attempts` the attempts to send it that failed. `legs`:
    where it went before, when nothing was heard from there.
    """

    id: str
    organization_id: str
    device_id: str
    app: str
    kind: str
    provider: str
    account_id: str | None
    message: dict[str, Any]
    created_at: int
    updated_at: int
    expires_at: int
    rung: PushRung = PushRung.QUEUED
    rung_at: int = 0
    command_id: str | None = None
    reference: str | None = None
    sent_at: int | None = None
    provider_expires_at: int | None = None
    pending_devices: int | None = None
    answer_at: int | None = None
    reason: str | None = None
    attempts: Attempts | None = None
    legs: tuple[Leg, ...] | None = None
    entries: int = 0
    version: int = 1

    @property
    def is_over(self) -> bool:
        """Whether nothing more is expected of the provider (the agent may still acknowledge)."""
        return self.rung in PUSH_FINAL

    @property
    def taken_before(self) -> Leg | None:
        """The latest way before the present one on which it was taken."""
        return next((leg for leg in reversed(self.legs or ()) if leg.reference is not None), None)

    @property
    def held_before(self) -> Leg | None:
        """The latest way before the present one on which it was taken, and not taken back."""
        return next((leg for leg in reversed(self.legs or ()) if leg.reference is not None and not leg.withdrawn), None)

    @property
    def unanswered(self) -> int:
        """How many attempts got no answer that proves that it was not taken, on whichever way."""
        return self.attempts.uncertain if self.attempts else 0

    @property
    def withdrawn_through(self) -> str | None:
        """The account that its withdrawal counts for: of the ways before the present one that took it, the latest that
        has one (the present one has acknowledged it, or was not asked yet); else the present way's.
        """
        taken = (leg.account_id for leg in reversed(self.legs or ()) if leg.reference is not None)
        return next(filter(None, taken), self.account_id)


@record(kw_only=True)
class PushEvent:
    """Something that was learnt about a push."""

    source: str
    evidence: dict[str, Any] = field(default_factory=dict)


class PushRequested(PushEvent):
    """Stored, with the effect owed."""


class PushNoted(PushEvent):
    """Worth keeping, moves nothing."""


@record(kw_only=True)
class PushAttempted(PushEvent):
    """An attempt to send it failed and another will follow. `uncertain`: it may have been taken all the same.

    All of them share one entry.
    """

    reason: str
    uncertain: bool = False


@record(kw_only=True)
class PushAccepted(PushEvent):
    """The provider took it and named it."""

    reference: str
    expires_at: int | None = None


@record(kw_only=True)
class ProviderAnswered(PushEvent):
    """The provider's word on an accepted push: how many of its addresses still wait."""

    pending_devices: int
    expires_at: int | None = None


@record(kw_only=True)
class PushRerouted(PushEvent):
    """Nothing was heard by the way it went: it goes another, under the same id. What was taken stays so, as a leg.
    One that goes to and fro between ways that are down fills no history: the first moves are told.

    `refused`: by the way it went. `expires_at`: the longest that the next one keeps it (microseconds).
    """

    provider: str
    account_id: str | None
    refused: bool = False
    expires_at: int | None = None


class PushReturned(PushEvent):
    """The way it goes refuses it, or is not to be asked again, and none is left: what counts is again the one before
    that took it and has not taken it back.
    """


@record(kw_only=True)
class LegAccepted(PushEvent):
    """Late word of a provider that the push has left: it took it, all the same."""

    provider: str
    account_id: str | None
    reference: str


@record(kw_only=True)
class WayWithdrawn(PushEvent):
    """One of the ways has taken it back, and another has not, or may have it yet."""

    provider: str
    account_id: str | None
    reference: str


class PushAcknowledged(PushEvent):
    """The agent has it in its journal."""


class PushExecuted(PushEvent):
    """The command that it woke the device for has run, as the agent says. One that nobody heard woke nobody."""


class PushRevoked(PushEvent):
    """Withdrawn before delivery, as far as the provider says."""


class PushExpired(PushEvent):
    """Its life ended without an acknowledgement."""


@record(kw_only=True)
class PushRejected(PushEvent):
    """The provider will not take it."""

    reason: str


class PushCollapsed(PushEvent):
    """A newer push took its place."""


_OPEN = (P.QUEUED, P.ACCEPTED, P.PROVIDER_DELIVERED)
PUSH_TRANSITIONS: dict[tuple[PushRung, type[PushEvent]], PushRung] = {
    # One that was collapsed while it was on its way was sent all the same.
    **{(r, PushAccepted): P.ACCEPTED for r in (P.QUEUED, P.COLLAPSED)},
    (P.ACCEPTED, ProviderAnswered): P.PROVIDER_DELIVERED,
    **{(r, PushRerouted): P.QUEUED for r in (P.QUEUED, P.ACCEPTED)},
    (P.QUEUED, PushReturned): P.ACCEPTED,
    **{(r, PushAcknowledged): P.ACKNOWLEDGED for r in (*_OPEN, P.COLLAPSED, P.REVOKED, P.EXPIRED, P.REJECTED)},
    (P.ACKNOWLEDGED, PushExecuted): P.EXECUTED,
    **{(r, PushRevoked): P.REVOKED for r in (P.QUEUED, P.ACCEPTED)},
    # What the provider delivered stays delivered when its life ends.
    **{(r, PushExpired): P.EXPIRED for r in (P.QUEUED, P.ACCEPTED)},
    (P.QUEUED, PushRejected): P.REJECTED,
    **{(r, PushCollapsed): P.COLLAPSED for r in (P.QUEUED, P.ACCEPTED)},
}


@record
class PushStep:
    """What one event did to a push; `entry` None = nothing for the history.

    An entry whose number is below the count of the push before takes the place of that one.
    """

    push: Push
    entry: Entry | None


def apply_push(push: Push, event: PushEvent, *, now: int) -> PushStep:
    """The push after `event`. Pure; stale events change nothing."""
    if isinstance(event, PushAttempted):
        return _attempted(push, event, now)
    learnt = _learnt(push, event, now)
    target = PUSH_TRANSITIONS.get((push.rung, type(event)))
    if isinstance(event, ProviderAnswered) and event.pending_devices > 0:
        target = None
    if isinstance(event, PushNoted) or (isinstance(event, LegAccepted | WayWithdrawn) and learnt):
        target = push.rung
    if target is None and not isinstance(event, PushRequested):
        return PushStep(changed(push, **learnt, updated_at=now) if learnt else push, None)
    rung = target or push.rung
    if isinstance(event, PushRerouted) and push.rung is rung and push.entries >= MAX_ENTRIES:
        return PushStep(changed(push, **learnt, rung_at=now, updated_at=now), None)
    rung_at = push.rung_at if isinstance(event, PushNoted | LegAccepted | WayWithdrawn) else now
    moved = changed(push, **learnt, rung=rung, rung_at=rung_at, updated_at=now, entries=push.entries + 1)
    return PushStep(moved, Entry(push.id, push.entries, rung.value, now, event.source, event.evidence))


def _attempted(push: Push, event: PushAttempted, now: int) -> PushStep:
    attempts = one_more(push.attempts, seq=push.entries, reason=event.reason, uncertain=event.uncertain, now=now)
    after = replace(push, attempts=attempts, entries=max(push.entries, attempts.seq + 1), updated_at=now)
    evidence = event.evidence | attempts.evidence
    return PushStep(after, Entry(push.id, attempts.seq, push.rung.value, attempts.first_at, event.source, evidence))


def _learnt(push: Push, event: PushEvent, now: int) -> dict[str, Any]:
    """Facts that hold whatever the rung is: a push acknowledged early may be accepted late."""
    if isinstance(event, PushAccepted) and push.reference is None:
        return {
            "reference": event.reference,
            "sent_at": push.sent_at or now,
            "provider_expires_at": event.expires_at or push.expires_at,
        }
    if isinstance(event, ProviderAnswered):
        expires_at = event.expires_at or push.provider_expires_at
        return {"pending_devices": event.pending_devices, "answer_at": now, "provider_expires_at": expires_at}
    if isinstance(event, PushRejected) and push.rung is P.QUEUED:
        return {"reason": event.reason}
    if isinstance(event, PushRerouted) and push.rung in (P.QUEUED, P.ACCEPTED):
        failed = push.attempts.count if push.attempts else 0
        left = Leg(push.provider, push.account_id, push.reference, event.refused, failed)
        return {
            # One that it goes again is no leg any more, unless it has been taken there: late, through another account.
            "legs": (*(leg for leg in push.legs or () if leg.provider != event.provider or leg.reference), left),
            "provider": event.provider,
            "account_id": event.account_id,
            "reference": None,
            "pending_devices": None,
            "expires_at": min(push.expires_at, event.expires_at or push.expires_at),
        }
    if isinstance(event, PushReturned) and push.rung is P.QUEUED and push.held_before:
        return _returned(push, push.held_before)
    if isinstance(event, LegAccepted):
        return _leg_accepted(push, event, now)
    if isinstance(event, WayWithdrawn):
        return _way_withdrawn(push, event)
    return {}


def _returned(push: Push, taken: Leg) -> dict[str, Any]:
    failed = push.attempts.count if push.attempts else 0
    left = Leg(push.provider, push.account_id, None, refused=True, attempts=failed)
    return {
        "legs": (*(leg for leg in push.legs or () if leg != taken), left),
        "provider": taken.provider,
        "account_id": taken.account_id,
        "reference": taken.reference,
    }


def _leg_accepted(push: Push, event: LegAccepted, now: int) -> dict[str, Any]:
    said = (event.provider, event.account_id, None)
    legs = tuple(
        replace(leg, reference=event.reference) if (leg.provider, leg.account_id, leg.reference) == said else leg
        for leg in push.legs or ()
    )
    if legs == (push.legs or ()):
        return {}
    return {"legs": legs, "sent_at": push.sent_at or now}


def _way_withdrawn(push: Push, event: WayWithdrawn) -> dict[str, Any]:
    way = Leg(event.provider, event.account_id, event.reference)
    known = push.legs or ()
    if (push.provider, push.account_id, push.reference) == (way.provider, way.account_id, way.reference):
        known = (*known, way)
    legs = tuple(replace(leg, withdrawn=True) if _is_same(leg, way) else leg for leg in known)
    return {} if legs == (push.legs or ()) else {"legs": legs}


def _is_same(leg: Leg, other: Leg) -> bool:
    return (leg.provider, leg.account_id, leg.reference) == (other.provider, other.account_id, other.reference)


@record
class PushStatus:
    """What can be said of a push's delivery; see `push_status`. Times in microseconds."""

    delivered: bool
    pending_devices: int
    sent_at: int | None
    expires_at: int | None


def push_status(push: Push) -> PushStatus | None:
    """The delivery of a push (contract decisions 18 and 19); None while nobody has taken it."""
    if push.rung in (P.ACKNOWLEDGED, P.EXECUTED):
        return PushStatus(True, 0, push.sent_at, push.provider_expires_at)
    if push.sent_at is None:
        return None
    pending = 1 if push.pending_devices is None else push.pending_devices
    delivered = push.rung is P.PROVIDER_DELIVERED and pending == 0
    return PushStatus(delivered, pending, push.sent_at, push.provider_expires_at)
