"""FCM: messages to Android apps on devices with Google's services.

settings  what an operator says, checked
sending   a message as FCM takes it
answers   what FCM says to it
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from heliograph.outbound.google import TokenSource
from heliograph.ports.push import ProviderPlugin, PushMessage, Tools
from heliograph.providers import encoded_size, offer_of
from heliograph.providers.fcm.sending import MAX_LIFE_S, Fcm, data_of
from heliograph.providers.fcm.settings import BASE_URL, HELP, REQUESTS_PER_MINUTE, read_config
from heliograph.providers.transport import endpoint

MAX_DATA_BYTES = 4096
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"


def _build(config: Mapping[str, Any], tools: Tools) -> Fcm:
    account = config["serviceAccount"]
    # By the key itself too: whoever only names another's ids shares no connection with that one.
    key = sha256(account["private_key"].encode()).hexdigest()
    way = endpoint(config, BASE_URL, credential=f"{account['client_email']} {config['projectId']} {key}")
    tokens = TokenSource(
        account, scope=SCOPE, address=config.get("tokenUrl"), clock=lambda: tools.clock.elapsed() / 1_000_000
    )
    return Fcm(config["projectId"], tools.transports.at(way), tokens)


def _check(message: PushMessage) -> str | None:
    if encoded_size(offer_of(message)) is None:
        return "cannot be written as JSON"
    size = sum(len(name.encode()) + len(value.encode()) for name, value in data_of(message).items())
    return f"is too large for FCM: {size} bytes, at most {MAX_DATA_BYTES}" if size > MAX_DATA_BYTES else None


PLUGIN = ProviderPlugin(
    kind="fcm",
    read_config=read_config,
    build=_build,
    check=_check,
    max_life_s=MAX_LIFE_S,
    tokens={"token": r"[A-Za-z0-9_-]{1,64}:[A-Za-z0-9_-]{64,1024}", "fid": r"[A-Za-z0-9_-]{22}"},
    platforms=frozenset(("android", "aosp")),
    per_minute=REQUESTS_PER_MINUTE,
    addresses={"baseUrl": BASE_URL, "ca": "", "tokenUrl": "https://oauth2.googleapis.com/token"},
    config_help=HELP,
)
