"""The port of the store's cross-organization half: for dispatcher, sweeper and reconciler only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from heliograph.domain.deliveries import Push
from heliograph.domain.ladder import Command
from heliograph.ports.changes import PRIORITIES, OutboxItem

NONE_SHUT: Sequence[Sequence[str]] = tuple(() for _ in PRIORITIES)


@dataclass(frozen=True, slots=True)
class TokenOrder:
    """Tokens that are asked of a project's bucket. `left` and `most` (what must stay in it, what it can hold) in
    millionths of a token; it is filled with `per_minute` tokens a minute.
    """

    project: str
    wanted: int
    left: int
    most: int
    per_minute: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where an effect stands: how many of its kind and pool go before it, and when it is due (microseconds)."""

    ahead: int
    due_at: int


class SystemWork(Protocol):
    """The cross-organization half: for dispatcher, sweeper and reconciler only."""

    async def claim(
        self, now: int, lease_until: int, limit: int, shut: Sequence[Sequence[str]] = NONE_SHUT
    ) -> list[OutboxItem]:
        """Claim due effects by priority; each is claimed by one process until its lease runs out. `shut` = for each
        priority the pools of which nothing is wanted.
        """
        ...

    async def renew(self, items: Sequence[OutboxItem], lease_until: int) -> None:
        """Prolong claims that still hold (the token is unchanged)."""
        ...

    async def next_due(self, shut: Sequence[Sequence[str]] = NONE_SHUT) -> int | None:
        """When the next effect that `claim` would give is due or its lease runs out (microseconds), None when nothing
        is owed.
        """
        ...

    async def expired_commands(self, now: int, limit: int) -> list[Command]:
        """Live commands past `expires_at` that we ourselves may judge (not those an upstream operation decides)."""
        ...

    async def expired_pushes(self, now: int, limit: int) -> list[Push]:
        """Pushes past `expires_at` that are not over."""
        ...

    async def forget_targets(self, *, dead_before: int, unused_before: int) -> int:
        """Drop addresses that were given up, or last registered, before these times; answers how many."""
        ...

    async def dead_letters(self, limit: int) -> list[tuple[OutboxItem, str]]:
        """Effects that were given up, newest first, with the reason."""
        ...

    async def owed(self, kind: str, priority: int) -> int:
        """How many effects of a kind are owed that are at least so urgent."""
        ...

    async def owed_by_pool(self, kind: str, priority: int) -> list[tuple[str, str, int]]:
        """The same of each pool that has any: organization, pool, how many."""
        ...

    async def take_tokens(self, order: TokenOrder, now: int) -> int:
        """How many of the wanted tokens were there; one process at a time takes them."""
        ...

    async def hasten(self, lane: str, priority: int) -> None:
        """Make what is owed in a lane at least so urgent: what comes behind it there must wait for it."""
        ...

    async def place(self, organization_id: str, key: str) -> Place | None:
        """Where the effect with this key stands among those of its kind and pool; None when it is not owed."""
        ...

    async def silent_commands(self, limit: int) -> list[Command]:
        """Android commands that are not over and that nothing is owed for any more, oldest first."""
        ...

    async def begin_round(self, kind: str, subject: str, now: int, next_at: int) -> bool:
        """Whether a round of this kind is due, which it then is again at `next_at`. One process is told so, and
        none when a subject is seen for the first time: its first round is at `next_at`, too.
        """
        ...

    async def end_round(self, kind: str, subject: str, now: int, fault: str | None) -> None:
        """How a round went: completed, or ended by a fault."""
        ...

    async def counts(self) -> dict[str, int]:
        """Figures for the metrics: `outbox_<kind>` owed, `dead_letters`, `commands_live`, `rounds_begun_<kind>`,
        `rounds_failed_<kind>`, `push_accounts_out_of_order`, `push_credentials_expire_at` (microseconds, 0 = never).
        """
        ...
