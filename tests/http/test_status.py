"""Commands as they move: rungs and statuses, records before and after issue, progress, waiting (DECISIONS 11 to 14)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import HandDevice, Json, Lab, data_of, fault, until
from tests.support.demo import Demo


@pytest.fixture
def agent(demo: Demo) -> HandDevice:
    """An AOSP device whose agent is played by the test."""
    return demo.api.new_device("aosp")


def stands(demo: Demo, agent: HandDevice, command_id: str) -> tuple[str, str]:
    """Rung and status, which the list must tell alike."""
    record = demo.api.command(agent.device, command_id)
    listed = data_of(demo.api.get(agent.device.commands, limit=100))["items"]
    assert [item["status"] for item in listed if item["id"] == command_id] == [record["status"]]
    return record["progress"]["rung"], record["status"]


def rungs(record: Json) -> list[str]:
    return [entry["rung"] for entry in record["progress"]["history"]]


def sources(record: Json) -> list[str]:
    return [entry["source"] for entry in record["progress"]["history"]]


# ---------------------------------------------------------------- 11, AOSP


class TestEveryRungOfAnAospCommand:
    """The table of decision 11, driven by an agent."""

    def test_on_its_way_to_success(self, demo: Demo, agent: HandDevice) -> None:
        agent.register()
        command = demo.api.create(agent.device, "LOCK")["id"]
        demo.api.until(agent.device, command, lambda record: record["progress"]["rung"] == "issued")
        assert stands(demo, agent, command) == ("issued", "PENDING")
        assert [claimed["id"] for claimed in agent.claim()] == [command]
        assert stands(demo, agent, command) == ("delivered", "PENDING")
        for rung in ("acknowledged", "running"):
            agent.report(command, rung)
            assert stands(demo, agent, command) == (rung, "PENDING")
        agent.report(command, "succeeded")
        assert stands(demo, agent, command) == ("succeeded", "DONE")
        record = demo.api.command(agent.device, command)
        assert rungs(record) == ["queued", "issued", "delivered", "acknowledged", "running", "succeeded"]
        assert sources(record) == [f"key:{key_of(demo)}", "provider:builtin", *["agent"] * 4]
        assert "errorMessage" not in record

    def test_queued_without_a_push_target(self, demo: Demo, agent: HandDevice) -> None:
        """DECISIONS 28: it waits for the next check-in."""
        command = demo.api.create(agent.device, "LOCK")
        assert "pushId" not in command
        assert stands(demo, agent, command["id"]) == ("queued", "PENDING")
        assert [claimed["id"] for claimed in agent.claim()] == [command["id"]]

    def test_deferred_and_claimed_again(self, demo: Demo, agent: HandDevice) -> None:
        command = self.claimed(demo, agent)
        agent.report(command, "deferred", retryAfterSeconds=1)
        assert stands(demo, agent, command) == ("deferred", "PENDING")
        assert [claimed["id"] for claimed in until(agent.claim, bool)] == [command]
        assert stands(demo, agent, command) == ("delivered", "PENDING")

    def test_failed(self, demo: Demo, agent: HandDevice) -> None:
        command = self.claimed(demo, agent)
        agent.report(command, "failed", error={"code": "NO_SPACE", "message": "The disk is full."})
        assert stands(demo, agent, command) == ("failed", "ERROR")
        assert demo.api.command(agent.device, command)["errorMessage"] == "NO_SPACE: The disk is full."

    def test_an_outcome_that_cannot_be_learnt(self, demo: Demo, agent: HandDevice) -> None:
        command = self.claimed(demo, agent)
        agent.report(command, "failed", error={"code": "OUTCOME_UNKNOWN"})
        assert stands(demo, agent, command) == ("failed", "ERROR")
        assert demo.api.command(agent.device, command)["errorMessage"].startswith("outcome_unknown")

    def test_expired_without_delivery(self, demo: Demo, agent: HandDevice) -> None:
        command = demo.api.create(agent.device, {"command": "LOCK", "duration": 0.05})["id"]
        record = demo.api.over(agent.device, command)
        assert stands(demo, agent, command) == ("expired_undelivered", "EXPIRED")
        assert sources(record)[-1] == "sweeper"
        assert agent.claim() == []

    def test_expired_while_it_ran_and_corrected_once(self, demo: Demo, agent: HandDevice) -> None:
        command = self.claimed(demo, agent, duration=0.5)
        demo.api.over(agent.device, command)
        assert stands(demo, agent, command) == ("expired_running", "EXPIRED")
        agent.report(command, "failed", error={"code": "EXPIRED_BEFORE_START"})
        assert stands(demo, agent, command) == ("expired_running", "EXPIRED")
        agent.report(command, "succeeded")
        assert stands(demo, agent, command) == ("succeeded", "DONE")
        agent.report(command, "failed", error={"code": "NO_SPACE"})
        assert stands(demo, agent, command) == ("succeeded", "DONE")
        assert demo.api.command(agent.device, command)["progress"]["history"][-1]["evidence"]["contradicts"] == "failed"

    def test_cancelled(self, demo: Demo, agent: HandDevice) -> None:
        command = demo.api.create(agent.device, "LOCK")["id"]
        demo.api.cancel(agent.device, command)
        assert stands(demo, agent, command) == ("cancelled", "CANCEL")

    @pytest.mark.parametrize("end", ["succeeded", "failed"])
    def test_a_result_does_not_move_again(self, end: str, demo: Demo, agent: HandDevice) -> None:
        command = self.claimed(demo, agent)
        agent.report(command, end, **({"error": {"code": "X"}} if end == "failed" else {}))
        before = stands(demo, agent, command)
        for again in ("acknowledged", "running", "succeeded", "failed", "deferred"):
            agent.report(command, again, **({"error": {"code": "X"}} if again == "failed" else {}))
        assert stands(demo, agent, command) == before

    @staticmethod
    def claimed(demo: Demo, agent: HandDevice, **more: Any) -> str:
        command: str = demo.api.create(agent.device, {"command": "LOCK", **more})["id"]
        assert [found["id"] for found in agent.claim()] == [command]
        return command


def key_of(demo: Demo) -> str:
    """The id of the demo's key."""
    keys = demo.api.setup("key.list")["items"]
    found: str = next(key["id"] for key in keys if demo.ready["apiKey"].startswith(key["prefix"]))
    return found


# ---------------------------------------------------------------- 11, 12, Android


class TestAnAndroidRecord:
    """Before issue it says little; after, what Google says."""

    def test_before_issue(self, demo: Demo) -> None:
        record = demo.api.create(demo["android-offline"], {"type": "LOCK", "duration": "3600s"})
        assert record["status"] == "PENDING"
        assert record["config"] == {"metadata": {"type": "LOCK", "duration": "3600s"}, "done": False}
        assert record["_config"] == {}
        assert rungs(record) == ["queued"]

    def test_once_google_has_accepted(self, demo: Demo) -> None:
        device = demo["android-offline"]
        created = demo.api.create(device, {"type": "LOCK", "duration": "3600s"})
        record = demo.api.until(device, created["id"], lambda found: found["_config"] != {})
        assert (record["status"], record["progress"]["rung"]) == ("PENDING", "issued")
        assert record["_config"]["name"].startswith("enterprises/LC0demo0001/devices/")
        assert record["config"]["metadata"] == record["_config"]["metadata"]
        assert record["config"]["metadata"]["type"] == "LOCK"
        assert record["config"]["metadata"]["duration"] == "3600s"
        assert record["config"]["done"] is False
        assert rungs(record) == ["queued", "queued", "issued"]
        assert sources(record)[1:] == ["dispatcher", "amapi"]

    def test_done(self, demo: Demo, lab: Lab) -> None:
        device = demo["android-online"]
        record = demo.api.over(device, demo.api.create(device, "LOCK")["id"])
        assert (record["status"], record["progress"]["rung"]) == ("DONE", "succeeded")
        assert record["config"]["done"] is record["_config"]["done"] is True
        assert "error" not in record["config"]
        executed = [item["operation"] for item in lab.journal(device, "executed")]
        assert executed.count(record["_config"]["name"]) == 1

    @pytest.mark.parametrize("code", ["API_LEVEL", "INVALID_VALUE", "MANAGEMENT_MODE"])
    def test_failed_on_the_device(self, code: str, demo: Demo, lab: Lab) -> None:
        device = demo["android-online"]
        lab.put(device, outcome={"result": "error", "errorCode": code})
        record = demo.api.over(device, demo.api.create(device, "LOCK")["id"])
        assert (record["status"], record["progress"]["rung"]) == ("DONE", "failed")
        assert record["config"]["error"]["code"] == code
        assert record["_config"]["metadata"]["errorCode"] == code

    def test_failed_at_google(self, demo: Demo, lab: Lab) -> None:
        device = demo["android-online"]
        lab.put(device, outcome={"result": "error", "errorCode": "INTERNAL"})
        record = demo.api.over(device, demo.api.create(device, "LOCK")["id"])
        assert (record["status"], record["progress"]["rung"]) == ("DONE", "failed")
        assert record["config"]["error"] == record["_config"]["error"]
        assert record["config"]["error"]["code"] == 13

    def test_refused_by_google(self, demo: Demo, lab: Lab) -> None:
        device = demo["android-online"]
        with lab.faults(fault("amapi", ":issueCommand", status=400)):
            record = demo.api.over(device, demo.api.create(device, "LOCK")["id"])
        assert (record["status"], record["progress"]["rung"]) == ("DONE", "failed")
        assert record["config"]["done"] is True
        assert record["config"]["error"]["code"]
        assert record["_config"] == {}

    def test_expired(self, demo: Demo, lab: Lab) -> None:
        device = demo["android-offline"]
        record = demo.api.over(device, demo.api.create(device, {"type": "LOCK", "duration": "0.5s"})["id"])
        assert (record["status"], record["progress"]["rung"]) == ("DONE", "expired_undelivered")
        assert record["config"]["done"] is True
        assert record["config"]["error"]["code"]

    def test_undeliverable(self, demo: Demo) -> None:
        """Google does not know the device."""
        stray = demo.api.new_device("android", externalName="enterprises/LC0demo0001/devices/unknown").device
        record = demo.api.over(stray, demo.api.create(stray, "LOCK")["id"])
        assert (record["status"], record["progress"]["rung"]) == ("DONE", "undeliverable")
        assert record["config"]["done"] is True
        assert record["config"]["error"]["code"]

    def test_pending_while_the_device_says_nothing(self, demo: Demo, lab: Lab) -> None:
        device = demo["android-online"]
        lab.put(device, outcome={"result": "never"})
        created = demo.api.create(device, "LOCK")
        record = demo.api.until(device, created["id"], lambda found: found["progress"]["rung"] == "issued")
        assert record["status"] == "PENDING"
        lab.put(device, outcome={"result": "ok"})
        assert demo.api.over(device, created["id"])["status"] == "DONE"

    def test_each_app_that_could_not_be_cleared_is_a_failure(self, demo: Demo, lab: Lab) -> None:
        device = demo["android-online"]
        lab.put(device, outcome={"statuses": {"CLEAR_APP_DATA": {"org.example.a": "APP_NOT_FOUND"}}})
        names = ["org.example.a", "org.example.b"]
        body = {"type": "CLEAR_APP_DATA", "clearAppsDataParams": {"packageNames": names}}
        record = demo.api.over(device, demo.api.create(device, body)["id"])
        assert (record["status"], record["progress"]["rung"]) == ("DONE", "failed")
        assert record["config"]["error"] == {"code": "SOME_APPS_NOT_CLEARED", "message": "org.example.a: APP_NOT_FOUND"}


# ---------------------------------------------------------------- 13


def test_progress_is_in_order_and_ends_where_the_record_stands(demo: Demo, lab: Lab) -> None:
    for name in ("android-online", "aosp-builtin-online", "aosp-pushy-online"):
        device = demo[name]
        record = demo.api.over(device, demo.api.create(device, "LOCK")["id"])
        progress = record["progress"]
        times = [entry["at"] for entry in progress["history"]]
        assert times == sorted(times)
        assert times[0] >= record["createdAt"]
        assert progress["history"][-1]["rung"] == progress["rung"] == "succeeded"
        assert progress["history"][-1]["at"] == progress["at"]
        assert "cancelRequestedAt" not in progress


# ---------------------------------------------------------------- 14


class TestWaiting:
    """`?wait=N` answers when the state is final, or after N seconds as it then is."""

    def test_ends_with_the_command(self, demo: Demo, agent: HandDevice) -> None:
        command = TestEveryRungOfAnAospCommand.claimed(demo, agent)
        found: list[Json] = []
        reader = threading.Thread(target=lambda: found.append(demo.api.command(agent.device, command, 30)))
        began = time.monotonic()
        reader.start()
        agent.report(command, "succeeded")
        reader.join()
        assert found[0]["status"] == "DONE"
        assert time.monotonic() - began < 20

    def test_ends_after_its_time(self, demo: Demo, agent: HandDevice) -> None:
        command = demo.api.create(agent.device, "LOCK")["id"]
        began = time.monotonic()
        assert demo.api.command(agent.device, command, 1)["status"] == "PENDING"
        assert time.monotonic() - began >= 1

    def test_does_not_wait_for_what_is_over(self, demo: Demo, agent: HandDevice) -> None:
        command = demo.api.create(agent.device, "LOCK")["id"]
        demo.api.cancel(agent.device, command)
        began = time.monotonic()
        assert demo.api.command(agent.device, command, 30)["status"] == "CANCEL"
        assert time.monotonic() - began < 20

    def test_of_nothing_is_no_wait(self, demo: Demo, agent: HandDevice) -> None:
        command = demo.api.create(agent.device, "LOCK")["id"]
        answer = demo.api.get(f"{agent.device.commands}/{command}", wait=0)
        assert data_of(answer)["status"] == "PENDING"

    def test_ends_with_the_push(self, demo: Demo) -> None:
        package = demo["package-online"]
        sent = data_of(demo.api.send("package", package.id))
        assert demo.api.push(sent["id"], 30)["status"] == "acknowledged"

    def test_of_a_push_ends_after_its_time(self, demo: Demo, agent: HandDevice) -> None:
        agent.register()
        sent = data_of(demo.api.send("aosp", agent.device.id))
        began = time.monotonic()
        assert demo.api.push(sent["id"], 1)["status"] in ("queued", "accepted")
        assert time.monotonic() - began >= 1

    def test_ends_with_the_delivery_of_the_push_of_a_command(self, demo: Demo) -> None:
        for name in ("aosp-builtin-online", "aosp-pushy-online"):
            device = demo[name]
            status = data_of(demo.api.push_status(device, demo.api.create(device, "LOCK")["id"], 30))
            assert (status["delivered"], status["pendingDevices"]) == (True, 0)

    def test_of_a_push_status_ends_after_its_time(self, demo: Demo, agent: HandDevice) -> None:
        command = demo.api.create(agent.device, "LOCK")["id"]  # without a push target: nothing to deliver
        began = time.monotonic()
        assert data_of(demo.api.push_status(agent.device, command, 1)) == {}
        assert time.monotonic() - began >= 1


@pytest.fixture(autouse=True)
def put_back(lab: Lab) -> Iterator[None]:
    """Every test here may change the lab."""
    yield
    lab.restore()
