"""FCM: its contract, settings and sizes; what goes over the wire is in `fcm/`."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.ports.push import PushMessage
from heliograph.providers.fcm import MAX_DATA_BYTES, PLUGIN
from tests.providers.credentials import ec_key, pem_of, service_account
from tests.providers.samples import Contract
from tests.support.wire import json_answer
from tests.support.wire_http2 import ca_pem

TOKEN = f"dQw4w9WgXcQ0123456789a:APA91b{'canary20' * 16}"
FID = "dQw4w9WgXcQ0123456789a"
NAME = "0:1700000000000000%31bd1c9631bd1c96"
ACCEPTED = json_answer({"name": f"projects/my-project/messages/{NAME}"})
ELSEWHERE = "https://tokens.example/token"
NEW_KEY = "download a new key"
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({}, "serviceAccount", "is required"),
    ({"serviceAccount": ""}, "serviceAccount", f"is empty: {NEW_KEY}"),
    ({"serviceAccount": 5}, "serviceAccount", f"is not a JSON object: {NEW_KEY}"),
    ({"serviceAccount": json.dumps(service_account())[:900]}, "serviceAccount", "is cut off or damaged"),
    ({"serviceAccount": "-----BEGIN PRIVATE KEY-----"}, "serviceAccount", "is not JSON"),
    ({"serviceAccount": {"type": "authorized_user"}}, "serviceAccount", "person's own login"),
    ({"serviceAccount": {"project_info": {"project_id": "x"}}}, "serviceAccount", 'has no "type": "service_account"'),
    (
        {"serviceAccount": service_account(private_key=pem_of(ec_key()))},
        "serviceAccount",
        "private_key: must be an RSA key",
    ),
    ({"serviceAccount": service_account(private_key="canary")}, "serviceAccount", "private_key: is cut off"),
    (
        {"serviceAccount": service_account(token_uri=ELSEWHERE)},
        "serviceAccount",
        "names a token_uri that is not Google's",
    ),
    (
        {"serviceAccount": service_account(token_uri=ELSEWHERE), "tokenUrl": f"{ELSEWHERE}2"},
        "serviceAccount",
        "names a token_uri that is not Google's",
    ),
    ({"serviceAccount": service_account(project_id=None)}, "projectId", "is required"),
    ({"serviceAccount": service_account(project_id="a/b")}, "project_id", "must be the id of a Firebase project"),
    ({"serviceAccount": service_account(), "projectId": "My project"}, "projectId", "must be the id of"),
    ({"serviceAccount": service_account(), "tokenUrl": "ftp://x"}, "tokenUrl", "must be an http or https address"),
    ({"serviceAccount": service_account(), "baseUrl": "http://127.0.0.1:1"}, "baseUrl", "must be an https address"),
    ({"serviceAccount": service_account(), "apiKey": "AAAA"}, "apiKey", "is not known here"),
]


def config(url: str, **changes: Any) -> dict[str, Any]:
    return {
        "serviceAccount": json.dumps(service_account()),
        "tokenUrl": "http://127.0.0.1:1/token",
        "baseUrl": url,
        "ca": ca_pem(),
    } | changes


def contract(url: str) -> Contract:
    secrets = [*service_account()["private_key"].splitlines()[1:-1], TOKEN]
    bad = [f" {TOKEN}", f"{FID}:short", "0123456789abcdef" * 4, "/topics/all", f"{TOKEN}{'x' * 2000}", f"{TOKEN}\n"]
    return Contract(
        config(url),
        secrets,
        TOKEN,
        wrong=[settings for settings, _, _ in WRONG],
        bad_tokens=bad,
        over_http2=True,
        tokens="tokenUrl",
    )


@pytest.mark.parametrize(("settings", "setting", "says"), WRONG)
def test_mistakes(settings: dict[str, Any], setting: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        PLUGIN.read_config(Fields(settings, "config"))
    assert "BEGIN" not in str(refusal.value).replace("from BEGIN to END", "")
    assert says in {fault.path.removeprefix("config."): fault.reason for fault in refusal.value.fields}[setting]


def test_what_is_taken() -> None:
    account = service_account()
    usual = {"serviceAccount": account, "projectId": "my-project", "requestsPerMinute": 600_000}
    text = json.dumps(account | {"client_id": "1", "universe_domain": "googleapis.com"})
    for given in (account, text, f"\ufeff{text}\r\n"):
        assert PLUGIN.read_config(Fields({"serviceAccount": given})) == usual
    other = {"projectId": "other-1", "requestsPerMinute": "0"}
    assert PLUGIN.read_config(Fields({"serviceAccount": text, **other})) == usual | {
        "projectId": "other-1",
        "requestsPerMinute": 0,
    }
    named = service_account(token_uri=ELSEWHERE)
    stored = PLUGIN.read_config(Fields({"serviceAccount": named, "tokenUrl": ELSEWHERE}))
    assert stored == usual | {"serviceAccount": named, "tokenUrl": ELSEWHERE}
    # What is stored is read again with each change.
    assert PLUGIN.read_config(Fields(msgspec.json.decode(msgspec.json.encode(stored)))) == stored


def test_what_fits() -> None:
    def sized(characters: int) -> PushMessage:
        return PushMessage("a" * 24, "silent", 60, data={"x": "y" * characters})

    most = max(size for size in range(3500, 4100) if PLUGIN.check(sized(size)) is None)
    assert (
        PLUGIN.check(sized(most + 1)) == f"is too large for FCM: {MAX_DATA_BYTES + 1} bytes, at most {MAX_DATA_BYTES}"
    )
    assert PLUGIN.check(PushMessage("a", "silent", 1, data={"x": object()})) == "cannot be written as JSON"
