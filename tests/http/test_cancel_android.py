"""Cancelling Android commands (seed; DECISIONS 15, 16): CANCEL only with proof, PENDING while it is open."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx2
import pytest

from tests.http.timing import CANCEL_S, within
from tests.support.client import Device, Json, Lab, data_of, error_of, fault, until
from tests.support.demo import Demo

OPEN = {"latencyMs": 3_600_000}  # an online device that takes its time


@pytest.fixture(autouse=True)
def put_back(lab: Lab) -> Iterator[None]:
    """Every test here changes the lab."""
    yield
    lab.restore()


def issued(demo: Demo, device: Device, **body: Any) -> Json:
    """A command that Google has accepted and that is open."""
    command = demo.api.create(device, {"type": "LOCK", **body})
    return demo.api.until(device, command["id"], lambda found: found["_config"] != {})


def cancel(demo: Demo, device: Device, command: Json) -> httpx2.Response:
    """Cancel within the promised time."""
    with within(CANCEL_S):
        return demo.api.cancel(device, command["id"])


def cancel_all(demo: Demo, device: Device, commands: list[Json]) -> list[Json]:
    """Cancel several side by side, since each may take as long as it may."""
    with ThreadPoolExecutor(len(commands)) as pool:
        return [data_of(answer) for answer in pool.map(partial(cancel, demo, device), commands)]


def cancel_each(demo: Demo, lab: Lab, device: Device, commands: list[Json], fates: list[str]) -> list[Json]:
    """Cancel several, each with a fate of its own: it counts when the request reaches the lab."""
    with ThreadPoolExecutor(len(commands)) as pool:
        answers = []
        for command, fate in zip(commands, fates, strict=True):
            lab.put(device, outcome={"cancel": fate})
            answers.append(pool.submit(cancel, demo, device, command))
            until(partial(cancels_sent, lab, command), lambda count: count == 1)
        return [data_of(answer.result()) for answer in answers]


def executed(lab: Lab, device: Device, command: Json) -> int:
    """How often the device has run it."""
    return [item["operation"] for item in lab.journal(device, "executed")].count(command["_config"]["name"])


def cancels_sent(lab: Lab, command: Json) -> int:
    """How often Google was asked to cancel it."""
    path = f"/v1/{command['_config']['name']}:cancel"
    return [found["path"] for found in lab.requests("amapi")].count(path)


class TestBeforeIssue:
    """Nobody who could run it was given it."""

    @pytest.mark.parametrize("status", [503, 429, 403])
    def test_is_cancelled_at_once_and_never_issued(self, status: int, demo: Demo, lab: Lab) -> None:
        """Every attempt so far got an answer that proves non-acceptance."""
        device = demo["android-online"]
        with lab.faults(fault("amapi", ":issueCommand", status=status)):
            command = demo.api.create(device, "LOCK")
            demo.api.until(device, command["id"], lambda found: tried(found) >= 1)
            record = data_of(cancel(demo, device, command))
        assert (record["status"], record["progress"]["rung"]) == ("CANCEL", "cancelled")
        assert record["config"]["done"] is True
        assert record["config"]["metadata"]["type"] == "LOCK"
        assert record["_config"] == {}
        # Another one goes through, this one does not come back.
        before = len(lab.journal(device, "executed"))
        demo.api.over(device, demo.api.create(device, "LOCK")["id"])
        assert len(lab.journal(device, "executed")) == before + 1
        assert demo.api.command(device, command["id"])["status"] == "CANCEL"

    def test_a_second_cancel_finds_it_over(self, demo: Demo, lab: Lab) -> None:
        device = demo["android-offline"]
        with lab.faults(fault("amapi", ":issueCommand", status=503)):
            command = demo.api.create(device, "LOCK")
            demo.api.until(device, command["id"], lambda found: tried(found) >= 1)
            data_of(cancel(demo, device, command))
        again = cancel(demo, device, command)
        assert error_of(again) == (400, 5052)
        assert again.json()["error"]["message"] == "EmmCommand status not Pending"


def tried(record: Json) -> int:
    """How many attempts have ended without acceptance."""
    return len([e for e in record["progress"]["history"] if e["source"] == "amapi"])


class TestWhileAnAttemptIsUncertain:
    """It counts as issued: absence proves nothing by itself."""

    def test_an_accepted_one_is_found_and_cancelled(self, demo: Demo, lab: Lab) -> None:
        device = demo["android-offline"]
        rules = [fault("amapi", ":issueCommand", cut="after", times=1), fault("amapi", "/operations$", status=503)]
        with lab.faults(*rules):
            command = demo.api.create(device, "LOCK")
            demo.api.until(device, command["id"], lambda found: tried(found) >= 1)
            record = data_of(cancel(demo, device, command))
            assert record["status"] == "PENDING"
            assert record["progress"]["cancelRequestedAt"]
        record = demo.api.over(device, command["id"])
        assert (record["status"], record["_config"]["error"]["code"]) == ("CANCEL", 1)
        lab.put(device, online=True)
        assert executed(lab, device, record) == 0

    @pytest.mark.sqlite_only
    def test_one_that_was_not_accepted_is_cancelled_once_that_is_certain(self, demo: Demo, lab: Lab) -> None:
        device = demo["android-online"]
        with lab.faults(fault("amapi", ":issueCommand", cut="before")):
            command = demo.api.create(device, "REBOOT")
            demo.api.until(device, command["id"], lambda found: tried(found) >= 1)
            assert data_of(cancel(demo, device, command))["status"] == "PENDING"
            record = demo.api.over(device, command["id"])
        assert (record["status"], record["_config"]) == ("CANCEL", {})
        assert "REBOOT" not in [i["type"] for i in lab.journal(device, "executed") if i["at"] >= record["createdAt"]]


class TestAfterIssue:
    """Google decides, and is asked for the outcome."""

    @pytest.mark.parametrize("name", ["android-offline", "android-online"])
    def test_wins(self, name: str, demo: Demo, lab: Lab) -> None:
        device = demo[name]
        lab.put(device, outcome={"cancel": "wins"}, **(OPEN if device.online else {}))
        command = issued(demo, device)
        record = data_of(cancel(demo, device, command))
        assert (record["status"], record["progress"]["rung"]) == ("CANCEL", "cancelled")
        assert record["config"]["done"] is record["_config"]["done"] is True
        assert record["config"]["error"]["code"] == record["_config"]["error"]["code"] == 1
        lab.put(device, online=True, latencyMs=0)
        demo.api.over(device, demo.api.create(device, "LOCK")["id"])
        assert executed(lab, device, record) == 0
        assert error_of(cancel(demo, device, command)) == (400, 5052)

    def test_loses_on_a_device_that_runs_it(self, demo: Demo, lab: Lab) -> None:
        """Already finished when the outcome is known: 5052, and the record shows the real result."""
        device = demo["android-online"]
        lab.put(device, outcome={"cancel": "loses"}, **OPEN)
        command = issued(demo, device)
        answer = cancel(demo, device, command)
        assert error_of(answer) == (400, 5052)
        record = demo.api.command(device, command["id"])
        assert (record["status"], record["progress"]["rung"]) == ("DONE", "succeeded")
        assert "error" not in record["config"]
        assert executed(lab, device, record) == 1

    def test_stays_open_while_the_outcome_is(self, demo: Demo, lab: Lab) -> None:
        """Asking again is the same answer; the device comes back and runs it."""
        device = demo["android-offline"]
        commands = [issued(demo, device) for _ in range(2)]
        first = cancel_each(demo, lab, device, commands, ["loses", "lost"])
        assert [(record["status"], record["config"]["done"]) for record in first] == [("PENDING", False)] * 2
        assert all(record["progress"]["cancelRequestedAt"] for record in first)
        assert cancel_all(demo, device, commands) == first
        lab.put(device, online=True)
        over = [demo.api.over(device, record["id"]) for record in first]
        assert [(record["status"], executed(lab, device, record)) for record in over] == [("DONE", 1)] * 2

    @pytest.mark.sqlite_only
    @pytest.mark.parametrize("name", ["android-offline", "android-online"])
    def test_refused_for_good(self, name: str, demo: Demo, lab: Lab) -> None:
        """Kept as evidence, and repeated only when somebody asks again; what the operation does decides."""
        device, fates = demo[name], ["501", "400", "404"]
        lab.put(device, **(OPEN if device.online else {}))
        commands = [issued(demo, device) for _ in fates]
        for record, fate in zip(cancel_each(demo, lab, device, commands, fates), fates, strict=True):
            assert record["status"] == "PENDING"
            evidence = [entry["evidence"] for entry in record["progress"]["history"] if "cancel" in entry["evidence"]]
            assert [(found["cancel"], found["status"]) for found in evidence] == [("refused", int(fate))]
        assert {record["status"] for record in cancel_all(demo, device, commands)} == {"PENDING"}
        lab.put(device, online=True, latencyMs=0)
        over = [demo.api.over(device, command["id"]) for command in commands]
        assert [(r["status"], executed(lab, device, r), cancels_sent(lab, r)) for r in over] == [("DONE", 1, 2)] * 3

    def test_already_finished(self, demo: Demo) -> None:
        device = demo["android-online"]
        record = demo.api.over(device, demo.api.create(device, "LOCK")["id"])
        answer = cancel(demo, device, record)
        assert error_of(answer) == (400, 5052)
        assert answer.json()["error"]["message"] == "EmmCommand status not Pending"
        assert demo.api.command(device, record["id"]) == record

    def test_a_result_that_was_not_known_yet_is_found(self, demo: Demo, lab: Lab) -> None:
        """The device has run it, nobody has looked: the answer is 5052, not PENDING and not CANCEL."""
        device = demo["android-offline"]
        command = issued(demo, device)
        with lab.faults(fault("amapi", "/operations$", status=503)):
            lab.put(device, online=True)
            answer = cancel(demo, device, command)
        assert error_of(answer) == (400, 5052)
        assert demo.api.command(device, command["id"])["status"] == "DONE"


def test_with_google_away_it_is_pending_and_settles_later(demo: Demo, lab: Lab) -> None:
    device = demo["android-offline"]
    actions: list[dict[str, Any]] = [
        {"status": 503},
        {"status": 429, "retryAfter": 1},
        {"delayMs": 6000},
        {"cut": "before"},
        {"cut": "after"},
    ]
    commands = [issued(demo, device) for _ in actions]
    rules = [fault("amapi", c["_config"]["name"], **a) for c, a in zip(commands, actions, strict=True)]
    with lab.faults(*rules, fault("amapi", "/operations$", status=503)):
        for record in cancel_all(demo, device, commands):
            assert record["status"] == "PENDING"
            assert record["progress"]["cancelRequestedAt"]
    for command in commands:
        record = demo.api.over(device, command["id"])
        assert (record["status"], record["_config"]["error"]["code"]) == ("CANCEL", 1)


@pytest.mark.sqlite_only
def test_with_google_away_a_command_that_ran_is_not_called_cancelled(demo: Demo, lab: Lab) -> None:
    device = demo["android-offline"]
    command = issued(demo, device)
    with lab.faults(fault("amapi", status=503)):
        assert data_of(cancel(demo, device, command))["status"] == "PENDING"
        lab.put(device, online=True)
        record = demo.api.command(device, command["id"], 1)
        assert record["status"] == "PENDING"
    record = demo.api.over(device, command["id"])
    assert (record["status"], executed(lab, device, record)) == ("DONE", 1)
