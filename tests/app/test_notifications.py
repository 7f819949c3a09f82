"""What Google tells of commands of its own accord: late, doubled, out of order, partial, or about somebody else."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from heliograph.app.notifications import Verdict, take_notification
from heliograph.channels.notifications import read_notification
from heliograph.domain.ladder import Command, Rung
from heliograph.ports.pages import PageQuery
from tests.app.conftest import DEVICE_NAME, Desk
from tests.app.telling import ENTERPRISE_NAME, by_name, enterprise_of, message, told


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
