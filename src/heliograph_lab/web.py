"""The little HTTP that the lab's own services need: routes, JSON in, JSON out."""

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from heliograph_lab.service import Receive, Scope, Send

JSON = "application/json; charset=utf-8"


class Request(msgspec.Struct, frozen=True):
    """One request: path parameters in `params`, the decoded query in `query` (the last of a repeated name counts)."""

    method: str
    path: str
    params: dict[str, str]
    query: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; ValueError if it is none."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"the body is not valid JSON: {error}") from None


class Reply(msgspec.Struct, frozen=True):
    """Status and JSON content."""

    content: Any
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], Awaitable[Reply]]
OnError = Callable[[Request, Exception], Reply]
NoRoute = Callable[[Request, bool], Reply]  # the flag: the path exists, with other methods


class Router:
    """An ASGI app. Path parameters are written `{name}` and hold one segment; a trailing slash makes no difference."""

    def __init__(self, *, on_error: OnError, no_route: NoRoute) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []
        self._on_error = on_error
        self._no_route = no_route

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Routes are tried in the order in which they were added."""
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
        self._routes.append((method, re.compile(pattern + "/?"), handler))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the lab speaks HTTP only, not {scope['type']}")
        reply = await self._answer(scope, await body_of(receive))
        content = msgspec.json.encode(reply.content)
        headers = [("content-type", JSON), ("content-length", str(len(content))), *reply.headers]
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope, body: bytes) -> Reply:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        request = Request(scope["method"], scope["path"], {}, query, body)
        path_exists = False
        for method, pattern, handler in self._routes:
            found = pattern.fullmatch(request.path)
            if found and method == request.method:
                request = msgspec.structs.replace(request, params=found.groupdict())
                try:
                    return await handler(request)
                except Exception as error:  # noqa: BLE001 - each service answers errors in its own shape
                    return self._on_error(request, error)
            path_exists = path_exists or found is not None
        return self._no_route(request, path_exists)


async def body_of(receive: Receive) -> bytes:
    """The whole body of a request; what came of it, if the client went away."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
