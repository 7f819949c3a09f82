"""What the AMAPI emulator publishes, and when."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from heliograph_lab.pubsub import publisher
from heliograph_lab.pubsub.publisher import Publisher
from tests.lab.pubsub.rig import TOPIC, Endpoint
from tests.lab.pubsub.world import ENTERPRISE, EVERY, World, device, furnish, lab


async def test_a_finished_operation(world: World) -> None:
    name = await world.issue()
    (command,) = await world.received(1)
    assert command.kind == "COMMAND"
    assert set(command.message) == {"data", "attributes", "messageId", "publishTime"}
    assert command.resource == await world.google("GET", name)
    assert command.resource["done"] is True
    await world.nothing()


async def test_cancelled_and_expired_operations_as_set(world: World) -> None:
    cancelled = await world.issue("d2")
    await world.google("POST", f"{cancelled}:cancel")
    (command,) = await world.received(1)
    assert (command.resource["name"], command.resource["error"]["code"]) == (cancelled, 1)
    expired = await world.issue("d2", duration="60s")
    await world.control("PUT", "/clock", {"advanceSeconds": 61})
    (command,) = await world.received(1)
    assert (command.resource["name"], command.resource["error"]["code"]) == (expired, 4)

    await world.control("PUT", "/settings", {"pubsub": {"cancelled": False, "expired": False}})
    cancelled = await world.issue("d2")
    await world.google("POST", f"{cancelled}:cancel")
    await world.ended(cancelled)
    expired = await world.issue("d2", duration="60s")
    await world.control("PUT", "/clock", {"advanceSeconds": 61})
    await world.ended(expired)
    failed = await world.issue("d1")
    (command,) = await world.received(1)
    assert command.resource["name"] == failed
    await world.nothing()


async def test_a_device_that_comes_online_reports(world: World) -> None:
    await world.control("PUT", "/devices/d2", {"latencyMs": 1})
    await world.control("PUT", "/devices/d2", {"online": True})
    (report,) = await world.received(1)
    assert report.kind == "STATUS_REPORT"
    shown = await world.google("GET", f"{ENTERPRISE}/devices/d2")
    assert report.resource == {**shown, "lastStatusReportTime": report.resource["lastStatusReportTime"]}
    await world.nothing()


async def test_a_device_reports_what_was_changed(world: World) -> None:
    await world.google("PATCH", f"{ENTERPRISE}/devices/d1", {"state": "DISABLED"}, updateMask="state")
    (report,) = await world.received(1)
    assert (report.kind, report.resource["appliedState"]) == ("STATUS_REPORT", "DISABLED")


async def test_a_new_device_enrols(world: World) -> None:
    await world.control("PUT", "/fleet", [device("d1"), device("d2", online=False), device("d3")])
    enrolled, report = await world.received(2)
    assert [enrolled.kind, report.kind] == ["ENROLLMENT", "STATUS_REPORT"]
    assert enrolled.resource["name"] == report.resource["name"] == f"{ENTERPRISE}/devices/d3"
    await world.nothing()


async def test_a_device_that_enrols_by_token_carries_its_data(world: World) -> None:
    token = await world.google("POST", f"{ENTERPRISE}/enrollmentTokens", {"additionalData": "shelf 4"})
    await world.control("POST", "/devices", {"enrollmentToken": token["value"]})
    first, _ = await world.received(2)
    assert (first.kind, first.resource["enrollmentTokenData"]) == ("ENROLLMENT", "shelf 4")


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", ["WIPE", "RELINQUISH_OWNERSHIP"])
async def test_a_device_that_leaves_says_so(world: World, kind: str, *, last: bool) -> None:
    await world.control("PUT", "/settings", {"pubsub": {"commandLast": last}})
    name = await world.issue(kind=kind)
    await world.control("PUT", "/clock", {"advanceSeconds": 2})
    both = await world.received(2)
    assert [one.kind for one in both] == (["STATUS_REPORT", "COMMAND"] if last else ["COMMAND", "STATUS_REPORT"])
    command, report = reversed(both) if last else both
    assert (command.resource["name"], command.resource["metadata"]["type"]) == (name, kind)
    assert report.resource["appliedState"] == "DELETED"
    assert (await world.amapi.get(f"/v1/{name}")).status_code == 404
    await world.nothing()


async def test_a_lost_device_says_where_it_is(world: World) -> None:
    message = {"lostMessage": {"defaultMessage": "Please return me"}}
    await world.issue(kind="START_LOST_MODE", startLostModeParams=message)
    command, logs = await world.received(2)
    assert [command.kind, logs.kind] == ["COMMAND", "USAGE_LOGS"]
    assert logs.resource["usageLogEvents"][0]["eventType"] == "LOST_MODE_LOCATION"
    assert logs.resource["device"] == f"{ENTERPRISE}/devices/d1"
    await world.nothing()


async def test_a_deleted_device_says_so_once_it_knows(world: World) -> None:
    await world.google("DELETE", f"{ENTERPRISE}/devices/d2")
    await world.nothing()
    await world.control("PUT", "/devices/d2", {"online": True})
    (report,) = await world.received(1)
    assert (report.kind, report.resource["appliedState"]) == ("STATUS_REPORT", "DELETED")
    await world.nothing()


async def test_only_what_is_enabled_and_upgrades_always(world: World) -> None:
    await world.enable("STATUS_REPORT")
    await world.done()
    await world.control("POST", "/notifications", {"enterprise": ENTERPRISE, "type": "ENTERPRISE_UPGRADE"})
    (upgrade,) = await world.received(1)
    assert upgrade.kind == "ENTERPRISE_UPGRADE"
    assert upgrade.resource == {"enterprise": ENTERPRISE, "upgradeState": "UPGRADE_STATE_SUCCEEDED"}
    await world.nothing()


async def test_nothing_without_a_topic_or_a_grant(world: World) -> None:
    await world.pubsub.ask("POST", f"{TOPIC}:setIamPolicy", {"policy": {"bindings": []}})
    await world.done()
    await world.nothing()
    await world.control("PUT", "/settings", {"pubsub": {"requireGrant": False}})
    await world.done()
    assert (await world.received(1))[0].kind == "COMMAND"
    await world.enable(*EVERY, topic="projects/p1/topics/missing")
    await world.done()
    await world.nothing()
    await world.enable(*EVERY, topic="")
    await world.done()
    await world.nothing()
    assert [item["fate"] for item in await world.log()] == ["notGranted", "published", "noTopic"]


async def test_the_answer_waits_for_the_notification_if_asked_to(world: World, target: Endpoint) -> None:
    await world.control("PUT", "/settings", {"pubsub": {"beforeReply": True}})
    issuing = asyncio.create_task(world.issue())
    (command,) = await world.received(1, acknowledge=False)
    assert not issuing.done()
    await world.pubsub.modify(0, command.received)  # as a server does that does not know the operation yet
    assert await issuing == command.resource["name"]
    (again,) = await world.received(1)
    assert again.message["messageId"] == command.message["messageId"]
    # The same with a push.
    await world.pubsub.set_up("projects/p1/topics/pushed", "projects/p1/subscriptions/pushed")
    config = {"pushConfig": {"pushEndpoint": target.url}}
    await world.pubsub.ask("POST", "projects/p1/subscriptions/pushed:modifyPushConfig", config)
    await world.control("PUT", "/settings", {"pubsub": {"requireGrant": False}})
    await world.enable(*EVERY, topic="projects/p1/topics/pushed")
    target.hold.clear()
    issuing = asyncio.create_task(world.issue())
    await target.until(lambda pushes: len(pushes) == 1)
    assert not issuing.done()
    target.hold.set()
    await issuing


async def test_no_answer_waits_for_what_cannot_come(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "PATIENCE", 3600)  # more than the client's patience: to wait is to fail
    await world.control("PUT", "/settings", {"pubsub": {"beforeReply": True}})
    await world.issue("d2")  # it is away
    await world.control("PUT", "/notifications/rules", [{"action": {"drop": True}, "times": 1}])
    await world.issue()
    await world.enable("STATUS_REPORT")
    await world.issue()
    await world.enable(*EVERY, topic="projects/p1/topics/missing")
    await world.issue()
    await world.nothing()


async def test_a_move_of_the_clock_returns_once_what_fell_due_is_published(world: World) -> None:
    await world.issue("d2", duration="60s")
    await world.control("PUT", "/clock", {"advanceSeconds": 61})
    (published,) = await world.log()
    assert (published["type"], published["fate"]) == ("COMMAND", "published")


async def test_what_is_owed_is_published_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab(tmp_path / "lab") as world:
        await furnish(world)
        # Killed between the commit of the operation's end and the publication.
        monkeypatch.setattr(Publisher, "pay", lambda *_, **__: None)
        name = await world.done()
        await world.nothing()
        monkeypatch.undo()
    async with lab(tmp_path / "lab") as world:
        (command,) = await world.received(1)
        assert command.resource["name"] == name
        await world.nothing()
    async with lab(tmp_path / "lab") as world:
        await world.nothing()


async def test_a_start_is_no_news(tmp_path: Path) -> None:
    async with lab(tmp_path / "lab") as world:
        await furnish(world)
    async with lab(tmp_path / "lab") as world:
        await world.nothing()
        assert await world.log() == []
