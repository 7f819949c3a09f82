"""What is said of the delivery of an AOSP command's push (seed; DECISIONS 18, 19)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx2
import pytest

from tests.http.timing import PUSH_STATUS_S, within
from tests.support.client import Device, HandDevice, Json, Lab, data_of, error_of, fault, until
from tests.support.demo import Demo

AGE = "x-push-status-age"
OFFLINE = ("aosp-builtin-offline", "aosp-pushy-offline")
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def put_back(lab: Lab) -> Iterator[None]:
    """Tests here change the lab."""
    yield
    lab.restore()


@pytest.fixture
def agent(demo: Demo) -> HandDevice:
    """An AOSP device whose agent is played by the test."""
    device = demo.api.new_device("aosp")
    device.register()
    return device


def read(demo: Demo, device: Device, command: str) -> httpx2.Response:
    """Within the promised time."""
    with within(PUSH_STATUS_S):
        return demo.api.push_status(device, command)


def accepted(demo: Demo, device: Device, **body: Any) -> str:
    """A command whose push a provider has taken."""
    command = demo.api.create(device, {"command": "LOCK", **body})["id"]
    return str(demo.api.until(device, command, lambda found: "pushId" in found)["id"])


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize("name", OFFLINE)
def test_waiting_until_the_device_has_it(name: str, demo: Demo, lab: Lab) -> None:
    device = demo[name]
    command = accepted(demo, device)
    waiting = data_of(read(demo, device, command))
    assert set(waiting) == {"delivered", "pendingDevices", "expiresAt", "sentAt"}
    assert (waiting["delivered"], waiting["pendingDevices"]) == (False, 1)
    assert (
        DAY - timedelta(seconds=5)
        < moment(waiting["expiresAt"]) - moment(waiting["sentAt"])
        < DAY + timedelta(seconds=5)
    )
    lab.put(device, online=True)
    delivered = data_of(demo.api.push_status(device, command, 30))
    assert (delivered["delivered"], delivered["pendingDevices"]) == (True, 0)
    assert delivered["sentAt"] == waiting["sentAt"]


def test_nothing_accepted_yet(demo: Demo, lab: Lab) -> None:
    device = demo["aosp-pushy-offline"]
    with lab.faults(fault("pushy", "^/push$", status=503)):
        command = demo.api.create(device, "LOCK")["id"]
        answer = read(demo, device, command)
        assert (data_of(answer), answer.headers.get(AGE)) == ({}, None)
        assert "pushId" not in demo.api.command(device, command)
    demo.api.until(device, command, lambda found: "pushId" in found)
    assert data_of(read(demo, device, command))["delivered"] is False


def test_a_device_without_a_push_target(demo: Demo) -> None:
    device = demo.api.new_device("aosp").device
    assert data_of(read(demo, device, demo.api.create(device, "LOCK")["id"])) == {}


def test_a_push_that_no_provider_took(demo: Demo) -> None:
    """Pushy does not know the token."""
    device = demo.api.new_device("aosp")
    device.register(provider="pushy", token="0" * 30)
    command = demo.api.create(device.device, "LOCK")["id"]
    assert data_of(demo.api.push_status(device.device, command, 10)) == {}
    assert demo.api.command(device.device, command)["progress"]["rung"] == "queued"


def test_of_our_own_line_only_the_acknowledgement_counts(demo: Demo, agent: HandDevice) -> None:
    """Not acceptance, nor that it was written to the device's connection, nor that the command was claimed."""
    command = accepted(demo, agent.device)
    offered = until(lambda: agent.check_in(waitSeconds=5).get("pushes", []), bool)
    assert [push["commandId"] for push in offered] == [command]
    assert data_of(read(demo, agent.device, command))["delivered"] is False
    agent.claim()
    waiting = read(demo, agent.device, command)
    assert (data_of(waiting)["delivered"], waiting.headers["X-Push-Status-Source"]) == (False, "unknown")
    agent.check_in(pushAcks=[{"id": offered[0]["id"], "at": "2026-02-10T12:00:00Z"}])
    told = read(demo, agent.device, command)
    status = data_of(told)
    assert (status["delivered"], status["pendingDevices"]) == (True, 0)
    assert told.headers["X-Push-Status-Source"] == "agent"


def test_another_device_cannot_acknowledge(demo: Demo, agent: HandDevice) -> None:
    command = accepted(demo, agent.device)
    push = until(lambda: agent.check_in(waitSeconds=5).get("pushes", []), bool)[0]["id"]
    demo.api.new_device("aosp").check_in(pushAcks=[{"id": push, "at": "2026-02-10T12:00:00Z"}])
    agent.check_in("kioskLauncher", pushAcks=[{"id": push, "at": "2026-02-10T12:00:00Z"}])
    assert data_of(read(demo, agent.device, command))["delivered"] is False


@pytest.mark.parametrize(
    "action",
    [
        {"status": 503},
        {"status": 429, "retryAfter": 60},
        {"delayMs": 6000},
        {"cut": "before"},
        {"status": 200, "body": "<p>no"},
    ],
)
def test_with_the_provider_away_the_last_answer_stands_with_its_age(
    action: dict[str, Any], demo: Demo, lab: Lab
) -> None:
    device = demo["aosp-pushy-offline"]
    command = accepted(demo, device)
    before = data_of(read(demo, device, command))
    with lab.faults(fault("pushy", "^/pushes/", **action)):
        # The answer of a moment ago may serve once more.
        answer = until(partial(read, demo, device, command), lambda found: AGE in found.headers)
        assert data_of(answer) == before
        assert 0 <= int(answer.headers[AGE]) < 120
    answer = until(partial(read, demo, device, command), lambda found: AGE not in found.headers)
    assert data_of(answer) == before


def test_with_the_provider_away_from_the_start_it_waits_as_accepted(demo: Demo, lab: Lab) -> None:
    device = demo["aosp-pushy-offline"]
    with lab.faults(fault("pushy", "^/pushes/", status=503)):
        command = accepted(demo, device)
        answer = read(demo, device, command)
        assert AGE in answer.headers
        status = data_of(answer)
        assert (status["delivered"], status["pendingDevices"]) == (False, 1)
        assert status["sentAt"]


def test_the_acknowledgement_outranks_the_provider(demo: Demo, lab: Lab) -> None:
    device = demo["aosp-pushy-online"]
    wrong = {"push": {"date": 1, "payload": {}, "expiration": 4_000_000_000, "pending_devices": ["x", "y"]}}
    with lab.faults(fault("pushy", "^/pushes/", status=200, body=json.dumps(wrong))):
        command = demo.api.create(device, "LOCK")["id"]
        demo.api.over(device, command)
        answer = demo.api.push_status(device, command, 30)
        assert (data_of(answer)["delivered"], data_of(answer)["pendingDevices"]) == (True, 0)
        assert AGE not in answer.headers


def test_what_the_provider_says_is_stored(demo: Demo, lab: Lab) -> None:
    """Delivered by the provider, not acknowledged: that stands, even when the provider is gone afterwards."""
    device = demo["aosp-pushy-offline"]
    command = accepted(demo, device)
    said = {"push": {"date": 1, "payload": {}, "expiration": 4_000_000_000, "pending_devices": []}}
    with lab.faults(fault("pushy", "^/pushes/", status=200, body=json.dumps(said))):
        status = data_of(read(demo, device, command))
    assert (status["delivered"], status["pendingDevices"]) == (True, 0)
    assert status["expiresAt"] == "2096-10-02T07:06:40.000Z"
    with lab.faults(fault("pushy", "^/pushes/", status=503)):
        assert data_of(read(demo, device, command)) == status
    assert demo.api.command(device, command)["status"] == "PENDING"  # delivered is not executed


@pytest.mark.sqlite_only
def test_several_addresses_are_counted(demo: Demo, lab: Lab) -> None:
    device = demo["aosp-pushy-offline"]
    command = accepted(demo, device)
    said = {"push": {"date": 1, "payload": {}, "expiration": 4_000_000_000, "pending_devices": ["a", "b", "c"]}}
    with lab.faults(fault("pushy", "^/pushes/", status=200, body=json.dumps(said))):
        status = data_of(read(demo, device, command))
    assert (status["delivered"], status["pendingDevices"]) == (False, 3)


def test_past_its_life_it_is_not_delivered(demo: Demo) -> None:
    for name in OFFLINE:
        device = demo[name]
        command = accepted(demo, device, duration=1)
        assert demo.api.over(device, command)["status"] == "EXPIRED"
        status = data_of(read(demo, device, command))
        assert (status["delivered"], status["pendingDevices"]) == (False, 1)


def test_of_an_attempt_that_was_repeated_the_latest_accepted_counts(demo: Demo, lab: Lab) -> None:
    device = demo["aosp-pushy-offline"]
    with lab.faults(fault("pushy", "^/push$", cut="after", times=1)):
        command = accepted(demo, device)
    status = data_of(read(demo, device, command))
    assert (status["delivered"], status["pendingDevices"]) == (False, 1)
    sent = [r for r in lab.requests("pushy") if r["path"] == "/push" and command in r["body"]]
    assert len(sent) == 2
    assert len({json.loads(found["body"])["data"]["id"] for found in sent}) == 1  # the same id: the agent drops one
    lab.put(device, online=True)
    assert data_of(demo.api.push_status(device, command, 30))["delivered"] is True
    demo.api.over(device, command)
    assert [item["commandId"] for item in lab.journal(device, "executed")].count(command) == 1


def test_many_reads_cost_few_questions(demo: Demo, lab: Lab) -> None:
    device = demo["aosp-pushy-offline"]
    command = accepted(demo, device)
    reference = demo.api.command(device, command)["pushId"]
    began = time.monotonic()
    for _ in range(40):
        read(demo, device, command)
    most = (time.monotonic() - began) / 1.0 + 2
    asked = [r for r in lab.requests("pushy") if r["path"] == f"/pushes/{reference}"]
    assert 1 <= len(asked) <= most


def test_there_is_none_for_commands_of_android(demo: Demo) -> None:
    device = demo["android-offline"]
    command = demo.api.create(device, "LOCK")["id"]
    assert error_of(demo.api.get(f"{device.commands}/{command}/push-status")) == (404, 1002)


@pytest.mark.sqlite_only
def test_pushy_forgets_and_the_last_answer_stands(fresh_demo: Demo) -> None:
    """Two days after delivery, and at expiry."""
    demo = fresh_demo
    online, offline = demo["aosp-pushy-online"], demo["aosp-pushy-offline"]
    done, waiting = demo.api.create(online, "LOCK")["id"], accepted(demo, offline)
    demo.api.over(online, done)
    before: list[Json] = [
        data_of(demo.api.push_status(online, done, 30)),
        data_of(until(partial(read, demo, offline, waiting), lambda found: AGE not in found.headers)),
    ]
    demo.lab.advance(timedelta(days=3).total_seconds())
    reference = demo.api.command(offline, waiting)["pushId"]
    asked = until(
        lambda: [read(demo, offline, waiting), demo.lab.requests("pushy")][1],
        lambda found: [r["path"] for r in found].count(f"/pushes/{reference}") > 1,
    )
    assert asked
    assert [data_of(read(demo, online, done)), data_of(read(demo, offline, waiting))] == before
    assert [found["delivered"] for found in before] == [True, False]
