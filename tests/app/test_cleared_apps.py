"""CLEAR_APP_DATA: what Google says of each app, whatever it is called, however it is heard."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.domain.ladder import Command, Rung
from tests.app.conftest import Desk
from tests.app.telling import told

LIKE_SECRETS = ("com.onepassword.android", "com.x.tokenkeeper", "com.wire.spin")
HOW = ("look_up", "notification")


async def ended(desk: Desk, how: str, names: tuple[str, ...], results: dict[str, str]) -> Command:
    """A command for these apps, done with these results."""
    command = await desk.command({"type": "CLEAR_APP_DATA", "clearAppsDataParams": {"packageNames": list(names)}})
    await desk.pay("issue", times=1)
    status = {"results": {name: {"clearingResult": result} for name, result in results.items()}}
    metadata: dict[str, Any] = {"type": "CLEAR_APP_DATA", "clearAppsDataStatus": status}
    name = str((await desk.now(command)).receipt)
    if how == "notification":
        await told(desk, "COMMAND", {"name": name, "metadata": metadata, "done": True})
    else:
        desk.google.finish(name, metadata=metadata)
        desk.clock.advance(1)
        await desk.pay()
    return await desk.now(command)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", LIKE_SECRETS)
async def test_the_result_of_an_app_that_is_called_like_a_secret_is_kept(desk: Desk, how: str, name: str) -> None:
    command = await ended(desk, how, (name,), {name: "APP_PROTECTED"})
    assert command.rung is Rung.FAILED
    assert command.reason is not None
    assert (command.reason.code, command.reason.message) == ("APPS_NOT_CLEARED", f"{name}: APP_PROTECTED")
    assert command.operation is not None
    assert command.operation["metadata"]["clearAppsDataStatus"] == {
        "results": {name: {"clearingResult": "APP_PROTECTED"}}
    }
    assert (await desk.history(command))[-1].evidence["apps"] == {name: "APP_PROTECTED"}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", LIKE_SECRETS)
async def test_it_can_succeed_too(desk: Desk, how: str, name: str) -> None:
    command = await ended(desk, how, ("a.b", name), {"a.b": "SUCCESS", name: "SUCCESS"})
    assert command.rung is Rung.SUCCEEDED


@pytest.mark.parametrize("how", HOW)
async def test_an_app_without_a_result_was_not_cleared_for_sure(desk: Desk, how: str) -> None:
    command = await ended(desk, how, ("a.b", "c.d"), {"a.b": "SUCCESS"})
    assert command.rung is Rung.FAILED
    assert command.reason is not None
    assert (command.reason.code, command.reason.message) == ("outcome_unknown", "c.d: missing")
    assert (await desk.history(command))[-1].evidence["apps"] == {"a.b": "SUCCESS", "c.d": "missing"}


@pytest.mark.parametrize("how", HOW)
async def test_done_without_any_result_is_no_success(desk: Desk, how: str) -> None:
    command = await ended(desk, how, ("a.b",), {})
    assert command.rung is Rung.FAILED
    assert command.reason is not None
    assert (command.reason.code, command.reason.message) == ("outcome_unknown", "no result for a.b")
