"""From a key file to an enterprise that is heard, against the lab; repeated, interrupted, and with bad input."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from heliograph.app.notification_line import PUBLISHER, PUBLISHER_ROLE
from heliograph.app.setup import create_organization
from heliograph.domain.devices import Organization
from heliograph.domain.errors import InvalidInput
from tests.app.at_google import Office, last, open_office, states

TELLS = {"COMMAND", "STATUS_REPORT", "ENROLLMENT"}


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(tmp_path) as office:
        yield office


async def test_from_a_key_file_to_an_enterprise_that_tells(office: Office) -> None:
    begun = await office.connect()
    assert (begun["connected"], last(begun)[:2]) == (False, ("sign-up", "waiting"))
    token = await office.signed_up(begun["signUpUrl"])
    answer = await office.connect(enterpriseToken=token, displayName="Acme")
    assert answer["connected"]
    assert [step["step"] for step in answer["steps"] if step["state"] == "done"] == [
        "enterprise",
        "topic",
        "grant",
        "subscription",
        "notifications",
    ]
    name = answer["enterprise"]["name"]
    shown = await office.amapi("GET", name)
    assert shown["enterpriseDisplayName"] == "Acme"
    assert set(shown["enabledNotificationTypes"]) == TELLS
    subscription = await office.pubsub("GET", answer["enterprise"]["subscription"])
    assert subscription["topic"] == shown["pubsubTopic"]
    assert "ttl" not in subscription["expirationPolicy"]
    policy = await office.pubsub("GET", f"{shown['pubsubTopic']}:getIamPolicy")
    assert policy["bindings"] == [{"role": PUBLISHER_ROLE, "members": [PUBLISHER]}]


async def test_again_changes_nothing(office: Office) -> None:
    first = await office.connected()
    again = await office.connect(enterpriseToken="Ebefore")
    assert again["connected"]
    assert again["enterprise"] == first["enterprise"]
    assert set(states(again).values()) == {"ok"}
    without_file = await office.verb("enterprise.connect")
    assert without_file["connected"]


CALLS = {
    "sign-up": ("amapi", "POST", "signupUrls"),
    "list": ("amapi", "GET", "v1/enterprises$"),
    "create": ("amapi", "POST", "v1/enterprises$"),
    "get": ("amapi", "GET", "v1/enterprises/"),
    "topic": ("pubsub", "PUT", "/topics/"),
    "policy": ("pubsub", "GET", "getIamPolicy"),
    "grant": ("pubsub", "POST", "setIamPolicy"),
    "subscription": ("pubsub", "PUT", "/subscriptions/"),
    "patch": ("amapi", "PATCH", "v1/enterprises/"),
}


@pytest.mark.parametrize("cut", ["before", "after"])
@pytest.mark.parametrize("call", CALLS)
async def test_it_goes_on_where_it_was_cut_off(office: Office, call: str, cut: str) -> None:
    service, method, path = CALLS[call]
    rule = {"service": service, "match": {"method": method, "path": path}, "action": {"cut": cut}, "times": 1}
    office.faults(rule)
    begun = await office.connect()
    if begun["signUpUrl"] is None or begun["steps"][-1]["state"] == "failed":
        assert last(begun)[1] == "failed"
        assert "run it again" in last(begun)[2]
        begun = await office.connect()
    token = await office.signed_up(begun["signUpUrl"])
    answer = await office.connect(enterpriseToken=token)
    if not answer["connected"]:
        assert last(answer)[1] == "failed"
        answer = await office.connect(enterpriseToken=token)
    assert answer["connected"], answer["steps"]
    assert not office.lab.kernel.faults.rules()
    made = (await office.amapi("GET", "enterprises", projectId="p"))["enterprises"]
    assert [e["name"] for e in made] == [answer["enterprise"]["name"]]
    assert [e["name"] for e in (await office.verb("enterprise.list"))["items"]][1:] == [answer["enterprise"]["name"]]


async def without_an_answer(office: Office, cut: str) -> tuple[Organization, str]:
    """An organization whose attempt to make an enterprise got no answer, and its token."""
    organization = office.organization
    token = await office.signed_up((await office.connect())["signUpUrl"])
    match = {"method": "POST", "path": "v1/enterprises$"}
    office.faults({"service": "amapi", "match": match, "times": 1, "action": {"cut": cut}})
    assert not (await office.connect(enterpriseToken=token))["connected"]
    return organization, token


async def test_another_organization_s_enterprise_is_never_taken_for_the_one_that_was_made(office: Office) -> None:
    ours, token = await without_an_answer(office, "before")
    office.organization = await create_organization(office.services, "umbrella")
    theirs = (await office.connected())["enterprise"]["name"]
    office.organization = ours
    asked = await office.connect()
    assert (last(asked)[:2], asked["enterprise"]) == (("sign-up", "waiting"), None)
    answer = await office.connect(enterpriseToken=token)
    assert answer["connected"], answer["steps"]
    assert answer["enterprise"]["name"] != theirs


async def test_what_two_organizations_may_have_made_is_neither_s_until_somebody_names_it(office: Office) -> None:
    ours, token = await without_an_answer(office, "before")
    office.organization = await create_organization(office.services, "umbrella")
    theirs, _ = await without_an_answer(office, "after")
    [made] = (await office.amapi("GET", "enterprises", projectId="p"))["enterprises"]
    for organization in (ours, theirs):
        office.organization = organization
        asked = await office.connect()
        assert (last(asked)[:2], made["name"] in last(asked)[2]) == (("enterprise", "failed"), True)
        assert asked["enterprise"] is None
    assert (await office.connect(name=made["name"]))["connected"]
    office.organization = ours
    answer = await office.connect(enterpriseToken=token)
    assert (answer["connected"], answer["enterprise"]["name"] == made["name"]) == (True, False)


async def test_a_project_of_many_enterprises_is_listed_to_its_end_and_each_page_is_paid_for(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = office.lab.amapi.settings
    settings.enterprises = tuple(f"enterprises/LC{number}" for number in range(30))
    settings.operations_page = settings.operations_page_max = 1
    quota, taken = office.services.quota, 0
    assert quota is not None

    async def take(*_: Any) -> bool:
        nonlocal taken
        taken += 1
        return True

    monkeypatch.setattr(quota, "take", take)
    begun = await office.connect()
    assert last(begun)[:2] == ("sign-up", "waiting"), begun["steps"]
    assert taken == 1 + 30  # the sign-up, and each page


async def test_what_somebody_else_set_up_is_left_as_it_is(office: Office) -> None:
    name = (await office.connected(notifications=False))["enterprise"]["name"]
    theirs = "projects/other/topics/theirs"
    await office.pubsub("PUT", theirs, {})
    told = {"pubsubTopic": theirs, "enabledNotificationTypes": ["USAGE_LOGS"]}
    await office.amapi("PATCH", name, told, updateMask="pubsubTopic,enabledNotificationTypes")
    answer = await office.connect(name=name)
    assert answer["connected"]
    shown = await office.amapi("GET", name)
    assert shown["pubsubTopic"] == theirs
    assert set(shown["enabledNotificationTypes"]) == TELLS | {"USAGE_LOGS"}
    assert (await office.pubsub("GET", answer["enterprise"]["subscription"]))["topic"] == theirs
    assert "bindings" not in await office.pubsub("GET", f"{theirs}:getIamPolicy")


async def test_a_grant_of_others_stays(office: Office) -> None:
    binding = {"role": "roles/pubsub.viewer", "members": ["user:a@example.com"]}
    topic = "projects/p/topics/mine"
    await office.pubsub("PUT", topic, {})
    await office.pubsub("POST", f"{topic}:setIamPolicy", {"policy": {"bindings": [binding]}})
    assert (await office.connected(topic=topic))["connected"]
    assert binding in (await office.pubsub("GET", f"{topic}:getIamPolicy"))["bindings"]


async def test_a_subscription_that_cannot_be_pulled_is_not_taken(office: Office) -> None:
    await office.pubsub("PUT", "projects/p/topics/another", {})
    await office.pubsub("PUT", "projects/p/subscriptions/mine", {"topic": "projects/p/topics/another"})
    begun = await office.connect()
    token = await office.signed_up(begun["signUpUrl"])
    answer = await office.connect(enterpriseToken=token, subscription="projects/p/subscriptions/mine")
    assert last(answer)[:2] == ("subscription", "failed")
    assert "--subscription" in last(answer)[2]
    assert answer["enterprise"]["subscription"] is None


async def test_several_enterprises_and_projects_of_one_organization(office: Office) -> None:
    names = {(await office.connected(project))["enterprise"]["name"] for project in ("p", "q")}
    another = await office.connect("q", newSignUp=True)
    token = await office.signed_up(another["signUpUrl"])
    names.add((await office.connect("q", enterpriseToken=token))["enterprise"]["name"])
    assert len(names) == 3
    asked = await office.connect("q")
    assert (last(asked)[:2], "several are connected" in last(asked)[2]) == (("enterprise", "failed"), True)
    for name in names:
        made = await office.verb("enrollmentToken.create", enterprise=name)
        phone = await office.http.post(
            f"{office.lab.urls['controlUrl']}/devices", json={"enrollmentToken": made["value"]}
        )
        assert phone.json()["amapiName"].startswith(f"{name}/")
    assert {p["project"] for p in office.lab.amapi.quota.shown()["projects"]} >= {"p", "q"}
    checked = await office.verb("enterprise.check")
    assert {i["enterprise"]["name"] for i in checked["items"]} == names
    assert [i for i in checked["items"] if any(step["state"] == "failed" for step in i["steps"])] == []


async def test_what_an_enrollment_token_was_made_for_is_known_later(office: Office) -> None:
    await office.connected()
    made = await office.verb(
        "enrollmentToken.create",
        durationSeconds=7200,
        additionalData="till 7",
        personalUsage="userless",
        oneTimeOnly=True,
    )
    assert made["value"] in made["qrCode"]
    assert made["page"].endswith(made["value"])
    assert made["expiresAt"] > made["createdAt"]
    [kept] = (await office.verb("enrollmentToken.list"))["items"]
    assert (kept["additionalData"], kept["oneTimeOnly"], kept["personalUsage"]) == (
        "till 7",
        True,
        "PERSONAL_USAGE_DISALLOWED_USERLESS",
    )
    assert made["value"] not in repr(kept)


@pytest.mark.parametrize(
    ("rule", "body", "step", "words"),
    [
        (
            {"service": "amapi", "match": {"path": "/token"}, "action": {"status": 400, "body": "{}"}},
            {},
            "token",
            "new key",
        ),
        (
            {"service": "amapi", "match": {"path": "v1/"}, "action": {"status": 403}},
            {},
            "sign-up",
            "roles/androidmanagement.user",
        ),
        (
            {
                "service": "amapi",
                "match": {"path": "v1/"},
                "action": {
                    "status": 403,
                    "body": '{"error":{"code":403,"status":"PERMISSION_DENIED","message":"It is off.",'
                    '"details":[{"reason":"SERVICE_DISABLED"}]}}',
                },
            },
            {},
            "sign-up",
            "gcloud services enable androidmanagement.googleapis.com --project p",
        ),
        ({"service": "amapi", "action": {"cut": "before"}}, {}, "network", "heliograph lab up"),
        (
            {"service": "amapi", "match": {"path": "v1/"}, "action": {"status": 502, "body": "<html>"}},
            {},
            "sign-up",
            "HELIOGRAPH_AMAPI_URL",
        ),
        (None, {"name": "enterprises/LC0notours"}, "enterprise", "made with another project than p"),
        (None, {"enterpriseToken": "Eabc"}, "sign-up", "no sign-up is under way"),
    ],
)
async def test_each_fault_says_what_to_do(office: Office, rule: Any, body: Any, step: str, words: str) -> None:
    office.faults(*([] if rule is None else [rule]))
    answer = await office.connect(**body)
    assert last(answer)[:2] == (step, "failed")
    assert words in last(answer)[2]
    assert answer["enterprise"] is None
    assert [e["name"] for e in (await office.verb("enterprise.list"))["items"]] == ["aosp"]


async def test_an_account_without_rights_at_pubsub(office: Office) -> None:
    office.faults({"service": "pubsub", "action": {"status": 403}})
    begun = await office.connect()
    token = await office.signed_up(begun["signUpUrl"])
    answer = await office.connect(enterpriseToken=token)
    assert last(answer)[:2] == ("topic", "failed")
    assert "roles/pubsub.admin" in last(answer)[2]
    assert answer["enterprise"]["hasCredentials"], "commands work already"
    assert (await office.connect(notifications=False))["connected"]


async def test_a_key_of_another_project(office: Office) -> None:
    name = (await office.connected("p"))["enterprise"]["name"]
    before = await office.services.store.directory.enterprises()
    answer = await office.connect("q", name=name)
    assert last(answer)[:2] == ("enterprise", "failed")
    assert "made with another project than q" in last(answer)[2]
    assert await office.services.store.directory.enterprises() == before, "the working credentials stay"


@pytest.mark.parametrize("seconds", [600, -600])
async def test_a_clock_that_is_ten_minutes_off(office: Office, seconds: int) -> None:
    office.clock.jump(seconds)
    answer = await office.connect()
    assert last(answer)[:2] == ("clock", "failed")
    assert "NTP" in last(answer)[2]
    assert office.lab.kernel.state.all("amapi.signups") == {}


async def test_a_quota_of_nothing(office: Office) -> None:
    office.lab.amapi.settings.quota_limit = 0
    answer = await office.connect()
    assert last(answer)[:2] == ("sign-up", "failed")
    assert "approved" in last(answer)[2]


async def test_a_token_of_another_sign_up(office: Office) -> None:
    begun = await office.connect()
    await office.signed_up(begun["signUpUrl"])
    answer = await office.connect(enterpriseToken="Eanother")
    assert last(answer)[:2] == ("enterprise", "failed")
    assert begun["signUpUrl"] in last(answer)[2]
    assert "Eanother" not in repr(answer)
    assert (await office.connect(enterpriseToken=await office.signed_up(begun["signUpUrl"])))["connected"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: text[:200], "cut off"),
        (lambda text: "", "empty"),
        (lambda text: text.replace("service_account", "authorized_user"), "person's own login"),
        (lambda text: text.replace("BEGIN PRIVATE", "BEGUN PRIVATE"), "private_key"),
    ],
)
async def test_key_files_that_are_none(office: Office, spoil: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match="credentials") as caught:
        await office.verb("enterprise.connect", credentials=spoil(office.key_file()))
    assert words in str(caught.value)


async def test_the_token_is_kept_nowhere(office: Office, tmp_path: Path) -> None:
    begun = await office.connect()
    token = await office.signed_up(begun["signUpUrl"])
    await office.connect(enterpriseToken=token)
    made = await office.verb("enrollmentToken.create")
    await office.services.store.ping()
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("heliograph.db*"))
    assert [secret for secret in (token, made["value"]) if secret.encode() in stored] == []
