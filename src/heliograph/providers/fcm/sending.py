"""Messages as FCM's HTTP v1 API takes them.

https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages
Why a message looks as it does: docs/adr/0041.
"""

import asyncio
from typing import Any

import msgspec

from heliograph.domain.devices import PushTarget
from heliograph.outbound.google import NoToken, TokenSource
from heliograph.ports.push import (
    Accepted,
    Misconfigured,
    Outcome,
    ProbeAnswer,
    PushMessage,
    Rejected,
    RetryLater,
    Unavailable,
    Works,
)
from heliograph.ports.transport import Answered, Transport
from heliograph.ports.transport import Outcome as Exchange
from heliograph.providers import OneWay, offer_of
from heliograph.providers.fcm.answers import DEAD, Verdict, code_of, outcome_of, verdict_on, with_code

MAX_LIFE_S = 28 * 24 * 3600
TIMEOUT_S = 10.0
MEMBER = "heliograph"  # of the data
NOBODY = "heliograph-probe"  # no device's token

_ENCODE = msgspec.json.Encoder().encode


class Fcm(OneWay):
    """One Firebase project. Implements `ports.push.PushProvider`."""

    def __init__(
        self, project: str, transport: Transport, tokens: TokenSource, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._path = f"/v1/projects/{project}/messages:send"
        self._transport, self._tokens, self._timeout_s = transport, tokens, timeout_s

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        """POST /v1/projects/PROJECT/messages:send, to one token."""
        answer = await self._post({"message": _message(message, target)})
        return _without_token(answer) if isinstance(answer, NoToken) else outcome_of(answer, message.id)

    async def probe(self) -> ProbeAnswer:
        """Have a message to a token that cannot exist validated: who may send hears that it does not."""
        message = {"token": NOBODY, "data": {MEMBER: "{}"}}
        answer = await self._post({"message": message, "validate_only": True})
        outcome = _without_token(answer) if isinstance(answer, NoToken) else outcome_of(answer, NOBODY)
        match outcome:
            case Accepted():
                return Works("FCM takes the service account")
            case Rejected() if outcome.reason in DEAD and outcome.reason != Verdict.OTHER_PROJECT:
                return Works("FCM takes the service account")
            case RetryLater():
                return Unavailable(outcome.reason, outcome.after_s)
            case Rejected():
                return Unavailable(with_code(outcome.reason, outcome.evidence))
        return Misconfigured(outcome.reason)

    async def close(self) -> None:
        """Let go of the connections."""
        await asyncio.gather(self._transport.close(), self._tokens.close())

    async def _post(self, body: dict[str, Any]) -> Exchange | NoToken:
        """Send; once more with a fresh access token where this one is not taken."""
        token = await self._tokens.token(deadline_s=self._timeout_s)
        if isinstance(token, NoToken):
            return token
        content = _ENCODE(body)
        answer = await self._transport.post(self._path, _headers(token), content, self._timeout_s)
        if isinstance(answer, Answered) and answer.status == 401:
            if verdict_on(401, code_of(answer)) is not Verdict.ACCOUNT:
                return answer
            fresh = await self._tokens.token(deadline_s=self._timeout_s, refused=token)
            if isinstance(fresh, NoToken):
                return fresh
            return await self._transport.post(self._path, _headers(fresh), content, self._timeout_s)
        return answer


def _headers(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", "content-type": "application/json"}


def data_of(message: PushMessage) -> dict[str, str]:
    """The data: all its values must be strings, so one holds the offer as JSON."""
    return {MEMBER: _ENCODE(offer_of(message)).decode()}


def _message(message: PushMessage, target: PushTarget) -> dict[str, Any]:
    life_s = min(max(1, message.life_s), MAX_LIFE_S)
    android = {"priority": "NORMAL" if message.kind == "silent" else "HIGH", "ttl": f"{life_s}s"}
    if message.kind == "wake":
        android["collapse_key"] = "wake"
    return {target.kind or "token": target.token, "data": data_of(message), "android": android}


def _without_token(answer: NoToken) -> RetryLater | Misconfigured:
    """Nothing was asked of FCM."""
    if answer.refused:
        return Misconfigured(f"{answer.reason}: was its key deleted, or is this machine's clock wrong?")
    return RetryLater(answer.reason, answer.after_s, account_wide=True)
