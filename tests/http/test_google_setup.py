"""Set-up at Google over HTTP: what the contract promises, and what another organization learns."""

from __future__ import annotations

import pytest

from tests.channels.google import account_file
from tests.support.client import Api, error_of
from tests.support.demo import Demo

NAME = "enterprises/LC0demo0001"


@pytest.fixture
def tenant(demo: Demo) -> Api:
    """An organization that is connected with the demo's enterprise in the lab."""
    api, google = demo.new_organization(), demo.ready["lab"]["amapiUrl"]
    credentials = account_file(f"{google}/token").decode()
    demo.operator("enterprise.add", api.organization, name=NAME, credentials=credentials, apiUrl=google)
    return api


def test_an_enterprise_is_examined_and_connected_again(tenant: Api) -> None:
    [item] = tenant.setup("enterprise.check")["items"]
    assert item["enterprise"]["name"] == NAME
    assert [step["step"] for step in item["steps"] if step["state"] == "failed"] == []
    answer = tenant.setup("enterprise.connect", name=NAME, notifications=False)
    assert (answer["connected"], answer["enterprise"]["name"]) == (True, NAME)


def test_enrollment_tokens(tenant: Api) -> None:
    made = tenant.setup("enrollmentToken.create", durationSeconds=60, additionalData="till 7", personalUsage="userless")
    assert made["value"] in made["qrCode"]
    [kept] = tenant.setup("enrollmentToken.list")["items"]
    assert kept == {name: made[name] for name in kept}
    assert "value" not in kept


def test_another_organization_learns_nothing(demo: Demo, tenant: Api) -> None:
    other = demo.new_organization()
    mine = tenant.setup("enterprise.list")["items"][-1]["id"]
    tenant.setup("enrollmentToken.create")
    for reference in (mine, NAME):
        for verb in ("enterprise.check", "enrollmentToken.create"):
            assert error_of(other.post(f"setup/{verb}", {"enterprise": reference})) == (404, 3001)
    assert other.setup("enrollmentToken.list")["items"] == []
    answer = other.setup("enterprise.connect", name=NAME)
    assert (answer["connected"], answer["steps"][0]["detail"]) == (False, "none were given")
