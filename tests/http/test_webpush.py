"""A device that only Web Push reaches, from the account to the withdrawal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heliograph.providers.webpush.vapid import Vapid
from heliograph.system import SystemClock
from tests.providers.test_webpush import VAPID
from tests.support.client import Lab, data_of, until
from tests.support.demo import Demo

pytestmark = pytest.mark.sqlite_only


def control(lab: Lab, method: str, path: str, body: Any = None) -> Any:
    answer = lab.client.request(method, path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_wake_is_sent_and_withdrawn(demo: Demo, lab: Lab) -> None:
    url = control(lab, "GET", "/addresses")["webpushUrl"]
    config = {"vapidPrivateKey": VAPID, "subject": "mailto:a@b.example", "allowedOrigins": url}
    account = demo.api.setup("provider.add", provider="webpush", config=config)
    tested = demo.api.setup("provider.test", id=account["id"])
    assert tested["works"]
    assert tested["detail"].endswith(Vapid(VAPID, "", SystemClock()).public_key)
    agent = demo.api.new_device("aosp")
    made = control(lab, "POST", "/webpush/subscriptions", {"owner": f"test {agent.device.id}"})

    def waiting() -> list[Any]:
        items = control(lab, "GET", "/webpush/subscriptions")["items"]
        return next(list(item["waiting"]) for item in items if item["id"] == made["id"])

    agent.register(provider="webpush", token=json.dumps(made["subscription"]))
    command = demo.api.create(agent.device, "LOCK")["id"]
    push = demo.api.until(agent.device, command, lambda found: "pushId" in found)["pushId"]
    (message,) = waiting()
    assert push == f"{url}/message/{message['id']}"
    assert message["urgency"] == "high"
    assert data_of(demo.api.cancel(agent.device, command))["status"] == "CANCEL"
    until(waiting, lambda left: left == [])


def test_an_endpoint_inside_is_refused_and_given_up(demo: Demo, lab: Lab) -> None:
    organization = demo.new_organization()
    config = {"vapidPrivateKey": VAPID, "subject": "mailto:a@b.example"}
    organization.setup("provider.add", provider="webpush", config=config)
    agent = organization.new_device("aosp")
    made = control(lab, "POST", "/webpush/subscriptions", {"owner": f"test {agent.device.id}"})
    agent.register(provider="webpush", token=json.dumps(made["subscription"]))  # the lab is at a loopback address
    sent = data_of(organization.send("aosp", agent.device.id))
    assert organization.push(sent["id"], 30)["status"] == "rejected"
    assert [r for r in lab.requests("webpush") if made["id"] in r["path"]] == []


def test_what_is_no_subscription_is_not_registered(demo: Demo) -> None:
    agent = demo.api.new_device("aosp")
    targets = [
        {"provider": "webpush", "token": '{"endpoint":"https://a.example/x","keys":{"p256dh":"AA","auth":"AA"}}'}
    ]
    answer = agent.post("/agent/v1/register", {"app": "mdmAgent", "agentVersion": "0", "targets": targets})
    assert answer.status_code == 400
    assert "auth secret" in answer.text
