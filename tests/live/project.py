"""Requests to a project at Google, and what of them may be kept."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from heliograph.outbound import NoReply, NotSent, Outbound, Reply
from heliograph.outbound.google import NoToken, TokenSource
from tests.live.target import Target

Json = dict[str, Any]
Kept = Callable[[Json], Any]

_DEADLINE_S = 30.0
_MOST_TRIES = 10
_AFTER_429_S = 20.0


class NotLearnt(Exception):
    """A question that stays open; the message says why."""


@dataclass(frozen=True)
class Answer:
    """What Google answered; an empty `body` where it was no JSON object. `retry_after_s`: from the header."""

    status: int
    body: Json
    retry_after_s: float | None = None

    @property
    def message(self) -> str:
        """The text of an error."""
        error = self.body.get("error")
        return str(error.get("message", "")) if isinstance(error, dict) else ""


class Project:
    """One project, over real connections. What is asked and answered is kept in `exchanges`, without headers."""

    def __init__(self, target: Target, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._tokens = TokenSource(target.account)
        self._services = {"amapi": Outbound(target.amapi_url), "pubsub": Outbound(target.pubsub_url)}
        self._sleep = sleep
        self.exchanges: list[Json] = []

    async def ask(
        self,
        method: str,
        name: str,
        body: Json | None = None,
        *,
        service: str = "amapi",
        kept: Kept = dict,
        with_token: bool = True,
        params: dict[str, str] | None = None,
    ) -> Answer:
        """One request, repeated after a 429. `kept` makes of an answer's body what the recording may show."""
        for _ in range(_MOST_TRIES):
            answer = await self.ask_once(
                method, name, body, service=service, kept=kept, with_token=with_token, params=params
            )
            if answer.status != 429:
                return answer
            await self._sleep(max(_AFTER_429_S, answer.retry_after_s or 0))
        raise NotLearnt(f"429 to {_MOST_TRIES} tries")

    async def ask_once(
        self,
        method: str,
        name: str,
        body: Json | None = None,
        *,
        service: str = "amapi",
        kept: Kept = dict,
        with_token: bool = True,
        params: dict[str, str] | None = None,
    ) -> Answer:
        """One request; NotLearnt where no answer came."""
        headers = {"Authorization": f"Bearer {await self._token()}"} if with_token else {}
        reply = await self._services[service].exchange(
            method,
            f"/v1/{quote(name, safe='/:')}",
            deadline_s=_DEADLINE_S,
            headers=headers,
            json=body,
            params=params or {},
        )
        if isinstance(reply, NotSent | NoReply):
            raise NotLearnt(f"no answer from Google: {reply.reason}")
        answer = Answer(reply.status, reply.json() or {}, reply.after_s)
        self._keep(f"{method} {name}", params, body, answer, kept, reply)
        return answer

    async def _token(self) -> str:
        token = await self._tokens.token(deadline_s=_DEADLINE_S)
        if isinstance(token, NoToken):
            raise NotLearnt(token.reason)
        return token

    def _keep(
        self, request: str, params: dict[str, str] | None, body: Json | None, answer: Answer, kept: Kept, reply: Reply
    ) -> None:
        shown = answer.body if answer.status >= 400 else kept(answer.body)
        entry = {"request": request, "params": params, "body": body, "status": answer.status, "answer": shown}
        entry |= {"retryAfter": answer.retry_after_s, "notJson": bool(reply.body) and reply.json() is None}
        self.exchanges.append({name: value for name, value in entry.items() if value not in (None, False, {})})

    async def close(self) -> None:
        """Let go of connections."""
        for service in self._services.values():
            await service.close()
        await self._tokens.close()


class Cleaner:
    """Takes out of what is kept who was asked, and what is secret."""

    def __init__(self, target: Target) -> None:
        account = target.account
        self._words = {
            target.device: "enterprises/ENTERPRISE/devices/DEVICE",
            target.enterprise: "enterprises/ENTERPRISE",
            str(account["private_key"]): "KEY",
            str(account.get("private_key_id") or ""): "KEY",
            str(account["client_email"]): "ACCOUNT",
        }
        if target.subscription:
            self._words[target.subscription] = "projects/PROJECT/subscriptions/SUBSCRIPTION"
        if target.gone_device:
            self._words[target.gone_device] = "enterprises/ENTERPRISE/devices/GONE"
        bare = [target.enterprise, target.device, target.gone_device or "", f"/{account.get('project_id') or ''}"]
        for name in bare:
            last = name.rpartition("/")[2]
            if len(last) >= 6:  # a shorter one is a part of anything
                self._words.setdefault(last, "NAME")

    def hide(self, *words: str, shown: str = "SECRET") -> None:
        """These are never shown, either, but something in their place."""
        self._words |= dict.fromkeys(words, shown)

    def clean(self, value: Any) -> Any:
        """The same, fit to be shown to anybody."""
        if isinstance(value, dict):
            return {self._text(str(key)): self.clean(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.clean(item) for item in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        for word in sorted(filter(None, self._words), key=len, reverse=True):
            text = text.replace(word, self._words[word])
        text = re.sub(r"\b(projects?[a-z_]*[/:])\d+", r"\1NUMBER", text)
        return re.sub(r"/users/[^/\s'\"]+", "/users/USER", text)


def only(*members: str) -> Kept:
    """Keep these members of an answer."""
    return lambda body: {name: body[name] for name in members if name in body}


def counted(member: str) -> Kept:
    """Keep how many there are, and whether there are more."""
    return lambda body: {"count": len(listed(body, member)), "more": bool(body.get("nextPageToken"))}


def listed(body: Json, member: str) -> list[Json]:
    """The objects of a list in an answer."""
    found = body.get(member, [])
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def as_text(lines: Iterable[Any]) -> str:
    """JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(lines), indent=2).decode()
