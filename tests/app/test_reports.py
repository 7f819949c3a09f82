"""What Google tells of devices of its own accord, under their present and their former names."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from heliograph.app.listening import take_batch
from heliograph.app.notifications import Verdict, take_notification
from heliograph.channels.notifications import read_notification
from heliograph.domain.devices import Enterprise
from heliograph.domain.ladder import Rung
from heliograph.ports.channel import Received
from heliograph.ports.pages import PageQuery
from tests.app.conftest import DEVICE_NAME, Desk
from tests.app.telling import ENTERPRISE_NAME, Mailbox, by_name, enterprise_of, message, told


@pytest.mark.parametrize("last", ["", "d/operations/1", "d d", "x" * 4096])
async def test_a_report_of_a_device_with_a_name_that_is_none(desk: Desk, last: str) -> None:
    name = f"{ENTERPRISE_NAME}/devices/{last}"
    assert await told(desk, "STATUS_REPORT", {"name": name, "state": "ACTIVE"}) is Verdict.IGNORED
    assert await by_name(desk, name) is None


async def test_a_report_brings_what_it_says_and_leaves_the_rest(desk: Desk) -> None:
    full = {
        "name": DEVICE_NAME,
        "appliedState": "ACTIVE",
        "state": "ACTIVE",
        "managementMode": "DEVICE_OWNER",
        "ownership": "COMPANY_OWNED",
        "apiLevel": 34,
        "hardwareInfo": {"serialNumber": "S9", "model": "Pixel"},
        "networkInfo": {"imei": "123"},
    }
    assert await told(desk, "STATUS_REPORT", full) is Verdict.TAKEN
    desk.clock.advance(1)
    assert await told(desk, "STATUS_REPORT", {"name": DEVICE_NAME, "state": "DISABLED"}) is Verdict.TAKEN
    device = await by_name(desk, DEVICE_NAME)
    assert device is not None
    assert (device.id, device.name) == (desk.android.id, desk.android.name)  # people's name for it stays
    assert (device.state, device.serial_number, device.imei) == ("DISABLED", "S9", "123")
    assert (device.management_mode, device.ownership, device.facts["apiLevel"]) == ("DEVICE_OWNER", "COMPANY_OWNED", 34)


async def test_an_older_report_changes_nothing(desk: Desk) -> None:
    assert await told(desk, "STATUS_REPORT", {"name": DEVICE_NAME, "state": "DISABLED"}) is Verdict.TAKEN
    assert await told(desk, "STATUS_REPORT", {"name": DEVICE_NAME, "state": "ACTIVE"}, age_s=5) is Verdict.IGNORED
    device = await by_name(desk, DEVICE_NAME)
    assert device is not None
    assert device.state == "DISABLED"


async def test_a_device_that_enrols_again_keeps_its_record_under_its_new_name(desk: Desk) -> None:
    renamed = f"{ENTERPRISE_NAME}/devices/again"
    assert await told(desk, "ENROLLMENT", {"name": renamed, "previousDeviceNames": [DEVICE_NAME]}) is Verdict.TAKEN
    device = await by_name(desk, renamed)
    assert device is not None
    assert device.id == desk.android.id
    gone = {"name": DEVICE_NAME, "appliedState": "DELETED"}
    assert await told(desk, "STATUS_REPORT", gone) is Verdict.IGNORED  # late word of what it was before
    after = await by_name(desk, renamed)
    assert after is not None
    assert after.state != "DELETED"


async def test_a_former_name_in_another_enterprise_says_nothing_of_our_record(desk: Desk) -> None:
    before = await by_name(desk, DEVICE_NAME)
    two = Enterprise(desk.services.new_id(), desk.organization.id, "android", "enterprises/LC0two", desk.clock.now())
    await desk.work.setup.add_enterprise(two)
    name = f"{two.name}/devices/d"
    raw = message("ENROLLMENT", {"name": name, "previousDeviceNames": [DEVICE_NAME]}, desk.clock.now() / 1e6)
    assert await take_notification(desk.services, two, read_notification(raw)) is Verdict.TAKEN
    assert await by_name(desk, DEVICE_NAME) == before
    theirs = await by_name(desk, name)
    assert theirs is not None
    assert theirs.enterprise_id == two.id


async def test_a_new_device_is_taken_over(desk: Desk) -> None:
    name = f"{ENTERPRISE_NAME}/devices/new"
    assert await told(desk, "ENROLLMENT", {"name": name, "hardwareInfo": {"serialNumber": "S1"}}) is Verdict.TAKEN
    device = await by_name(desk, name)
    assert device is not None
    assert (device.platform, device.serial_number, device.name) == ("android", "S1", "S1")
    listed = await desk.work.devices.list("android", PageQuery())
    assert await told(desk, "ENROLLMENT", {"name": name}) is Verdict.TAKEN
    assert (await desk.work.devices.list("android", PageQuery())).total == listed.total


async def test_the_last_report_of_a_device_has_its_commands_looked_at_at_once(desk: Desk) -> None:
    command = await desk.command({"type": "WIPE"})
    await desk.pay()
    desk.clock.advance(3600)
    await desk.pay()
    desk.google.gone = True
    assert await told(desk, "STATUS_REPORT", {"name": DEVICE_NAME, "appliedState": "DELETED"}) is Verdict.TAKEN
    desk.clock.advance(1)
    assert "look_up" in await desk.pay()
    assert (await desk.now(command)).rung is Rung.SUCCEEDED


SERIAL = {"hardwareInfo": {"serialNumber": "S9"}}
AGAIN = f"{ENTERPRISE_NAME}/devices/again"


async def known(desk: Desk) -> list[tuple[str, str | None, str]]:
    """The Android devices of the organization: id, name at Google and state."""
    page = await desk.work.devices.list("android", PageQuery())
    return [(d.id, d.external_name, d.state) for d in await page.items()]


@pytest.mark.parametrize("kinds", [("ENROLLMENT",) * 4, ("ENROLLMENT", "STATUS_REPORT")])
@pytest.mark.parametrize("previous", [{}, {"previousDeviceNames": [f"{ENTERPRISE_NAME}/devices/before"]}])
async def test_what_is_told_of_a_new_device_several_times_at_once_makes_one_record(
    desk: Desk, kinds: tuple[str, ...], previous: dict[str, Any]
) -> None:
    raw = {"name": AGAIN, **SERIAL, **previous}
    at = desk.clock.now() / 1e6
    batch = [Received(str(n), read_notification(message(kind, raw, at))) for n, kind in enumerate(kinds)]
    mailbox = Mailbox()
    await take_batch(desk.services, await enterprise_of(desk), mailbox, batch)
    assert len(mailbox.acknowledged) == len(kinds)
    assert [name for _, name, _ in await known(desk)] == [DEVICE_NAME, AGAIN]
    assert len(await desk.work.devices.find_by_alias("android", "S9")) == 1


async def enrolled_again(desk: Desk) -> None:
    await told(desk, "STATUS_REPORT", {"name": DEVICE_NAME, "state": "ACTIVE", **SERIAL}, age_s=60)
    raw = {"name": AGAIN, "previousDeviceNames": [DEVICE_NAME], **SERIAL}
    assert await told(desk, "ENROLLMENT", raw, age_s=30) is Verdict.TAKEN


@pytest.mark.parametrize("kind", ["STATUS_REPORT", "ENROLLMENT"])
@pytest.mark.parametrize(("age_s", "days"), [(45, 0), (30, 0), (5, 0), (86_400, 1)])
async def test_what_is_told_of_a_former_name_changes_nothing(desk: Desk, kind: str, age_s: int, days: int) -> None:
    await enrolled_again(desk)
    before = await known(desk)
    desk.clock.advance(86_400 * days)
    with capture_logs() as logs:
        raw = {"name": DEVICE_NAME, "state": "DISABLED", **SERIAL}
        assert await told(desk, kind, raw, age_s=age_s) is Verdict.IGNORED
    assert [line["why"] for line in logs if "why" in line] == ["of a name that the device had before"]
    assert await known(desk) == before == [(desk.android.id, AGAIN, "ACTIVE")]


async def test_former_names_are_known_although_they_were_never_the_present_one(desk: Desk) -> None:
    first, second, third = (f"{ENTERPRISE_NAME}/devices/n{n}" for n in range(3))
    raw = {"name": third, "previousDeviceNames": [DEVICE_NAME, first, second, 5, None]}
    assert await told(desk, "ENROLLMENT", raw) is Verdict.TAKEN
    for name in (first, second):
        assert await told(desk, "STATUS_REPORT", {"name": name}) is Verdict.IGNORED
    assert await known(desk) == [(desk.android.id, third, "ACTIVE")]


async def test_a_new_name_is_taken_whenever_the_word_of_it_comes(desk: Desk) -> None:
    """The last word of the former name may have been published later."""
    assert await told(desk, "STATUS_REPORT", {"name": DEVICE_NAME, "appliedState": "DELETED"}) is Verdict.TAKEN
    raw = {"name": AGAIN, "previousDeviceNames": [DEVICE_NAME]}
    assert await told(desk, "ENROLLMENT", raw, age_s=20) is Verdict.TAKEN
    assert await known(desk) == [(desk.android.id, AGAIN, "ACTIVE")]
    assert await told(desk, "STATUS_REPORT", {"name": AGAIN, "state": "DISABLED"}, age_s=10) is Verdict.TAKEN
    assert await known(desk) == [(desk.android.id, AGAIN, "DISABLED")]


async def test_how_a_device_was_managed_before_it_enrolled_again_says_nothing(desk: Desk) -> None:
    full = {"name": DEVICE_NAME, "managementMode": "DEVICE_OWNER", "ownership": "COMPANY_OWNED", "apiLevel": 34}
    assert await told(desk, "STATUS_REPORT", full, age_s=60) is Verdict.TAKEN
    assert await told(desk, "ENROLLMENT", {"name": AGAIN, "previousDeviceNames": [DEVICE_NAME]}) is Verdict.TAKEN
    device = await by_name(desk, AGAIN)
    assert device is not None
    assert (device.management_mode, device.ownership, device.facts) == (None, None, {"apiLevel": 34})


async def test_the_result_of_a_command_under_a_former_name_is_taken(desk: Desk) -> None:
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    operation = {**((await desk.now(command)).operation or {}), "done": True}
    await enrolled_again(desk)
    assert await told(desk, "COMMAND", operation) is Verdict.TAKEN
    assert (await desk.now(command)).rung is Rung.SUCCEEDED
