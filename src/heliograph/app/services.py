"""What every use case is given: the ports, and the numbers that an operator may set."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from heliograph.app.account_health import AccountHealth
from heliograph.app.look_pauses import LookPauses
from heliograph.app.quota import AccountQuotas, Pace, Quota
from heliograph.domain.errors import Conflict
from heliograph.domain.ladder import Command, Failed, Reason
from heliograph.ports.changes import NORMAL, Debt
from heliograph.ports.channel import Channels
from heliograph.ports.clock import Clock, IdFactory, SecretBox, Wakeups
from heliograph.ports.push import Providers
from heliograph.ports.store import Store

T = TypeVar("T")

SECOND = 1_000_000  # microseconds
_CONFLICT_TRIES = 10
_MOST_ABSENCES = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds. The defaults keep what the command line promises (DESIGN: cancel 4 s, push-status 3 s)."""

    cancel_wait_s: float = 2.0
    push_status_timeout_s: float = 2.0
    push_status_cache_s: float = 1.0
    push_life_s: int = 24 * 3600
    lease_s: float = 15.0
    backoff_first_s: float = 0.5
    backoff_cap_s: float = 30.0
    # A longer Retry-After is not waited for (one for a whole push account: see AccountHealth).
    retry_after_cap_s: float = 45.0
    # How long an attempt without an answer must stay absent from the upstream's list before it is tried again.
    uncertainty_window_s: float = 30.0
    # Nothing of an attempt is sent later than this after it was marked as begun.
    issue_timeout_s: float = 10.0
    # How long Google must not know a device before its absence counts as the end of a WIPE or RELINQUISH_OWNERSHIP.
    absence_window_s: float = 5.0
    # Google asks for "a few minutes" between two ADD_ESIM of one device.
    esim_pause_s: float = 180.0
    # Google's list of devices is compared with ours so often …
    reconcile_every_s: float = 900.0
    # … and a device counts as gone that complete lists lacked for so long, two of them at the least.
    device_missing_s: float = 600.0
    # An operation that Google has not known for so long has an outcome that nobody will learn.
    forgotten_after_s: float = 7 * 24 * 3600.0
    # The state of open operations is asked for with pauses that grow to this cap …
    look_up_cap_s: float = 30.0
    # … and further, so that all devices together cost at most so many requests a minute.
    look_ups_per_minute: int = 120
    # Effects that are carried out at a time; those that wait for an answer do not count (app.places).
    dispatch_concurrency: int = 256
    # How many of what can wait may be under way in one enterprise or account; of what is urgent, twice as many.
    pool_concurrency: int = 64
    # Where an API key of an organization may let credentials be sent to (ADR 0027).
    addresses: frozenset[str] = frozenset()
    sweep_pause_s: float = 1.0


@dataclass(slots=True)
class Lifecycle:
    """`ending`: this process is about to stop, so nobody should be kept waiting."""

    ending: bool = False


@dataclass(slots=True)
class Absences:
    """For how long this process has seen something absent upstream, look by look, on a clock that nobody sets.

    `what` is missed of a command: the operation of an attempt, the device it went to, or an operation that was known.
    """

    _seen: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)  # → since when, in how many looks

    def seen(self, command_id: str, what: str, asked: int, *, looks: int = 2) -> int:
        """Note one more look without a trace; answers for how many microseconds it has been so, 0 before `looks` looks.

        `asked` = when the look began, by the clock that nobody sets: its answer may be old by the time it is read.
        """
        if len(self._seen) >= _MOST_ABSENCES:
            self._seen.clear()  # others decided about most of them: begin again, which only takes longer
        first, before = self._seen.get((command_id, what), (asked, 0))
        self._seen[command_id, what] = first, before + 1
        return asked - first if before + 1 >= looks else 0

    def is_missed(self, command_id: str, what: str) -> bool:
        """Whether the latest look was one without a trace."""
        return (command_id, what) in self._seen

    def forget(self, command_id: str, what: str | None = None) -> None:
        """It is decided, or was seen. None = all that was missed of the command."""
        for key in [key for key in self._seen if key[0] == command_id and what in (None, key[1])]:
            del self._seen[key]


@dataclass(frozen=True, slots=True)
class Services:
    """The ports that use cases work with. Built once, by bootstrap."""

    store: Store
    clock: Clock
    new_id: IdFactory
    wakeups: Wakeups
    secrets: SecretBox
    providers: Providers
    channels: Channels
    limits: Limits = field(default_factory=Limits)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    absences: Absences = field(default_factory=Absences)
    look_pauses: LookPauses = field(default_factory=LookPauses)
    quota: Quota | None = None  # None = no limit
    pace: Pace = field(default_factory=Pace)
    health: AccountHealth = field(default_factory=AccountHealth)
    account_quotas: AccountQuotas | None = None  # None = no limits

    def end_waits(self) -> None:
        """Let everybody who waits for a record answer with what is known now."""
        self.lifecycle.ending = True
        self.wakeups.notify_all()

    def open_params(self, command: Command) -> dict[str, Any] | None:
        """Public and secret parameters of a command together; None where the secret ones can no longer be opened."""
        if command.secret is None:
            return dict(command.params)
        try:
            secret = msgspec.json.decode(self.secrets.open(command.secret), type=dict[str, Any])
        except ValueError:
            return None
        return command.params | secret

    def later(self, seconds: float) -> int:
        """The time `seconds` from now, in microseconds."""
        return self.clock.now() + int(seconds * SECOND)

    def debt(
        self,
        organization_id: str,
        kind: str,
        subject_id: str,
        *,
        after_s: float = 0,
        lane: str | None = None,
        pool: str | None = None,
        priority: int = NORMAL,
    ) -> Debt:
        """An effect to owe, at most one of a kind per subject, due `after_s` seconds from now. `pool` = the enterprise
        or account that it goes through.
        """
        return Debt(
            id=self.new_id(),
            organization_id=organization_id,
            kind=kind,
            subject_id=subject_id,
            due_at=self.later(after_s),
            lane=lane,
            key=f"{kind}:{subject_id}",
            pool=pool or "",
            priority=priority,
        )


def secret_lost(source: str) -> Failed:
    """What becomes of a command whose secret parameters are gone, or were sealed with a key that is gone."""
    return Failed(source=source, reason=Reason("SECRET_LOST", "its parameters cannot be read any more"))


async def until_committed(attempt: Callable[[], Awaitable[T]]) -> T:
    """Run a read-apply-commit attempt again while somebody else is faster."""
    for _ in range(_CONFLICT_TRIES - 1):
        try:
            return await attempt()
        except Conflict:
            continue
    return await attempt()
