"""Two records that turn out to be one phone: one of them stays, with all that either had."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from heliograph.app.access import hash_secret
from heliograph.app.agent_line import register_agent
from heliograph.app.cancel_command import cancel_command
from heliograph.app.notifications import Verdict
from heliograph.app.reconcile import reconcile_once
from heliograph.app.setup import add_device, renew_agent_secret
from heliograph.domain.devices import Device, Enterprise
from heliograph.domain.errors import Conflict, InvalidInput, NotFound
from heliograph.domain.ladder import Command, Issue, Rung
from heliograph.ports.changes import ChangeSet
from heliograph.ports.channel import Taken
from heliograph.store.commands import Commands
from heliograph.store.setup import Setup
from heliograph_protocol.messages import Register, Target
from tests.app.conftest import DEVICE_NAME, Desk
from tests.app.telling import told
from tests.app.test_reports import AGAIN, SERIAL, known

FULL = {"name": AGAIN, "state": "ACTIVE", "previousDeviceNames": [DEVICE_NAME], **SERIAL}


async def split(desk: Desk) -> Device:
    """The phone has enrolled again, and Google has not said that it is the same; answers the second record."""
    assert await told(desk, "STATUS_REPORT", {"name": DEVICE_NAME, **SERIAL}, age_s=60) is Verdict.TAKEN
    assert await told(desk, "ENROLLMENT", {"name": AGAIN, **SERIAL}, age_s=30) is Verdict.TAKEN
    return await by_name(desk, AGAIN)


async def by_name(desk: Desk, name: str) -> Device:
    found = await desk.work.devices.find_by_external_name(name)
    assert found is not None
    return found


async def by_report(desk: Desk, **more: Any) -> None:
    assert await told(desk, "STATUS_REPORT", FULL | more) is Verdict.TAKEN


async def by_late_report(desk: Desk) -> None:
    """Published before what is known was."""
    assert await told(desk, "ENROLLMENT", FULL | {"state": "DISABLED"}, age_s=40) is Verdict.TAKEN


async def by_list(desk: Desk) -> None:
    await reconcile_once(desk.services)
    desk.google.listed = [FULL]
    desk.clock.advance(desk.services.limits.reconcile_every_s + 1)
    await reconcile_once(desk.services)


@pytest.mark.parametrize("way", [by_report, by_late_report, by_list])
async def test_the_older_record_stays_under_the_present_name(desk: Desk, way: Any) -> None:
    second = await split(desk)
    assert len(await known(desk)) == 2
    await way(desk)
    assert await known(desk) == [(desk.android.id, AGAIN, "ACTIVE")]
    [found] = await desk.work.devices.find_by_alias("android", "S9")
    assert (found.id, found.name) == (desk.android.id, desk.android.name)
    # Whoever was told of the other record still finds the device.
    for old in (second.id, second.all_platform_id):
        assert await desk.work.devices.find("android", old) == await desk.work.devices.find(None, old) == found
    assert await told(desk, "STATUS_REPORT", {"name": DEVICE_NAME, **SERIAL}, age_s=20) is Verdict.IGNORED
    assert await told(desk, "STATUS_REPORT", FULL) is Verdict.TAKEN
    assert len(await known(desk)) == 1


async def test_records_of_three_names_become_one(desk: Desk) -> None:
    names = [f"{AGAIN}{n}" for n in range(3)]
    for name in (names[1], names[2], names[0]):
        assert await told(desk, "ENROLLMENT", {"name": name}) is Verdict.TAKEN
    full = {"name": names[2], "previousDeviceNames": [DEVICE_NAME, *names[:2]]}
    assert await told(desk, "STATUS_REPORT", full) is Verdict.TAKEN
    assert await known(desk) == [(desk.android.id, names[2], "ACTIVE")]


async def test_an_older_word_under_a_name_that_nobody_knows_does_not_take_the_record(desk: Desk) -> None:
    await told(desk, "ENROLLMENT", FULL, age_s=10)
    odd = {"name": f"{AGAIN}x", "previousDeviceNames": [DEVICE_NAME]}
    assert await told(desk, "ENROLLMENT", odd, age_s=20) is Verdict.IGNORED
    assert await known(desk) == [(desk.android.id, AGAIN, "ACTIVE")]


async def test_a_name_that_google_lists_behind_the_present_one_becomes_it(desk: Desk) -> None:
    """The first word of the newest name said less than Google knows, so a name before it seemed to be the newest."""
    newest = f"{AGAIN}2"
    odd = {"name": newest, "previousDeviceNames": [DEVICE_NAME]}
    assert await told(desk, "ENROLLMENT", odd, age_s=30) is Verdict.TAKEN
    await told(desk, "ENROLLMENT", FULL, age_s=20)
    assert await known(desk) == [(desk.android.id, AGAIN, "ACTIVE")]
    full = {"name": newest, "previousDeviceNames": [DEVICE_NAME, AGAIN]}
    assert await told(desk, "STATUS_REPORT", full, age_s=10) is Verdict.TAKEN
    assert await known(desk) == [(desk.android.id, newest, "ACTIVE")]
    assert await told(desk, "STATUS_REPORT", FULL) is Verdict.IGNORED


async def test_what_was_told_of_both_at_once_makes_one_record(desk: Desk) -> None:
    await split(desk)
    kinds = ("ENROLLMENT", "STATUS_REPORT", "ENROLLMENT")
    # Each is either taken, or older than what was just taken.
    assert Verdict.TAKEN in await asyncio.gather(*(told(desk, kind, FULL) for kind in kinds))
    assert await known(desk) == [(desk.android.id, AGAIN, "ACTIVE")]


async def test_a_former_name_cannot_be_added_by_hand(desk: Desk) -> None:
    await told(desk, "ENROLLMENT", FULL)
    with pytest.raises(InvalidInput, match=desk.android.id):
        await add_device(desk.services, desk.organization, {"platform": "android", "externalName": DEVICE_NAME})


@pytest.mark.parametrize("platform", ["aosp", "package"])
async def test_only_an_android_device_has_a_name_at_google(desk: Desk, platform: str) -> None:
    """What Google tells under that name would change, and join, a record that is no device of Google's."""
    with pytest.raises(InvalidInput, match="externalName"):
        await add_device(desk.services, desk.organization, {"platform": platform, "externalName": AGAIN})
    assert await told(desk, "ENROLLMENT", {"name": AGAIN}) is Verdict.TAKEN
    assert (await by_name(desk, AGAIN)).platform == "android"


async def test_a_name_at_google_is_one_of_the_devices_own_enterprise(desk: Desk) -> None:
    """Its commands would go through the other enterprise's credentials."""
    now = desk.clock.now()
    other = Enterprise(desk.services.new_id(), desk.organization.id, "android", "enterprises/LC0test2", now)
    await desk.work.setup.add_enterprise(other)
    wish = {"platform": "android", "externalName": AGAIN, "enterprise": other.id}
    with pytest.raises(InvalidInput, match="externalName"):
        await add_device(desk.services, desk.organization, wish)
    own = {"platform": "android", "externalName": f"{other.name}/devices/d", "enterprise": other.name}
    device, _ = await add_device(desk.services, desk.organization, own)
    assert device.enterprise_id == other.id


async def test_commands_of_both_go_on(desk: Desk) -> None:
    old = await desk.command({"type": "LOCK"})
    await desk.pay("issue", times=1)
    second = await split(desk)
    new, waiting = await desk.command({"type": "LOCK"}, second), await desk.command({"type": "REBOOT"}, second)
    await desk.pay("issue", times=1)
    assert {(await desk.now(c)).issue for c in (old, new)} == {Issue.BOUND}
    await by_report(desk)
    for command in (old, new, waiting):
        assert (await desk.now(command)).device_id == desk.android.id
        assert await desk.work.commands.find(command.id, desk.android.id) is not None
    owed = await rows(desk, "kind, subject_id, lane FROM outbox ORDER BY kind")
    device_id = desk.android.id
    assert owed == [("issue", waiting.id, f"issue:{device_id}:REBOOT"), ("look_up", device_id, None)]
    for command in (old, new):
        desk.google.finish(str((await desk.now(command)).receipt))
    desk.clock.advance(60)
    await desk.pay()
    assert [(await desk.now(c)).rung for c in (old, new)] == [Rung.SUCCEEDED] * 2
    assert (await desk.now(waiting)).issue is Issue.BOUND


async def test_an_attempt_that_is_under_way_is_recorded_on_the_record_that_stays(desk: Desk) -> None:
    second = await split(desk)
    command = await desk.command({"type": "LOCK"}, second)
    desk.google.while_issuing = lambda: by_report(desk)
    await desk.pay("issue", times=1)
    desk.google.while_issuing = None
    after = await desk.now(command)
    assert (after.device_id, after.issue) == (desk.android.id, Issue.BOUND)
    desk.google.finish(str(after.receipt))
    desk.clock.advance(60)
    await desk.pay()
    assert (await desk.now(command)).rung is Rung.SUCCEEDED
    assert await rows(desk, "kind FROM outbox") == []


async def test_a_look_that_is_under_way_does_not_settle_what_the_other_record_brings(desk: Desk) -> None:
    old = await desk.command({"type": "LOCK"})
    await desk.pay("issue", times=1)
    second = await split(desk)
    new = await desk.command({"type": "REBOOT"}, second)
    await desk.pay("issue", times=1)
    desk.google.finish(str((await desk.now(old)).receipt))

    async def meanwhile() -> None:
        desk.google.while_listing = None
        await by_report(desk)

    desk.google.while_listing = meanwhile
    desk.clock.advance(60)
    await desk.pay()
    assert (await desk.now(old)).rung is Rung.SUCCEEDED
    assert await rows(desk, "subject_id FROM outbox WHERE kind = 'look_up'") == [(desk.android.id,)]
    assert await desk.services.store.system.silent_commands(10) == []
    desk.google.finish(str((await desk.now(new)).receipt))
    desk.clock.advance(60)
    await desk.pay()
    assert (await desk.now(new)).rung is Rung.SUCCEEDED


async def test_a_command_for_the_record_that_is_no_more_is_not_accepted(desk: Desk) -> None:
    """Its device was read before. To be asked again (503)."""
    second = await split(desk)
    await by_report(desk)
    with pytest.raises(Conflict):
        await desk.command({"type": "LOCK"}, second)
    assert await rows(desk, "kind FROM outbox") == []


async def test_a_wipe_of_the_former_enrolment_is_not_sent_to_the_present_one(desk: Desk) -> None:
    meant = await desk.command({"type": "WIPE"})
    second = await split(desk)
    now = await desk.command({"type": "WIPE"}, second)
    await by_report(desk)
    await desk.pay("issue")
    found = await desk.now(meant)
    assert (found.rung, found.reason and found.reason.code) == (Rung.FAILED, "DEVICE_GONE")
    assert (await desk.now(now)).issue is Issue.BOUND
    assert [command_id for command_id, _ in desk.google.issued] == [now.id]


async def test_one_wipe_at_a_time_of_what_was_two_records(desk: Desk) -> None:
    second = await split(desk)
    first = await desk.command({"type": "WIPE"}, second)
    operation = {"name": f"{AGAIN}/operations/1", "metadata": {"type": "WIPE"}}
    desk.google.answers.append(Taken(f"{AGAIN}/operations/1", operation))
    await desk.pay("issue", times=1)
    await by_report(desk)
    found = await by_name(desk, AGAIN)
    other = await desk.command({"type": "RELINQUISH_OWNERSHIP"}, found)
    await desk.pay("issue", times=1)
    assert (await desk.now(other)).issue is Issue.IDLE
    assert [entry.evidence.get("waitsFor") for entry in await desk.history(other)][-1] == first.id


async def test_the_agent_of_the_present_enrolment_stays_let_in(desk: Desk) -> None:
    second = await split(desk)
    secret = await renew_agent_secret(desk.services, desk.organization, second.id)
    targets = [Target(provider="builtin")]
    await register_agent(desk.services, second, Register(app="mdmAgent", agent_version="1", targets=targets))
    with desk.services.wakeups.subscribe(f"access:{second.id}") as told_so:
        await by_report(desk)
        await told_so.wait(0)
    device = await desk.services.store.directory.device_by_secret(hash_secret(secret))
    assert device is not None
    assert device.id == desk.android.id
    assert len(await desk.work.devices.targets(device.id)) == 1


async def test_the_agent_of_the_present_enrolment_stays_let_in_where_its_record_is_the_older_one(desk: Desk) -> None:
    """A late word of the former name made the record that goes."""
    present = await renew_agent_secret(desk.services, desk.organization, desk.android.id)
    before = f"{DEVICE_NAME}before"
    assert await told(desk, "STATUS_REPORT", {"name": before}, age_s=60) is Verdict.TAKEN
    former = await renew_agent_secret(desk.services, desk.organization, (await by_name(desk, before)).id)
    full = {"name": DEVICE_NAME, "previousDeviceNames": [before]}
    assert await told(desk, "STATUS_REPORT", full) is Verdict.TAKEN
    assert len(await known(desk)) == 1
    directory = desk.services.store.directory
    device = await directory.device_by_secret(hash_secret(present))
    assert device is not None
    assert (device.id, await directory.device_by_secret(hash_secret(former))) == (desk.android.id, None)


@pytest.mark.parametrize("of_present", [True, False])
async def test_a_secret_that_is_replaced_meanwhile_opens_nothing_afterwards(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, of_present: bool
) -> None:
    second = await split(desk)
    if not of_present:  # the older record has taken the newest name
        await by_report(desk)
        assert await told(desk, "ENROLLMENT", {"name": f"{AGAIN}2"}) is Verdict.TAKEN
        second = await by_name(desk, f"{AGAIN}2")
    stays = second if of_present else desk.android
    old = await renew_agent_secret(desk.services, desk.organization, stays.id)
    read, new = Setup._agent_secret, ""

    async def and_then_replaced(self: Setup, device: Device) -> bytes | None:
        nonlocal new
        found = await read(self, device)
        if device.id == stays.id and not new:
            new = await renew_agent_secret(desk.services, desk.organization, stays.id)
        return found

    monkeypatch.setattr(Setup, "_agent_secret", and_then_replaced)
    if of_present:
        await by_report(desk)
    else:
        more = {"name": f"{AGAIN}2", "previousDeviceNames": [DEVICE_NAME, AGAIN]}
        assert await told(desk, "STATUS_REPORT", more) is Verdict.TAKEN
    assert len(await known(desk)) == 1
    directory = desk.services.store.directory
    found = [await directory.device_by_secret(hash_secret(secret)) for secret in (old, new)]
    assert [device and device.id for device in found] == [None, desk.android.id]


async def test_what_changes_meanwhile_is_read_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    second = await split(desk)
    join = Setup.join_devices
    made: list[Command] = []

    async def later(self: Setup, device: Device, others: Any, **more: Any) -> None:
        if not made:
            made.append(await desk.command({"type": "LOCK"}, second))
            changed = replace(second, mdm_user_id="u", updated_at=second.updated_at + 1)
            await self.save_device(changed, read_at=second.updated_at)
        await join(self, device, others, **more)

    monkeypatch.setattr(Setup, "join_devices", later)
    await by_report(desk)
    assert await known(desk) == [(desk.android.id, AGAIN, "ACTIVE")]
    assert (await by_name(desk, AGAIN)).mdm_user_id == "u"
    assert (await desk.now(made[0])).device_id == desk.android.id


async def test_a_cancel_goes_on_where_the_record_is_joined_meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = await split(desk)
    command = await desk.command({"type": "LOCK"}, second)
    find, finds = Commands.find, 0

    async def and_then_joined(self: Commands, command_id: str, device_id: str | None = None) -> Command | None:
        nonlocal finds
        found = await find(self, command_id, device_id)
        finds += 1
        if finds == 1:
            await by_report(desk)
        return found

    monkeypatch.setattr(Commands, "find", and_then_joined)
    after = await cancel_command(desk.services, desk.work, command.id, second.id, "key:x", "over")
    assert (after.rung, after.device_id) == (Rung.CANCELLED, desk.android.id)
    with pytest.raises(NotFound):
        await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")


async def test_a_debt_under_the_id_that_is_no_more_is_settled(desk: Desk) -> None:
    second = await split(desk)
    await by_report(desk)
    changes = ChangeSet(desk.organization.id)
    changes.owe(desk.services.debt(desk.organization.id, "look_up", second.id))
    await desk.work.commit(changes)
    assert await desk.pay() == ["look_up"]
    assert await rows(desk, "kind FROM outbox") == []


async def rows(desk: Desk, what: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await desk.services.store.fetch(f"SELECT {what}")]  # type: ignore[attr-defined]
