"""Resources, bodies and refusals of the REST API; and what of Google's document is there, and what is not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import googleapiclient
import msgspec
import pytest

from heliograph_lab.pubsub import model, subscriptions, topics
from heliograph_lab.pubsub.model import Wire
from tests.lab.pubsub.rig import SUBSCRIPTION, TOPIC, Json, Rig

SOURCE = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents" / "pubsub.v1.json"
DOCUMENT: Json = json.loads(SOURCE.read_text(encoding="utf-8"))
MODELLED = {
    "topics.create",
    "topics.get",
    "topics.list",
    "topics.delete",
    "topics.publish",
    "topics.getIamPolicy",
    "topics.setIamPolicy",
    "topics.testIamPermissions",
    "topics.subscriptions.list",
    "subscriptions.create",
    "subscriptions.get",
    "subscriptions.list",
    "subscriptions.patch",
    "subscriptions.delete",
    "subscriptions.pull",
    "subscriptions.acknowledge",
    "subscriptions.modifyAckDeadline",
    "subscriptions.modifyPushConfig",
    "subscriptions.getIamPolicy",
    "subscriptions.setIamPolicy",
    "subscriptions.testIamPermissions",
}
SCHEMAS: list[tuple[str, type[Wire], set[str]]] = [
    ("Topic", model.Topic, set()),
    ("Subscription", model.Subscription, set()),
    ("PushConfig", model.PushConfig, set()),
    ("OidcToken", model.OidcToken, set()),
    ("RetryPolicy", model.RetryPolicy, set()),
    ("ExpirationPolicy", model.ExpirationPolicy, set()),
    ("PubsubMessage", model.PubsubMessage, set()),
    ("Policy", model.Policy, set()),
    ("Binding", model.Binding, set()),
    ("PublishRequest", topics.PublishRequest, set()),
    ("TestIamPermissionsRequest", topics.TestIamPermissionsRequest, set()),
    ("SetIamPolicyRequest", topics.SetIamPolicyRequest, {"updateMask"}),  # other Google services have it
    ("PullRequest", subscriptions.PullRequest, set()),
    ("ModifyAckDeadlineRequest", subscriptions.AckIds, set()),
    ("ModifyPushConfigRequest", subscriptions.ModifyPushConfigRequest, set()),
    ("UpdateSubscriptionRequest", subscriptions.UpdateSubscriptionRequest, set()),
]


def methods(node: Json) -> list[Json]:
    found = list(node.get("methods", {}).values())
    return found + [method for inner in node.get("resources", {}).values() for method in methods(inner)]


def example(method: Json) -> str:
    path: str = method["path"].removeprefix("v1/")
    for name, parameter in method["parameters"].items():
        if parameter["location"] == "path":
            path = path.replace(f"{{+{name}}}", re.sub(r"\[\^/\]\+", "none", parameter["pattern"].strip("^$")))
    return path


@pytest.mark.parametrize(("name", "kind", "more"), SCHEMAS, ids=[name for name, _, _ in SCHEMAS])
def test_messages_have_the_members_of_googles_document(name: str, kind: type[Wire], more: set[str]) -> None:
    ours = {field.encode_name for field in msgspec.structs.fields(kind)}
    assert ours == {*DOCUMENT["schemas"][name]["properties"], *more}


async def test_every_method_of_googles_document_is_modelled_or_says_that_it_is_not(rig: Rig) -> None:
    found = methods(DOCUMENT)
    assert len(found) == 46
    modelled = set()
    for method in found:
        answer = await rig.http.request(method["httpMethod"], f"/v1/{example(method)}", json={})
        assert answer.headers["content-type"].startswith("application/json")
        if answer.status_code != 501:
            modelled.add(method["id"].removeprefix("pubsub.projects."))
    assert modelled == MODELLED


async def test_a_path_that_google_has_not(rig: Rig) -> None:
    answer = await rig.http.get("/v2/projects/p1/topics")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=UTF-8")


async def test_what_is_set_is_shown_with_defaults(rig: Rig) -> None:
    await rig.ask("PUT", TOPIC, {"labels": {"a": "b"}, "kms_key_name": "k"})
    assert await rig.ask("GET", TOPIC) == {"name": TOPIC, "labels": {"a": "b"}, "kmsKeyName": "k"}
    await rig.ask("PUT", SUBSCRIPTION, {"topic": TOPIC, "ackDeadlineSeconds": "60", "labels": None})
    shown = await rig.ask("GET", SUBSCRIPTION)
    assert shown == {
        "name": SUBSCRIPTION,
        "topic": TOPIC,
        "pushConfig": {},
        "ackDeadlineSeconds": 60,
        "messageRetentionDuration": "604800s",
        "expirationPolicy": {"ttl": "2678400s"},
        "state": "ACTIVE",
    }
    patch = {"subscription": {"ackDeadlineSeconds": 30, "labels": {"x": "y"}}, "updateMask": "ack_deadline_seconds"}
    assert await rig.ask("PATCH", SUBSCRIPTION, patch) == {**shown, "ackDeadlineSeconds": 30}


async def test_pages(rig: Rig) -> None:
    names = [f"projects/p1/topics/t{n:02}" for n in range(5)]
    for name in [*names, "projects/p2/topics/other"]:
        await rig.ask("PUT", name, {})
    first = await rig.ask("GET", "projects/p1/topics", pageSize=3)
    assert [topic["name"] for topic in first["topics"]] == names[:3]
    second = await rig.ask("GET", "projects/p1/topics", pageSize=3, pageToken=first["nextPageToken"])
    assert second == {"topics": [{"name": name} for name in names[3:]]}
    await rig.ask("GET", "projects/p2/topics", pageToken=first["nextPageToken"], status=400)


async def test_policies(rig: Rig) -> None:
    await rig.set_up()
    empty = await rig.ask("GET", f"{TOPIC}:getIamPolicy")
    assert empty == {"etag": "ACAB"}
    binding = {"role": "roles/pubsub.publisher", "members": ["serviceAccount:a@example.org"]}
    body = {"policy": {**empty, "bindings": [binding]}}
    policy = await rig.ask("POST", f"{TOPIC}:setIamPolicy", body)
    assert policy == {"version": 1, "etag": policy["etag"], "bindings": [binding]}
    assert await rig.ask("GET", f"{TOPIC}:getIamPolicy") == policy
    assert (await rig.ask("POST", f"{TOPIC}:setIamPolicy", body, status=409))["error"]["status"] == "ABORTED"
    asked = {"permissions": ["pubsub.topics.publish", "pubsub.topics.get"]}
    assert await rig.ask("POST", f"{TOPIC}:testIamPermissions", asked) == asked
    await rig.ask("DELETE", TOPIC)
    await rig.ask("PUT", TOPIC, {})
    assert await rig.ask("GET", f"{TOPIC}:getIamPolicy") == empty


PUSH = {"pushEndpoint": "https://example.org/p"}
REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("PUT", "projects/p1/topics/ab", {}, 400, "Invalid resource name"),
    ("PUT", "projects/p1/topics/goog-mine", {}, 400, "Invalid resource name"),
    ("PUT", "projects/p1/topics/new", {"zz": 1}, 400, 'Unknown name "zz": Cannot find field.'),
    ("PUT", "projects/p1/topics/new", {"messageRetentionDuration": "1s"}, 400, "message_retention_duration"),
    ("PUT", "projects/p1/topics/new", {"schemaSettings": {"schema": "s"}}, 501, "schema_settings"),
    ("PUT", "projects/p1/subscriptions/new", {"topic": "projects/p1/topics/none"}, 404, "resource=none"),
    ("PUT", "projects/p1/subscriptions/new", {"topic": TOPIC, "ackDeadlineSeconds": 5}, 400, "ack deadline"),
    ("PUT", "projects/p1/subscriptions/new", {"topic": TOPIC, "ackDeadlineSeconds": 601}, 400, "ack deadline"),
    ("PUT", "projects/p1/subscriptions/new", {"topic": TOPIC, "ackDeadlineSeconds": "x"}, 400, "Invalid value"),
    ("PUT", "projects/p1/subscriptions/new", {"topic": TOPIC, "filter": "x"}, 501, "filter"),
    ("PUT", "projects/p1/subscriptions/new", {"topic": TOPIC, "enableMessageOrdering": True}, 501, "ordering"),
    ("PUT", "projects/p1/subscriptions/new", {"topic": TOPIC, "pushConfig": {"pushEndpoint": "x"}}, 400, "endpoint"),
    (
        "PUT",
        "projects/p1/subscriptions/new",
        {"topic": TOPIC, "pushConfig": {**PUSH, "oidcToken": {"audience": "a"}}},
        400,
        "service_account_email",
    ),
    (
        "PUT",
        "projects/p1/subscriptions/new",
        {"topic": TOPIC, "pushConfig": {**PUSH, "zz": 1}},
        400,
        "at 'pushConfig'",
    ),
    ("PUT", "projects/p1/subscriptions/new", {"topic": TOPIC, "expirationPolicy": {"ttl": "60s"}}, 400, "ttl"),
    ("PATCH", SUBSCRIPTION, {"subscription": {"topic": "t"}, "updateMask": "topic"}, 400, "update_mask"),
    ("PATCH", SUBSCRIPTION, {"subscription": {}}, 400, "update_mask"),
    ("POST", f"{TOPIC}:publish", {}, 400, "1 to 1000 messages"),
    ("POST", f"{TOPIC}:publish", {"messages": [{}]}, 400, "empty"),
    ("POST", f"{TOPIC}:publish", {"messages": [{"data": "%%"}]}, 400, "Base64"),
    ("POST", f"{TOPIC}:publish", {"messages": [{"data": "YQ==", "orderingKey": "k"}]}, 501, "ordering_key"),
    ("POST", f"{TOPIC}:publish", {"messages": [{"attributes": {str(n): "v" for n in range(101)}}]}, 400, "100"),
    ("POST", f"{TOPIC}:publish", {"messages": [{"attributes": {"k": "v" * 1025}}]}, 400, "1024"),
    ("POST", f"{TOPIC}:publish", {"messages": [{"attributes": {"k": 1}}]}, 400, "Invalid value"),
    ("POST", f"{SUBSCRIPTION}:pull", {}, 400, "max_messages"),
    ("POST", f"{SUBSCRIPTION}:acknowledge", {}, 400, "ack ids"),
    ("POST", f"{SUBSCRIPTION}:acknowledge", {"ackIds": ["made-up"]}, 400, "invalid ack ID"),
    ("POST", f"{SUBSCRIPTION}:modifyAckDeadline", {"ackIds": ["x"], "ackDeadlineSeconds": 601}, 400, "ack deadline"),
    ("POST", f"{TOPIC}:setIamPolicy", {"policy": {"bindings": [{"role": "publisher"}]}}, 400, "Role publisher"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "words"), REFUSED)
async def test_refusals_change_nothing(rig: Rig, method: str, path: str, body: Any, status: int, words: str) -> None:
    await rig.set_up()
    before = [await rig.ask("GET", name) for name in (TOPIC, SUBSCRIPTION)]
    error = (await rig.ask(method, path, body, status=status))["error"]
    assert error["code"] == status
    assert words in error["message"]
    assert [await rig.ask("GET", name) for name in (TOPIC, SUBSCRIPTION)] == before
    assert await rig.pull() == []


async def test_a_body_that_is_not_json(rig: Rig) -> None:
    answer = await rig.http.put(f"/v1/{TOPIC}", content=b"{")
    assert answer.status_code == 400
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"


async def test_a_push_subscription_cannot_be_pulled(rig: Rig) -> None:
    await rig.set_up(pushConfig={"pushEndpoint": "http://127.0.0.1:9/"})
    refused = await rig.ask("POST", f"{SUBSCRIPTION}:pull", {"maxMessages": 1}, status=400)
    assert refused["error"]["status"] == "FAILED_PRECONDITION"


async def test_faults_speak_googles_language(rig: Rig) -> None:
    await rig.set_up()
    rule = {"service": "pubsub", "match": {"path": ":pull$"}, "action": {"status": 429, "retryAfter": 3}, "times": 1}
    rig.kernel.faults.replace([rule])
    refused = await rig.http.post(f"/v1/{SUBSCRIPTION}:pull", json={"maxMessages": 1, "returnImmediately": True})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
    assert refused.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert "pubsub.googleapis.com" in refused.json()["error"]["message"]
    assert await rig.pull() == []
    assert rig.kernel.requests.items("pubsub")[-1].path == f"/v1/{SUBSCRIPTION}:pull"
