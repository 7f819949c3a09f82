"""Pushy (https://pushy.me/docs/api): pushes to Android, iOS, Electron and Python apps over Pushy's own connections.

The key travels in the query of every request; `heliograph.outbound` keeps addresses out of logs and reasons.
Only INVALID_PUSH_ID and NO_RESULTS are documented as error codes. The others in `FAILURES` are what clients report,
and unknown ones are read by their words, kept as evidence, and never taken for a success.
"""

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import msgspec

from heliograph.domain.devices import PushTarget
from heliograph.domain.fields import Fields
from heliograph.outbound import Exchange, NotSent, Outbound, Reply, is_address
from heliograph.ports.push import (
    Accepted,
    CannotWithdraw,
    Forgotten,
    Misconfigured,
    Outcome,
    Pending,
    ProbeAnswer,
    ProviderPlugin,
    PushMessage,
    Rejected,
    RetryLater,
    StatusAnswer,
    Tools,
    Unavailable,
    WithdrawAnswer,
    Withdrawn,
    Works,
)
from heliograph.providers import encoded_size, offer_of, whole_number

BASE_URL = "https://api.pushy.me"
MAX_DATA_BYTES = 4096
MAX_LIFE_S = 365 * 24 * 3600  # https://pushy.me/docs/api/send-notifications
REQUESTS_PER_MINUTE = 800  # https://support.pushy.me/hc/en-us/articles/360043864711
MAX_TEXT = 300
MAX_CODE = 100
REFERENCE = r"[0-9A-Za-z_-][0-9A-Za-z_.-]{0,127}"  # what may stand in a path
UNKNOWN_PUSH = "INVALID_PUSH_ID"  # https://pushy.me/docs/api/notification-deletion


class Verdict(StrEnum):
    """What a failed request means for the push."""

    GONE = "the token is unknown to this app"
    REJECTED = "Pushy will not take this push"
    KEY = "Pushy does not accept the account's key"
    LIMIT = "the account is over a limit"
    LATER = "Pushy cannot take it now"
    UNCLEAR = "Pushy failed, and may have taken it"


# First match decides: statuses (inclusive range), the whole code, verdict.
FAILURES: tuple[tuple[range, str, Verdict], ...] = (
    (range(200, 500), r"NO_RECIPIENTS|INVALID_(DEVICE_)?TOKEN|INVALID_RECIPIENTS?", Verdict.GONE),
    (range(200, 429), r"PAYLOAD_.*", Verdict.REJECTED),
    (range(200, 500), r"(.*_)?(API_KEY|UNAUTHORIZED|FORBIDDEN)(_.*)?", Verdict.KEY),
    (range(401, 402), r".*", Verdict.KEY),
    (range(403, 404), r".*", Verdict.KEY),
    (range(402, 403), r".*", Verdict.LIMIT),
    (range(429, 430), r".*", Verdict.LIMIT),
    (range(200, 500), r"(.*_)?(RATE|QUOTA|LIMIT|EXCEEDED|TOO_MANY|SUSPENDED|BILLING)(_.*)?", Verdict.LIMIT),
    (range(408, 409), r".+", Verdict.LATER),
    (range(425, 426), r".*", Verdict.LATER),
    (range(503, 504), r".+", Verdict.LATER),
    # Without a code of Pushy's, something on the way gave up, maybe after it had passed the push on.
    (range(408, 409), r"", Verdict.UNCLEAR),
    (range(500, 600), r".*", Verdict.UNCLEAR),
    (range(200, 500), r".+", Verdict.REJECTED),
    (
        range(400, 500),
        r"",
        Verdict.LATER,
    ),  # no code: not Pushy speaks, but something on the way, or the address is wrong
    (range(1000), r".*", Verdict.UNCLEAR),
)


class Pushy:
    """One app at Pushy. Implements `ports.push.PushProvider`."""

    def __init__(self, api_key: str, base_url: str = BASE_URL, *, timeout_s: float = 10.0) -> None:
        self._api_key, self._timeout_s = api_key, timeout_s
        self._http = Outbound(base_url.rstrip("/"))

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        """POST /push, to one token."""
        body = {
            "to": target.token,
            "data": msgspec.to_builtins(offer_of(message)),
            "time_to_live": min(max(1, message.life_s), MAX_LIFE_S),
        }
        reply = await self._ask("POST", "/push", self._timeout_s, body)
        if not isinstance(reply, Reply):
            return RetryLater(reply.reason, uncertain=not isinstance(reply, NotSent))
        answer = reply.json() or {}
        if 200 <= reply.status < 300 and not _code(answer):
            return _accepted(reply, answer, target.token)
        return self._failed(reply, answer, target.token)

    async def status(self, reference: str, timeout_s: float) -> StatusAnswer:
        """GET /pushes/ID. iOS and Web Push addresses never appear among the pending, says Pushy."""
        reply = await self._ask("GET", f"/pushes/{quote(reference, safe='')}", timeout_s)
        if not isinstance(reply, Reply):
            return Unavailable(reply.reason)
        answer = reply.json() or {}
        if _code(answer) == UNKNOWN_PUSH:
            return Forgotten("Pushy knows no such push: it expired, or was delivered some time ago")
        push = answer.get("push") if 200 <= reply.status < 300 else None
        pending = push.get("pending_devices") if isinstance(push, dict) else None
        if not isinstance(push, dict) or not isinstance(pending, list):
            return _unavailable(reply, answer)
        return Pending(len(pending), _microseconds(push.get("expiration")))

    async def withdraw(self, reference: str) -> WithdrawAnswer:
        """DELETE /pushes/ID."""
        reply = await self._ask("DELETE", f"/pushes/{quote(reference, safe='')}", self._timeout_s)
        if not isinstance(reply, Reply):
            return Unavailable(reply.reason)
        answer = reply.json() or {}
        if _code(answer) == UNKNOWN_PUSH:
            return CannotWithdraw("Pushy knows no such push: it expired, was delivered some time ago, or was withdrawn")
        if 200 <= reply.status < 300 and answer.get("success") is True:
            return Withdrawn()
        return _unavailable(reply, answer)

    async def probe(self) -> ProbeAnswer:
        """Ask for a push that does not exist: to a key that it knows, Pushy says so."""
        reply = await self._ask("GET", "/pushes/heliograph-probe", self._timeout_s)
        if not isinstance(reply, Reply):
            return Unavailable(reply.reason)
        answer = reply.json() or {}
        if _code(answer) == UNKNOWN_PUSH:
            return Works("Pushy takes the key")
        unavailable = _unavailable(reply, answer)
        return Misconfigured(unavailable.reason) if unavailable.reason == Verdict.KEY else unavailable

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def _ask(self, method: str, path: str, timeout_s: float, body: Any = None) -> Exchange:
        query = {"api_key": self._api_key}
        return await self._http.exchange(method, path, params=query, json=body, deadline_s=timeout_s)

    def _failed(self, reply: Reply, answer: Mapping[str, Any], token: str) -> Outcome:
        code = _code(answer)
        verdict = verdict_on(reply.status, code)
        text = answer.get("error")
        evidence: dict[str, Any] = {"status": reply.status}
        if code:
            evidence["code"] = self._shown(code, token)
        if isinstance(text, str) and text:
            evidence["error"] = self._shown(text, token)
        if verdict in (Verdict.GONE, Verdict.REJECTED):
            return Rejected(verdict, token_gone=verdict is Verdict.GONE, evidence=evidence)
        if verdict is Verdict.KEY:
            return Misconfigured(verdict, evidence)
        account_wide = verdict is Verdict.LIMIT
        uncertain = verdict is Verdict.UNCLEAR
        return RetryLater(verdict, reply.after_s, uncertain, account_wide, evidence)

    def _shown(self, text: str, token: str) -> str:
        """A text of the service's, without what it may repeat of the request."""
        for secret in (self._api_key, token):
            text = text.replace(secret, "…") if secret else text
        return text.replace("\0", "")[:MAX_TEXT]


def verdict_on(status: int, code: str) -> Verdict:
    """What a status and an error code (empty = none) mean, by the table."""
    return next(verdict for statuses, pattern, verdict in FAILURES if status in statuses and _fits(pattern, code))


def _fits(pattern: str, code: str) -> bool:
    return re.fullmatch(pattern, code, re.IGNORECASE | re.DOTALL) is not None


def _accepted(reply: Reply, answer: Mapping[str, Any], token: str) -> Outcome:
    info = answer.get("info")
    failed = info.get("failed") if isinstance(info, dict) else None
    # Tokens that the app does not know come back in an answer that is otherwise a success.
    if isinstance(failed, list) and token in failed:
        return Rejected(Verdict.GONE, token_gone=True, evidence={"status": reply.status})
    reference = answer.get("id")
    named = isinstance(reference, str) and re.fullmatch(REFERENCE, reference)
    if answer.get("success") is not True or not isinstance(reference, str) or not named:
        return RetryLater("an answer that is not Pushy's", uncertain=True, evidence={"status": reply.status})
    return Accepted(reference, evidence={"status": reply.status})


def _code(answer: Mapping[str, Any]) -> str:
    code = answer.get("code")
    return code if isinstance(code, str) and len(code) <= MAX_CODE else ""


def _unavailable(reply: Reply, answer: Mapping[str, Any]) -> Unavailable:
    if 200 <= reply.status < 300 and not _code(answer):
        return Unavailable("an answer that is not Pushy's")
    return Unavailable(verdict_on(reply.status, _code(answer)), reply.after_s)


def _microseconds(seconds: Any) -> int | None:
    """A time of Pushy's (unix seconds); None where it makes no sense."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return None
    return int(seconds * 1_000_000) if 0 < seconds < 1e11 else None


def _read_config(fields: Fields) -> dict[str, Any]:
    fields.only(("apiKey", "baseUrl", "requestsPerMinute"))
    meaning = "must be the app's Secret API Key (letters and digits), from Pushy's dashboard, tab API Authentication"
    api_key = fields.text("apiKey", required=True, pattern="[0-9a-zA-Z]+", meaning=meaning)
    base_url = fields.text("baseUrl", max_length=2048) or BASE_URL
    if not is_address(base_url):
        fields.wrong("baseUrl", "must be an http or https address without user, query or fragment")
    per_minute = whole_number(fields, "requestsPerMinute", REQUESTS_PER_MINUTE, 1_000_000)
    fields.raise_if_wrong()
    return {"apiKey": api_key, "baseUrl": base_url, "requestsPerMinute": per_minute}


def _build(config: Mapping[str, Any], tools: Tools) -> Pushy:
    del tools
    return Pushy(config["apiKey"], config.get("baseUrl") or BASE_URL)


def _check(message: PushMessage) -> str | None:
    size = encoded_size(offer_of(message))
    if size is None:
        return "cannot be written as JSON"
    return f"is too large for Pushy: {size} bytes, at most {MAX_DATA_BYTES}" if size > MAX_DATA_BYTES else None


PLUGIN = ProviderPlugin(
    kind="pushy",
    read_config=_read_config,
    build=_build,
    check=_check,
    max_life_s=MAX_LIFE_S,
    tells_delivery=True,
    per_minute=REQUESTS_PER_MINUTE,
    limits_all=True,
    addresses={"baseUrl": BASE_URL},
    tokens={"token": r"[0-9A-Za-z]{1,256}"},  # not a topic (/topics/all), which reaches every device of the app
    config_help={
        "apiKey": "The app's Secret API Key (Pushy dashboard, tab API Authentication)",
        "baseUrl": f"Address of the API, for an installation of your own (default {BASE_URL})",
        "requestsPerMinute": f"What Pushy gives the account (default {REQUESTS_PER_MINUTE}; 0 = no limit)",
    },
)
