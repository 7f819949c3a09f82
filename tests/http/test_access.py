"""Who may do what: every operation, with every kind of key that must not pass (DECISIONS 7, 23)."""

from __future__ import annotations

import pytest

from heliograph.domain.devices import PLATFORMS
from heliograph.domain.permissions import PERMISSIONS
from tests.http.routes import ABSENT, ALL, FEATURES, Known, names_of, permission_of, request
from tests.support.client import Api, data_of, error_of, until
from tests.support.contract import operations
from tests.support.demo import Demo
from tests.support.raw import RawAnswer, exchange


@pytest.mark.parametrize("operation", ALL)
class TestEveryOperation:
    """Each is tried with every kind of key."""

    def test_needs_a_token(self, operation: str, demo: Demo, known: Known) -> None:
        assert error_of(request(operation, demo.api.with_key(None), known)) == (401, 4002)

    def test_refuses_an_unknown_token(self, operation: str, demo: Demo, known: Known) -> None:
        assert error_of(request(operation, demo.api.with_key("hlg_" + "0" * 64), known)) == (401, 4004)

    def test_is_closed_to_a_key_of_another_organization(self, operation: str, demo: Demo, known: Known) -> None:
        """By id and by slug, whatever is asked for: each time the same answer, as for an organization that is none."""
        if "{organizationId}" not in operations()[operation].path:
            assert operation == "listOrganizations"  # it names none, and answers with the key's own
            return
        absent = dict.fromkeys(names_of(operation), ABSENT)
        answers = [
            request(operation, demo.other.inside(organization), known, ids=ids)
            for organization in (demo.api.organization, demo.api.slug, ABSENT, "no-such-organization")
            for ids in ({}, absent)
        ]
        assert {error_of(answer) for answer in answers} == {(404, 3001)}
        assert len({answer.content for answer in answers}) == 1

    def test_hides_records_of_another_organization(self, operation: str, demo: Demo, known: Known) -> None:
        """Inside its own organization a key learns nothing about the records of another."""
        if not names_of(operation):
            answer = request(operation, demo.other, known)
            named = [name for name in demo.devices if name not in PLATFORMS]  # which a refusal may list
            assert not [record for record in (*known.ids.values(), *named) if record in answer.text]
            return
        foreign = request(operation, demo.other, known)
        absent = request(operation, demo.other, known, ids=dict.fromkeys(names_of(operation), ABSENT))
        assert error_of(foreign) == (404, 3001)
        assert foreign.content == absent.content

    def test_needs_its_permission(self, operation: str, demo: Demo, known: Known) -> None:
        """All permissions but this one do not help."""
        others = [name for name in PERMISSIONS if name != permission_of(operation)]
        assert error_of(request(operation, demo.key(*others), known)) == (401, 4001)

    def test_needs_no_other_permission(self, operation: str, demo: Demo, known: Known) -> None:
        answer = request(operation, demo.key(permission_of(operation)), known)
        assert answer.status_code == 200 or error_of(answer)[1] in (3001, 5052, 5209), answer.text


@pytest.mark.parametrize("operation", FEATURES)
def test_a_feature_that_the_plan_leaves_out_is_refused(operation: str, demo: Demo, known: Known) -> None:
    feature = FEATURES[operation]
    without = demo.new_organization(**{feature: False})
    assert error_of(request(operation, without, known)) == (400, 5050)
    demo.operator("organization.feature", without.organization, feature=feature, on=True)
    assert error_of(request(operation, without, known)) == (404, 3001)  # on again: only the records are missing


def test_other_features_do_not_matter(demo: Demo, known: Known) -> None:
    all_off = demo.new_organization(**dict.fromkeys(FEATURES.values(), False))
    assert data_of(request("listEmmDevices", all_off, known))["totalDocs"] == 0


@pytest.mark.parametrize(
    ("granted", "allowed"),
    [
        ("mdm.android.*", {"getEmmDevice", "getEmmCommand"}),
        ("mdm.android.command.*", {"getEmmCommand"}),
        ("mdm.*", {"getEmmDevice", "getEmmCommand", "getAosDevice", "getPushNotification"}),
        ("base.*", {"getOrganization"}),
        ("*", {"getEmmDevice", "getEmmCommand", "getAosDevice", "getPushNotification", "getOrganization"}),
    ],
)
def test_a_prefix_grants_what_lies_below_it(granted: str, allowed: set[str], demo: Demo, known: Known) -> None:
    key = demo.key(granted)
    tried = ("getEmmDevice", "getEmmCommand", "getAosDevice", "getPushNotification", "getOrganization")
    answers = {operation: request(operation, key, known) for operation in tried}
    assert {operation for operation, answer in answers.items() if answer.status_code == 200} == allowed
    assert {error_of(answer) for name, answer in answers.items() if name not in allowed} <= {(401, 4001)}


def test_a_star_holds_no_right_over_the_installation(demo: Demo, known: Known) -> None:
    key = demo.key("*")
    for operation in ("setup.organization.create", "setup.organization.list", "setup.organization.feature"):
        assert error_of(request(operation, key, known)) == (401, 4001)


def test_a_revoked_key_is_refused_at_once(demo: Demo, known: Known) -> None:
    key = demo.key("mdm.android.device.get")
    assert request("getEmmDevice", key, known).status_code == 200
    demo.api.setup("key.revoke", id=key.key_id)
    assert error_of(request("getEmmDevice", key, known)) == (401, 4004)


def test_a_key_revoked_by_the_operator_is_refused_at_once(demo: Demo, known: Known) -> None:
    key = demo.key("mdm.android.device.get")
    assert request("getEmmDevice", key, known).status_code == 200
    demo.operator("key.revoke", key.organization, id=key.key_id)
    assert error_of(request("getEmmDevice", key, known)) == (401, 4004)


def test_what_a_key_has_made_ends_with_it(demo: Demo, known: Known) -> None:
    parent = demo.key("base.apiKey.create", "mdm.android.device.get", expires=3600)
    wanted = {"permissions": ["mdm.android.device.get"], "expiresInSeconds": 7200}
    made = parent.setup("key.create", **wanted)
    shown = {key["id"]: key for key in demo.api.setup("key.list")["items"]}
    assert made["createdBy"] == parent.key_id
    assert made["expiresAt"] == shown[str(parent.key_id)]["expiresAt"]
    child = parent.with_key(made["secret"])
    assert request("getEmmDevice", child, known).status_code == 200
    demo.api.setup("key.revoke", id=parent.key_id)
    assert error_of(request("getEmmDevice", child, known)) == (401, 4004)


def test_what_a_key_has_made_may_be_kept(demo: Demo, known: Known) -> None:
    parent = demo.key("base.apiKey.create", "mdm.android.device.get")
    child = parent.with_key(parent.setup("key.create", permissions=["mdm.android.device.get"])["secret"])
    demo.api.setup("key.revoke", id=parent.key_id, keepCreated=True)
    assert request("getEmmDevice", child, known).status_code == 200


def test_a_key_expires_while_it_is_in_use(demo: Demo, known: Known) -> None:
    key = demo.key("mdm.android.device.get", expires=1)
    answer = until(lambda: request("getEmmDevice", key, known), lambda found: found.status_code != 200)
    assert error_of(answer) == (401, 4004)


def test_a_feature_switched_off_is_off_at_once(demo: Demo, known: Known) -> None:
    organization = demo.new_organization()
    assert error_of(request("getEmmCommand", organization, known)) == (404, 3001)
    demo.operator("organization.feature", organization.organization, feature="androidCommands", on=False)
    assert error_of(request("getEmmCommand", organization, known)) == (400, 5050)


def asked_with(demo: Demo, authorization: str) -> RawAnswer:
    """The organization, read with this header as it is."""
    path = f"/v1/organizations/{demo.api.organization}"
    return exchange(demo.ready["baseUrl"], "GET", path, [("Authorization", authorization)])


@pytest.mark.sqlite_only
@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER {}", "bEaReR   {}", "Bearer {}  ", "Bearer {}\t"])
def test_the_scheme_is_read_in_any_case_and_blanks_are_ignored(form: str, demo: Demo) -> None:
    assert asked_with(demo, form.format(demo.api.key)).status == 200


@pytest.mark.sqlite_only
@pytest.mark.parametrize("header", ["", " ", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Token {}", "{}", "Bearer{}"])
def test_what_is_no_bearer_token_is_none(header: str, demo: Demo) -> None:
    assert asked_with(demo, header.format(demo.api.key)).error == (401, 4002)


@pytest.mark.sqlite_only
@pytest.mark.parametrize("token", ["x", "{}x", "hla_" + "0" * 64, "\xff\xfe", "%00"])
def test_a_token_that_is_no_key_of_ours_is_invalid(token: str, demo: Demo) -> None:
    assert asked_with(demo, f"Bearer {token.format(demo.api.key)}").error == (401, 4004)


@pytest.mark.sqlite_only
def test_the_secret_of_a_device_is_no_api_key_nor_the_other_way_round(demo: Demo) -> None:
    device = demo.api.new_device("ios")
    assert error_of(demo.api.with_key(device.secret).get("")) == (401, 4004)
    answer = demo.client.post(
        "/agent/v1/register",
        json={"app": "mdmAgent", "agentVersion": "1"},
        headers={"Authorization": f"Bearer {demo.api.key}"},
    )
    assert answer.status_code == 401


def test_an_answer_about_tokens_does_not_depend_on_the_organization(demo: Demo) -> None:
    anyone = Api(demo.client, "no-such-organization", None)
    assert error_of(anyone.get("")) == (401, 4002)
    assert error_of(anyone.with_key("x").get("")) == (401, 4004)


def test_a_key_learns_which_organization_it_belongs_to(demo: Demo, known: Known) -> None:
    own = data_of(request("listOrganizations", demo.api, known))
    assert (own["totalDocs"], own["items"]) == (1, [data_of(request("getOrganization", demo.api, known))])
    other = demo.ready["otherOrganization"]
    found = data_of(request("listOrganizations", demo.api.with_key(other["apiKey"]), known))["items"]
    assert [(one["id"], one["slug"]) for one in found] == [(other["id"], other["slug"])]
    assert data_of(demo.api.call("GET", "/v1/organizations?page=2"))["items"] == []
