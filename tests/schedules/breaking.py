"""Rules of the server, each broken on purpose: what the schedules are worth shows in that they find it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from heliograph.app.effects import absence, cancel, erasure, issue, uncertain
from heliograph.app.services import Services, until_committed
from heliograph.domain.ladder import Cancelled, Command, Issue, IssueRefused, Rung
from heliograph.ports.channel import NotTaken, Uncertain
from heliograph.store.commands import Commands
from tests.schedules import process

Break = Callable[[pytest.MonkeyPatch], None]


def _absence_at_once(patch: pytest.MonkeyPatch) -> None:
    """An attempt that is not listed counts as not accepted as soon as nothing of it is sent any more."""
    patch.setattr(process, "LIMITS", replace(process.LIMITS, uncertainty_window_s=0.0))


def _absence_by_old_answers(patch: pytest.MonkeyPatch) -> None:
    """A list counts for the instant at which it is read, not for the one at which it was asked for."""

    async def resolve(s: Services, work: Any, item: Any, command: Command, device: Any, channel: Any) -> None:
        answer = await channel.operations(device)
        search = uncertain._Search(s, work, item, command, s.clock.elapsed())
        await until_committed(lambda: search.record(answer))

    patch.setattr(issue, "resolve_attempt", resolve)


def _cancelled_on_hope(patch: pytest.MonkeyPatch) -> None:
    """What is in flight, or uncertain, counts as never handed over."""
    hope = property(lambda c: c.issue is not Issue.BOUND and c.rung is Rung.QUEUED)
    patch.setattr(Command, "never_reached_anyone", hope)


def _cancelled_by_answer(patch: pytest.MonkeyPatch) -> None:
    """Google's answer to a cancel counts as its outcome."""
    patch.setattr(cancel, "Noted", Cancelled)


def _bound_twice(patch: pytest.MonkeyPatch) -> None:
    """An operation that belongs to one command may be taken for that of another."""

    async def none(_: Commands, receipts: Sequence[str]) -> set[str]:
        return set()

    patch.setattr(Commands, "bound_receipts", none)


def _no_lanes(patch: pytest.MonkeyPatch) -> None:
    """Several attempts of one type at one device at a time."""
    debt = Services.debt
    patch.setattr(Services, "debt", lambda *args, **more: debt(*args, **more | {"lane": None}))


def _sent_late(patch: pytest.MonkeyPatch) -> None:
    """A process that stood still sends what it had begun."""
    patch.setattr(issue, "_time_left_s", lambda s, _: s.limits.issue_timeout_s)


def _not_marked(patch: pytest.MonkeyPatch) -> None:
    """An attempt is not known to have begun until its outcome is."""
    patch.setattr(issue, "IssueStarted", lambda device_name, **more: IssueRefused(**more))


def _repeated_blindly(patch: pytest.MonkeyPatch) -> None:
    """No answer counts as a refusal."""

    def apply(s: Services, changes: Any, item: Any, command: Command, answer: Any, source: str) -> None:
        told = NotTaken(answer.reason) if isinstance(answer, Uncertain) else answer
        real(s, changes, item, command, told, source)

    real = issue._apply
    patch.setattr(issue, "_apply", apply)


def _gone_at_once(patch: pytest.MonkeyPatch) -> None:
    """One answer "not found" decides."""
    patch.setattr(absence, "SECOND", 0)
    patch.setattr(uncertain._Search, "_has_lasted", lambda *_: True)


def _another_device(patch: pytest.MonkeyPatch) -> None:
    """What was meant for a device is sent to it under the name that it has now."""

    async def verdict(*_: Any) -> None:
        return None

    patch.setattr(erasure, "verdict", verdict)


def _lease_of_nobody(patch: pytest.MonkeyPatch) -> None:
    """What a crashed process had claimed is never taken up again."""
    patch.setattr(process, "LIMITS", replace(process.LIMITS, lease_s=3600.0))


BREAKS: dict[str, Break] = {
    breaks.__name__.strip("_"): breaks
    for breaks in (
        _absence_at_once,
        _absence_by_old_answers,
        _cancelled_on_hope,
        _cancelled_by_answer,
        _bound_twice,
        _no_lanes,
        _sent_late,
        _not_marked,
        _repeated_blindly,
        _gone_at_once,
        _another_device,
        _lease_of_nobody,
    )
}
