"""The settings of an account at APNs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from heliograph.domain.devices import APPS
from heliograph.domain.fields import Fields
from heliograph.providers import json_member, whole_number
from heliograph.providers.apns.sending import TOPIC
from heliograph.providers.transport import SERVER_HELP, ClientCertificate, read_certificate, read_key, read_server

HOSTS = {"production": "https://api.push.apple.com", "sandbox": "https://api.sandbox.push.apple.com"}
MAX_FILE = 16_384
PER_MINUTE = "requestsPerMinute"
HELP = {
    "keyId": "Id of an APNs key (Apple developer site, Keys)",
    "teamId": "Id of the team that the key belongs to",
    "key": "The key itself: the .p8 file. An account has a key or a certificate",
    "certificate": "A push certificate with its private key, in PEM; of an app, or of MDM",
    "topic": "Bundle id of the app; without it the certificate's own",
    "topics": 'Bundle ids by app, where they differ: `{"mdmAgent": "com.example.agent"}`',
    "environment": "`production` (default), or `sandbox` for apps that Xcode installed",
    **SERVER_HELP,
    PER_MINUTE: "A limit of your own (default 0: APNs names none)",
}

_TOPIC_MEANING = "must be the app's bundle id, such as com.example.agent"
_ID_MEANING = "must be 10 capital letters and digits, as Apple's developer site shows it"


def read_config(fields: Fields) -> dict[str, Any]:
    """See `ports.push.ProviderPlugin`."""
    fields.only(HELP)
    environment = fields.text("environment", choices=HOSTS) or "production"
    topic, topics = fields.text("topic", pattern=TOPIC, meaning=_TOPIC_MEANING), _read_topics(fields)
    if fields.has("certificate"):
        if fields.has("key"):
            fields.wrong("key", "excludes certificate: an account has one of the two (null takes the other out)")
        credentials = _read_certificate(fields, environment, topic, topics)
    else:
        credentials = _read_key(fields)
        if topic is None and not topics:
            fields.wrong("topic", f"is required, and {_TOPIC_MEANING}")
    server, per_minute = read_server(fields), whole_number(fields, PER_MINUTE, 0, 10_000_000)
    fields.raise_if_wrong()
    named = {name: value for name, value in (("topic", topic), ("topics", topics)) if value}
    return {"environment": environment, PER_MINUTE: per_minute, **server, **credentials, **named}


def _read_topics(fields: Fields) -> dict[str, str | None]:
    topics = json_member(fields, "topics")
    if topics is None:
        return {}
    topics.only(APPS)
    return {app: topics.text(app, required=True, pattern=TOPIC, meaning=_TOPIC_MEANING) for app in topics.raw}


def _read_key(fields: Fields) -> dict[str, Any]:
    ids = {
        name: fields.text(name, required=True, pattern="[A-Z0-9]{10}", meaning=_ID_MEANING)
        for name in ("keyId", "teamId")
    }
    key = fields.text("key", required=True, max_length=MAX_FILE)
    try:
        if key is not None:
            read_key("", "", key.encode())
    except ValueError as error:
        fields.wrong("key", f"{error}: give the .p8 file that Apple's developer site offers for an APNs key, unchanged")
    return {**ids, "key": key}


def _read_certificate(
    fields: Fields, environment: str, topic: str | None, topics: Mapping[str, str | None]
) -> dict[str, Any]:
    pem = fields.text("certificate", max_length=MAX_FILE)
    if pem is None:
        return {}
    try:
        certificate = read_certificate(pem.encode())
    except ValueError as error:
        fields.wrong("certificate", str(error))
        return {}
    _check_certificate(fields, certificate, environment)
    own = certificate.topic
    if topic is None and own is None:
        fields.wrong("topic", f"is required, for the certificate names none, and {_TOPIC_MEANING}")
    for setting, named in (("topic", topic), *((f"topics.{app}", named) for app, named in topics.items())):
        if named and own and named != own and not named.startswith(f"{own}."):
            fields.wrong(
                setting, "is not one that the certificate is for: leave it out, or give that app's certificate"
            )
    return {"certificate": pem}


def _check_certificate(fields: Fields, certificate: ClientCertificate, environment: str) -> None:
    if certificate.has_expired():
        ended = datetime.fromtimestamp(certificate.expires_at / 1_000_000, UTC)
        fields.wrong("certificate", f"ended on {ended:%Y-%m-%d}: renew it at Apple")
    if certificate.environments and environment not in certificate.environments:
        fields.wrong("environment", f"must be {' or '.join(sorted(certificate.environments))} for this certificate")
