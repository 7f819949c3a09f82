"""What Google tells of its own accord: late, doubled, out of order, partial, or about somebody else."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from heliograph.app.listening import ENTERPRISES_TOPIC, listen_forever, take_batch
from heliograph.app.notifications import Verdict, take_notification
from heliograph.app.setup import add_enterprise
from heliograph.channels.notifications import read_notification
from heliograph.domain.devices import Device, Enterprise
from heliograph.domain.errors import StoreUnavailable
from heliograph.domain.ladder import Command, Rung
from heliograph.ports.channel import Gone, Notification, Received, TooMuch, Unreachable
from heliograph.ports.pages import PageQuery
from tests.app.conftest import DEVICE_NAME, Desk

ENTERPRISE_NAME = "enterprises/LC0test"


def message(kind: str, data: Any, at: float | None = None, identifier: str = "1") -> dict[str, Any]:
    """As Pub/Sub has it; `at` = seconds since the epoch."""
    encoded = data if isinstance(data, str) else base64.b64encode(json.dumps(data).encode()).decode()
    published = {} if at is None else {"publishTime": datetime.fromtimestamp(at, UTC).isoformat()}
    return {"data": encoded, "attributes": {"notificationType": kind}, "messageId": identifier} | published


async def enterprise_of(desk: Desk) -> Enterprise:
    return next(e for e in await desk.work.setup.enterprises() if e.platform == "android")


async def told(desk: Desk, kind: str, data: Any, *, age_s: float = 0) -> Verdict:
    at = desk.clock.now() / 1e6 - age_s
    return await take_notification(desk.services, await enterprise_of(desk), read_notification(message(kind, data, at)))


async def by_name(desk: Desk, name: str) -> Device | None:
    return await desk.work.devices.find_by_external_name(name)


async def test_the_result_of_a_command_is_recorded_without_asking(desk: Desk) -> None:
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    issued = await desk.now(command)
    operation = {**(issued.operation or {}), "done": True}
    assert await told(desk, "COMMAND", operation) is Verdict.TAKEN
    assert (await desk.now(command)).rung is Rung.SUCCEEDED
    assert await told(desk, "COMMAND", operation) is Verdict.IGNORED  # doubled
    assert (await enterprise_of(desk)).heard_at is not None


async def test_word_that_it_ran_after_all_corrects_an_expiry(desk: Desk) -> None:
    command = await desk.command({"type": "LOCK", "duration": "60s"})
    await desk.pay()
    operation = (await desk.now(command)).operation or {}
    desk.google.finish(str(operation["name"]), error={"code": 4, "message": "deadline"})
    desk.clock.advance(120)
    await desk.pay()
    assert (await desk.now(command)).rung is Rung.EXPIRED_UNDELIVERED
    assert await told(desk, "COMMAND", {**operation, "done": True}) is Verdict.TAKEN
    assert (await desk.now(command)).rung is Rung.SUCCEEDED


OUTCOMES: dict[str, dict[str, Any]] = {
    "succeeded": {"done": True},
    "failed": {"done": True, "metadata": {"type": "LOCK", "errorCode": "INVALID_VALUE"}},
    "cancelled": {"done": True, "error": {"code": 1}},
    "expired": {"done": True, "error": {"code": 4}},
}


async def contradict(desk: Desk, command: Command, outcome: dict[str, Any], kind: str) -> None:
    """Google tells of an outcome that the record, which is over, does not have: it is kept, once, and moves nothing."""
    before, entries = await desk.now(command), await desk.history(command)
    operation = {"name": before.receipt, "metadata": {"type": "LOCK"}, **outcome}
    assert await told(desk, "COMMAND", operation) is Verdict.TAKEN
    after, history = await desk.now(command), await desk.history(command)
    assert (after.rung, after.reason, after.rung_at) == (before.rung, before.reason, before.rung_at)
    assert history[:-1] == entries
    assert (history[-1].rung, history[-1].source) == (before.rung.value, "amapi")
    assert (history[-1].evidence["contradicts"], history[-1].evidence["done"]) == (kind, True)
    assert after.contradicted == (*(before.contradicted or ()), kind)
    for age_s in (0, 100):
        assert await told(desk, "COMMAND", operation, age_s=age_s) is Verdict.IGNORED  # doubled
    assert await desk.now(command) == after
    assert await desk.history(command) == history


@pytest.mark.parametrize("kind", OUTCOMES)
async def test_what_is_told_after_nobody_could_tell_is_recorded(desk: Desk, kind: str) -> None:
    command = await desk.command({"type": "LOCK", "duration": "60s"})
    await desk.pay("issue", times=1)
    desk.google.operations_now.clear()
    for _ in range(10):
        desk.clock.advance(60)
        await desk.pay()
    reason = (await desk.now(command)).reason
    assert reason is not None
    assert reason.code == "outcome_unknown"
    await contradict(desk, command, OUTCOMES[kind], kind)


@pytest.mark.parametrize("ended", ["succeeded", "failed", "cancelled"])
async def test_an_end_that_google_contradicts_stands_and_its_history_tells(desk: Desk, ended: str) -> None:
    command = await desk.command({"type": "LOCK"})
    await desk.pay("issue", times=1)
    operation = {"name": (await desk.now(command)).receipt, "metadata": {"type": "LOCK"}}
    assert await told(desk, "COMMAND", operation | OUTCOMES[ended]) is Verdict.TAKEN
    assert (await desk.now(command)).rung.value == ended
    for kind in ("succeeded", "failed", "cancelled"):
        if kind != ended:
            await contradict(desk, command, OUTCOMES[kind], kind)
        assert await told(desk, "COMMAND", operation | OUTCOMES[ended]) is Verdict.IGNORED
        assert await told(desk, "COMMAND", operation) is Verdict.IGNORED  # older, not finished


async def test_an_error_that_is_told_again_when_its_time_is_over_is_no_news(desk: Desk) -> None:
    command = await desk.command({"type": "LOCK", "duration": "60s"})
    await desk.pay("issue", times=1)
    operation = {"name": (await desk.now(command)).receipt, "done": True, "error": {"code": 13}}
    assert await told(desk, "COMMAND", operation) is Verdict.TAKEN
    before = await desk.now(command)
    assert before.rung is Rung.FAILED
    desk.clock.advance(120)
    assert await told(desk, "COMMAND", operation, age_s=100) is Verdict.IGNORED
    assert await desk.now(command) == before


async def test_an_operation_that_is_not_finished_changes_nothing(desk: Desk) -> None:
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    before = await desk.now(command)
    assert await told(desk, "COMMAND", {**(before.operation or {})}) is Verdict.IGNORED
    assert await desk.now(command) == before


async def test_a_notification_before_our_own_commit_comes_again_and_is_given_up_in_the_end(desk: Desk) -> None:
    unknown = {"name": f"{DEVICE_NAME}/operations/1", "done": True}
    assert await told(desk, "COMMAND", unknown) is Verdict.LATER
    assert await told(desk, "COMMAND", unknown, age_s=901) is Verdict.IGNORED
    elsewhere = {"name": f"{ENTERPRISE_NAME}/devices/new/operations/1", "done": True}
    assert await told(desk, "COMMAND", elsewhere) is Verdict.LATER


@pytest.mark.parametrize("seconds", [600, -600])
async def test_a_clock_that_is_ten_minutes_off_loses_no_notification(desk: Desk, seconds: int) -> None:
    desk.clock.jump(seconds)  # `age_s` brings the notification's own time back to Google's
    assert (
        await told(desk, "COMMAND", {"name": f"{DEVICE_NAME}/operations/1", "done": True}, age_s=seconds)
        is Verdict.LATER
    )
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    operation = {**((await desk.now(command)).operation or {}), "done": True}
    assert await told(desk, "COMMAND", operation, age_s=seconds) is Verdict.TAKEN
    assert (await desk.now(command)).rung is Rung.SUCCEEDED
    for state in ("DISABLED", "ACTIVE"):
        assert await told(desk, "STATUS_REPORT", {"name": DEVICE_NAME, "state": state}, age_s=seconds) is Verdict.TAKEN
        device = await by_name(desk, DEVICE_NAME)
        assert device is not None
        assert device.state == state


@pytest.mark.parametrize("kind", ["COMMAND", "STATUS_REPORT", "ENROLLMENT"])
async def test_another_enterprise_s_is_none_of_our_business(desk: Desk, kind: str) -> None:
    name = "enterprises/LC0test2/devices/d" + ("/operations/1" if kind == "COMMAND" else "")
    assert await told(desk, kind, {"name": name, "done": True}) is Verdict.IGNORED
    assert await by_name(desk, name) is None


@pytest.mark.parametrize("last", ["", "d/operations/1", "d d", "x" * 4096])
async def test_a_report_of_a_device_with_a_name_that_is_none(desk: Desk, last: str) -> None:
    name = f"{ENTERPRISE_NAME}/devices/{last}"
    assert await told(desk, "STATUS_REPORT", {"name": name, "state": "ACTIVE"}) is Verdict.IGNORED
    assert await by_name(desk, name) is None


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        {},
        {"attributes": {"notificationType": 5}},
        message("COMMAND", "not base64!"),
        message("COMMAND", base64.b64encode(b"not json").decode()),
        message("COMMAND", [1]),
        message("COMMAND", {"name": "enterprises/x"}),
        message("STATUS_REPORT", {"state": "ACTIVE"}),
        message("STATUS_REPORT", ""),
        message("COMMAND", "A" * (1024 * 1024 + 4)),
        message("COMMAND", base64.b64encode(b'{"a":' * 5000 + b"1" + b"}" * 5000).decode()),
        {**message("COMMAND", {"name": f"{DEVICE_NAME}/operations/1"}), "publishTime": "yesterday"},
        message("TEST", ""),
        message("USAGE_LOGS", {"device": DEVICE_NAME}),
        message("ENTERPRISE_UPGRADE", {"enterprise": ENTERPRISE_NAME}),
        message("SOMETHING_NEW", {}),
    ],
)
async def test_what_cannot_be_understood_or_used_need_not_come_again(desk: Desk, raw: Any) -> None:
    before = await (await desk.work.devices.list("android", PageQuery())).items()
    verdict = await take_notification(desk.services, await enterprise_of(desk), read_notification(raw))
    assert verdict is Verdict.IGNORED
    assert await (await desk.work.devices.list("android", PageQuery())).items() == before


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


class Mailbox:
    """A subscription that remembers what was said of its messages."""

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self.later: list[str] = []

    async def pull(self, limit: int) -> list[Received] | TooMuch | Gone | Unreachable:
        return []

    async def acknowledge(self, ack_ids: Any) -> Unreachable | None:
        self.acknowledged += ack_ids
        return None

    async def put_off(self, ack_ids: Any, seconds: int) -> Unreachable | None:
        self.later += ack_ids
        return None


async def test_one_message_s_fault_does_not_stop_the_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def take(_: Any, __: Any, notification: Notification) -> Verdict:
        faults: dict[str, Exception] = {"breaks": RuntimeError("x"), "no store": StoreUnavailable()}
        if notification.id in faults:
            raise faults[notification.id]
        return Verdict[notification.id]

    monkeypatch.setattr("heliograph.app.listening.take_notification", take)
    names = ("TAKEN", "breaks", "IGNORED", "no store", "LATER")
    batch = [Received(f"ack {name}", Notification(name, "TEST")) for name in names]
    mailbox = Mailbox()
    await take_batch(desk.services, await enterprise_of(desk), mailbox, batch)
    assert mailbox.acknowledged == ["ack TAKEN", "ack IGNORED"]
    assert mailbox.later == ["ack breaks", "ack no store", "ack LATER"]


async def test_what_is_too_much_at_a_time_is_pulled_in_smaller_parts(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    pulled = asyncio.Event()

    class Full(Mailbox):
        async def pull(self, limit: int) -> list[Received] | TooMuch | Gone | Unreachable:
            asked.append(limit)
            if len(asked) == 7:
                pulled.set()
                await asyncio.Event().wait()
            return TooMuch() if limit > 2 else []

    async def subscription(_: Enterprise) -> Full:
        return Full()

    async def sleep(_: float) -> None:
        pass

    monkeypatch.setattr(desk.services.channels, "subscription", subscription)
    monkeypatch.setattr("heliograph.app.listening.asyncio.sleep", sleep)
    how = {"subscription": "projects/p/subscriptions/s", "credentials": b"{}"}
    await add_enterprise(desk.services, desk.organization, ENTERPRISE_NAME, how)
    listening = asyncio.create_task(listen_forever(desk.services))
    async with asyncio.timeout(30):
        await pulled.wait()
    listening.cancel()
    assert asked == [100, 25, 6, 1, 2, 3, 1]


async def test_who_listens_follows_the_enterprise_to_another_address(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the former one, each pull would replace the channel that the commands go by."""
    addresses: asyncio.Queue[str | None] = asyncio.Queue()

    class Waiting(Mailbox):
        async def pull(self, limit: int) -> list[Received] | TooMuch | Gone | Unreachable:
            await asyncio.Event().wait()
            return []

    async def subscription(enterprise: Enterprise) -> Waiting:
        addresses.put_nowait(enterprise.api_url)
        return Waiting()

    monkeypatch.setattr(desk.services.channels, "subscription", subscription)
    how: dict[str, Any] = {"subscription": "projects/p/subscriptions/s", "credentials": b"{}"}
    await add_enterprise(desk.services, desk.organization, ENTERPRISE_NAME, how)
    listening = asyncio.create_task(listen_forever(desk.services))
    async with asyncio.timeout(10):
        assert await addresses.get() is None
        await add_enterprise(desk.services, desk.organization, ENTERPRISE_NAME, {"api_url": "https://two.example"})
        desk.services.wakeups.notify([ENTERPRISES_TOPIC])
        assert await addresses.get() == "https://two.example"
    listening.cancel()


async def test_who_says_at_once_that_nothing_came_is_not_asked_without_a_pause(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits_s, pulls, pauses = [0.0, 90.0, 0.0], 0, []
    pulled = asyncio.Event()

    class Empty(Mailbox):
        async def pull(self, limit: int) -> list[Received] | TooMuch | Gone | Unreachable:
            nonlocal pulls
            if pulls == len(waits_s):
                pulled.set()
                await asyncio.Event().wait()
            desk.clock.advance(waits_s[pulls])
            pulls += 1
            return []

    async def subscription(_: Enterprise) -> Empty:
        return Empty()

    async def sleep(seconds: float) -> None:
        pauses.append((pulls, seconds))

    monkeypatch.setattr(desk.services.channels, "subscription", subscription)
    monkeypatch.setattr("heliograph.app.listening.asyncio.sleep", sleep)
    how = {"subscription": "projects/p/subscriptions/s", "credentials": b"{}"}
    await add_enterprise(desk.services, desk.organization, ENTERPRISE_NAME, how)
    listening = asyncio.create_task(listen_forever(desk.services))
    async with asyncio.timeout(30):
        await pulled.wait()
    listening.cancel()
    assert pauses == [(1, 1.0), (3, 1.0)]


@pytest.mark.parametrize("days", [1, 6.9])
async def test_what_is_replayed_after_days_changes_nothing(desk: Desk, days: float) -> None:
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    operation = {**((await desk.now(command)).operation or {}), "done": True}
    report = {"name": DEVICE_NAME, "state": "DISABLED"}
    assert await told(desk, "COMMAND", operation) is Verdict.TAKEN
    assert await told(desk, "STATUS_REPORT", report, age_s=10) is Verdict.TAKEN
    assert await told(desk, "STATUS_REPORT", {"name": DEVICE_NAME, "state": "ACTIVE"}) is Verdict.TAKEN
    before = (await desk.now(command), await desk.history(command), await by_name(desk, DEVICE_NAME))
    desk.clock.advance(days * 86_400)
    for replayed, kind in ((operation, "COMMAND"), (report, "STATUS_REPORT"), (report, "ENROLLMENT")):
        assert await told(desk, kind, replayed, age_s=days * 86_400 + 10) is Verdict.IGNORED
    assert (await desk.now(command), await desk.history(command), await by_name(desk, DEVICE_NAME)) == before
