"""WNS: its contract and its settings; what goes over the wire is in `wns/`."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.providers import wns
from tests.providers.samples import Contract

SID = "ms-app://s-1-15-2-1234567890-2345678901-3456789012-456789012-567890123-678901234-789012345"
SECRET, BEARER, CHANNEL = "canary0SECRET19", "canary0BEARER20", "canary0CHANNEL21"
ENTRA = {"tenantId": "11111111-2222-3333-4444-555555555555", "clientId": "66666666-7777-8888-9999-000000000000"}
STORE_PATH = "/accesstoken.srf"


def contract(url: str) -> Contract:
    host = urlsplit(url).netloc
    return Contract(
        {"packageSid": SID, "clientSecret": SECRET, "loginUrl": url, "channelHosts": host},
        [SECRET, BEARER, CHANNEL],
        f"{url}/?token={CHANNEL}",
        wrong=WRONG,
        bad_tokens=BAD_TOKENS,
        grants={STORE_PATH: msgspec.json.encode({"access_token": BEARER, "expires_in": 86400})},
    )


KEPT = {"clientSecret": SECRET}
WRONG: list[dict[str, Any]] = [
    {},
    KEPT,
    {"packageSid": SID},
    {"packageSid": "s-1-15-2-1", **KEPT},
    {"packageSid": SID, **ENTRA, **KEPT},
    {"tenantId": ENTRA["tenantId"], **KEPT},
    {"tenantId": "a/../b", "clientId": "c", **KEPT},
    {"tenantId": "..", "clientId": "c", **KEPT},
    {"packageSid": SID, "clientSecret": "with space"},
    {"packageSid": SID, "clientSecret": "line\nbreak"},
    {"packageSid": SID, **KEPT, "loginUrl": "login.live.com"},
    {"packageSid": SID, **KEPT, "loginUrl": "https://u:p@login.live.com"},
    {"packageSid": SID, **KEPT, "channelHosts": "notify.example:443"},
    {"packageSid": SID, **KEPT, "channelHosts": "127.0.0.1"},
    {"packageSid": SID, **KEPT, "channelHosts": "/"},
    {"packageSid": SID, **KEPT, "channelHosts": ["127.0.0.1:80", "evil.example:443"]},
    {"packageSid": SID, **KEPT, "channelHosts": [5]},
    {"packageSid": SID, **KEPT, "channelHosts": {"127.0.0.1:80": 1}},
    {"packageSid": SID, **KEPT, "other": 1},
]
BAD_TOKENS = [
    "http://db5.notify.windows.com/?token=A",
    "https://db5.notify.windows.com:8443/?token=A",
    "https://notify.windows.com/?token=A",
    "https://evilnotify.windows.com/?token=A",
    "https://db5.notify.windows.com.evil.example/?token=A",
    "https://evil.example/?token=.notify.windows.com",
    "https://evil.example/#.notify.windows.com",
    "https://evil.example#.notify.windows.com/",
    "https://evil.example\\.notify.windows.com/",
    "https://evil.example/.notify.windows.com/",
    "https://db5.notify.windows.com@evil.example/",
    "https://user:pass@db5.notify.windows.com/",
    "https://db5.notify.windows.com:443@evil.example/",
    "https://xn--.evil.example:443/",
    "https://evil.example%2f.notify.windows.com/",
    "https://dß5.notify.windows.com/",
    "https://169.254.169.254/",
    "http://10.0.0.1:80/",
    "http://127.0.0.1/",
    "http://127.0.0.1:80.evil.example/",
    "http://localhost.evil.example:80/",
    "ftp://db5.notify.windows.com/",
    "file:///etc/passwd",
    "db5.notify.windows.com",
    "https://db5.notify.windows.com/\r\nX-A: b",
    f"https://db5.notify.windows.com/?token={'x' * 2048}",
]


def test_settings_that_lead_tokens_elsewhere_are_addresses() -> None:
    assert wns.PLUGIN.addresses.keys() == {"loginUrl", "channelHosts"}


def test_settings() -> None:
    given = {"packageSid": SID, **KEPT, "channelHosts": " 127.0.0.1:9003, [::1]:80 ", "requestsPerMinute": "60"}
    kept = {
        "packageSid": SID,
        "clientSecret": SECRET,
        "loginUrl": "",
        "channelHosts": ["127.0.0.1:9003", "[::1]:80"],
        "requestsPerMinute": 60,
    }
    assert wns.PLUGIN.read_config(Fields(given)) == kept
    assert wns.PLUGIN.read_config(Fields(kept)) == kept  # as when some of them are changed
    assert wns.PLUGIN.platforms == {"windows"}
    assert next(iter(wns.PLUGIN.tokens)) == "channel"


def test_settings_name_all_that_is_wrong() -> None:
    with pytest.raises(InvalidInput) as refusal:
        wns.PLUGIN.read_config(Fields({"clientSecret": f"{SECRET} ", "loginUrl": "x", "channelHosts": "h", "more": 1}))
    assert [fault.path for fault in refusal.value.fields] == [
        "more",
        "clientSecret",
        "packageSid",
        "loginUrl",
        "channelHosts",
    ]
    assert SECRET not in str(refusal.value)
