"""Accounts at push providers: renewed, disabled, tested, and never shown (DECISIONS 29)."""

from __future__ import annotations

import json

import pytest

from tests.http.routes import ABSENT
from tests.support.client import Api, data_of, fields_of, until
from tests.support.demo import Demo

GOOD, BAD = "a" * 40, "b" * 40


@pytest.fixture
def tenant(demo: Demo) -> Api:
    return demo.new_organization()


def add(demo: Demo, tenant: Api, key: str = GOOD) -> str:
    """An account that leads to the lab; the operator says so, because a key may not."""
    config = {"apiKey": key, "baseUrl": demo.ready["lab"]["pushyUrl"]}
    return str(demo.operator("provider.add", tenant.organization, provider="pushy", config=config)["id"])


def test_what_is_renewed_counts_and_the_rest_stays(demo: Demo, tenant: Api) -> None:
    account = add(demo, tenant)
    before = tenant.setup("provider.get", id=account)
    assert (before["settings"], before["fault"]) == (["apiKey", "baseUrl", "requestsPerMinute"], None)
    after = tenant.setup("provider.update", id=account, name="till", config={"apiKey": BAD})
    assert (after["name"], after["default"], after["disabled"]) == ("till", True, False)
    shown = tenant.setup("provider.get", id=account)
    assert shown["addresses"] == before["addresses"]
    assert not {key for key in (GOOD, BAD) if key in json.dumps([shown, after, tenant.setup("provider.list")])}


def test_a_disabled_account_is_passed_over_until_it_is_enabled(demo: Demo, tenant: Api) -> None:
    account = add(demo, tenant)
    agent = tenant.new_device("aosp")
    agent.register(provider="pushy", token="3" * 30)
    tenant.setup("provider.update", id=account, disabled=True)
    assert tenant.setup("provider.test", id=account) == {"works": False, "detail": "the account is disabled"}
    assert tenant.send("aosp", agent.device.id).status_code == 404
    tenant.setup("provider.update", id=account, disabled=False)
    assert tenant.setup("provider.test", id=account)["works"] is True
    assert data_of(tenant.send("aosp", agent.device.id))["provider"] == "pushy"


def test_a_key_sends_no_stored_credentials_elsewhere(demo: Demo, tenant: Api) -> None:
    account = add(demo, tenant)
    body = {"id": account, "config": {"baseUrl": "https://elsewhere.example"}}
    assert fields_of(tenant.post("setup/provider.update", body)) == ["config.baseUrl"]
    body = {"id": account, "config": {"baseUrl": ["https://elsewhere.example"]}}
    assert "config.baseUrl" in fields_of(tenant.post("setup/provider.update", body))
    assert tenant.setup("provider.get", id=account)["addresses"] == {"baseUrl": demo.ready["lab"]["pushyUrl"]}


def test_wrong_settings_change_nothing(demo: Demo, tenant: Api) -> None:
    account = add(demo, tenant)
    before = tenant.setup("provider.get", id=account)
    assert fields_of(tenant.post("setup/provider.update", {"id": account, "config": {"apiKey": "no key"}})) == [
        "config.apiKey"
    ]
    assert fields_of(tenant.post("setup/provider.update", {"id": account, "config": {"apiKey": None}})) == [
        "config.apiKey"
    ]
    assert tenant.setup("provider.get", id=account) == before


@pytest.mark.parametrize("verb", ["provider.get", "provider.update", "provider.test"])
def test_another_organizations_account_is_not_found(verb: str, demo: Demo, tenant: Api) -> None:
    account = add(demo, tenant)
    stranger = demo.new_organization()
    for id_ in (account, ABSENT):
        assert stranger.post(f"setup/{verb}", {"id": id_}).status_code == 404


def test_an_address_that_is_refused_is_used_no_more(demo: Demo, tenant: Api) -> None:
    add(demo, tenant)
    agent = tenant.new_device("aosp")
    agent.register(provider="pushy", token="0" * 30)
    first = data_of(tenant.send("aosp", agent.device.id))
    until(lambda: tenant.push(first["id"])["status"], lambda status: status == "rejected")
    until(lambda: tenant.send("aosp", agent.device.id).status_code, lambda status: status == 404)
    agent.register(provider="pushy", token="0" * 30)
    assert data_of(tenant.send("aosp", agent.device.id))["provider"] == "pushy"


def test_a_push_goes_the_next_way_when_nothing_is_heard(demo: Demo, tenant: Api) -> None:
    """Our own line first, which nobody holds; then Pushy, which refuses the address: so the line has it, still."""
    add(demo, tenant)
    agent = tenant.new_device("aosp")
    agent.register_all([{"provider": "pushy", "token": "0" * 30}, {"provider": "builtin"}])
    record = data_of(tenant.send("aosp", agent.device.id))
    assert record["provider"] == "builtin"
    after = until(
        lambda: tenant.push(record["id"]), lambda push: "refused" in push["progress"]["history"][-1]["evidence"]
    )
    last = after["progress"]["history"][-1]
    assert (after["provider"], after["status"]) == ("builtin", "accepted")
    assert (last["rung"], last["source"]) == ("accepted", "provider:pushy")
