"""Wraps an emulator: records every request and applies the faults that were asked for."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from heliograph_lab.faults import Action, Faults
from heliograph_lab.requests import RequestLog

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
ErrorBody = Callable[[int], Any]  # HTTP status of a fault -> the provider's own error body, JSON-able

CUT = "heliograph.cut"  # ASGI extension: a function that drops the connection at once
MOST_BODY = 4 * 1024 * 1024


def plain_error(status: int) -> Any:
    """The error body of a service that names none of its own."""
    return {"error": f"fault {status}"}


class Service:
    """An ASGI app around an emulator's."""

    def __init__(self, name: str, app: ASGIApp, faults: Faults, requests: RequestLog, error: ErrorBody) -> None:
        self._name = name
        self._app = app
        self._faults = faults
        self._requests = requests
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await _whole_body(receive)
        if body is None:
            return  # the client went away before the request was complete: nobody received it
        self._record(scope, body)
        action = self._faults.match(self._name, scope["method"], scope["path"], body)
        replay = _Replay(body, receive)
        if action is None:
            await self._app(scope, replay, send)
        elif action.status is not None or action.cut == "before":
            await self._refuse(action, scope, replay, send)
        else:
            await self._carry_out(action, scope, replay, send)

    def _record(self, scope: Scope, body: bytes) -> None:
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        query = scope["query_string"].decode("latin-1")
        self._requests.record(
            self._name, method=scope["method"], path=scope["path"], query=query, headers=headers, body=body
        )

    async def _refuse(self, action: Action, scope: Scope, receive: Receive, send: Send) -> None:
        await _pause(action)
        if action.status is None:
            await _cut(scope, receive)
            return
        content, kind = self._fault_content(action)
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(content))]
        if action.retry_after is not None:
            headers.append((b"retry-after", b"%d" % action.retry_after))
        await send({"type": "http.response.start", "status": action.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _fault_content(self, action: Action) -> tuple[bytes, bytes]:
        if action.body is None:
            return msgspec.json.encode(self._error(action.status or 500)), b"application/json; charset=utf-8"
        kind = b"text/html; charset=utf-8" if action.body.lstrip().startswith("<") else b"application/json"
        return action.body.encode(), kind

    async def _carry_out(self, action: Action, scope: Scope, receive: Receive, send: Send) -> None:
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        await self._app(scope, receive, keep)
        try:
            await _pause(action)
        except asyncio.CancelledError:
            # The lab is ending. No answer is the truth; the server would make it a 500.
            scope.get("extensions", {}).get(CUT, _nothing)()
            raise
        if action.cut == "after":
            await _cut(scope, receive)
            return
        for message in answer:
            await send(message)


class _Replay:
    """The body that was read for the record, then whatever the connection says next."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _whole_body(receive: Receive) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        if size < MOST_BODY:
            parts.append(part[: MOST_BODY - size])
        size += len(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _nothing() -> None:
    return


async def _pause(action: Action) -> None:
    if action.delay_ms:
        await asyncio.sleep(action.delay_ms / 1000)


async def _cut(scope: Scope, receive: Receive) -> None:
    cut = scope.get("extensions", {}).get(CUT)
    if cut is None:
        raise RuntimeError("the fault `cut` needs the lab's own HTTP protocol (heliograph_lab.transport)")
    cut()
    # The server must have seen the loss before this returns, or it would answer 500 in our place.
    while (await receive())["type"] != "http.disconnect":
        pass
