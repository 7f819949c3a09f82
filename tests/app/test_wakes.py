"""An agent that only a provider can wake is woken whenever it has something to do, and no more often."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliograph.app.agent_line import check_in, register_agent
from heliograph.app.cancel_command import cancel_command
from heliograph.app.push_status import PushStatusReader
from heliograph.app.setup import add_account
from heliograph.app.sweep import sweep_once
from heliograph.domain.deliveries import Push, PushRung
from heliograph.domain.devices import Device
from heliograph.domain.ladder import Command, Rung
from heliograph.ports.changes import ChangeSet
from heliograph.ports.push import RetryLater
from heliograph_protocol.messages import CancelAnswer, CheckIn, PushAck, Register, Report, Target
from tests.app.conftest import Desk
from tests.app.pushing import Provider, in_place_of_all

AT = "2026-01-01T00:00:00Z"
YEARS_S = 3 * 366 * 24 * 3600


@pytest.fixture
def provider(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Provider:
    return in_place_of_all(desk, monkeypatch)


@pytest.fixture
async def kiosk(desk: Desk, provider: Provider) -> Device:
    """A device that Pushy alone can reach."""
    await add_account(desk.services, desk.organization, "pushy", "main", {"apiKey": "abc"}, True)
    message = Register(app="mdmAgent", agent_version="1", targets=[Target(provider="pushy", token="t")])
    await register_agent(desk.services, desk.aosp, message)
    return desk.aosp


async def pushes(desk: Desk, command: Command) -> list[Push]:
    return list(reversed(await desk.work.pushes.of_command(command.id)))


async def say(desk: Desk, **said: object) -> list[str]:
    """A check-in that claims; answers the ids that it got."""
    message = CheckIn(seq=1, claim=8, **said)  # type: ignore[arg-type]
    return [c.id for c in (await check_in(desk.services, desk.aosp, "mdmAgent", message)).commands]


async def claimed(desk: Desk, **body: object) -> Command:
    command = await desk.command({"command": "LOCK", **body})
    await desk.pay()
    acks = [PushAck(id=p.id, at=AT) for p in await pushes(desk, command)]
    assert await say(desk, push_acks=acks) == [command.id]
    return command


async def cancel(desk: Desk, command: Command) -> Command:
    return await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")


async def defer(desk: Desk, command: Command, wish_s: float | None = None) -> Command:
    deferred = Report(command_id=command.id, rung="deferred", at=AT, retry_after_seconds=wish_s)
    assert await say(desk, reports=[deferred]) == []
    return await desk.now(command)


async def test_a_cancel_that_the_agent_decides_wakes_it_once(desk: Desk, kiosk: Device, provider: Provider) -> None:
    command = await claimed(desk)
    await cancel(desk, command)
    await cancel(desk, command)
    await desk.pay()
    await cancel(desk, command)
    assert await desk.pay() == []
    assert [m.kind for m in provider.sent] == ["wake", "wake"]
    confirmed = CancelAnswer(command_id=command.id, outcome="confirmed", at=AT)
    await say(desk, cancel_answers=[confirmed])
    assert (await desk.now(command)).rung is Rung.CANCELLED


@pytest.mark.parametrize("is_heard", [False, True])
async def test_the_wake_for_a_cancel_that_is_confirmed_is_taken_back_unless_it_was_heard(
    is_heard: bool, desk: Desk, kiosk: Device, provider: Provider
) -> None:
    command = await claimed(desk)
    await cancel(desk, command)
    await desk.pay()
    _, wake = await pushes(desk, command)
    acks = [PushAck(id=wake.id, at=AT)] if is_heard else []
    confirmed = CancelAnswer(command_id=command.id, outcome="confirmed", at=AT)
    for _ in range(2):
        await say(desk, cancel_answers=[confirmed], push_acks=acks)
    assert await desk.pay() == ([] if is_heard else ["revoke"])
    assert provider.withdrawn == ([] if is_heard else ["p2"])
    assert await rungs(desk, command) == [
        PushRung.ACKNOWLEDGED,
        PushRung.ACKNOWLEDGED if is_heard else PushRung.REVOKED,
    ]


async def test_a_cancel_of_what_runs_wakes_nobody(desk: Desk, kiosk: Device, provider: Provider) -> None:
    command = await claimed(desk)
    await say(desk, reports=[Report(command_id=command.id, rung="running", at=AT)])
    await cancel(desk, command)
    assert await desk.pay() == []


async def test_our_own_line_is_told_of_a_cancel_without_a_push(desk: Desk) -> None:
    command = await claimed(desk)
    with desk.services.wakeups.subscribe(f"device:{desk.aosp.id}") as told:
        await cancel(desk, command)
        assert await told.wait(0)
    assert len(await pushes(desk, command)) == 1


async def test_a_wake_that_expires_before_its_command_is_followed_by_another(
    desk: Desk, kiosk: Device, provider: Provider
) -> None:
    command = await desk.command({"command": "LOCK", "duration": YEARS_S})
    await desk.pay()
    desk.clock.advance(366 * 24 * 3600)  # beyond what Pushy keeps
    await sweep_once(desk.services)
    assert [p.rung for p in await pushes(desk, command)] == [PushRung.EXPIRED, PushRung.QUEUED]
    await sweep_once(desk.services)
    await desk.pay()
    assert [p.rung for p in await pushes(desk, command)] == [PushRung.EXPIRED, PushRung.ACCEPTED]


async def test_a_wake_that_expires_after_the_claim_is_followed_by_none(
    desk: Desk, kiosk: Device, provider: Provider
) -> None:
    command = await desk.command({"command": "LOCK", "duration": YEARS_S})
    await desk.pay()
    await say(desk)
    desk.clock.advance(366 * 24 * 3600)
    await sweep_once(desk.services)
    assert [p.rung for p in await pushes(desk, command)] == [PushRung.EXPIRED]


async def test_a_deferred_command_is_handed_out_again_after_a_pause_that_grows(
    desk: Desk, kiosk: Device, provider: Provider
) -> None:
    command = await claimed(desk, duration=YEARS_S)
    waits: list[int] = []
    for _ in range(10):
        deferred = await defer(desk, command)
        assert deferred.not_before is not None
        waits.append(round((deferred.not_before - deferred.updated_at) / 1e6))
        desk.clock.advance(waits[-1] - 0.5)
        assert (await say(desk), await desk.pay()) == ([], [])
        desk.clock.advance(0.6)
        assert await desk.pay() == ["wake", "push"]
        assert await say(desk) == [command.id]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]


@pytest.mark.parametrize(("wish_s", "pause_s"), [(60.0, 60), (0.0, 1), (-5.0, 1), (1e300, 6 * 3600)])
async def test_the_device_may_say_how_long_within_bounds(
    desk: Desk, kiosk: Device, wish_s: float, pause_s: int
) -> None:
    deferred = await defer(desk, await claimed(desk, duration=YEARS_S), wish_s)
    assert deferred.not_before == deferred.updated_at + pause_s * 1_000_000


async def test_a_pause_that_was_made_longer_is_kept(desk: Desk, kiosk: Device, provider: Provider) -> None:
    command = await claimed(desk, duration=YEARS_S)
    await defer(desk, command, 10)
    desk.clock.advance(10)
    assert await say(desk) == [command.id]  # before the wake was sent
    await defer(desk, command, 600)
    assert await desk.pay("wake") == ["wake"]  # the one of before: not yet
    assert len(provider.sent) == 1
    desk.clock.advance(600)
    assert await desk.pay() == ["wake", "push"]


async def test_a_deferred_secret_is_handed_out_again_and_leaves_with_the_result(desk: Desk) -> None:
    command = await desk.command({"command": "RESET_PASSWORD", "params": {"newPassword": "canary"}})
    await desk.pay()
    await say(desk)
    await say(desk, reports=[Report(command_id=command.id, rung="acknowledged", at=AT)])
    await defer(desk, command)
    desk.clock.advance(6)
    orders = await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=3, claim=8))
    assert [c.params for c in orders.commands] == [{"newPassword": "canary"}]
    await say(desk, reports=[Report(command_id=command.id, rung="succeeded", at=AT)])
    assert (await desk.now(command)).secret is None


async def test_a_command_without_its_secret_fails_and_is_not_handed_out(desk: Desk) -> None:
    command = await desk.command({"command": "RESET_PASSWORD", "params": {"newPassword": "canary"}})
    await desk.work.commit(ChangeSet(desk.organization.id, commands=[replace(command, secret=None)]))
    assert await say(desk) == []
    after = await desk.now(command)
    assert after.reason is not None
    assert (after.rung, after.reason.code) == (Rung.FAILED, "SECRET_LOST")


async def test_of_a_command_put_off_again_and_again_one_wake_waits(
    desk: Desk, kiosk: Device, provider: Provider
) -> None:
    """Else a device behind a service that never answers fills the outbox, and its account's places."""
    command = await claimed(desk)
    provider.outcomes = [RetryLater("no answer", uncertain=True) for _ in range(100)]
    for _ in range(5):
        report = Report(command_id=command.id, rung="deferred", at=AT, retry_after_seconds=1)
        await say(desk, reports=[report])
        desk.clock.advance(2)
        await desk.pay()
        assert await say(desk) == [command.id]
    _, *wakes, last = await pushes(desk, command)
    assert [p.rung for p in wakes] == [PushRung.COLLAPSED] * 4
    assert last.rung is PushRung.QUEUED
    assert (await desk.services.store.system.counts())["outbox_push"] == 1
    history = (await desk.work.history.of([wakes[-1].id]))[wakes[-1].id]
    assert history[-1].evidence == {"newer": last.id}


async def test_a_device_that_always_puts_off_is_asked_less_often(desk: Desk, kiosk: Device) -> None:
    command = await claimed(desk)
    began = desk.clock.now()
    for _ in range(25):
        report = Report(command_id=command.id, rung="deferred", at=AT, retry_after_seconds=0)
        await say(desk, reports=[report])
        not_before = (await desk.now(command)).not_before
        assert not_before is not None
        desk.clock.advance((not_before - desk.clock.now()) / 1e6 + 0.001)
        assert await say(desk) == [command.id]
    assert desk.clock.now() - began > 3600 * 1_000_000


async def rungs(desk: Desk, command: Command) -> list[PushRung]:
    return [push.rung for push in await pushes(desk, command)]


async def test_a_wake_whose_command_ran_says_so(desk: Desk, kiosk: Device) -> None:
    command = await claimed(desk)
    assert await rungs(desk, command) == [PushRung.ACKNOWLEDGED]
    for _ in range(2):  # repeated, as an agent does that got no answer
        await say(desk, reports=[Report(command_id=command.id, rung="succeeded", at=AT)])
    [push] = await pushes(desk, command)
    assert push.rung is PushRung.EXECUTED
    last = (await desk.work.history.of([push.id]))[push.id][-2:]
    assert [entry.rung for entry in last] == ["acknowledged", "executed"]
    assert (last[-1].source, last[-1].evidence) == ("agent", {"commandId": command.id})
    report = await PushStatusReader(desk.services).of_command(desk.work, await desk.now(command))
    assert (report.source, report.is_final, report.status is not None) == ("agent", True, True)


async def test_a_wake_and_its_commands_success_may_be_told_in_one_check_in(desk: Desk, kiosk: Device) -> None:
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    assert await say(desk) == [command.id]
    [push] = await pushes(desk, command)
    report = Report(command_id=command.id, rung="succeeded", at=AT)
    await say(desk, push_acks=[PushAck(id=push.id, at=AT)], reports=[report])
    assert await rungs(desk, command) == [PushRung.EXECUTED]


async def test_a_wake_that_nobody_heard_has_executed_nothing(desk: Desk, kiosk: Device, provider: Provider) -> None:
    """The agent came by itself. What it says of the push later stays true."""
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    assert await say(desk) == [command.id]
    await say(desk, reports=[Report(command_id=command.id, rung="succeeded", at=AT)])
    assert await rungs(desk, command) == [PushRung.ACCEPTED]
    [push] = await pushes(desk, command)
    await say(desk, push_acks=[PushAck(id=push.id, at=AT)])
    assert await rungs(desk, command) == [PushRung.ACKNOWLEDGED]


async def test_of_a_command_that_did_not_succeed_nothing_is_called_executed(desk: Desk, kiosk: Device) -> None:
    command = await claimed(desk)
    await say(desk, reports=[Report(command_id=command.id, rung="failed", at=AT)])
    assert await rungs(desk, command) == [PushRung.ACKNOWLEDGED]


def cannot_wake(desk: Desk, patch: pytest.MonkeyPatch, kind: str) -> None:
    """From now on the plug-in of a kind takes no wakes, as one that somebody else wrote may."""
    plugin, find = desk.services.providers.plugin(kind), desk.services.providers.plugin
    assert plugin is not None
    other = replace(plugin, check=lambda message: "shows text only" if message.kind == "wake" else None)
    patch.setattr(desk.services.providers, "plugin", lambda name: other if name == kind else find(name))


async def test_a_wake_goes_by_a_way_that_takes_wakes(
    desk: Desk, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_account(desk.services, desk.organization, "pushy", "main", {"apiKey": "abc"}, True)
    both = [Target(provider="pushy", token="t"), Target(provider="builtin", token="")]
    await register_agent(desk.services, desk.aosp, Register(app="mdmAgent", agent_version="1", targets=both))
    cannot_wake(desk, monkeypatch, "builtin")
    command = await desk.command({"command": "LOCK"})
    assert [push.provider for push in await pushes(desk, command)] == ["pushy"]


async def test_a_command_that_no_way_can_wake_for_waits_for_a_check_in_and_the_sweep_goes_on(
    desk: Desk, kiosk: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken = await desk.command({"command": "LOCK", "duration": YEARS_S})
    cannot_wake(desk, monkeypatch, "pushy")
    command = await desk.command({"command": "LOCK", "duration": YEARS_S})
    assert await pushes(desk, command) == []
    desk.clock.advance(366 * 24 * 3600)  # longer than Pushy keeps a push
    await sweep_once(desk.services)
    assert [push.rung for push in await pushes(desk, woken)] == [PushRung.EXPIRED]
    assert set(await say(desk)) == {woken.id, command.id}


async def test_a_wake_that_is_taken_while_a_newer_one_takes_its_place_was_sent(
    desk: Desk, kiosk: Device, provider: Provider
) -> None:
    """Collapsed is what was not sent."""
    command = await desk.command({"command": "LOCK"})

    async def deferred() -> None:
        provider.meanwhile = Provider.meanwhile
        assert await say(desk) == [command.id]
        await defer(desk, command, 1)
        desk.clock.advance(2)
        assert await desk.pay(times=1) == ["wake"]
        assert await rungs(desk, command) == [PushRung.COLLAPSED, PushRung.QUEUED]

    provider.meanwhile = deferred
    await desk.pay()
    first, second = await pushes(desk, command)
    assert (first.rung, first.reference, second.rung) == (PushRung.ACCEPTED, "p1", PushRung.ACCEPTED)
    history = (await desk.work.history.of([first.id]))[first.id]
    assert history[-1].evidence == {"reference": "p1"}
