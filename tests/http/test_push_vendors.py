"""Pushes through APNs and FCM, from the API to the emulators and back by the agent's acknowledgement."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.providers.credentials import p8, service_account
from tests.support.client import Api, HandDevice, Lab, data_of, until
from tests.support.demo import Demo

TOPIC = "com.example.agent"
AT = "2026-02-10T12:00:00Z"


@pytest.fixture
def tenant(demo: Demo, lab: Lab) -> Iterator[Api]:
    yield demo.new_organization()
    lab._ask("PUT", "/apns/keys", [])


def server_of(lab: Lab, service: str) -> dict[str, str]:
    urls = lab._ask("GET", "/addresses")
    return {"baseUrl": urls[f"{service}Url"], "ca": Path(urls["caPath"]).read_text()}


def add_apns(demo: Demo, lab: Lab, tenant: Api) -> str:
    """An account by key, which this lab's APNs then knows."""
    key_id = secrets.token_hex(5).upper()
    lab._ask("PUT", "/apns/keys", [{"keyId": key_id, "teamId": "TEAM123456", "publicKey": p8()}])
    config = {"keyId": key_id, "teamId": "TEAM123456", "key": p8(), "topic": TOPIC, **server_of(lab, "apns")}
    return str(demo.operator("provider.add", tenant.organization, provider="apns", config=config)["id"])


def phone(lab: Lab, tenant: Api, state: str = "active") -> tuple[HandDevice, str]:
    """An iOS device whose agent has registered its token."""
    token = secrets.token_hex(32)
    lab._ask("PUT", f"/apns/tokens/{token}", {"topic": TOPIC, "state": state})
    agent = tenant.new_device("ios")
    agent.register(provider="apns", token=token)
    return agent, token


def sent_to(lab: Lab, service: str, word: str) -> list[dict[str, Any]]:
    """What the emulator has received that names this address."""
    return [r for r in lab.requests(service) if word in r["path"] or word in r["body"]]


def test_a_notification_goes_through_apns_and_the_agent_says_that_it_came(demo: Demo, lab: Lab, tenant: Api) -> None:
    account = add_apns(demo, lab, tenant)
    assert tenant.setup("provider.test", id=account) == {
        "works": True,
        "detail": f"APNs takes the account for {TOPIC}",
    }
    agent, token = phone(lab, tenant)
    content = {"title": "Tïtle", "body": "Body", "data": {"a": 1}}
    record = data_of(tenant.send("ios", agent.device.id, notification=content))
    assert record["provider"] == "apns"
    record = until(lambda: tenant.push(record["id"]), lambda found: found["status"] == "accepted")
    (request,) = sent_to(lab, "apns", token)
    payload = json.loads(request["body"])
    assert payload["aps"]["alert"] == {"title": "Tïtle", "body": "Body"}
    assert payload["heliograph"]["id"] == record["id"]
    agent.check_in(pushAcks=[{"id": payload["heliograph"]["id"], "at": AT}])
    history = tenant.push(record["id"])["progress"]["history"]
    assert [entry["rung"] for entry in history] == ["queued", "accepted", "acknowledged"]
    assert history[1]["evidence"]["reference"] == request["headers"]["apns-id"]


def test_a_token_that_apns_calls_gone_is_used_no_more(demo: Demo, lab: Lab, tenant: Api) -> None:
    add_apns(demo, lab, tenant)
    agent, token = phone(lab, tenant)
    time.sleep(2)  # the server's clock may be a second ahead: what APNs says must be later than the registration
    lab._ask("PUT", f"/apns/tokens/{token}", {"topic": TOPIC, "state": "unregistered"})
    record = data_of(tenant.send("ios", agent.device.id))
    until(lambda: tenant.push(record["id"]), lambda found: found["status"] == "rejected")
    until(lambda: tenant.send("ios", agent.device.id).status_code, lambda status: status == 404)
    assert len(sent_to(lab, "apns", token)) == 1
    # A new registration revives it, and APNs has the last word again.
    agent.register(provider="apns", token=token)
    assert tenant.send("ios", agent.device.id).status_code == 200


def test_a_wake_goes_through_fcm(demo: Demo, lab: Lab, tenant: Api) -> None:
    token_url = f"{demo.ready['lab']['amapiUrl']}/token"
    file = json.dumps(service_account(token_uri=token_url))
    config = {"serviceAccount": file, "tokenUrl": token_url, **server_of(lab, "fcm")}
    account = demo.operator("provider.add", tenant.organization, provider="fcm", config=config)["id"]
    assert tenant.setup("provider.test", id=account) == {"works": True, "detail": "FCM takes the service account"}
    shown = json.dumps([tenant.setup("provider.get", id=account), tenant.setup("provider.list")])
    assert "PRIVATE KEY" not in shown
    address = f"{secrets.token_hex(11)}:APA91b{secrets.token_hex(67)}"
    lab._ask("PUT", f"/fcm/registrations/{address}", {"project": "my-project"})
    agent = tenant.new_device("aosp")
    agent.register(provider="fcm", token=address)
    command = tenant.create(agent.device, "LOCK")
    (request,) = until(lambda: sent_to(lab, "fcm", address), lambda found: len(found) == 1)
    message = json.loads(request["body"])["message"]
    assert message["android"]["collapse_key"] == "wake"
    assert json.loads(message["data"]["heliograph"])["commandId"] == command["id"]
    assert [claimed["id"] for claimed in agent.claim()] == [command["id"]]
