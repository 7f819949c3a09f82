"""Sign-up, enterprises and enrollment tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.lab.amapi.rig import ENTERPRISE, Json, Rig, device, running

TOKENS = f"{ENTERPRISE}/enrollmentTokens"
TOPIC = "projects/alpha/topics/devices"
CALLBACK = "https://emm.example/done?next=%2Fhome"
FIELDS = [("name", "x"), ("value", "x"), ("qrCode", "x"), ("expirationTimestamp", "2030-01-01T00:00:00Z")]


async def _sign_up(rig: Rig, project: str = "alpha", **query: Any) -> tuple[str, str]:
    """The name of a sign-up URL, and the token that its page gives out."""
    signup = await rig.ask("POST", "signupUrls", projectId=project, callbackUrl=CALLBACK, **query)
    page = await rig.client.get(signup["url"])
    assert page.status_code == 302
    parts = urlsplit(page.headers["location"])
    assert parts._replace(query="").geturl() == "https://emm.example/done"
    answers = parse_qs(parts.query)
    assert answers["next"] == ["/home"]
    return signup["name"], answers["enterpriseToken"][0]


async def _create(rig: Rig, body: Json | None = None, *, status: int = 200, project: str = "alpha") -> Json:
    name, token = await _sign_up(rig, project)
    query: dict[str, Any] = {"projectId": project, "signupUrlName": name, "enterpriseToken": token}
    return await rig.ask("POST", "enterprises", body or {}, status=status, **query)


def _fields(answer: Json) -> list[str]:
    return [item.get("field", "") for item in answer["error"]["details"][0]["fieldViolations"]]


async def test_from_the_sign_up_url_to_an_enterprise(rig: Rig) -> None:
    created = await _create(rig, {"enterpriseDisplayName": "Acme", "pubsubTopic": TOPIC, "name": "enterprises/mine"})
    assert created["name"].startswith("enterprises/LC")
    assert created["enterpriseDisplayName"] == "Acme"
    assert created["managedGooglePlayAccountsEnterpriseType"] == "CUSTOMER_MANAGED"
    assert await rig.ask("GET", created["name"]) == created
    assert await rig.ask("GET", f"{created['name']}/devices") == {}


async def test_a_sign_up_is_good_for_one_enterprise_of_its_project(rig: Rig) -> None:
    name, token = await _sign_up(rig)
    good: dict[str, Any] = {"projectId": "alpha", "signupUrlName": name, "enterpriseToken": token}
    unvisited = (await rig.ask("POST", "signupUrls", projectId="alpha"))["name"]
    for wrong in (
        {"projectId": "beta"},
        {"projectId": ""},
        {"enterpriseToken": "x"},
        {"enterpriseToken": ""},
        {"signupUrlName": unvisited},
        {"signupUrlName": unvisited, "enterpriseToken": ""},
        {"signupUrlName": "signupUrls/none"},
        {"agreementAccepted": "true"},
    ):
        answer = await rig.ask("POST", "enterprises", {}, status=400, **(good | wrong))
        assert answer["error"]["status"] == "INVALID_ARGUMENT"
    await rig.ask("POST", "enterprises", {}, **good)
    await rig.ask("POST", "enterprises", {}, status=400, **good)
    assert (await rig.client.get(f"/signup/{name.partition('/')[2]}")).status_code == 404


async def test_a_page_gives_the_same_token_again_and_shows_it_without_a_callback(rig: Rig) -> None:
    signup = await rig.ask("POST", "signupUrls", projectId="alpha")
    first, second = [await rig.client.get(signup["url"]) for _ in range(2)]
    assert first.status_code == 200
    assert "enterprise token is E" in first.text
    assert first.text == second.text


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({}, ["project_id"]),
        ({"projectId": "p" * 101}, ["project_id"]),
        ({"projectId": "p", "callbackUrl": "/relative"}, ["callback_url"]),
        ({"projectId": "p", "callbackUrl": "javascript:alert(1)"}, ["callback_url"]),
        ({"projectId": "p", "callbackUrl": "https://[x"}, ["callback_url"]),
        ({"projectId": "p", "callbackUrl": "https://e.example/" + "x" * 2000}, ["callback_url"]),
        ({"projectId": "p", "adminEmail": "a@b.c", "allowedDomains": ["d.e", "*.b.c"]}, ["admin_email"]),
    ],
)
async def test_wrong_sign_ups(rig: Rig, query: dict[str, Any], fields: list[str]) -> None:
    assert _fields(await rig.ask("POST", "signupUrls", status=400, **query)) == fields


async def test_a_callback_cannot_bring_in_a_header(rig: Rig) -> None:
    callback = "https://emm.example/a\r\nSet-Cookie: x=y/é?q=\r\nz"
    signup = await rig.ask("POST", "signupUrls", projectId="p", callbackUrl=callback)
    page = await rig.client.get(signup["url"])
    assert page.status_code == 302
    assert "set-cookie" not in page.headers
    assert page.headers["location"].isascii()
    assert not set("\r\n ").intersection(page.headers["location"])


async def test_the_domains_of_a_sign_up(rig: Rig) -> None:
    for domains in (["b.c"], ["*.c", "x.y"], []):
        await rig.ask("POST", "signupUrls", projectId="p", adminEmail="a@b.c", allowedDomains=domains)


async def test_an_enterprise_that_its_emm_manages(rig: Rig) -> None:
    body = {"enterpriseDisplayName": "Acme", "contactInfo": {"contactEmail": "it@acme.example"}}
    query: dict[str, Any] = {"projectId": "alpha", "agreementAccepted": "true"}
    for lacking in ({}, {"enterpriseDisplayName": "Acme"}, {"contactInfo": body["contactInfo"]}):
        await rig.ask("POST", "enterprises", lacking, status=400, **query)
    await rig.ask("POST", "enterprises", body, status=400, projectId="alpha")
    created = await rig.ask("POST", "enterprises", body, **query)
    assert created["managedGooglePlayAccountsEnterpriseType"] == "EMM_MANAGED"
    token = (await rig.ask("POST", f"{created['name']}/enrollmentTokens", {}))["name"]
    assert await rig.ask("DELETE", created["name"]) == {}
    for path in (created["name"], token, f"{created['name']}/devices"):
        await rig.ask("GET", path, status=403)
    await rig.ask("DELETE", created["name"], status=403)


@pytest.mark.parametrize(("answer", "status"), [("400", 400), ("403", 403), ("ok", 200)])
async def test_deleting_an_enterprise_that_its_customer_manages(rig: Rig, answer: str, status: int) -> None:
    await rig.kernel.settings.change({"amapi": {"deleteCustomerManaged": answer}})
    await rig.ask("DELETE", ENTERPRISE, status=status)
    await rig.ask("GET", f"{ENTERPRISE}/devices/d1", status=200 if status != 200 else 403)
    names = [item["name"] for item in (await rig.ask("GET", "enterprises", projectId="p")).get("enterprises", [])]
    assert (ENTERPRISE in names) == (status != 200)


async def test_a_fleet_brings_no_deleted_enterprise_back(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.kernel.settings.change({"amapi": {"deleteCustomerManaged": "ok"}})
        await rig.ask("DELETE", ENTERPRISE)
    async with running(tmp_path) as rig:  # which puts its fleet again
        await rig.fleet.put_all([device("late")])
        for path in (ENTERPRISE, f"{ENTERPRISE}/devices", f"{ENTERPRISE}/devices/late"):
            await rig.ask("GET", path, status=403)
        await rig.issue("late", status=403)
        await rig.cancel(f"{ENTERPRISE}/devices/late/operations/1", status=403)


async def test_the_list_is_the_projects_and_basic(rig: Rig) -> None:
    alpha = [(await _create(rig, {"enterpriseDisplayName": f"A{n}", "pubsubTopic": TOPIC}))["name"] for n in range(3)]
    beta = (await _create(rig, project="beta"))["name"]
    names: list[str] = []
    query: dict[str, Any] = {"projectId": "alpha", "pageSize": 2, "view": "BASIC"}
    while True:
        page = await rig.ask("GET", "enterprises", **query)
        assert all(set(item) == {"name", "enterpriseDisplayName"} for item in page["enterprises"])
        names += [item["name"] for item in page["enterprises"]]
        if "nextPageToken" not in page:
            break
        query["pageToken"] = page["nextPageToken"]
        await rig.ask("GET", "enterprises", status=400, projectId="beta", pageToken=query["pageToken"])
    assert names == sorted([*alpha, ENTERPRISE])  # that of the fleet is everybody's
    assert beta not in names
    await rig.ask("GET", "enterprises", status=400)
    await rig.ask("GET", "enterprises", status=400, projectId="alpha", view="FULL")


async def test_patching_an_enterprise(rig: Rig) -> None:
    types = ["ENROLLMENT", "STATUS_REPORT", "COMMAND"]
    patched = await rig.ask("PATCH", ENTERPRISE, {"pubsubTopic": TOPIC, "enabled_notification_types": types})
    assert (patched["pubsubTopic"], patched["enabledNotificationTypes"]) == (TOPIC, types)
    renamed = await rig.ask(
        "PATCH", ENTERPRISE, {**patched, "enterpriseDisplayName": "A"}, updateMask="enterpriseDisplayName"
    )
    assert renamed == {**patched, "enterpriseDisplayName": "A"}
    cleared = await rig.ask("PATCH", ENTERPRISE, {}, updateMask="pubsubTopic,enabled_notification_types")
    assert "pubsubTopic" not in cleared
    assert "enabledNotificationTypes" not in cleared
    assert cleared["enterpriseDisplayName"] == "A"
    assert await rig.ask("GET", ENTERPRISE) == cleared
    await rig.ask("PATCH", "enterprises/other", {}, status=403)


@pytest.mark.parametrize(
    ("body", "mask", "status", "field"),
    [
        ({"pubsubTopic": "devices"}, None, 400, "pubsub_topic"),
        ({"enterpriseDisplayName": "x" * 101}, None, 400, "enterprise_display_name"),
        ({"primaryColor": 0x1000000}, None, 400, "primary_color"),
        ({"enabledNotificationTypes": ["ALL"]}, None, 400, "enabled_notification_types[0]"),
        ({"zz": 1}, None, 400, ""),
        ({}, "name", 400, "update_mask"),
        ({}, "enterpriseType", 400, "update_mask"),
        ({}, "zz", 400, "update_mask"),
        ({"signinDetails": [{"signinUrl": "https://a.example"}]}, None, 501, None),
    ],
)
async def test_wrong_patches(rig: Rig, body: Json, mask: str | None, status: int, field: str | None) -> None:
    before = await rig.ask("GET", ENTERPRISE)
    query = {"updateMask": mask} if mask else {}
    answer = await rig.ask("PATCH", ENTERPRISE, body, status=status, **query)
    assert field is None or _fields(answer) == [field]
    assert await rig.ask("GET", ENTERPRISE) == before


async def test_an_enrollment_token_in_full_and_in_part(rig: Rig) -> None:
    asked = {"duration": "7200s", "additionalData": "unit 7", "policyName": "kiosk", "oneTimeOnly": True}
    asked |= {"allowPersonalUsage": "PERSONAL_USAGE_DISALLOWED_USERLESS", "user": {"accountIdentifier": "x"}}
    created = await rig.ask("POST", TOKENS, {**asked, **dict(FIELDS)})
    assert {key: created[key] for key in ("duration", "additionalData", "oneTimeOnly")} == {
        "duration": "7200s",
        "additionalData": "unit 7",
        "oneTimeOnly": True,
    }
    assert created["policyName"] == f"{ENTERPRISE}/policies/kiosk"
    assert "user" not in created
    assert created["name"].startswith(f"{TOKENS}/")
    assert "x" not in (created["name"], created["value"], created["qrCode"])
    code = json.loads(created["qrCode"])
    extras = code["android.app.extra.PROVISIONING_ADMIN_EXTRAS_BUNDLE"]
    assert extras == {"com.google.android.apps.work.clouddpc.EXTRA_ENROLLMENT_TOKEN": created["value"]}
    assert len([key for key in code if key.startswith("android.app.extra.PROVISIONING_DEVICE_ADMIN_")]) == 3
    part = {key: created[key] for key in ("name", "value", "expirationTimestamp", "allowPersonalUsage", "qrCode")}
    assert await rig.ask("GET", created["name"]) == part
    assert await rig.ask("GET", TOKENS) == {"enrollmentTokens": [part]}


@pytest.mark.parametrize(
    ("duration", "life"), [(None, 3600), ("60s", 60), ("90.5s", 90.5), ("315360000s", 315_360_000)]
)
async def test_the_life_of_a_token(rig: Rig, duration: str | None, life: float) -> None:
    created = await rig.ask("POST", TOKENS, {"duration": duration})
    assert created["duration"] == (duration or "3600s").replace("90.5s", "90.500s")
    await rig.kernel.clock.advance(life - 1)
    await rig.ask("GET", created["name"])
    await rig.kernel.clock.advance(1)
    await rig.ask("GET", created["name"], status=404)
    await rig.ask("DELETE", created["name"], status=404)
    assert await rig.ask("GET", TOKENS) == {}


async def test_the_longest_life_ends_with_the_calendar(rig: Rig) -> None:
    created = await rig.ask("POST", TOKENS, {"duration": "315576000000s"})
    assert created["expirationTimestamp"] == "9999-12-31T23:59:59.999999999Z"
    await rig.ask("GET", created["name"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"duration": "59.999s"}, "duration"),
        ({"duration": "-60s"}, "duration"),
        ({"duration": "315576000001s"}, "duration"),
        ({"duration": "1h"}, "duration"),
        ({"additionalData": "é" * 1025}, "additional_data"),
        ({"policyName": "enterprises/other/policies/p"}, "policy_name"),
        ({"policyName": "policies/p"}, "policy_name"),
        ({"allowPersonalUsage": "MAYBE"}, "allow_personal_usage"),
        ({"oneTimeOnly": "yes"}, "one_time_only"),
        ({"zz": 1}, ""),
    ],
)
async def test_wrong_tokens(rig: Rig, body: Json, field: str) -> None:
    assert _fields(await rig.ask("POST", TOKENS, body, status=400)) == [field]
    assert await rig.ask("GET", TOKENS) == {}
    await rig.ask("POST", TOKENS, {"additionalData": "é" * 1024})


async def test_pages_of_tokens(rig: Rig) -> None:
    made = [(await rig.ask("POST", TOKENS, {}))["name"] for _ in range(130)]
    assert len((await rig.ask("GET", TOKENS))["enrollmentTokens"]) == 10
    first = await rig.ask("GET", TOKENS, pageSize=500)
    second = await rig.ask("GET", TOKENS, pageSize=500, pageToken=first["nextPageToken"])
    assert [item["name"] for page in (first, second) for item in page["enrollmentTokens"]] == made
    assert "nextPageToken" not in second
    for path in (f"{ENTERPRISE}/devices", f"{ENTERPRISE}/devices/d1/operations"):
        await rig.ask("GET", path, status=400, pageToken=first["nextPageToken"])
    await rig.ask("DELETE", made[0])
    await rig.ask("GET", made[0], status=404)
    await rig.ask("DELETE", made[0], status=404)


async def test_tokens_of_somebody_else(rig: Rig) -> None:
    other = "enterprises/other/enrollmentTokens"
    await rig.ask("POST", other, {}, status=403)
    await rig.ask("GET", other, status=403)
    await rig.ask("GET", f"{other}/x", status=403)
    await rig.ask("DELETE", f"{other}/x", status=403)
    await rig.ask("GET", f"{TOKENS}/x", status=404)


async def test_everything_survives_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        name, token = await _sign_up(rig)
        enterprise = (await _create(rig, {"pubsubTopic": TOPIC}))["name"]
        tokens = [(await rig.ask("POST", TOKENS, {}))["name"] for _ in range(3)]
        await rig.ask("DELETE", tokens[0])
    async with running(tmp_path) as rig:
        assert (await rig.ask("GET", enterprise))["pubsubTopic"] == TOPIC
        assert [item["name"] for item in (await rig.ask("GET", TOKENS))["enrollmentTokens"]] == tokens[1:]
        query: dict[str, Any] = {"projectId": "alpha", "signupUrlName": name, "enterpriseToken": token}
        await rig.ask("POST", "enterprises", {}, **query)
