"""Cancelling AOSP commands (DECISIONS 17): before the claim cancel wins, after it the agent decides."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx2
import pytest

from tests.http.timing import CANCEL_S, within
from tests.support.client import HandDevice, Json, Lab, data_of, error_of, fault, until
from tests.support.demo import Demo

AT = "2026-02-10T12:00:00Z"


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


def claimed(demo: Demo, agent: HandDevice) -> str:
    """A command that the agent holds."""
    command: str = demo.api.create(agent.device, "LOCK")["id"]
    assert [found["id"] for found in agent.claim()] == [command]
    return command


def cancel(demo: Demo, agent: HandDevice, command: str) -> httpx2.Response:
    """Cancel within the promised time."""
    with within(CANCEL_S):
        return demo.api.cancel(agent.device, command)


class Cancelling:
    """A cancel under way, while the agent does something."""

    def __init__(self, demo: Demo, agent: HandDevice, command: str) -> None:
        self.answers: list[httpx2.Response] = []
        self._thread = threading.Thread(target=lambda: self.answers.append(cancel(demo, agent, command)))
        self._thread.start()
        until(lambda: agent.check_in(claim=0, waitSeconds=5).get("cancels", []), lambda asked: asked == [command])

    def answer(self) -> httpx2.Response:
        """What came back."""
        self._thread.join()
        return self.answers[0]


def settle(agent: HandDevice, command: str, outcome: str) -> None:
    """The agent's word on a cancel."""
    agent.check_in(cancelAnswers=[{"commandId": command, "outcome": outcome, "at": AT}])


class TestBeforeTheClaim:
    """A push alone never authorises running."""

    def test_a_queued_one(self, demo: Demo) -> None:
        device = demo.api.new_device("aosp")
        record = data_of(cancel(demo, device, demo.api.create(device.device, "LOCK")["id"]))
        assert (record["status"], record["progress"]["rung"]) == ("CANCEL", "cancelled")
        assert "pushId" not in record
        assert device.claim() == []

    def test_one_whose_push_was_sent(self, demo: Demo, agent: HandDevice) -> None:
        command = demo.api.create(agent.device, "LOCK")["id"]
        demo.api.until(agent.device, command, lambda found: "pushId" in found)
        assert data_of(cancel(demo, agent, command))["status"] == "CANCEL"
        assert agent.claim() == []

    @pytest.mark.parametrize("name", ["aosp-builtin-offline", "aosp-pushy-offline"])
    def test_one_for_a_device_that_comes_back_later(self, name: str, demo: Demo, lab: Lab) -> None:
        device = demo[name]
        command = demo.api.create(device, "LOCK")["id"]
        demo.api.until(device, command, lambda found: "pushId" in found)
        assert data_of(demo.api.cancel(device, command))["status"] == "CANCEL"
        lab.put(device, online=True)
        demo.api.over(device, demo.api.create(device, "LOCK")["id"])
        assert command not in [item.get("commandId") for item in lab.journal(device, "executed")]

    def test_the_push_is_withdrawn_where_the_provider_can(self, demo: Demo, lab: Lab) -> None:
        device = demo["aosp-pushy-offline"]
        command = demo.api.create(device, "LOCK")["id"]
        push = demo.api.until(device, command, lambda found: "pushId" in found)["pushId"]
        assert data_of(demo.api.cancel(device, command))["status"] == "CANCEL"
        until(
            lambda: [r["path"] for r in lab.requests("pushy") if r["method"] == "DELETE"],
            lambda paths: f"/pushes/{push}" in paths,
        )
        lab.put(device, online=True)
        after = demo.api.over(device, demo.api.create(device, "LOCK")["id"])
        received = [item.get("commandId") for item in lab.journal(device, "received")]
        assert after["id"] in received
        assert command not in received

    def test_the_provider_need_not_answer(self, demo: Demo, lab: Lab) -> None:
        """The lost claim is the proof; a withdrawal is none, nor is it needed."""
        device = demo["aosp-pushy-offline"]
        command = demo.api.create(device, "LOCK")["id"]
        demo.api.until(device, command, lambda found: "pushId" in found)
        with lab.faults(fault("pushy", status=503)), within(CANCEL_S):
            assert data_of(demo.api.cancel(device, command))["status"] == "CANCEL"


class TestAfterTheClaim:
    """Only the device knows whether it has begun."""

    def test_the_agent_confirms(self, demo: Demo, agent: HandDevice) -> None:
        command = claimed(demo, agent)
        cancelling = Cancelling(demo, agent, command)
        settle(agent, command, "confirmed")
        record = data_of(cancelling.answer())
        assert (record["status"], record["progress"]["rung"]) == ("CANCEL", "cancelled")
        assert record["progress"]["history"][-1]["source"] == "agent"
        assert record["progress"]["cancelRequestedAt"]

    def test_the_agent_says_nothing(self, demo: Demo, agent: HandDevice) -> None:
        command = claimed(demo, agent)
        record = data_of(cancel(demo, agent, command))
        assert (record["status"], record["progress"]["rung"]) == ("PENDING", "delivered")
        assert agent.claim() == []  # asked to be cancelled: not handed out again
        settle(agent, command, "confirmed")
        assert demo.api.command(agent.device, command)["status"] == "CANCEL"

    def test_the_agent_rejects(self, demo: Demo, agent: HandDevice) -> None:
        command = claimed(demo, agent)
        cancelling = Cancelling(demo, agent, command)
        settle(agent, command, "rejected")
        assert data_of(cancelling.answer())["status"] == "PENDING"
        agent.report(command, "succeeded")
        answer = cancel(demo, agent, command)
        assert error_of(answer) == (400, 5052)
        assert answer.json()["error"]["message"] == "AosCommand status not Pending"
        assert demo.api.command(agent.device, command)["status"] == "DONE"

    def test_a_result_comes_while_the_answer_is_awaited(self, demo: Demo, agent: HandDevice) -> None:
        command = claimed(demo, agent)
        cancelling = Cancelling(demo, agent, command)
        agent.report(command, "succeeded")
        answer = cancelling.answer()
        assert error_of(answer) == (400, 5052)
        assert answer.json()["error"]["message"] == "AosCommand status not Pending"
        settle(agent, command, "confirmed")  # too late: it has run
        assert demo.api.command(agent.device, command)["status"] == "DONE"

    @pytest.mark.sqlite_only
    def test_again_while_open_is_the_same_answer(self, demo: Demo, agent: HandDevice) -> None:
        command = claimed(demo, agent)
        first, second = (data_of(cancel(demo, agent, command)) for _ in range(2))
        assert first == second
        assert first["status"] == "PENDING"

    @pytest.mark.sqlite_only
    def test_what_has_begun_cannot_be_confirmed(self, demo: Demo, agent: HandDevice) -> None:
        """An agent that has said `running` is not asked, nor believed when it says that it never will."""
        command = claimed(demo, agent)
        agent.report(command, "running")
        assert data_of(cancel(demo, agent, command))["status"] == "PENDING"
        assert "cancels" not in agent.check_in()
        settle(agent, command, "confirmed")
        assert demo.api.command(agent.device, command)["status"] == "PENDING"

    def test_without_being_asked_the_agent_cancels_nothing(self, demo: Demo, agent: HandDevice) -> None:
        command = claimed(demo, agent)
        settle(agent, command, "confirmed")
        assert demo.api.command(agent.device, command)["status"] == "PENDING"

    @pytest.mark.sqlite_only
    def test_another_device_has_no_say(self, demo: Demo, agent: HandDevice) -> None:
        command = claimed(demo, agent)
        other = demo.api.new_device("aosp")
        cancelling = Cancelling(demo, agent, command)
        settle(other, command, "confirmed")
        other.report(command, "succeeded")
        assert data_of(cancelling.answer())["status"] == "PENDING"

    @pytest.mark.sqlite_only
    def test_a_real_agent_that_is_at_it_rejects(self, demo: Demo, lab: Lab) -> None:
        device = demo["aosp-builtin-online"]
        lab.put(device, latencyMs=3_600_000)
        command = demo.api.create(device, "LOCK")["id"]
        demo.api.until(device, command, lambda found: found["progress"]["rung"] == "running")
        with within(CANCEL_S):
            assert data_of(demo.api.cancel(device, command))["status"] == "PENDING"

    def test_a_real_agent_confirms_what_waits_behind_another(self, demo: Demo, lab: Lab) -> None:
        device = demo["aosp-pushy-online"]
        lab.put(device, outcome={"result": "never"})
        first = demo.api.create(device, "LOCK")["id"]
        demo.api.until(device, first, lambda found: found["progress"]["rung"] == "running")
        second = demo.api.create(device, "LOCK")["id"]
        assert data_of(demo.api.cancel(device, second))["status"] == "CANCEL"
        lab.put(device, outcome={"result": "ok"})
        assert demo.api.over(device, first)["status"] == "DONE"
        assert second not in [item.get("commandId") for item in lab.journal(device, "executed")]


def test_a_second_cancel_finds_it_over(demo: Demo, agent: HandDevice) -> None:
    command = demo.api.create(agent.device, "LOCK")["id"]
    assert data_of(cancel(demo, agent, command))["status"] == "CANCEL"
    answer = cancel(demo, agent, command)
    assert error_of(answer) == (400, 5052)
    assert answer.json()["error"]["message"] == "AosCommand status not Pending"


@pytest.mark.parametrize("end", ["DONE", "ERROR", "EXPIRED"])
def test_what_is_over_cannot_be_cancelled(end: str, demo: Demo, agent: HandDevice) -> None:
    command = demo.api.create(agent.device, {"command": "LOCK", **({"duration": 0.05} if end == "EXPIRED" else {})})[
        "id"
    ]
    if end != "EXPIRED":
        agent.claim()
        agent.report(command, "succeeded" if end == "DONE" else "failed", error={"code": "X"})
    before: Json = demo.api.over(agent.device, command)
    assert before["status"] == end
    assert error_of(cancel(demo, agent, command)) == (400, 5052)
    after = demo.api.command(agent.device, command)
    assert (after["status"], after["progress"]) == (before["status"], before["progress"])  # its push may come later
