"""Access tokens of an app, from one of Microsoft's two services: client credentials (RFC 6749, 4.4) at both."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heliograph.outbound import Outbound, Reply
from heliograph.ports.clock import Clock

STORE_LOGIN, STORE_SCOPE = "https://login.live.com", "notify.windows.com"
ENTRA_LOGIN, ENTRA_SCOPE = "https://login.microsoftonline.com", "https://wns.windows.com/.default"

_SECOND = 1_000_000
_RENEW_AT = 0.8  # of a token's life
_UNSTATED_LIFE_S = 3600
_PAUSE_S = 30.0  # between attempts to renew a token that is still good
# RFC 6749, 5.2, and Entra's invalid_resource. No other word is repeated: it might be anything that was sent.
_REFUSALS = frozenset(
    {
        *("invalid_request", "invalid_client", "invalid_grant", "invalid_resource"),
        *("unauthorized_client", "unsupported_grant_type", "invalid_scope"),
    }
)


@dataclass(frozen=True, slots=True)
class NoToken:
    """There is no access token. `refused`: the token service does not want to give one."""

    reason: str
    after_s: float | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class _Token:
    """`renew_at` and `ends_at` are of `Clock.elapsed`."""

    text: str
    renew_at: int
    ends_at: int


class Tokens:
    """Access tokens of one app. However many callers wait, one request is under way."""

    def __init__(self, http: Outbound, config: Mapping[str, Any], clock: Clock, timeout_s: float) -> None:
        self._http, self._clock, self._timeout_s = http, clock, timeout_s
        form = {"grant_type": "client_credentials", "client_secret": config["clientSecret"]}
        tenant = config.get("tenantId")
        if tenant:
            login, path = config.get("loginUrl") or ENTRA_LOGIN, f"/{tenant}/oauth2/v2.0/token"
            self._form = form | {"client_id": config["clientId"], "scope": ENTRA_SCOPE}
        else:
            login, path = config.get("loginUrl") or STORE_LOGIN, "/accesstoken.srf"
            self._form = form | {"client_id": config["packageSid"], "scope": STORE_SCOPE}
        self._address = login.rstrip("/") + path
        self._held: _Token | None = None
        self._not_before = 0  # the next attempt to renew early
        self._flight: asyncio.Task[str | NoToken] | None = None

    async def token(self, deadline_s: float, refused: str | None = None) -> str | NoToken:
        """A token that is good now and is not the `refused` one. After 80 % of its life the next one is fetched."""
        now, held = self._clock.elapsed(), self._held
        if held is None or held.text == refused or now >= held.ends_at:
            return await self.fresh(deadline_s)
        if now >= max(held.renew_at, self._not_before):
            self._flight = self._fly()
        return held.text

    async def fresh(self, deadline_s: float) -> str | NoToken:
        """A token that is asked for now."""
        flight = self._flight = self._fly()
        # `wait`, not `wait_for`: a caller whose time is over must not end the request of the others.
        await asyncio.wait((flight,), timeout=max(0.0, deadline_s))
        if not flight.done() or flight.cancelled():
            return NoToken("the token service did not answer in time")
        return flight.result()

    def _fly(self) -> "asyncio.Task[str | NoToken]":
        """The request that is under way, or a new one."""
        under_way = self._flight
        return asyncio.create_task(self._fetch()) if under_way is None or under_way.done() else under_way

    async def _fetch(self) -> str | NoToken:
        reply = await self._http.exchange("POST", self._address, form=self._form, deadline_s=self._timeout_s)
        if isinstance(reply, Reply):
            answer = self._take(reply)
        else:
            answer = NoToken(f"the token service cannot be reached ({reply.reason})")
        if isinstance(answer, NoToken):
            self._not_before = self._clock.elapsed() + int(max(answer.after_s or 0.0, _PAUSE_S) * _SECOND)
        return answer

    def _take(self, reply: Reply) -> str | NoToken:
        body = reply.json() or {}
        text, life_s = body.get("access_token"), body.get("expires_in")
        if reply.status != 200 or not isinstance(text, str) or not re.fullmatch(r"[!-~]{1,16384}", text):
            return _no_token(reply, body)
        if isinstance(life_s, bool) or not isinstance(life_s, int | float) or not 0 < life_s < 1e9:
            life_s = _UNSTATED_LIFE_S
        now, life = self._clock.elapsed(), int(life_s * _SECOND)
        self._held = _Token(text, now + int(life * _RENEW_AT), now + life)
        return text

    async def close(self) -> None:
        """End a request that is under way."""
        if self._flight is not None and not self._flight.done():
            self._flight.cancel()
            await asyncio.wait((self._flight,))


def _no_token(reply: Reply, body: Mapping[str, Any]) -> NoToken:
    error, numbers = body.get("error"), body.get("error_codes")
    known = isinstance(error, str) and error in _REFUSALS
    words = [str(reply.status), error if known else ""]
    if isinstance(numbers, list):  # Entra's own, which its documentation explains
        words += [f"AADSTS{number}" for number in numbers[:3] if type(number) is int and 0 < number < 1e10]
    reason = f"the token service gave no token ({' '.join(filter(None, words))})"
    return NoToken(reason, reply.after_s, refused=known and reply.status in (400, 401, 403))
