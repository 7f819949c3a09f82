"""Testing the way to Google and back: the step that is broken is the one that is named."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from heliograph.app import checking
from heliograph.app.notification_line import PUBLISHER, ensure_subscription, usual_names
from heliograph.app.steps import State, Steps
from heliograph.ports.administration import Fault, FaultKind
from tests.app.at_google import Json, Office, last, open_office, states

GRANTED = {"role": "roles/pubsub.publisher", "members": [PUBLISHER]}


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(tmp_path) as office:
        yield office


async def check(office: Office, **body: Any) -> Json:
    [item] = (await office.verb("enterprise.check", **body))["items"]
    found: Json = item
    return found


async def test_a_whole_way(office: Office) -> None:
    await office.connected()
    checked = await check(office)
    assert states(checked) == {
        **dict.fromkeys(("credentials", "network", "clock", "token", "enterprise", "quota"), "ok"),
        **dict.fromkeys(("notifications", "topic", "grant", "subscription"), "ok"),
        "last heard": "warning",
    }


async def test_without_notifications_it_says_that_results_come_late(office: Office) -> None:
    name = (await office.connected(notifications=False))["enterprise"]["name"]
    [step] = [s for s in (await check(office))["steps"] if s["state"] == "warning"]
    assert (step["step"], f"heliograph enterprise connect {name}" in step["advice"]) == ("notifications", True)


async def no_topic(office: Office, name: str, topic: str, subscription: str) -> None:
    await office.amapi("PATCH", name, {"pubsubTopic": ""}, updateMask="pubsubTopic")


async def tells_less(office: Office, name: str, topic: str, subscription: str) -> None:
    await office.amapi(
        "PATCH", name, {"enabledNotificationTypes": ["ENROLLMENT"]}, updateMask="enabledNotificationTypes"
    )


async def no_grant(office: Office, name: str, topic: str, subscription: str) -> None:
    await office.pubsub("POST", f"{topic}:setIamPolicy", {"policy": {}})


async def a_grant_under_a_condition(office: Office, name: str, topic: str, subscription: str) -> None:
    office.faults(
        {
            "service": "pubsub",
            "match": {"path": "getIamPolicy"},
            "action": {
                "status": 200,
                "body": json.dumps({"bindings": [{**GRANTED, "condition": {"expression": "x"}}]}),
            },
        }
    )


async def the_topic_is_gone(office: Office, name: str, topic: str, subscription: str) -> None:
    await office.pubsub("DELETE", topic)


async def the_subscription_is_gone(office: Office, name: str, topic: str, subscription: str) -> None:
    await office.pubsub("DELETE", subscription)


async def the_subscription_is_another_topics(office: Office, name: str, topic: str, subscription: str) -> None:
    await office.pubsub("DELETE", subscription)
    await office.pubsub("PUT", "projects/p/topics/another", {})
    await office.pubsub("PUT", subscription, {"topic": "projects/p/topics/another"})


async def the_key_is_gone(office: Office, name: str, topic: str, subscription: str) -> None:
    refused = {"status": 400, "body": '{"error":"invalid_grant"}'}
    office.faults({"service": "amapi", "match": {"path": "/token"}, "action": refused})


async def no_quota(office: Office, name: str, topic: str, subscription: str) -> None:
    office.lab.amapi.settings.quota_limit = 0


async def a_wrong_clock(office: Office, name: str, topic: str, subscription: str) -> None:
    office.clock.jump(600)


@pytest.mark.parametrize(
    ("spoil", "step", "words"),
    [
        (no_topic, "notifications", "enterprise connect"),
        (tells_less, "notifications", "COMMAND, STATUS_REPORT"),
        (no_grant, "grant", "enterprise connect"),
        (a_grant_under_a_condition, "grant", "may not publish"),
        (the_topic_is_gone, "topic", "enterprise connect"),
        (the_subscription_is_gone, "subscription", "enterprise connect"),
        (the_subscription_is_another_topics, "subscription", "projects/p/topics/another"),
        (the_key_is_gone, "token", "invalid_grant"),
        (no_quota, "enterprise", "approved"),
        (a_wrong_clock, "clock", "s ahead of"),
    ],
)
async def test_the_broken_step_is_named(office: Office, spoil: Any, step: str, words: str) -> None:
    enterprise = (await office.connected())["enterprise"]
    name = enterprise["name"]
    topic = (await office.amapi("GET", name))["pubsubTopic"]
    await spoil(office, name, topic, enterprise["subscription"])
    checked = await check(office)
    assert last(checked)[:2] == (step, "failed")
    assert words in last(checked)[2]


async def test_connecting_again_mends_it(office: Office) -> None:
    enterprise = (await office.connected())["enterprise"]
    topic = (await office.amapi("GET", enterprise["name"]))["pubsubTopic"]
    await office.pubsub("DELETE", topic)
    await office.pubsub("DELETE", enterprise["subscription"])
    await no_topic(office, enterprise["name"], topic, "")
    assert (await office.verb("enterprise.connect"))["connected"]
    assert last(await check(office))[0] == "last heard"


async def test_an_account_that_may_not_look_at_grants_is_no_fault(office: Office) -> None:
    await office.connected()
    office.faults({"service": "pubsub", "match": {"path": "getIamPolicy"}, "action": {"status": 403}})
    checked = states(await check(office))
    assert (checked["grant"], checked["subscription"]) == ("warning", "ok")


@pytest.mark.parametrize("role", ["roles/pubsub.publisher", "roles/pubsub.editor", "roles/viewer"])
async def test_whoever_else_may_publish_is_named(office: Office, role: str) -> None:
    name = (await office.connected())["enterprise"]["name"]
    topic, _ = usual_names("p", name)
    policy = {"bindings": [GRANTED, {"role": role, "members": ["allUsers"]}]}
    await office.pubsub("POST", f"{topic}:setIamPolicy", {"policy": policy})
    steps = (await check(office))["steps"]
    told = {(step["state"], "allUsers" in step["detail"]) for step in steps if step["step"] == "grant"}
    assert told == {("ok", False) if role == "roles/viewer" else ("warning", True)}


async def test_a_clock_that_is_a_minute_off_is_a_warning(office: Office) -> None:
    await office.connected()
    office.clock.jump(60)
    assert states(await check(office))["clock"] == "warning"


async def test_no_limit_of_our_own_is_said(tmp_path: Path) -> None:
    async with open_office(tmp_path, per_minute=0) as office:
        await office.connected()
        assert states(await check(office))["quota"] == "warning"


async def test_a_test_notification_is_sent_only_when_asked_for(office: Office) -> None:
    subscription = (await office.connected())["enterprise"]["subscription"]
    await check(office)
    assert last(await check(office, sendTest=True))[:2] == ("test notification", "done")
    pulled = await office.pubsub("POST", f"{subscription}:pull", {"maxMessages": 10})
    kinds = [m["message"]["attributes"]["notificationType"] for m in pulled["receivedMessages"]]
    assert kinds == ["TEST"]


async def test_proxies_are_named_without_their_passwords(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    await office.connected()
    monkeypatch.setenv("https_proxy", "http://me:canary@proxy.example:3128")
    [step] = [s for s in (await check(office))["steps"] if s["step"] == "network"]
    assert "https: proxy.example" in step["detail"]
    assert "canary" not in step["detail"]


class Filtered:
    """Pub/Sub with a subscription that passes on a part. The lab's takes no filters."""

    def __init__(self, topic: str, *, expires: bool) -> None:
        self.topics, self.kept = self, False
        self._found: Json = {"topic": topic, "filter": 'attributes.notificationType="COMMAND"'}
        self._found |= {} if expires else {"expirationPolicy": {}}

    async def create(self, name: str, wanted: Json) -> Fault:
        return Fault(FaultKind.EXISTS, name)

    async def get(self, name: str) -> Json:
        return self._found

    async def never_expire(self, name: str) -> Json:
        self.kept = True
        return {}


@pytest.mark.parametrize("expires", [True, False])
async def test_a_subscription_with_a_filter_is_warned_of(expires: bool) -> None:
    """What the filter holds back is results that never come."""
    admin: Any = Filtered("t", expires=expires)
    made, checked = Steps(), Steps()
    await ensure_subscription(admin, "s", "t", made)
    await checking._check_subscription(admin, "s", "t", "again", checked)
    for step in (made.items[0], *checked.items):
        assert (step.state, "notificationType" in step.detail) == (State.WARNING, True)
    assert (len(checked.items), len(made.items), admin.kept) == (1, 1 + expires, expires)
