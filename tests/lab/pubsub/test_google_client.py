"""Google's own generated client, unmodified, against the emulator over a real socket: it must accept every reply."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from tests.lab.pubsub.rig import SUBSCRIPTION, TOPIC, Rig

PROJECT = "projects/p1"
PUBLISHER = "serviceAccount:android-cloud-policy@system.gserviceaccount.com"


class Google:
    """The client, which is synchronous, in a thread."""

    def __init__(self, api: Any) -> None:
        self.topics = api.projects().topics()
        self.subscriptions = api.projects().subscriptions()

    async def do(self, request: Any) -> Any:
        """Execute one request of the client."""
        return await asyncio.to_thread(request.execute)

    async def refused(self, request: Any) -> HttpError:
        """Execute one that has to fail."""
        with pytest.raises(HttpError) as caught:
            await self.do(request)
        return caught.value


@pytest.fixture
async def google(rig: Rig) -> AsyncIterator[Google]:
    api = await asyncio.to_thread(
        build,
        "pubsub",
        "v1",
        static_discovery=True,
        client_options={"api_endpoint": str(rig.http.base_url)},
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
    )
    yield Google(api)
    await asyncio.to_thread(api.close)


async def test_an_operators_set_up(google: Google) -> None:
    do = google.do
    assert await do(google.topics.create(name=TOPIC, body={})) == {"name": TOPIC}
    policy = await do(google.topics.getIamPolicy(resource=TOPIC))
    binding = {"role": "roles/pubsub.publisher", "members": [PUBLISHER]}
    policy.setdefault("bindings", []).append(binding)
    await do(google.topics.setIamPolicy(resource=TOPIC, body={"policy": policy}))
    assert (await do(google.topics.getIamPolicy(resource=TOPIC)))["bindings"] == [binding]
    asked = {"permissions": ["pubsub.topics.publish"]}
    assert await do(google.topics.testIamPermissions(resource=TOPIC, body=asked)) == asked
    body = {"topic": TOPIC, "ackDeadlineSeconds": 60, "expirationPolicy": {}}
    made = await do(google.subscriptions.create(name=SUBSCRIPTION, body=body))
    assert made == await do(google.subscriptions.get(subscription=SUBSCRIPTION))
    asked = {"permissions": ["pubsub.subscriptions.consume"]}
    assert await do(google.subscriptions.testIamPermissions(resource=SUBSCRIPTION, body=asked)) == asked
    await do(google.subscriptions.getIamPolicy(resource=SUBSCRIPTION))
    await do(google.subscriptions.setIamPolicy(resource=SUBSCRIPTION, body={"policy": {}}))
    patch = {"subscription": {"ackDeadlineSeconds": 30}, "updateMask": "ackDeadlineSeconds"}
    assert (await do(google.subscriptions.patch(name=SUBSCRIPTION, body=patch)))["ackDeadlineSeconds"] == 30
    config = {
        "pushConfig": {"pushEndpoint": "https://h.example/p", "oidcToken": {"serviceAccountEmail": "a@b.example"}}
    }
    assert await do(google.subscriptions.modifyPushConfig(subscription=SUBSCRIPTION, body=config)) == {}
    assert (await do(google.subscriptions.get(subscription=SUBSCRIPTION)))["pushConfig"] == config["pushConfig"]
    assert await do(google.subscriptions.delete(subscription=SUBSCRIPTION)) == {}
    assert await do(google.topics.delete(topic=TOPIC)) == {}


async def test_lists_by_pages(google: Google) -> None:
    do = google.do
    for number in range(5):
        await do(google.topics.create(name=f"{TOPIC}{number}", body={}))
        await do(google.subscriptions.create(name=f"{SUBSCRIPTION}{number}", body={"topic": f"{TOPIC}0"}))
    listed: dict[str, list[str]] = {"topics": [], "subscriptions": [], "of the topic": []}
    for name, resource in (("topics", google.topics), ("subscriptions", google.subscriptions)):
        request = resource.list(project=PROJECT, pageSize=2)
        while request is not None:
            page = await do(request)
            listed[name] += [item["name"] for item in page[name]]
            request = resource.list_next(request, page)
    listed["of the topic"] = (await do(google.topics.subscriptions().list(topic=f"{TOPIC}0")))["subscriptions"]
    assert listed["topics"] == [f"{TOPIC}{number}" for number in range(5)]
    assert listed["subscriptions"] == listed["of the topic"] == [f"{SUBSCRIPTION}{number}" for number in range(5)]


async def test_publish_pull_and_acknowledge(google: Google, rig: Rig) -> None:
    do = google.do
    await rig.set_up()
    message = {"data": base64.b64encode(b'{"name":"x"}').decode(), "attributes": {"notificationType": "COMMAND"}}
    published = await do(google.topics.publish(topic=TOPIC, body={"messages": [message, message]}))
    pull = google.subscriptions.pull(subscription=SUBSCRIPTION, body={"maxMessages": 10})
    received = (await do(pull))["receivedMessages"]
    assert [item["message"]["messageId"] for item in received] == published["messageIds"]
    assert {key: received[0]["message"][key] for key in message} == message
    first, second = (item["ackId"] for item in received)
    modify = google.subscriptions.modifyAckDeadline
    assert await do(modify(subscription=SUBSCRIPTION, body={"ackIds": [second], "ackDeadlineSeconds": 0})) == {}
    acknowledge = google.subscriptions.acknowledge
    assert await do(acknowledge(subscription=SUBSCRIPTION, body={"ackIds": [first]})) == {}
    (again,) = (await do(pull))["receivedMessages"]
    assert again["message"]["messageId"] == published["messageIds"][1]
    await do(acknowledge(subscription=SUBSCRIPTION, body={"ackIds": [again["ackId"]]}))
    at_once = {"maxMessages": 1, "returnImmediately": True}
    assert await do(google.subscriptions.pull(subscription=SUBSCRIPTION, body=at_once)) == {}


async def test_refusals(google: Google, rig: Rig) -> None:
    await rig.set_up()
    missing = await google.refused(google.topics.get(topic=f"{TOPIC}-none"))
    assert (missing.status_code, missing.reason) == (404, "Resource not found (resource=amapi-none).")
    there = await google.refused(google.topics.create(name=TOPIC, body={}))
    assert (there.status_code, there.reason) == (409, "Resource already exists in the project (resource=amapi).")
    bad = await google.refused(google.topics.publish(topic=TOPIC, body={"messages": [{"zz": 1}]}))
    assert bad.status_code == 400
    (violation,) = bad.error_details[0]["fieldViolations"]
    assert violation["field"] == "messages[0]"
    assert 'Unknown name "zz"' in violation["description"]
    assert (await google.refused(google.subscriptions.seek(subscription=SUBSCRIPTION, body={}))).status_code == 501
