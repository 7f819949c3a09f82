"""Windows Push Notification Services: toasts and raw notifications to apps on Windows.

https://learn.microsoft.com/windows/apps/develop/notifications/push-notifications/

An app authenticates in one of two ways, and its channels take no token of the other: apps of the Store with their
package SID, apps of the Windows App SDK with their registration at Entra.

The address of a device, its channel URI, comes from the device. Whoever it leads to gets the app's access token, so
`channel_fault` lets it lead to Microsoft's hosts only, or to those on this machine that the operator has named.
"""

import re
from collections.abc import Mapping
from typing import Any

from heliograph.domain.fields import Fields
from heliograph.outbound import is_address
from heliograph.ports.push import ProviderPlugin, PushMessage, Tools
from heliograph.providers import whole_number
from heliograph.providers.wns.client import HERE, MAX_LIFE_S, MAX_URI, Wns, body_of, channel_fault

MAX_BODY_BYTES = 5000


CONFIG_HELP = {
    "packageSid": "The package SID of an app of the Microsoft Store (Partner Center, Product identity)",
    "tenantId": "For the Windows App SDK instead: the directory (tenant) id of the app's registration at Entra",
    "clientId": "For the Windows App SDK: the application (client) id of the same registration",
    "clientSecret": "The app's secret at either of them",
    "loginUrl": "Address of the token service, where it is not Microsoft's",
    "channelHosts": "host:port on this machine that channel URIs may lead to besides *.notify.windows.com: a lab's",
    "requestsPerMinute": "What WNS gives the app (default 0 = no limit known)",
}


def _read_config(fields: Fields) -> dict[str, Any]:
    fields.only(CONFIG_HELP)
    meaning = "must be the app's client secret: visible ASCII characters"
    secret = fields.text("clientSecret", required=True, max_length=512, pattern="[!-~]+", meaning=meaning)
    identity = _identity(fields)
    login = fields.text("loginUrl", max_length=2048) or ""
    if login and not is_address(login):
        fields.wrong("loginUrl", "must be an http or https address without user, query or fragment")
    more = {"loginUrl": login, "channelHosts": _hosts(fields)}
    per_minute = whole_number(fields, "requestsPerMinute", 0, 1_000_000)
    fields.raise_if_wrong()
    return {**identity, "clientSecret": secret, **more, "requestsPerMinute": per_minute}


def _hosts(fields: Fields) -> list[str]:
    """A list, or text with commas, as it comes from a command line."""
    if isinstance(fields.raw.get("channelHosts"), list):
        hosts = fields.texts("channelHosts")
    else:
        hosts = (fields.text("channelHosts", max_length=1024) or "").split(",")
    named = [host.strip() for host in hosts if host.strip()]
    if not all(re.fullmatch(HERE, host) for host in named):
        fields.wrong("channelHosts", "must each be host:port on this machine, such as 127.0.0.1:9003")
    return named


def _identity(fields: Fields) -> dict[str, Any]:
    """Which of the two token services knows the app, and as whom."""
    entra = fields.has("tenantId") or fields.has("clientId")
    if fields.has("packageSid") == entra:
        fields.wrong("packageSid", "give either this (an app of the Store), or tenantId and clientId (Windows App SDK)")
        return {}
    if not entra:
        meaning = "must be the package SID, ms-app://s-1-15-2-…, from Partner Center"
        pattern = r"ms-app://s-1-15-2(-[0-9]{1,10}){1,16}"
        return {"packageSid": fields.text("packageSid", pattern=pattern, meaning=meaning)}
    meaning = "must be an id or a domain from the app's registration at Entra"
    pattern = r"[0-9A-Za-z][0-9A-Za-z.-]{0,127}"
    names = ("tenantId", "clientId")
    return {name: fields.text(name, required=True, pattern=pattern, meaning=meaning) for name in names}


def _build(config: Mapping[str, Any], tools: Tools) -> Wns:
    return Wns(config, tools.clock)


def _check(message: PushMessage) -> str | None:
    body = body_of(message)
    if body is None:
        return "cannot be written as JSON or XML"
    size = len(body)
    return f"is too large for WNS: {size} bytes, at most {MAX_BODY_BYTES}" if size > MAX_BODY_BYTES else None


PLUGIN = ProviderPlugin(
    kind="wns",
    read_config=_read_config,
    build=_build,
    check=_check,
    max_life_s=MAX_LIFE_S,
    tokens={"channel": rf"https?://[!-~]{{1,{MAX_URI}}}"},
    check_token=lambda kind, token: channel_fault(token),  # noqa: ARG005
    platforms=frozenset({"windows"}),
    addresses={"loginUrl": "", "channelHosts": ""},
    config_help=CONFIG_HELP,
)
