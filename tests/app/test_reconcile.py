"""The reconciler: lost debts are owed again, devices follow Google's list, and no single answer takes anything away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heliograph.app.notifications import Verdict
from heliograph.app.reconcile import reconcile_once
from heliograph.app.setup import add_device, import_from_google
from heliograph.domain.devices import Device
from heliograph.domain.ladder import Issue, Rung
from heliograph.domain.times import time_text
from heliograph.ports.changes import ChangeSet
from heliograph.ports.channel import Gone, ListPage, Unreachable
from heliograph.store.devices import Devices
from tests.app.conftest import DEVICE_NAME, Desk
from tests.app.telling import told

OTHER = "enterprises/LC0test/devices/d2"


def raw(name: str = DEVICE_NAME, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": "ACTIVE", **more}


async def round_(desk: Desk, *listed: Any) -> None:
    """The next round, with these devices at Google."""
    desk.google.listed = list(listed)
    desk.clock.advance(desk.services.limits.reconcile_every_s + 1)
    await reconcile_once(desk.services)


@pytest.fixture(autouse=True)
async def begun(desk: Desk) -> None:
    """The first look only plans the first round: set-up has its time."""
    await reconcile_once(desk.services)
    assert desk.google.pages_asked == 0


async def device(desk: Desk, name: str = DEVICE_NAME) -> Device:
    found = await desk.work.devices.find_by_external_name(name)
    assert found is not None
    return found


async def counts(desk: Desk, kind: str) -> tuple[int, int]:
    found = await desk.services.store.system.counts()
    return found[f"rounds_begun_{kind}"], found[f"rounds_failed_{kind}"]


async def test_changes_and_new_devices_are_taken_over_page_by_page(desk: Desk) -> None:
    before = await device(desk)
    await round_(desk, raw(state="DISABLED", apiLevel=35), *(raw(f"{OTHER}{n}") for n in range(4)))
    assert desk.google.pages_asked == 3
    after = await device(desk)
    assert (after.id, after.state, after.facts["apiLevel"]) == (before.id, "DISABLED", 35)
    assert (await device(desk, f"{OTHER}3")).enterprise_id == before.enterprise_id
    assert await counts(desk, "devices") == (1, 0)


async def test_a_page_that_was_read_before_the_last_report_does_not_undo_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = desk.google.device_page

    async def overtaken(enterprise: str, token: str) -> ListPage | Gone | Unreachable:
        answer = await page(enterprise, token)
        desk.clock.advance(1)
        assert await told(desk, "STATUS_REPORT", {"name": DEVICE_NAME, "appliedState": "DELETED"}) is Verdict.TAKEN
        return answer

    monkeypatch.setattr(desk.google, "device_page", overtaken)
    await round_(desk, raw(), raw(OTHER))
    assert ((await device(desk)).state, (await device(desk, OTHER)).state) == ("DELETED", "ACTIVE")
    monkeypatch.undo()
    await round_(desk, raw())
    assert (await device(desk)).state == "ACTIVE"


async def test_what_is_as_it_was_is_not_written(desk: Desk) -> None:
    await round_(desk, raw())
    before = await device(desk)
    await round_(desk, raw())
    assert await device(desk) == before


@pytest.mark.parametrize("seconds", [600, -600])
async def test_what_google_tells_after_a_comparison_counts_whatever_our_clock_says(desk: Desk, seconds: int) -> None:
    desk.clock.jump(seconds)
    desk.clock.advance(2 * desk.services.limits.reconcile_every_s)
    told_at = time_text(desk.clock.now() - seconds * 1_000_000)
    desk.google.listed = [raw(apiLevel=35, lastStatusReportTime=told_at), raw(OTHER)]
    await reconcile_once(desk.services)
    assert (await device(desk)).facts["apiLevel"] == 35
    older = {"name": DEVICE_NAME, "state": "LOST"}
    assert await told(desk, "STATUS_REPORT", older, age_s=seconds + 1) is Verdict.IGNORED
    desk.clock.advance(300)
    for name in (DEVICE_NAME, OTHER):
        report = {"name": name, "state": "DISABLED"}
        assert await told(desk, "STATUS_REPORT", report, age_s=seconds) is Verdict.TAKEN
        assert (await device(desk, name)).state == "DISABLED"
    again = {"name": f"{DEVICE_NAME}-again", "previousDeviceNames": [DEVICE_NAME]}
    assert await told(desk, "ENROLLMENT", again, age_s=seconds) is Verdict.TAKEN
    assert (await device(desk, f"{DEVICE_NAME}-again")).id == desk.android.id


async def test_a_page_that_was_read_before_a_device_enrolled_again_changes_nothing(desk: Desk) -> None:
    again = f"{DEVICE_NAME}-again"
    assert await told(desk, "ENROLLMENT", {"name": again, "previousDeviceNames": [DEVICE_NAME]}) is Verdict.TAKEN
    before = await device(desk, again)
    await round_(desk, raw(state="DISABLED"), raw(OTHER))
    assert await desk.work.devices.find_by_external_name(DEVICE_NAME) is None
    assert replace(await device(desk, again), missed_at=None) == before
    await round_(desk, raw(again, previousDeviceNames=[DEVICE_NAME]), raw(OTHER))
    assert (await device(desk, again)).state == before.state
    assert await counts(desk, "devices") == (2, 0)


async def test_one_process_has_a_round_and_it_is_due_again_after_a_while(desk: Desk) -> None:
    await round_(desk, raw())
    await reconcile_once(desk.services)
    assert desk.google.pages_asked == 1
    desk.clock.advance(desk.services.limits.reconcile_every_s + 1)
    await reconcile_once(desk.services)
    assert desk.google.pages_asked == 2


async def test_a_device_is_gone_after_complete_lists_without_it_and_its_record_stays(desk: Desk) -> None:
    before = await device(desk)
    await round_(desk, raw(OTHER))
    assert (await device(desk)).state == "ACTIVE"
    await round_(desk, raw(OTHER))
    gone = await device(desk)
    assert (gone.id, gone.state) == (before.id, "DELETED")
    await round_(desk, raw(OTHER), raw())
    assert ((await device(desk)).state, (await device(desk)).missed_at) == ("ACTIVE", None)


async def test_two_lists_at_nearly_the_same_moment_are_one(desk: Desk) -> None:
    desk.services = replace(desk.services, limits=replace(desk.services.limits, reconcile_every_s=60))
    await round_(desk, raw(OTHER))
    await round_(desk, raw(OTHER))
    assert (await device(desk)).state == "ACTIVE"


async def test_a_device_that_is_seen_in_between_is_not_missed(desk: Desk) -> None:
    for listed in ([raw(OTHER)], [raw(OTHER), raw()], [raw(OTHER)]):
        await round_(desk, *listed)
    assert (await device(desk)).state == "ACTIVE"


@pytest.mark.parametrize(
    "answer",
    [
        Unreachable("Google answered 401", status=401),
        Unreachable("Google answered 403", status=403),
        Unreachable("Google answered 429", 5, 429),
        Unreachable("Google answered 503", status=503),
        Gone("Requested entity was not found."),
        ListPage([]),
        ListPage([{"name": 5}]),
        ListPage([raw(OTHER), "?"]),
        ListPage([raw(OTHER)], "again"),
    ],
)
async def test_a_list_that_is_not_complete_tears_nothing_down(desk: Desk, answer: Any) -> None:
    for number in range(4):
        desk.google.page_answers = [answer]
        if answer == ListPage([raw(OTHER)], "again"):
            desk.google.page_answers = [answer, answer]  # a list that does not end
        await round_(desk)
        assert (await device(desk)).state == "ACTIVE"
        assert await counts(desk, "devices") == (number + 1, number + 1)
    assert (await device(desk)).missed_at is None


async def test_a_fault_on_a_later_page_ends_the_round_and_keeps_what_was_read(desk: Desk) -> None:
    desk.google.page_answers = [ListPage([raw(OTHER)], "2"), Unreachable("Google answered 429", status=429)]
    await round_(desk)
    assert (await device(desk, OTHER)).state == "ACTIVE"
    assert (await device(desk)).missed_at is None


async def test_one_devices_fault_never_stops_the_round(desk: Desk) -> None:
    broken = raw(OTHER, hardwareInfo={"serialNumber": "\ud800"})
    await round_(desk, broken, raw(apiLevel=35))
    assert (await device(desk)).facts["apiLevel"] == 35
    assert await counts(desk, "devices") == (1, 1)


async def test_nor_does_it_keep_others_that_are_gone_from_being_missed(desk: Desk) -> None:
    """Its name is all that is needed of it for that."""
    broken = raw(OTHER, hardwareInfo={"serialNumber": "\ud800"})
    for state in ("ACTIVE", "DELETED"):
        await round_(desk, broken)
        assert (await device(desk)).state == state
    assert await counts(desk, "devices") == (2, 2)  # it is told all the same


async def test_what_no_store_takes_is_left_out_of_a_description(desk: Desk) -> None:
    hardware = {"serialNumber": "R58\0\0", "model": "\0Kiosk"}
    await round_(desk, raw(), raw(OTHER, hardwareInfo=hardware, previousDeviceNames=[f"{OTHER}\0"]))
    found = await device(desk, OTHER)
    assert (found.serial_number, found.name) == ("R58", "Kiosk")
    assert await counts(desk, "devices") == (1, 0)


@pytest.mark.parametrize("last", ["", "d\0", "d/operations/1", "x" * 4096])
async def test_a_device_in_the_list_with_a_name_that_is_none(desk: Desk, last: str) -> None:
    name = f"enterprises/LC0test/devices/{last}"
    await round_(desk, raw(), raw(name))
    assert await desk.work.devices.find_by_external_name(name) is None
    assert await counts(desk, "devices") == (1, 1)


async def test_an_import_takes_over_the_named_enterprise_s_devices_alone(desk: Desk) -> None:
    [ours] = [e for e in await desk.work.setup.enterprises() if e.platform == "android"]
    theirs = replace(ours, id=desk.services.new_id(), name="enterprises/LC0two")
    await desk.work.setup.add_enterprise(theirs)
    before = await device(desk)
    desk.google.listed = [raw(state="DISABLED"), raw("enterprises/LC0two/devices/d9"), raw(f"{theirs.name}/devices/\0")]
    taken = await import_from_google(desk.services, desk.organization, "enterprises/LC0two")
    assert [d.external_name for d in taken] == ["enterprises/LC0two/devices/d9"]
    assert await device(desk) == before


@pytest.mark.parametrize(("status", "asked"), [(429, 1), (403, 2)])
async def test_a_project_that_is_told_to_stop_is_left_alone(desk: Desk, status: int, asked: int) -> None:
    [known] = [e for e in await desk.work.setup.enterprises() if e.platform == "android"]
    await desk.work.setup.add_enterprise(replace(known, id=desk.services.new_id(), name="enterprises/LC0two"))
    await reconcile_once(desk.services)
    desk.google.page_answers = [Unreachable(f"Google answered {status}", status=status)] * 2
    await round_(desk)
    assert desk.google.pages_asked == asked


async def test_a_device_that_came_while_the_list_was_read_is_not_missed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Devices.of_enterprise

    async def later(self: Devices, enterprise_id: str, behind: str, limit: int) -> list[Device]:
        if not behind:
            await add_device(desk.services, desk.organization, {"platform": "android", "externalName": OTHER})
        return await read(self, enterprise_id, behind, limit)

    monkeypatch.setattr(Devices, "of_enterprise", later)
    await round_(desk, raw())
    assert (await device(desk, OTHER)).missed_at is None


async def test_a_device_that_was_heard_of_while_the_list_was_read_is_not_missed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.clock.jump(600)
    read = Devices.of_enterprise

    async def later(self: Devices, enterprise_id: str, behind: str, limit: int) -> list[Device]:
        if not behind:
            assert await told(desk, "STATUS_REPORT", raw(), age_s=600) is Verdict.TAKEN
        return await read(self, enterprise_id, behind, limit)

    monkeypatch.setattr(Devices, "of_enterprise", later)
    await round_(desk, raw(OTHER))
    assert (await device(desk)).missed_at is None


async def test_the_wipe_of_a_device_that_list_after_list_lacks_is_settled(desk: Desk) -> None:
    command = await desk.command({"type": "WIPE"})
    await desk.pay("issue", times=1)
    desk.google.gone = True
    await round_(desk, raw(OTHER))
    await round_(desk, raw(OTHER))
    await desk.pay()
    assert (await desk.now(command)).rung is Rung.SUCCEEDED


@pytest.mark.parametrize("issue", [Issue.IDLE, Issue.BOUND])
async def test_a_command_that_nothing_is_owed_for_is_found_and_goes_on(desk: Desk, issue: Issue) -> None:
    command = await desk.command({"type": "LOCK", "duration": "86400s"})
    if issue is Issue.BOUND:
        await desk.pay("issue", times=1)
        desk.google.finish(str((await desk.now(command)).receipt))
    await lose(desk, f"issue:{command.id}", f"look_up:{desk.android.id}")
    await desk.pay()
    assert (await desk.now(command)).issue is issue
    await round_(desk, raw())
    desk.clock.advance(1)
    await desk.pay()
    found = await desk.now(command)
    assert found.rung is (Rung.SUCCEEDED if issue is Issue.BOUND else Rung.ISSUED)
    assert await counts(desk, "commands") == (1, 0)


async def lose(desk: Desk, *keys: str) -> None:
    """What must never happen."""
    changes = ChangeSet(desk.organization.id)
    for key in keys:
        changes.withdraw(key)
    await desk.work.commit(changes)
