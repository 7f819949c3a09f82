"""A push provider that answers as a test says."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from heliograph.domain.devices import PushTarget
from heliograph.ports.push import (
    Accepted,
    Forgotten,
    Outcome,
    ProbeAnswer,
    PushMessage,
    StatusAnswer,
    WithdrawAnswer,
    Withdrawn,
    Works,
)
from tests.app.conftest import Desk


async def nothing() -> None:
    """Happens while a push is on its way, unless a test says otherwise."""


@dataclass
class Provider:
    """Takes every push unless `outcomes` holds another answer; `meanwhile` runs while one is on its way."""

    outcomes: list[Outcome] = field(default_factory=list)
    withdrawals: list[WithdrawAnswer] = field(default_factory=list)
    statuses: list[StatusAnswer] = field(default_factory=list)
    sent: list[PushMessage] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)  # for the status of a push
    meanwhile: Callable[[], Awaitable[object]] = nothing

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        self.sent.append(message)
        await self.meanwhile()
        return self.outcomes.pop(0) if self.outcomes else Accepted(reference=f"p{len(self.sent)}")

    async def status(self, reference: str, timeout_s: float) -> StatusAnswer:
        self.asked.set()
        return self.statuses.pop(0) if self.statuses else Forgotten("too long ago")

    async def withdraw(self, reference: str) -> WithdrawAnswer:
        self.withdrawn.append(reference)
        return self.withdrawals.pop(0) if self.withdrawals else Withdrawn()

    async def probe(self) -> ProbeAnswer:
        return Works("always")

    async def close(self) -> None:
        """Nothing to let go of."""


def in_place_of_all(desk: Desk, patch: pytest.MonkeyPatch) -> Provider:
    """One provider behind every account."""
    provider = Provider()

    async def always(organization_id: str, kind: str, account_id: str | None) -> Provider:
        return provider

    patch.setattr(desk.services.providers, "provider", always)
    return provider


def one_for_each_kind(desk: Desk, patch: pytest.MonkeyPatch) -> defaultdict[str, Provider]:
    """What answers for each kind of provider, whatever the account."""
    found: defaultdict[str, Provider] = defaultdict(Provider)

    async def of_kind(organization_id: str, kind: str, account_id: str | None) -> Provider:
        return found[kind]

    patch.setattr(desk.services.providers, "provider", of_kind)
    return found
