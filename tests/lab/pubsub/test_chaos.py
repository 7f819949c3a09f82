"""Notifications that are spoilt on purpose, and messages by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.pubsub.rig import SUBSCRIPTION, TOPIC, Endpoint, Json
from tests.lab.pubsub.world import ENTERPRISE, World

DEVICE = f"{ENTERPRISE}/devices/d1"


async def rule(world: World, times: int | None = 1, match: Json | None = None, **action: Any) -> None:
    """One rule, for the next notification unless told otherwise."""
    made: Json = {"action": action, "match": match or {}}
    await world.control("PUT", "/notifications/rules", [made if times is None else {**made, "times": times}])


def works(function: Callable[[], Any]) -> bool:
    try:
        function()
    except ValueError:
        return False
    return True


async def test_dropped(world: World) -> None:
    await rule(world, drop=True)
    await world.done()
    kept = await world.done()
    (command,) = await world.received(1)
    assert command.resource["name"] == kept
    assert [item["fate"] for item in await world.log()] == ["dropped", "published"]


async def test_copied(world: World) -> None:
    await rule(world, copies=2)
    await world.issue()
    copies = await world.received(3)
    assert len({copy.message["messageId"] for copy in copies}) == 3
    assert len({copy.message["data"] for copy in copies}) == 1
    await world.nothing()


async def test_delivered_again_though_acknowledged(world: World) -> None:
    await rule(world, redeliveries=2)
    await world.issue()
    times = await world.received(3)
    assert len({time.message["messageId"] for time in times}) == 1
    await world.nothing()


async def test_delayed_past_the_reply(world: World) -> None:
    await rule(world, delaySeconds=30)
    late = await world.done()
    soon = await world.done()
    (first,) = await world.received(1)
    assert first.resource["name"] == soon
    await world.control("PUT", "/clock", {"advanceSeconds": 31})
    (second,) = await world.received(1)
    assert second.resource["name"] == late
    assert second.message["publishTime"] < first.message["publishTime"]


async def test_reordered(world: World) -> None:
    await rule(world, reorder=True)
    first, second = await world.done(), await world.done()
    came = await world.received(2)
    assert [one.resource["name"] for one in came] == [second, first]
    assert came[1].message["publishTime"] < came[0].message["publishTime"]


async def test_one_held_for_the_next_does_not_wait_for_ever(world: World) -> None:
    await rule(world, reorder=True)
    await world.done()
    await world.nothing()
    await world.control("PUT", "/clock", {"advanceSeconds": 61})
    await world.received(1)


async def test_unfinished_first(world: World) -> None:
    await rule(world, unfinishedFirst=True)
    name = await world.issue()
    first, second = await world.received(2)
    assert set(first.resource) == {"name", "metadata"}
    assert second.resource == await world.google("GET", name)


async def test_of_an_unknown_type(world: World) -> None:
    await rule(world, type="SOMETHING_NEW")
    await world.issue()
    assert [one.kind for one in await world.received(1)] == ["SOMETHING_NEW"]


async def test_without_data(world: World) -> None:
    await rule(world, noData=True)
    await world.issue()
    (command,) = await world.received(1)
    assert "data" not in command.message


async def test_partial(world: World) -> None:
    await rule(world, match={"type": "STATUS_REPORT"}, without=["hardwareInfo", "userName"])
    await world.issue()
    (command,) = await world.received(1)
    assert command.resource["name"]
    await world.google("PATCH", DEVICE, {"state": "DISABLED"})
    (report,) = await world.received(1)
    whole = await world.google("GET", DEVICE)
    assert set(whole) - set(report.resource) == {"hardwareInfo", "userName"}


async def test_of_a_foreign_enterprise(world: World) -> None:
    await rule(world, enterprise="enterprises/LCother")
    name = await world.issue()
    (command,) = await world.received(1)
    assert command.resource["name"] == name.replace(ENTERPRISE, "enterprises/LCother")
    assert command.resource["metadata"]["userName"].startswith("enterprises/LCother/users/")


@pytest.mark.parametrize(
    ("how", "good_base64", "good_json"),
    [("json", True, False), ("base64", False, False), ("utf8", True, False), ("list", True, True)],
)
async def test_malformed(world: World, how: str, *, good_base64: bool, good_json: bool) -> None:
    await rule(world, malformed=how)
    await world.issue()
    (command,) = await world.received(1)
    data = command.message["data"]
    assert works(lambda: base64.b64decode(data, validate=True)) == good_base64
    assert works(lambda: json.loads(base64.b64decode(data, validate=True))) == good_json


async def test_ten_megabytes_pulled_and_pushed(world: World, target: Endpoint) -> None:
    pushed = f"{SUBSCRIPTION}-pushed"
    await world.pubsub.ask("PUT", pushed, {"topic": TOPIC, "pushConfig": {"pushEndpoint": target.url}})
    await rule(world, malformed="large")
    await world.issue()
    (command,) = await world.received(1)
    assert len(base64.b64decode(command.message["data"])) == 10_000_000
    (push,) = await target.until(lambda pushes: len(pushes) == 1)
    assert push["body"]["message"]["data"] == command.message["data"]


async def test_rules_match_and_count_down(world: World) -> None:
    await rule(world, 2, {"enterprise": "enterprises/LCother"}, drop=True)
    await world.issue()
    await world.received(1)
    assert (await world.control("GET", "/notifications/rules"))[0]["times"] == 2
    await rule(world, 2, {"enterprise": ENTERPRISE, "type": "COMMAND"}, drop=True)
    await world.done()
    assert (await world.control("GET", "/notifications/rules"))[0]["times"] == 1
    assert await world.control("DELETE", "/notifications/rules") == []
    await world.issue()
    await world.received(1)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({}, "Expected `array`"),
        ([{}], "action"),
        ([{"action": {}}], "asks for nothing"),
        ([{"action": {"copies": 0}}], "copies"),
        ([{"action": {"drop": True}, "times": 0}], "times"),
        ([{"action": {"nonsense": True}}], "nonsense"),
        ([{"action": {"token": "expired", "drop": True}}], "two rules"),
        ([{"action": {"token": "expired", "malformed": "json"}}], "two rules"),
        ([{"action": {"reorder": True, "delaySeconds": 1}}], "exclude"),
        ([{"action": {"delaySeconds": -1}}], "delaySeconds"),
    ],
)
async def test_a_wrong_rule_changes_nothing(world: World, rules: Any, words: str) -> None:
    await rule(world, drop=True)
    before = await world.control("GET", "/notifications/rules")
    assert words in (await world.control("PUT", "/notifications/rules", rules, status=400))["error"]
    assert await world.control("GET", "/notifications/rules") == before


# ------------------------------------------------------------ by hand


async def test_a_test_message(world: World) -> None:
    answer = await world.control("POST", "/notifications", {"enterprise": ENTERPRISE, "type": "TEST"})
    (test,) = await world.received(1)
    assert answer == {"fate": "published", "messageIds": [test.message["messageId"]]}
    assert test.message["attributes"] == {"notificationType": "TEST"}
    assert "data" not in test.message


@pytest.mark.parametrize("kind", ["ENROLLMENT", "STATUS_REPORT"])
async def test_a_device_by_name(world: World, kind: str) -> None:
    await world.control("POST", "/notifications", {"enterprise": ENTERPRISE, "type": kind, "name": DEVICE})
    (report,) = await world.received(1)
    assert (report.kind, report.resource) == (kind, await world.google("GET", DEVICE))


async def test_an_operation_by_name(world: World) -> None:
    name = await world.done()
    await world.received(1)
    await world.control("POST", "/notifications", {"enterprise": ENTERPRISE, "type": "COMMAND", "name": name})
    (again,) = await world.received(1)
    assert again.resource == await world.google("GET", name)


async def test_usage_logs(world: World) -> None:
    await world.control("POST", "/notifications", {"enterprise": ENTERPRISE, "type": "USAGE_LOGS", "name": DEVICE})
    (logs,) = await world.received(1)
    assert set(logs.resource) == {"device", "user", "retrievalTime", "usageLogEvents"}
    assert logs.resource["device"] == DEVICE
    (event,) = logs.resource["usageLogEvents"]
    assert event["eventType"] == "LOST_MODE_LOCATION"
    assert set(event["lostModeLocationEvent"]["location"]) == {"latitude", "longitude"}


async def test_any_resource_spoilt_at_once(world: World) -> None:
    wanted = {"enterprise": ENTERPRISE, "type": "COMMAND", "resource": {"name": "x", "done": True}}
    answer = await world.control("POST", "/notifications", {**wanted, "action": {"copies": 1, "without": ["done"]}})
    assert [one.resource for one in await world.received(2)] == [{"name": "x"}] * 2
    assert len(answer["messageIds"]) == 2


async def test_any_message_again_after_a_day(world: World) -> None:
    replayed = {
        "topic": TOPIC,
        "attributes": {"notificationType": "COMMAND"},
        "text": "{}",
        "messageId": "12345",
        "publishTime": "2020-01-01T00:00:00Z",
    }
    await world.pubsub.ask("PATCH", SUBSCRIPTION, {"subscription": {}, "updateMask": "labels"})
    await world.control("POST", "/notifications", {**replayed, "publishTime": None})
    (first,) = await world.received(1)
    await world.control("PUT", "/clock", {"advanceSeconds": 86_400})
    await world.control("POST", "/notifications", {**replayed, "publishTime": first.message["publishTime"]})
    (second,) = await world.received(1)
    assert first.message == second.message
    assert first.message["messageId"] == "12345"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "either"),
        ({"topic": TOPIC, "enterprise": ENTERPRISE}, "either"),
        ({"topic": "projects/p1/topics/none"}, "there is no"),
        ({"topic": TOPIC, "messageId": "x"}, "digits"),
        ({"enterprise": ENTERPRISE, "type": "COMMAND"}, "needs a resource"),
        ({"enterprise": ENTERPRISE, "type": "TEST", "action": {"token": "expired"}}, "rules"),
        ({"enterprise": ENTERPRISE, "nonsense": 1}, "nonsense"),
    ],
)
async def test_refusals(world: World, body: Json, words: str) -> None:
    assert words in (await world.control("POST", "/notifications", body, status=400))["error"]
    await world.nothing()


async def test_keys_are_rotated(world: World) -> None:
    (old,) = (await world.control("GET", "/notifications/keys"))["keys"]
    kept, new = (await world.control("POST", "/notifications/keys"))["keys"]
    assert kept == old
    (newest,) = (await world.control("POST", "/notifications/keys", {"keepOld": False}))["keys"]
    assert newest not in {old, new}
    certs = (await world.pubsub.http.get("/certs")).json()
    assert [key["kid"] for key in certs["keys"]] == [newest]
