"""Hands each push to an HTTP endpoint of your own: `POST <url>`, `{"to": token, "lifeSeconds": n, "push": {…}}`.

2xx = taken. 410 = that address is gone. 401, 403 = the key is wrong. 429, 503 = later. Other 4xx = never.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from heliograph.domain.devices import PushTarget
from heliograph.domain.fields import Fields
from heliograph.outbound import NotSent, Outbound, Reply, is_address
from heliograph.ports.push import (
    Accepted,
    Misconfigured,
    Outcome,
    ProbeAnswer,
    ProviderPlugin,
    PushMessage,
    Rejected,
    RetryLater,
    Route,
    Tools,
    Unavailable,
    Works,
)
from heliograph.providers import OneWay, encoded_size, offer_of

MAX_BYTES = 64 * 1024
MAX_LIFE_S = 30 * 24 * 3600


class Webhook(OneWay):
    """One endpoint. Implements `ports.push.PushProvider`; `OneWay` has what a plain sender cannot do."""

    def __init__(self, url: str, key: str, *, timeout_s: float = 10.0) -> None:
        self._key, self._timeout_s = key, timeout_s
        self._http = Outbound(url)

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        """Ask the endpoint to take one push."""
        push = msgspec.to_builtins(offer_of(message))
        return await self._post({"to": target.token, "lifeSeconds": message.life_s, "push": push}, message.id)

    async def probe(self) -> ProbeAnswer:
        """Send to nobody: an endpoint that takes that takes our key."""
        match await self._post({"to": ""}, ""):
            case Accepted():
                return Works("the endpoint takes the key")
            case Misconfigured() as refused:
                return refused
            case other:
                return Unavailable(other.reason)

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def _post(self, body: dict[str, Any], id_: str) -> Outcome:
        headers = {"Authorization": f"Bearer {self._key}"}
        reply = await self._http.exchange("POST", "", deadline_s=self._timeout_s, headers=headers, json=body)
        if not isinstance(reply, Reply):
            # Whether a push may have been taken all the same decides what may be concluded from the next try.
            return RetryLater(reply.reason, uncertain=not isinstance(reply, NotSent))
        evidence = {"status": reply.status}
        match reply.status:
            # Only the endpoint's own word is a success, and not a page that something on the way put in its place.
            case status if 200 <= status < 300 and (reply.json() or {}).get("taken") is True:
                return Accepted(id_, evidence=evidence)
            case 401 | 403:
                return Misconfigured("the endpoint does not accept the key", evidence)
            case 410:
                return Rejected("the endpoint knows no such address", token_gone=True, evidence=evidence)
            case 429 | 503:
                return RetryLater("the endpoint asks to wait", reply.after_s, account_wide=True, evidence=evidence)
            case status if 400 <= status < 500 and status not in (408, 425):
                return Rejected("the endpoint will not take this push", evidence=evidence)
        return RetryLater("the endpoint failed", uncertain=True, evidence=evidence)


def _read_config(fields: Fields) -> dict[str, Any]:
    """Every fault is noted, and the value of none is repeated."""
    fields.only(("url", "key"))
    url = fields.text("url", required=True, max_length=2048)
    if url is not None and not is_address(url):
        fields.wrong("url", "must be an http or https address without user, query or fragment")
    key = fields.text("key", required=True, pattern=r"[\x21-\x7e]+", meaning="must be visible ASCII characters")
    fields.raise_if_wrong()
    return {"url": url, "key": key}


def _build(config: Mapping[str, Any], tools: Tools) -> Webhook:
    del tools
    return Webhook(config["url"], config["key"])


def _check(message: PushMessage) -> str | None:
    size = encoded_size(offer_of(message))
    if size is None:
        return "cannot be written as JSON"
    return f"is too large: {size} bytes, at most {MAX_BYTES}" if size > MAX_BYTES else None


PLUGIN = ProviderPlugin(
    kind="webhook",
    read_config=_read_config,
    build=_build,
    check=_check,
    max_life_s=MAX_LIFE_S,
    route=Route.RELAY,
    tokens={"token": r"[0-9A-Za-z_-]{1,256}"},
    addresses={"url": ""},  # only operators may say where the key is sent to
    config_help={"url": "Where pushes are posted to", "key": "Sent as a bearer token"},
)
