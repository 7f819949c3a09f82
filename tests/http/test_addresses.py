"""Who may say where credentials are sent to (ADR 0027)."""

from __future__ import annotations

import json

import pytest

from heliograph.outbound.google import TOKEN_ADDRESSES
from tests.channels.google import account_file
from tests.providers.credentials import p8
from tests.providers.test_webpush import VAPID
from tests.support.client import Api, data_of, fields_of
from tests.support.demo import Demo
from tests.support.wire_http2 import ca_pem

pytestmark = pytest.mark.sqlite_only

ELSEWHERE = "http://127.0.0.1:9/"
NAME = "enterprises/LCaddresses"


@pytest.fixture(scope="module")
def credentials() -> str:
    return account_file(TOKEN_ADDRESSES[0]).decode()


@pytest.fixture
def tenant(demo: Demo) -> Api:
    return demo.new_organization()


def connect(api: Api, **members: object) -> list[str]:
    """The fields that a call to connect an enterprise is refused for."""
    answer = api.post("setup/enterprise.add", {"name": NAME, **members})
    return [] if answer.status_code == 200 else fields_of(answer)


def test_a_key_sends_no_stored_credentials_elsewhere(tenant: Api, credentials: str) -> None:
    assert connect(tenant, credentials=credentials) == []
    assert connect(tenant, apiUrl=ELSEWHERE) == ["apiUrl", "credentials"]
    assert data_of(tenant.post("setup/enterprise.list", {}))["items"][-1]["apiUrl"] is None


def test_a_key_names_no_address_of_its_own(tenant: Api, credentials: str) -> None:
    elsewhere = json.dumps(json.loads(credentials) | {"token_uri": ELSEWHERE})
    assert connect(tenant, credentials=credentials, apiUrl=ELSEWHERE) == ["apiUrl"]
    assert connect(tenant, credentials=elsewhere) == ["credentials.token_uri"]
    assert connect(tenant, credentials="\ufeff" + elsewhere) == ["credentials.token_uri"]
    assert fields_of(tenant.post("setup/enterprise.connect", {"credentials": elsewhere})) == ["credentials.token_uri"]
    config = {"apiKey": "a1", "baseUrl": ELSEWHERE}
    assert fields_of(tenant.post("setup/provider.add", {"provider": "pushy", "config": config})) == ["config.baseUrl"]
    app = {"packageSid": "ms-app://s-1-15-2-1", "clientSecret": "s1", "loginUrl": ELSEWHERE}
    for hosts in ("127.0.0.1:80", ["127.0.0.1:80"]):
        body = {"provider": "wns", "config": {**app, "channelHosts": hosts}}
        wrong = fields_of(tenant.post("setup/provider.add", body))
        assert wrong == ["config.loginUrl", "config.channelHosts"]


def test_a_key_opens_no_private_push_server(demo: Demo, tenant: Api) -> None:
    said = {"vapidPrivateKey": VAPID, "subject": "mailto:a@b.example"}
    for allowed in (ELSEWHERE, [ELSEWHERE], ["https://push.example", ELSEWHERE], f"https://push.example, {ELSEWHERE}"):
        body = {"provider": "webpush", "config": {**said, "allowedOrigins": allowed}}
        assert set(fields_of(tenant.post("setup/provider.add", body))) == {"config.allowedOrigins"}
    trusted = demo.key("*", "operator.addresses", organization=tenant)
    config = {**said, "allowedOrigins": ["https://push.example", ELSEWHERE]}
    assert trusted.setup("provider.add", provider="webpush", config=config)["provider"] == "webpush"
    assert tenant.setup("provider.add", provider="webpush", config=said)["provider"] == "webpush"


def refused(api: Api, provider: str, **config: object) -> list[str]:
    """The settings that a call to add an account is refused for."""
    answer = api.post("setup/provider.add", {"provider": provider, "config": config})
    return [] if answer.status_code == 200 else fields_of(answer)


def test_no_setting_of_a_push_account_leads_elsewhere(tenant: Api, credentials: str) -> None:
    elsewhere = json.dumps(json.loads(credentials) | {"token_uri": ELSEWHERE})
    apns = {"keyId": "ABC123DEFG", "teamId": "TEAM123456", "key": p8(), "topic": "com.example.agent"}
    assert refused(tenant, "fcm", serviceAccount=credentials, projectId="p") == []
    assert refused(tenant, "fcm", serviceAccount=credentials, tokenUrl=ELSEWHERE) == ["config.tokenUrl"]
    assert refused(tenant, "fcm", serviceAccount=elsewhere, tokenUrl=ELSEWHERE) == ["config.tokenUrl"]
    assert refused(tenant, "fcm", serviceAccount=elsewhere) == ["config.serviceAccount"]
    assert refused(tenant, "apns", **apns) == []
    assert refused(tenant, "apns", **apns, baseUrl=ELSEWHERE) == ["config.baseUrl"]
    assert refused(tenant, "apns", **apns, ca=ca_pem()) == ["config.ca"]


def test_the_usual_addresses_may_be_named(tenant: Api, credentials: str) -> None:
    assert connect(tenant, credentials=credentials, apiUrl="https://androidmanagement.googleapis.com/") == []
    config = {"apiKey": "a1", "baseUrl": "https://api.pushy.me/"}
    assert tenant.setup("provider.add", provider="pushy", config=config)["provider"] == "pushy"


def test_an_operators_key_names_any_and_gives_the_credentials_with_it(
    demo: Demo, tenant: Api, credentials: str
) -> None:
    trusted = demo.key("*", "operator.addresses", organization=tenant)
    assert connect(trusted, credentials=credentials) == []
    assert connect(trusted, apiUrl=ELSEWHERE) == ["credentials"]
    assert connect(trusted, apiUrl=ELSEWHERE, credentials=credentials) == []
    assert connect(trusted, apiUrl=ELSEWHERE) == []  # nothing changes
    assert connect(tenant, apiUrl="") == ["credentials"]


def test_the_operator_on_the_machine_is_free(demo: Demo, tenant: Api, credentials: str) -> None:
    demo.operator("enterprise.add", tenant.organization, name=NAME, credentials=credentials)
    made = demo.operator("enterprise.add", tenant.organization, name=NAME, apiUrl=ELSEWHERE)
    assert made["apiUrl"] == ELSEWHERE


def test_no_key_hands_on_the_right_that_it_does_not_hold(tenant: Api) -> None:
    answer = tenant.post("setup/key.create", {"permissions": ["operator.addresses"]})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "address",
    [
        "http://[bad",
        "http://a\u2100b",
        "http://x:99999",
        "http://x:0",
        "http://name:secret@x",
        "http://x?y",
        "http://x#y",
    ],
)
def test_what_no_request_can_go_to_is_refused_before_it_is_stored(
    address: str, demo: Demo, tenant: Api, credentials: str
) -> None:
    trusted = demo.key("*", "operator.addresses", organization=tenant)
    assert connect(trusted, credentials=credentials, apiUrl=address) == ["apiUrl"]
    assert trusted.setup("enterprise.list")["items"][1:] == []
    assert connect(trusted, credentials=credentials, apiUrl="http://[::1]:9/path/") == []
    assert trusted.setup("enterprise.check", enterprise=NAME)["items"][0]["steps"][-1]["step"] == "network"
