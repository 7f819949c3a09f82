"""What senders call: POST to an endpoint, DELETE on a message."""

import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from heliograph_lab.service import Receive, Scope, Send
from heliograph_lab.web import body_of
from heliograph_lab.webpush import checks
from heliograph_lab.webpush.model import Message, WebPushError
from heliograph_lab.webpush.store import WebPushStore

Headers = dict[str, str]
_PATH = re.compile(r"/(push|message)/([A-Za-z0-9_-]+)")
_REASONS = {401: "MissingAuthorization", 403: "BadJwtToken", 413: "PayloadTooLarge", 429: "TooManyRequests"}


def fault_body(status: int) -> Any:
    """The body of a fault's answer."""
    return {"reason": _REASONS.get(status, "Fault"), "error": f"fault {status}, asked for in the lab"}


class Api:
    """An ASGI app. `origin()` says where it is; `offer` tells of a message and whether its device is there for it."""

    def __init__(
        self, store: WebPushStore, origin: Callable[[], str], offer: Callable[[Message], Awaitable[None]]
    ) -> None:
        self._store = store
        self._origin = origin
        self._offer = offer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        body = await body_of(receive)
        said = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            status, headers = await self._answer(scope["method"], scope["path"], said, body)
            content = b""
        except WebPushError as error:
            status, headers = error.status, {"content-type": "application/json"}
            content = msgspec.json.encode({"reason": error.reason, "error": error.message})
        if status != 204:
            headers["content-length"] = str(len(content))
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, method: str, path: str, said: Headers, body: bytes) -> tuple[int, Headers]:
        found = _PATH.fullmatch(path)
        if found is None:
            raise WebPushError(404, "NotFound", "There is neither a subscription nor a message.")
        kind, id_ = found.groups()
        if kind == "push" and method == "POST":
            return await self._push(id_, said, body)
        if kind == "message" and method == "DELETE":
            if not await self._store.remove(id_):
                raise WebPushError(404, "NotFound", "No such message waits.")
            return 204, {}
        raise WebPushError(405, "MethodNotAllowed", f"The lab's push service does not take {method} here.")

    async def _push(self, id_: str, said: Headers, body: bytes) -> tuple[int, Headers]:
        subscription = self._store.subscription(id_)
        if subscription is None or subscription.ended is not None:
            status = 404 if subscription is None else subscription.ended or 410
            raise WebPushError(status, "Unsubscribed", "There is no such subscription (any more).")
        checks.check_sender(subscription, said.get("authorization"), self._origin())
        life_s = min(checks.life_s(said.get("ttl")), subscription.longest_life)
        topic, urgency = checks.topic_of(said.get("topic")), checks.urgency_of(said.get("urgency"))
        checks.check_body(body, said.get("content-encoding"), subscription)
        now = self._store.now()
        message = Message(
            id=secrets.token_urlsafe(24),
            subscription=id_,
            order=0,
            date=now,
            expiration=now + life_s,
            urgency=urgency,
            body=body,
            topic=topic,
        )
        await self._offer(message)
        return 201, {"ttl": str(life_s)} | ({"location": f"/message/{message.id}"} if subscription.withdraws else {})
