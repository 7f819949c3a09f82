"""A push whose command was cancelled is called revoked when nobody can have it, and only then."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest

from heliograph.app.agent_line import register_agent
from heliograph.app.cancel_command import cancel_command
from heliograph.app.effects import EFFECTS
from heliograph.app.effects import push as pushing
from heliograph.app.setup import add_account
from heliograph.app.wakes import owe_wake
from heliograph.domain.deliveries import Push, PushRung
from heliograph.domain.ladder import Command
from heliograph.ports.changes import ChangeSet
from heliograph.ports.push import Accepted, CannotWithdraw, Outcome, Rejected, RetryLater, Unavailable, Withdrawn
from heliograph_protocol.messages import Register, Target
from tests.app.conftest import Desk
from tests.app.pushing import Provider, one_for_each_kind

Ways = defaultdict[str, Provider]
CUT = RetryLater("no answer in time", uncertain=True)
BUSY = RetryLater("busy")
UNKNOWN = CannotWithdraw("knows no such push")


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


async def taken_by_pushy(desk: Desk, ways: Ways) -> Command:
    """Pushy took its push, nothing was heard, and the broker is busy or, as a test says, about to answer."""
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    desk.clock.advance(61)
    ways["mqtt"].outcomes = ways["mqtt"].outcomes or [BUSY] * 3
    return command


async def go_on(desk: Desk, times: int = 4) -> None:
    for _ in range(times):
        await desk.pay()
        desk.clock.advance(60)


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


async def test_what_no_way_has_taken_is_revoked_with_its_command(desk: Desk, ways: Ways) -> None:
    ways["pushy"].outcomes, ways["mqtt"].outcomes = [Rejected("no")], [BUSY]
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    await cancel(desk, command)
    await go_on(desk)
    push = await push_of(desk, command)
    assert (push.unanswered, push.rung) == (0, PushRung.REVOKED)


@pytest.mark.parametrize("silent", [0, 2])
async def test_what_the_only_way_that_took_it_took_back_is_revoked(silent: int, desk: Desk, ways: Ways) -> None:
    """Whether it has done so before the push is given up, or only then."""
    command = await taken_by_pushy(desk, ways)
    await desk.pay()
    ways["pushy"].withdrawals = [*[Unavailable("down")] * silent, Withdrawn(), UNKNOWN]
    await cancel(desk, command)
    await go_on(desk)
    push = await push_of(desk, command)
    assert (ways["pushy"].withdrawn, push.rung) == (["p1"] * (silent + 1), PushRung.REVOKED)
    said = await said_of(desk, push)
    assert (
        said[-2:] == [{"why": "command is over"}, {}] if silent else [{"withdrawn": "p1"}, {"why": "command is over"}]
    )
    assert await desk.pay() == []


async def test_what_a_way_that_took_it_keeps_is_not_called_revoked(desk: Desk, ways: Ways) -> None:
    """It counts as what it is: taken there, until its life ends."""
    command = await taken_by_pushy(desk, ways)
    await desk.pay()
    ways["pushy"].withdrawals = [CannotWithdraw("too late")] * 2
    await cancel(desk, command)
    await go_on(desk)
    push = await push_of(desk, command)
    assert (push.provider, push.reference, push.rung) == ("pushy", "p1", PushRung.ACCEPTED)
    assert (await said_of(desk, push))[-1] == {"notWithdrawn": "too late"}
    assert await desk.pay() == []


@pytest.mark.parametrize("also_pushy", [True, False])
async def test_what_only_our_line_took_is_revoked(also_pushy: bool, desk: Desk, ways: Ways) -> None:
    await register(desk, "builtin", *(["pushy"] if also_pushy else []))
    command = await desk.command({"command": "LOCK"})
    await desk.pay(times=1)
    desk.clock.advance(1.1)
    ways["pushy"].outcomes = [BUSY]
    await desk.pay()
    await cancel(desk, command)
    await go_on(desk)
    assert (await push_of(desk, command)).rung is PushRung.REVOKED
    assert await desk.pay() == []


@pytest.mark.parametrize(
    ("answer", "comes_to"),
    [(Accepted("m1"), "revoked"), (Rejected("no"), "rejected"), (BUSY, "revoked"), (CUT, "queued")],
)
async def test_what_was_on_its_way_when_the_others_took_it_back_is_not_lost(
    answer: Outcome, comes_to: str, desk: Desk, ways: Ways
) -> None:
    ways["mqtt"].outcomes = [answer]
    command = await taken_by_pushy(desk, ways)

    async def cancelled_and_revoked() -> None:
        ways["mqtt"].meanwhile = Provider.meanwhile
        await cancel(desk, command)
        assert await desk.pay() == ["revoke"]

    ways["mqtt"].meanwhile = cancelled_and_revoked
    await go_on(desk)
    push = await push_of(desk, command)
    assert (push.rung.value, ways["pushy"].withdrawn) == (comes_to, ["p1"])
    assert ways["mqtt"].withdrawn == (["m1"] if answer == Accepted("m1") else [])
    assert await desk.pay() == []


async def test_what_is_taken_under_the_same_name_while_its_command_is_cancelled_is_taken_back(
    desk: Desk, ways: Ways
) -> None:
    """The command knows the name from our line, which takes nothing back: so neither record changes meanwhile."""
    await register(desk, "builtin", "mqtt")
    ways["builtin"].outcomes, ways["mqtt"].outcomes = [Accepted("same")], [Accepted("same")]
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    desk.clock.advance(1.1)

    async def cancelled_and_revoked() -> None:
        await cancel(desk, command)
        assert await desk.pay() == ["revoke"]

    ways["mqtt"].meanwhile = cancelled_and_revoked
    assert await desk.pay() == ["fall_back", "push", "revoke"]
    push = await push_of(desk, command)
    assert (push.rung, ways["mqtt"].withdrawn) == (PushRung.REVOKED, ["same"])


async def test_what_was_taken_late_while_its_command_is_cancelled_is_taken_back(
    desk: Desk, ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way is being asked just then, and who asks it does not know yet of this one."""
    command = await desk.command({"command": "LOCK"})
    system, asked, go_on_now = desk.services.store.system, asyncio.Event(), asyncio.Event()
    [first] = await system.claim(desk.clock.now(), desk.clock.now() + 15_000_000, 1)
    read, revoking = pushing._command_of, list[asyncio.Task[list[str]]]()

    async def taken_over() -> None:
        ways["pushy"].meanwhile, ways["pushy"].outcomes = Provider.meanwhile, [Rejected("no"), Accepted("late")]
        desk.clock.advance(16)
        assert await desk.pay() == ["push", "push"]
        monkeypatch.setattr(pushing, "_command_of", cancelled_since)

    async def cancelled_since(*args: Any) -> Command | None:
        found = await read(*args)
        if not revoking:
            await cancel(desk, command)
            revoking.append(asyncio.create_task(desk.pay()))
            await asked.wait()
        return found

    async def withdraw(reference: str) -> Withdrawn:
        asked.set()
        await go_on_now.wait()
        return Withdrawn()

    monkeypatch.setattr(ways["mqtt"], "withdraw", withdraw)
    ways["pushy"].meanwhile = taken_over
    await EFFECTS["push"](desk.services, first)
    go_on_now.set()
    await revoking[0]
    await desk.pay()
    push = await push_of(desk, command)
    assert [leg.reference for leg in push.legs or ()][:1] == ["late"]
    assert ways["pushy"].withdrawn == ["late"]


async def test_what_a_newer_wake_overtakes_on_its_second_way_is_taken_back_from_the_first(
    desk: Desk, ways: Ways
) -> None:
    """It was sent, so it is not called collapsed."""
    command = await taken_by_pushy(desk, ways)
    await desk.pay()
    changes = ChangeSet(desk.organization.id)
    await owe_wake(desk.services, desk.work, changes, await desk.now(command), "dispatcher")
    await desk.work.commit(changes)
    _, older = await desk.work.pushes.of_command(command.id)
    assert (older.rung, older.provider) == (PushRung.QUEUED, "mqtt")
    await cancel(desk, command)
    await go_on(desk)
    pushes = await desk.work.pushes.of_command(command.id)
    assert ("p1" in ways["pushy"].withdrawn, [push.rung for push in pushes]) == (True, [PushRung.REVOKED] * 2)
