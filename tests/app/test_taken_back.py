"""A push whose command was cancelled is called revoked when nobody can have it, and only then."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from heliograph.app.agent_line import register_agent
from heliograph.app.cancel_command import cancel_command
from heliograph.app.setup import add_account
from heliograph.domain.deliveries import Push, PushRung
from heliograph.domain.ladder import Command
from heliograph.ports.push import RetryLater
from heliograph_protocol.messages import Register, Target
from tests.app.conftest import Desk
from tests.app.pushing import Provider, one_for_each_kind

Ways = defaultdict[str, Provider]
CUT = RetryLater("no answer in time", uncertain=True)


@pytest.fixture
async def ways(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Ways:
    """The app can be reached through Pushy, then through a broker."""
    for kind, config in (("pushy", {"apiKey": "abc"}), ("mqtt", {"url": "mqtt://127.0.0.1"})):
        await add_account(desk.services, desk.organization, kind, "", config, True)
    await register(desk, "pushy", "mqtt")
    return one_for_each_kind(desk, monkeypatch)


async def register(desk: Desk, *providers: str) -> None:
    targets = [Target(provider=provider, token="t" if provider == "pushy" else "") for provider in providers]
    await register_agent(desk.services, desk.aosp, Register(app="mdmAgent", agent_version="1", targets=targets))


async def cancel(desk: Desk, command: Command) -> None:
    await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")


async def push_of(desk: Desk, command: Command) -> Push:
    [push] = await desk.work.pushes.of_command(command.id)
    return push


async def said_of(desk: Desk, push: Push) -> list[dict[str, Any]]:
    return [entry.evidence for entry in (await desk.work.history.of([push.id]))[push.id]]


@pytest.mark.parametrize("other_way", [True, False])
async def test_what_an_attempt_without_an_answer_may_have_left_is_not_called_revoked(
    other_way: bool, desk: Desk, ways: Ways
) -> None:
    ways["pushy"].outcomes = [CUT] * (4 if other_way else 1)
    cuts = len(ways["pushy"].outcomes)
    command = await desk.command({"command": "LOCK"})
    for _ in range(cuts):
        await desk.pay(times=1)
        desk.clock.advance(31)
    await desk.pay()
    push = await push_of(desk, command)
    present = "mqtt" if other_way else "pushy"
    assert (push.rung, push.provider) == (PushRung.ACCEPTED, present)
    await cancel(desk, command)
    await desk.pay()
    push = await push_of(desk, command)
    assert push.attempts is not None
    assert (push.attempts.uncertain, push.rung) == (cuts, PushRung.ACCEPTED)
    assert ways[present].withdrawn == [push.reference]
    said = [{"withdrawn": push.reference}, {"why": "command is over", "unansweredAttempts": cuts}]
    assert (await said_of(desk, push))[-2:] == said


async def test_an_attempt_over_our_own_line_leaves_nothing_with_others(desk: Desk, ways: Ways) -> None:
    """Nothing leaves from there, also where the process of an attempt ended."""
    await register(desk, "builtin")
    command = await desk.command({"command": "LOCK"})
    now = desk.clock.now()
    assert [item.kind for item in await desk.services.store.system.claim(now, now + 15_000_000, 1)] == ["push"]
    desk.clock.advance(16)
    await desk.pay()
    await cancel(desk, command)
    await desk.pay()
    push = await push_of(desk, command)
    assert push.attempts is not None
    assert (push.attempts.uncertain, push.rung) == (1, PushRung.REVOKED)
