"""Accounts at APNs: what is taken, and what each mistake is answered with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.providers.apns import PLUGIN
from heliograph.providers.transport import read_certificate
from tests.providers.credentials import (
    DEVELOPMENT,
    ENDS,
    PRODUCTION,
    certificate,
    ec_key,
    identity,
    named,
    of_unknown_version,
    on_an_odd_curve,
    p8,
    pem_of,
    rsa_key,
    service_account,
    with_a_mark_twice,
    with_an_x400_address,
)
from tests.providers.test_apns import IDS, MDM, MDM_TOPIC, TOKEN, TOPIC
from tests.support.wire_http2 import ca_pem

KEY = {**IDS, "key": p8(), "topic": TOPIC}
ENDED = datetime.now(UTC) - timedelta(days=3)


def faults(settings: dict[str, Any]) -> dict[str, str]:
    """What is wrong, by setting. No line of a key or certificate may be repeated."""
    with pytest.raises(InvalidInput) as refusal:
        PLUGIN.read_config(Fields(settings, "config"))
    shown = str(refusal.value)
    secrets = [
        line for text in settings.values() if isinstance(text, str) for line in text.splitlines() if len(line) > 40
    ]
    assert [line for line in secrets if line in shown] == []
    return {fault.path.removeprefix("config."): fault.reason for fault in refusal.value.fields}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (KEY, {**KEY, "environment": "production", "requestsPerMinute": 0}),
        (
            KEY | {"environment": "sandbox", "requestsPerMinute": "600", "key": f"\n{p8()}\r\n"},
            {**KEY, "key": f"\n{p8()}\r\n", "environment": "sandbox", "requestsPerMinute": 600},
        ),
        (
            {
                **IDS,
                "key": p8(),
                "topics": '{"mdmAgent": "com.example.a"}',
                "baseUrl": "https://[::1]:1",
                "ca": ca_pem(),
            },
            {
                **IDS,
                "key": p8(),
                "topics": {"mdmAgent": "com.example.a"},
                "environment": "production",
                "baseUrl": "https://[::1]:1",
                "ca": ca_pem(),
                "requestsPerMinute": 0,
            },
        ),
        (
            {"certificate": (pem := identity())},
            {"certificate": pem, "environment": "production", "requestsPerMinute": 0},
        ),
        (
            {"certificate": (voip := identity()), "topic": f"{TOPIC}.voip", "environment": "sandbox"},
            {"certificate": voip, "topic": f"{TOPIC}.voip", "environment": "sandbox", "requestsPerMinute": 0},
        ),
    ],
)
def test_what_is_taken(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    taken = PLUGIN.read_config(Fields(settings))
    assert taken == expected
    # What is stored is read again with each change.
    assert PLUGIN.read_config(Fields(msgspec.json.decode(msgspec.json.encode(taken)))) == taken


@pytest.mark.parametrize(
    ("settings", "setting", "says"),
    [
        ({}, "key", "is required"),
        ({}, "keyId", "is required"),
        (KEY | {"keyId": "AuthKey_ABC123DEFG.p8"}, "keyId", "must be 10 capital letters and digits"),
        (KEY | {"teamId": "Example GmbH"}, "teamId", "must be 10 capital letters and digits"),
        (KEY | {"key": ""}, "key", "is not a private key in PEM form: give the .p8 file"),
        (KEY | {"key": p8()[:120]}, "key", "is not a private key in PEM form: give the .p8 file"),
        (KEY | {"key": pem_of(rsa_key())}, "key", "is not a P-256 key: give the .p8 file"),
        (KEY | {"key": pem_of(ec_key(), b"secret")}, "key", "is not a private key in PEM form"),
        (KEY | {"key": certificate(TOPIC)}, "key", "is not a private key in PEM form"),
        (KEY | {"key": on_an_odd_curve()}, "key", "is not a P-256 key: give the .p8 file"),
        (KEY | {"key": "x" * 20_000}, "key", "must have at most 16384 characters"),
        (KEY | {"topic": None}, "topic", "is required, and must be the app's bundle id"),
        (KEY | {"topic": "com example"}, "topic", "must be the app's bundle id"),
        (KEY | {"topics": "{"}, "topics", "is not JSON, or cut off"),
        (KEY | {"topics": ["x"]}, "topics", "must be an object"),
        (KEY | {"topics": {"mdmagent": "com.example"}}, "topics.mdmagent", "is not known here"),
        (KEY | {"topics": {"mdmAgent": "a b"}}, "topics.mdmAgent", "must be the app's bundle id"),
        (KEY | {"environment": "development"}, "environment", "must be one of production, sandbox"),
        (KEY | {"baseUrl": "http://127.0.0.1:1"}, "baseUrl", "must be an https address"),
        (KEY | {"baseUrl": "https://u:p@x"}, "baseUrl", "must be an https address"),
        (KEY | {"ca": "lab"}, "ca", "must be certificates in PEM form"),
        (KEY | {"ca": of_unknown_version()}, "ca", "must be certificates in PEM form"),
        (KEY | {"certificate": identity()}, "key", "excludes certificate"),
        (
            {"certificate": certificate(TOPIC)},
            "certificate",
            "holds no private key; export certificate and key",
        ),
        ({"certificate": p8()}, "certificate", "holds no certificate in PEM form"),
        ({"certificate": "\x30\x82 .p12"}, "certificate", "holds no certificate in PEM form"),
        ({"certificate": identity()[:400] + p8()}, "certificate", "is it cut off?"),
        ({"certificate": identity()[:-60]}, "certificate", "holds a private key that is cut off"),
        ({"certificate": of_unknown_version() + p8()}, "certificate", "holds a certificate that cannot be read"),
        ({"certificate": with_a_mark_twice() + p8()}, "certificate", "holds a certificate that cannot be read"),
        ({"certificate": with_an_x400_address() + p8()}, "certificate", "holds a certificate that cannot be read"),
        (
            {"certificate": named(b"\x03\x11\x00com.example.agen") + p8()},  # bits in place of a text
            "certificate",
            "holds a certificate that cannot be read",
        ),
        (
            {"certificate": named(b"\x0c\x11com.example.age\xff\xfe") + p8()},  # no UTF-8
            "certificate",
            "holds a certificate that cannot be read",
        ),
        (
            {"certificate": certificate(TOPIC) + pem_of(ec_key(), b"secret")},
            "certificate",
            "holds a private key that is protected by a password",
        ),
        (
            {"certificate": certificate(TOPIC) + pem_of(rsa_key())},
            "certificate",
            "holds a private key that belongs to another certificate",
        ),
        ({"certificate": identity(ends=ENDED)}, "certificate", f"ended on {ENDED:%Y-%m-%d}: renew it at Apple"),
        ({"certificate": identity(marks=(DEVELOPMENT,))}, "environment", "must be sandbox for this certificate"),
        (
            {"certificate": identity(marks=(PRODUCTION,)), "environment": "sandbox"},
            "environment",
            "must be production for this certificate",
        ),
        ({"certificate": identity(None)}, "topic", "is required, for the certificate names none"),
        ({"certificate": identity(), "topic": "com.example"}, "topic", "is not one that the certificate is for"),
        ({"certificate": identity(), "topic": f"{TOPIC}2"}, "topic", "is not one that the certificate is for"),
        (
            {"certificate": identity(), "topics": {"mdmAgent": "com.example.other"}},
            "topics.mdmAgent",
            "is not one that the certificate is for",
        ),
        ({"certificate": str(service_account())}, "certificate", "holds no certificate in PEM form"),
    ],
)
def test_mistakes(settings: dict[str, Any], setting: str, says: str) -> None:
    assert says in faults(settings)[setting]


def test_a_certificate_may_have_topics_of_its_own_app() -> None:
    topics = {"mdmAgent": f"{TOPIC}.voip"}
    assert PLUGIN.read_config(Fields({"certificate": identity(), "topics": topics}))["topics"] == topics
    assert PLUGIN.read_config(
        Fields({"certificate": identity(None), "topic": "com.a", "topics": {"mdmAgent": "com.b"}})
    )


def test_a_certificate_for_both_environments_is_taken_in_both() -> None:
    both = identity(marks=(DEVELOPMENT, PRODUCTION))
    for environment in ("sandbox", "production"):
        assert PLUGIN.read_config(Fields({"certificate": both, "environment": environment}))


@pytest.mark.parametrize("key", [None, rsa_key()])
def test_a_certificate_says_when_it_ends(key: Any) -> None:
    assert PLUGIN.expires_at({"certificate": identity(key=key)}) == int(ENDS.timestamp()) * 1_000_000
    assert PLUGIN.expires_at(KEY) is None


def test_of_a_file_with_more_in_it_only_what_is_needed_is_kept() -> None:
    own, other = certificate(TOPIC), certificate("com.example.other", key=rsa_key())
    read = read_certificate(f"Bag Attributes\n{other}\nsubject=/UID\n{own}\n{p8()}\nmore".encode())
    assert read.topic == TOPIC
    assert read.pem.decode() == p8() + own + other
    assert p8() not in repr(read)


# ---------------------------------------------------------------- addresses of devices


@pytest.mark.parametrize(
    "token",
    [
        '{"token": "xyz", "pushMagic": "m", "topic": "com.apple.mgmt.External.x"}',
        f'{{"token": "{TOKEN}", "pushMagic": "", "topic": "com.apple.mgmt.External.x"}}',
        f'{{"token": "{TOKEN}", "pushMagic": "m", "topic": "com.example.agent"}}',
        f'{{"token": "{TOKEN}", "topic": "com.apple.mgmt.External.x"}}',
        f'{{"token": "{TOKEN}", "pushMagic": 5, "topic": "com.apple.mgmt.External.x"}}',
        "{" * 500 + "}",
        "{}",
    ],
)
def test_what_is_no_mdm_address(token: str) -> None:
    assert "MDM address" in (PLUGIN.check_token("mdm", token) or "")


def test_an_mdm_address() -> None:
    assert PLUGIN.check_token("mdm", MDM) is None
    assert MDM_TOPIC in MDM
