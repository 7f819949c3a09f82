"""Results that an effector should not give: the agent tells as much as it can, and lives on."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph_agent import Result
from heliograph_protocol.messages import Report
from tests.agent.conftest import Device, Running
from tests.agent.fake_server import FakeServer


def nested(depth: int) -> dict[str, Any]:
    detail: dict[str, Any] = {}
    for _ in range(depth):
        detail = {"within": detail}
    return detail


def in_a_circle() -> dict[str, Any]:
    detail: dict[str, Any] = {}
    detail["within"] = detail
    return detail


async def told(server: FakeServer, device: Device, running: Running, result: Result) -> Report:
    """What the server hears last of a command that ends so; another command runs after it."""
    device.results["c1"] = result
    command = await server.command("c1")
    after = await server.command("c2")
    async with running():
        await server.until(lambda: command.over and after.over)
    assert device.executed == ["c1", "c2"]
    return command.reports[-1]


@pytest.mark.parametrize(
    ("detail", "why"),
    [
        (nested(900), "nested too deep"),
        (nested(2000), "not JSON"),
        (in_a_circle(), "not JSON"),
        ({"name": "caf\udce9"}, "not JSON"),
    ],
)
async def test_a_detail_that_no_message_can_carry_is_left_out(
    detail: dict[str, Any], why: str, server: FakeServer, device: Device, running: Running
) -> None:
    report = await told(server, device, running, Result(ok=True, detail=detail))
    assert (report.rung, report.detail) == ("succeeded", {"omitted": why})


async def test_words_that_are_not_unicode_are_told_as_far_as_they_are(
    server: FakeServer, device: Device, running: Running
) -> None:
    # So Python gives the name of a file that is not UTF-8.
    report = await told(server, device, running, Result(ok=False, code="NO_\udce9", message="no file caf\udce9"))
    assert report.error is not None
    assert (report.rung, report.error.code, report.error.message) == ("failed", "NO_?", "no file caf?")


@pytest.mark.parametrize(
    ("knows", "end"),
    [(True, ("succeeded", None)), (False, ("failed", "EFFECTOR_ERROR")), (None, ("failed", "OUTCOME_UNKNOWN"))],
)
async def test_a_result_that_is_none_is_what_the_device_says_of_it(
    knows: bool | None, end: tuple[str, str | None], server: FakeServer, device: Device, running: Running
) -> None:
    device.knows["c1"] = knows
    wrong: Any = "in a minute"
    report = await told(server, device, running, Result(ok=False, deferred=True, retry_after=wrong))
    assert (report.rung, report.error and report.error.code) == end
