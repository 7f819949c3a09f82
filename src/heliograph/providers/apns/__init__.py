"""APNs: pushes to iOS and macOS apps, and wakes of devices that Apple's own management client manages (MDM).

settings  what an operator says, checked
sending   a push as APNs takes it
answers   what APNs says to it
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from heliograph.ports.push import ProviderPlugin, PushMessage, Tools
from heliograph.providers import encoded_size
from heliograph.providers.apns.sending import MAX_LIFE_S, TOKEN, Account, Apns, payload_of, read_mdm
from heliograph.providers.apns.settings import HELP, HOSTS, read_config
from heliograph.providers.transport import ProviderTokens, endpoint, read_certificate, read_key

MAX_BODY_BYTES = 4096


def _build(config: Mapping[str, Any], tools: Tools) -> Apns:
    certificate = read_certificate(config["certificate"].encode()) if config.get("certificate") else None
    topic, topics = config.get("topic"), config.get("topics") or {}
    host = HOSTS[config["environment"]]
    if certificate is not None:
        account = Account(None, topic or certificate.topic, topics)
        way = endpoint(config, host, certificate_pem=certificate.pem)
    else:
        key = read_key(config["teamId"], config["keyId"], config["key"].encode())
        account = Account(key, topic, topics)
        # By the key itself too: whoever only names another's ids shares no connection with that one.
        credential = f"{key.team_id}/{key.key_id}/{sha256(key.public).hexdigest()}"
        way = endpoint(config, host, credential=credential)
    tokens = tools.shared(ProviderTokens, lambda: ProviderTokens(tools.clock))
    return Apns(account, tools.transports.at(way), tokens, tools.clock)


def _expires_at(config: Mapping[str, Any]) -> int | None:
    pem = config.get("certificate")
    return read_certificate(pem.encode()).expires_at if pem else None


def _check(message: PushMessage) -> str | None:
    size = encoded_size(payload_of(message))
    if size is None:
        return "cannot be written as JSON"
    return f"is too large for APNs: {size} bytes, at most {MAX_BODY_BYTES}" if size > MAX_BODY_BYTES else None


def _check_token(kind: str, token: str) -> str | None:
    if kind == "mdm" and read_mdm(token) is None:
        return "holds an MDM address that is not token (hexadecimal), pushMagic and topic, as its TokenUpdate said them"
    return None


PLUGIN = ProviderPlugin(
    kind="apns",
    read_config=read_config,
    build=_build,
    check=_check,
    max_life_s=MAX_LIFE_S,
    tokens={"token": TOKEN, "mdm": r"\{[^\x00-\x1f]{1,1024}\}"},
    check_token=_check_token,
    platforms=frozenset(("ios", "macos")),
    expires_at=_expires_at,
    addresses={"baseUrl": HOSTS["production"], "ca": ""},
    config_help=HELP,
)
