"""Sending pushes to agents (seed; DECISIONS 20 to 22)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.http.routes import ABSENT
from tests.support.client import Api, HandDevice, Lab, data_of, error_of, fault, fields_of, until
from tests.support.demo import Demo

SYSTEMS = ("ios", "android", "aosp", "macos", "windows", "package")
APPS = ("mdmAgent", "setupAssistant", "remoteSupport", "kioskLauncher")
AT = "2026-02-10T12:00:00Z"
# What Pushy's 4 kB hold besides a `data` of one text: measured, not assumed.
PUSHY_LIMIT = 4096


@pytest.fixture(autouse=True)
def put_back(lab: Lab) -> Iterator[None]:
    """Tests here change the lab."""
    yield
    lab.restore()


@pytest.fixture(scope="session")
def every_system(demo: Demo) -> dict[str, HandDevice]:
    """A device of each system, with no app registered."""
    return {system: new_device(demo.api, system) for system in SYSTEMS}


def new_device(api: Api, system: str) -> HandDevice:
    more = {"externalName": "enterprises/LC0demo0001/devices/push"} if system == "android" else {}
    return api.new_device(system, **more)


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_app_on_every_system(system: str, app: str, demo: Demo, every_system: dict[str, HandDevice]) -> None:
    """Refused until the agent has registered; then by either id, as the agent sees it."""
    agent = every_system[system]
    device = agent.device
    assert (device.id == device.all_platform_id) == (system == "package")
    refused = demo.api.send(system, device.id, app)
    assert error_of(refused) == (404, 3001)
    assert "fbToken" in refused.json()["error"]["message"]
    agent.register(app)
    content = {
        "title": "Tïtle 🛰",
        "body": "\u202bשָׁלוֹם مَرْحَبًا\u202c\u200f",
        "data": {"a": [1, {"b": None}], "c": "\u2028"},
    }
    sent = []
    for identifier, kind in ((device.id, "notification"), (device.all_platform_id, "silent")):
        record = data_of(demo.api.send(system, identifier, app, type=kind, notification=content))
        demo_status = demo.api.push(record["id"])["status"]
        assert demo_status in ("queued", "accepted")
        sent.append((record["id"], kind))
    offered = until(lambda: agent.check_in(app, waitSeconds=5).get("pushes", []), lambda found: len(found) == 2)
    assert sorted((push["id"], push["kind"]) for push in offered) == sorted(sent)
    for push in offered:
        assert {name: push[name] for name in content} == content
        assert "commandId" not in push
    for other in APPS:  # each app hears its own only
        assert other == app or not [p for p in agent.check_in(other).get("pushes", []) if (p["id"], p["kind"]) in sent]
    agent.check_in(app, pushAcks=[{"id": push["id"], "at": AT} for push in offered])
    for push_id, _ in sent:
        record = demo.api.push(push_id)
        assert [entry["rung"] for entry in record["progress"]["history"]] == ["queued", "accepted", "acknowledged"]
    assert "pushes" not in agent.check_in(app)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_system_must_be_that_of_the_device(system: str, demo: Demo) -> None:
    for device in demo.devices.values():
        for identifier in (device.id, device.all_platform_id):
            answer = demo.api.send(system, identifier)
            if device.platform == system:
                assert answer.status_code == 200
            else:
                assert error_of(answer) == (404, 3001)
                assert answer.json()["error"]["message"] == "Entity not found"


def test_the_answer_and_what_becomes_of_it(demo: Demo, lab: Lab) -> None:
    device = demo["package-online"]
    record = data_of(demo.api.send("package", device.id, notification={"title": "T", "body": "B", "data": {"n": 1}}))
    assert set(record) == {"id", "provider", "status", "createdAt", "expiresAt"}
    assert (record["provider"], record["status"]) == ("builtin", "queued")
    life = datetime.fromisoformat(record["expiresAt"]) - datetime.fromisoformat(record["createdAt"])
    assert life == timedelta(hours=24)
    after = demo.api.push(record["id"], 30)
    assert after["status"] == after["progress"]["rung"] == "acknowledged"
    assert [entry["source"] for entry in after["progress"]["history"]][1:] == ["provider:builtin", "agent"]
    shown = until(lambda: [i for i in lab.journal(device, "displayed") if i["pushId"] == record["id"]], bool)
    assert [(item["title"], item["body"], item["data"]) for item in shown] == [("T", "B", {"n": 1})]


@pytest.mark.parametrize("name", ["package-online", "aosp-pushy-online"])
def test_a_silent_one_arrives_and_shows_nothing(name: str, demo: Demo, lab: Lab) -> None:
    device = demo[name]
    record = data_of(demo.api.send(device.platform, device.id, type="silent", notification={"title": "T", "body": "B"}))
    assert demo.api.push(record["id"], 30)["status"] == "acknowledged"
    events = [item["event"] for item in lab.journal(device) if item.get("pushId") == record["id"]]
    assert sorted(events) == ["acknowledged", "received"]


def test_a_silent_one_needs_a_body_too(demo: Demo) -> None:
    answer = demo.api.send("package", demo["package-online"].id, type="silent", notification={"title": "x"})
    assert fields_of(answer) == ["notification.body"]


def test_one_for_a_device_that_is_away_waits_for_it(demo: Demo, lab: Lab) -> None:
    for name in ("android-offline", "aosp-builtin-offline", "aosp-pushy-offline"):
        device = demo[name]
        record = data_of(demo.api.send(device.platform, device.id))
        until(lambda record=record: demo.api.push(record["id"])["status"], lambda status: status == "accepted")  # type: ignore[misc]
        lab.put(device, online=True)
        assert demo.api.push(record["id"], 30)["status"] == "acknowledged"
        displayed = [item["pushId"] for item in lab.journal(device, "displayed")]
        assert displayed.count(record["id"]) == 1


def test_through_pushy(demo: Demo, lab: Lab) -> None:
    device = demo["aosp-pushy-online"]
    record = data_of(demo.api.send("aosp", device.all_platform_id, notification={"title": "T", "body": "B"}))
    assert record["provider"] == "pushy"
    after = demo.api.push(record["id"], 30)
    assert [entry["rung"] for entry in after["progress"]["history"]][-1] == "acknowledged"
    assert [item["title"] for item in lab.journal(device, "displayed") if item["pushId"] == record["id"]] == ["T"]


@pytest.mark.parametrize(("name", "provider"), [("ios", "apns"), ("macos", "apns"), ("windows", "wns")])
@pytest.mark.parametrize("kind", ["notification", "silent"])
def test_through_the_platforms_own_service(name: str, provider: str, kind: str, demo: Demo, lab: Lab) -> None:
    device = demo[name]
    body = {"title": "T \u2066abc\u2069", "body": "عربي 👋", "data": {"n": {"list": [1, None]}}}
    record = data_of(demo.api.send(device.platform, device.id, type=kind, notification=body))
    assert record["provider"] == provider
    assert demo.api.push(record["id"], 30)["status"] == "acknowledged"
    displayed = [item for item in lab.journal(device, "displayed") if item["pushId"] == record["id"]]
    if kind == "silent":
        assert displayed == []
    else:
        assert {member: displayed[0][member] for member in body} == body


@pytest.mark.parametrize("name", ["ios", "windows"])
def test_what_is_too_large_for_the_service_is_refused_before_anything_is_stored(name: str, demo: Demo) -> None:
    device = demo[name]
    answer = demo.api.send(device.platform, device.id, notification={"body": "x", "data": {"d": "x" * 6000}})
    assert fields_of(answer) == ["notification"]


def test_with_the_provider_away_it_is_kept_and_sent_later(demo: Demo, lab: Lab) -> None:
    device = demo["aosp-pushy-online"]
    with lab.faults(fault("pushy", status=503)):
        record = data_of(demo.api.send("aosp", device.id))
        until(lambda: [r for r in lab.requests("pushy") if record["id"] in r["body"]], bool)
        assert demo.api.push(record["id"])["status"] == "queued"
    assert demo.api.push(record["id"], 30)["status"] == "acknowledged"


def test_one_that_the_provider_does_not_take_is_rejected_with_the_reason(demo: Demo) -> None:
    agent = demo.api.new_device("aosp")
    agent.register(provider="pushy", token="0" * 30)
    record = data_of(demo.api.send("aosp", agent.device.id))
    after = demo.api.push(record["id"], 30)
    assert after["status"] == "rejected"
    assert after["progress"]["history"][-1]["evidence"]["code"] == "NO_RECIPIENTS"


@pytest.mark.parametrize("unit", ["x", "ש\u200f", "🛰"])
def test_what_is_too_large_for_pushy_is_refused_before_anything_is_stored(unit: str, demo: Demo, lab: Lab) -> None:
    """DECISIONS 21 and 29, to the byte: what is refused is not sent, what is taken is what Pushy takes."""
    device = demo["aosp-pushy-online"]

    def send(size: int) -> httpx2.Response:
        return demo.api.send("aosp", device.id, notification={"body": "x", "data": {"d": unit * size}})

    low, high = 0, PUSHY_LIMIT
    while high - low > 1:  # the largest that is taken
        middle = (low + high) // 2
        low, high = (middle, high) if send(middle).status_code == 200 else (low, middle)
    refused = send(high)
    assert fields_of(refused) == ["notification"]
    last = data_of(send(low))
    assert demo.api.push(last["id"], 30)["status"] == "acknowledged"
    sent = {b["data"]["id"]: b["data"] for b in sent_bodies(lab) if unit in b["data"].get("data", {}).get("d", "")}
    sizes = [len(json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()) for data in sent.values()]
    assert PUSHY_LIMIT - len(unit.encode()) < max(sizes) <= PUSHY_LIMIT
    assert max(len(data["data"]["d"]) for data in sent.values()) == low * len(unit)


def sent_bodies(lab: Lab) -> list[Any]:
    return [json.loads(r["body"]) for r in lab.requests("pushy") if r["path"] == "/push"]


@pytest.mark.sqlite_only
def test_what_is_too_large_for_our_own_line_is_refused(demo: Demo) -> None:
    device = demo["package-online"]
    notification = {"body": "x", "data": {"d": "x" * (256 * 1024)}}
    assert fields_of(demo.api.send("package", device.id, notification=notification)) == ["notification"]


def test_an_unknown_device_is_not_told_from_a_foreign_one(demo: Demo) -> None:
    answers = [
        demo.api.send("package", ABSENT),
        demo.other.send("package", demo["package-online"].id),
        demo.other.send("package", ABSENT),
    ]
    assert len({answer.content for answer in answers}) == 1
    assert error_of(answers[0]) == (404, 3001)
    assert "fbToken" not in answers[0].text


def test_the_pair_that_the_demo_leaves_out(demo: Demo) -> None:
    """At least one (device, app) is not registered."""
    missing = [(device, app) for device in demo.devices.values() for app in APPS if app not in device.apps]
    assert missing
    for device, app in missing:
        answer = demo.api.send(device.platform, device.id, app)
        assert error_of(answer) == (404, 3001)
        assert "fbToken" in answer.json()["error"]["message"]


def test_the_push_of_a_command_is_no_push_notification(demo: Demo) -> None:
    agent = demo.api.new_device("aosp")
    agent.register()
    demo.api.create(agent.device, "LOCK")
    wake = until(lambda: agent.check_in(waitSeconds=5).get("pushes", []), bool)[0]["id"]
    assert error_of(demo.api.get(f"mdm/push-notifications/{wake}")) == (404, 3001)


@pytest.mark.sqlite_only
@pytest.mark.parametrize("identifier", ["x", "", "0" * 23, "0" * 25, "g" * 24, 5, None])
def test_the_identifier_is_an_id(identifier: object, demo: Demo) -> None:
    assert fields_of(demo.api.send("package", identifier)) == ["identifier"]  # type: ignore[arg-type]
