"""Results that nobody asks for: from the device through Google's Pub/Sub into the record, pulled and pushed.

The look-ups of this server are so rare that what is seen in time came by a notification.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from tests.support.client import Json
from tests.support.crash import ENTERPRISE, Client, LabClient, Rig, Unit, running_rig, until
from tests.support.demo import STORES, new_database

PROJECT = "projects/p"
TOPIC, SUBSCRIPTION = f"{PROJECT}/topics/amapi", f"{PROJECT}/subscriptions/heliograph"
PUBLISHER = "serviceAccount:android-cloud-policy@system.gserviceaccount.com"
AUDIENCE, ACCOUNT = "https://mdm.example/google", "push@p.iam.gserviceaccount.com"
RARELY = {"HELIOGRAPH_LOOK_UP_CAP_S": "3600", "HELIOGRAPH_LOOK_UPS_PER_MINUTE": "1"}


@pytest.fixture(scope="module", params=STORES)
def telling(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A server that listens to Google, and hardly asks."""
    folder = tmp_path_factory.mktemp(f"telling-{request.param}")
    with new_database(request.param, request) as database, running_rig(folder, database, **RARELY) as rig:
        rig.server.kill()
        rig.server.env.update(
            HELIOGRAPH_PUBSUB_URL=rig.urls["pubsubUrl"], HELIOGRAPH_GOOGLE_CERTS_URL=f"{rig.urls['pubsubUrl']}/certs"
        )
        rig.server.start()
        yield rig


async def publish_to(rig: Rig, lab: LabClient, subscription: Json) -> None:
    """Google tells of the enterprise on a topic with one subscription."""
    await lab.ask("PUT", "/settings", {"amapi": {"enterprises": [ENTERPRISE]}})
    await lab.ask("DELETE", "/notifications/rules")
    binding = {"role": "roles/pubsub.publisher", "members": [PUBLISHER]}
    await pubsub(rig, lab, "DELETE", SUBSCRIPTION)
    await pubsub(rig, lab, "PUT", TOPIC, {})
    await pubsub(rig, lab, "POST", f"{TOPIC}:setIamPolicy", {"policy": {"bindings": [binding]}})
    await pubsub(rig, lab, "PUT", SUBSCRIPTION, {"topic": TOPIC, "expirationPolicy": {}, **subscription})
    answer = await lab.http.patch(
        f"{rig.urls['amapiUrl']}/v1/{ENTERPRISE}?updateMask=pubsubTopic,enabledNotificationTypes",
        json={"pubsubTopic": TOPIC, "enabledNotificationTypes": ["COMMAND", "STATUS_REPORT", "ENROLLMENT"]},
        headers={"Authorization": "Bearer test"},
    )
    assert answer.status_code == 200, answer.text


async def pubsub(rig: Rig, lab: LabClient, method: str, path: str, body: Any = None) -> None:
    await lab.http.request(
        method, f"{rig.urls['pubsubUrl']}/v1/{path}", json=body, headers={"Authorization": "Bearer test"}
    )


async def listens(rig: Rig, **how: str) -> str:
    """Tell the server how it hears of the enterprise; answers the enterprise's id."""
    said = {"subscription": "", "pushAudience": "", "pushEmail": ""} | how
    made = await rig.operator("enterprise.add", rig.organization, name=ENTERPRISE, **said)
    return str(made["id"])


async def pulled(rig: Rig, lab: LabClient) -> None:
    await publish_to(rig, lab, {})
    await listens(rig, subscription=SUBSCRIPTION)


async def pushed(rig: Rig, lab: LabClient) -> None:
    enterprise_id = await listens(rig, pushAudience=AUDIENCE, pushEmail=ACCOUNT)
    token = {"serviceAccountEmail": ACCOUNT, "audience": AUDIENCE}
    endpoint = f"{rig.url}/google/notifications/{enterprise_id}"
    await publish_to(rig, lab, {"pushConfig": {"pushEndpoint": endpoint, "oidcToken": token}})


async def issued_to(rig: Rig, client: Client) -> tuple[Unit, str]:
    """A command that waits at Google for its device, and that nobody will ask for in time."""
    [unit] = await rig.add("android", 1, online=False)
    command = (await client.create(unit))["id"]

    async def is_issued() -> bool:
        return bool((await client.command(unit, command))["_config"])

    await until(is_issued, "Google accepts it")
    return unit, command


@pytest.mark.parametrize("way", [pulled, pushed])
@pytest.mark.parametrize("rule", [None, {"redeliveries": 3}, {"copies": 3}, {"unfinishedFirst": True}])
async def test_a_result_comes_by_itself(telling: Rig, way: Any, rule: Json | None) -> None:
    async with telling.client() as client, telling.lab_client() as lab:
        await way(telling, lab)
        unit, command = await issued_to(telling, client)
        if rule is not None:
            await lab.ask("PUT", "/notifications/rules", [{"match": {"type": "COMMAND"}, "action": rule}])
        await lab.put(unit, online=True)
        record = await client.over(unit, command)
        assert record["progress"]["rung"] == "succeeded"
        [executed] = [item for item in await lab.journal(unit) if item["event"] == "executed"]
        assert executed["operation"] == record["_config"]["name"]


@pytest.mark.parametrize("way", [pulled, pushed])
async def test_a_device_that_enrols_is_there_by_itself(telling: Rig, way: Any) -> None:
    async with telling.client() as client, telling.lab_client() as lab:
        await way(telling, lab)
        name = f"{ENTERPRISE}/devices/came{'pulled' if way is pulled else 'pushed'}{telling.store}"
        resource = {"name": name, "state": "ACTIVE", "hardwareInfo": {"serialNumber": name.rsplit("/", 1)[-1]}}
        told = {"enterprise": ENTERPRISE, "type": "ENROLLMENT", "resource": resource}
        await lab.ask("POST", "/notifications", told)

        async def is_there() -> bool:
            answer = await client.call("GET", f"mdm/android/enterprise/devices/{name.rsplit('/', 1)[-1]}")
            return answer.status_code == 200

        await until(is_there, "the device is known by its serial number")


@pytest.mark.parametrize("way", [pulled, pushed])
async def test_whatever_is_told_several_times_or_late_of_one_phone_makes_one_record(telling: Rig, way: Any) -> None:
    async with telling.client() as client, telling.lab_client() as lab:
        await way(telling, lab)
        await lab.ask("PUT", "/notifications/rules", [{"action": {"copies": 3}}])
        for n in range(4):
            serial = f"many{n}{'pulled' if way is pulled else 'pushed'}{telling.store}"
            first, second = (f"{ENTERPRISE}/devices/{serial}{x}" for x in "ab")
            phone = {"state": "ACTIVE", "hardwareInfo": {"serialNumber": serial}}
            again = {"name": second, "previousDeviceNames": [first], **phone}
            # Of every other phone the word that it is the same one comes last.
            reports = [("STATUS_REPORT", {"name": second, **phone}), ("ENROLLMENT", again)][:: 1 if n % 2 else -1]
            for kinds in (
                [("ENROLLMENT", {"name": first, **phone}), ("STATUS_REPORT", {"name": first, **phone})],
                reports,
                [("STATUS_REPORT", {"name": first, **phone}), ("STATUS_REPORT", again)],
            ):
                ids = [id_ for kind, resource in kinds for id_ in await _told(lab, kind, resource)]
                taken = partial(_are_done_with, telling, lab, way, dict(zip(ids, ids, strict=True)))
                await until(taken, "all of them are taken")
            answer = await client.call("GET", f"mdm/android/enterprise/devices/{serial}")
            assert answer.status_code == 200, answer.text  # two would be none
            assert answer.json()["data"]["config"]["name"] == second


async def _told(lab: LabClient, kind: str, resource: Json) -> list[str]:
    told = {"enterprise": ENTERPRISE, "type": kind, "resource": resource}
    return list((await lab.ask("POST", "/notifications", told))["messageIds"])


@pytest.mark.parametrize("forged", ["audience", "expired", "signature", "none"])
async def test_a_forged_push_changes_nothing(telling: Rig, forged: str) -> None:
    async with telling.client() as client, telling.lab_client() as lab:
        await pushed(telling, lab)
        unit, command = await issued_to(telling, client)

        async def refusals() -> int:
            return [push["status"] for push in (await lab.ask("GET", "/notifications"))["pushes"]].count(401)

        before = await refusals()
        await lab.ask("PUT", "/notifications/rules", [{"match": {"type": "COMMAND"}, "action": {"token": forged}}])
        await lab.put(unit, online=True)

        async def was_refused() -> bool:
            return await refusals() > before

        await until(was_refused, "the forged push is refused")
        assert (await client.command(unit, command))["status"] == "PENDING"


def bad_messages() -> dict[str, Json]:
    """What nobody can use, as Pub/Sub may have it."""
    at = {"attributes": {"notificationType": "COMMAND"}}
    unknown = json.dumps({"name": f"{ENTERPRISE}/devices/d/operations/1", "done": True})
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    return {
        "not JSON": {**at, "text": "<html>"},
        "not base64": {**at, "data": "nothing of the kind!"},
        "ten megabytes": {**at, "text": "x" * 10_000_000},
        "ten megabytes of an unknown kind": {"attributes": {"notificationType": "NEW"}, "text": "x" * 10_000_000},
        "an unknown operation of yesterday": {**at, "text": unknown, "publishTime": yesterday},
        "no attributes": {"text": unknown},
    }


@pytest.mark.parametrize("way", [pulled, pushed])
async def test_what_nobody_can_use_is_acknowledged_and_holds_nothing_up(telling: Rig, way: Any) -> None:
    async with telling.client() as client, telling.lab_client() as lab:
        await way(telling, lab)
        unit, command = await issued_to(telling, client)
        bad = {
            name: (await lab.ask("POST", "/notifications", {"topic": TOPIC, **message}))["messageIds"][0]
            for name, message in bad_messages().items()
        }
        await lab.put(unit, online=True)
        assert (await client.over(unit, command))["progress"]["rung"] == "succeeded"
        await until(lambda: _are_done_with(telling, lab, way, bad), "the bad messages are acknowledged")


async def _are_done_with(rig: Rig, lab: LabClient, way: Any, bad: dict[str, str]) -> bool:
    """Whether the server has acknowledged all of them, and refused none."""
    if way is pulled:
        waiting = (await lab.ask("GET", "/notifications"))["waiting"]
        return not set(bad.values()) & set(waiting[SUBSCRIPTION])
    pushes = (await lab.ask("GET", "/notifications"))["pushes"]
    statuses = {name: [push["status"] for push in pushes if push["messageId"] == bad[name]] for name in bad}
    assert {status for found in statuses.values() for status in found} <= {200}, statuses
    return all(statuses.values())
