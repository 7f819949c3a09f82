"""The outermost ring: everything that is decided before an operation is known to run.

Slashes, request ids, unknown routes and methods, the size of the body; and that every answer, also an unexpected
fault, is the documented envelope with its request id.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from heliograph.http.metrics import REQUEST_SECONDS, REQUESTS
from heliograph.http.problems import STOPPING, TOO_LARGE, UNKNOWN_ROUTE, Problem, problem_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 1024 * 1024
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_PARAMETER = re.compile(r"\{\w+\}")


CLIENT_GONE = 499  # in the figures only: there is nobody to answer


class _ClientGone(Exception):
    """The request never came to its end."""


class Routes:
    """Which paths exist, and with which methods. HEAD comes with GET."""

    def __init__(self, operations: Iterable[tuple[str, str]]) -> None:
        methods: dict[str, set[str]] = {}
        for method, path in operations:
            methods.setdefault(path, set()).update({method, "HEAD"} if method == "GET" else {method})
        self._table = [
            (re.compile(_PARAMETER.sub("[^/]+", path)), path, frozenset(allowed)) for path, allowed in methods.items()
        ]

    def find(self, path: str) -> tuple[str, frozenset[str]] | None:
        """The route's template and methods, or None."""
        return next(((t, methods) for pattern, t, methods in self._table if pattern.fullmatch(path)), None)


class Edge:
    """ASGI middleware around the application; WebSockets go to `line`."""

    def __init__(self, inner: ASGIApp, routes: Routes, line: ASGIApp, log: Any) -> None:
        self._inner, self._routes, self._line, self._log = inner, routes, line, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._line(scope, receive, send)
        elif scope["type"] != "http":
            await self._inner(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = _request_id(scope)
        answer = _Answer(send, request_id)
        scope["request_id"] = request_id
        template = "unknown"
        began = time.perf_counter()
        try:
            template = self._routed(scope)
            await self._inner(scope, await _whole_body(scope, receive), answer)
        except _ClientGone:
            answer.status = CLIENT_GONE
        except asyncio.CancelledError:
            # The server is stopping and has waited long enough; whoever still waits for an answer gets one.
            await answer.refuse(Problem(503, STOPPING, "The server is stopping", {"Retry-After": "1"}))
        except Exception as error:  # noqa: BLE001 (every fault becomes an answer)
            if not isinstance(error, Problem):
                self._log.exception("http.fault", request_id=request_id, route=template, method=scope["method"])
            await answer.refuse(problem_of(error, request_id))
        finally:
            REQUESTS.labels(scope["method"] if template != "unknown" else "any", template, str(answer.status)).inc()
            REQUEST_SECONDS.labels(template).observe(time.perf_counter() - began)

    def _routed(self, scope: Scope) -> str:
        """The template of the route; refuses unknown routes and methods."""
        path = scope["path"] = _plain(scope["path"])
        route = self._routes.find(path)
        if route is None:
            raise Problem(404, UNKNOWN_ROUTE, "Route not found")
        template, methods = route
        if scope["method"] not in methods:
            raise Problem(405, UNKNOWN_ROUTE, "Method not allowed", {"Allow": ", ".join(sorted(methods))})
        return template


class _Answer:
    """Adds the request id to what is sent, and knows whether anything was."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._id = request_id.encode("ascii")
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), (b"x-request-id", self._id)]
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        if self.status:
            return  # too late for another answer
        body = problem.body()
        headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in problem.headers.items()]
        if problem.status == 413:
            headers.append((b"connection", b"close"))  # the rest of the body is not wanted
        await self({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


def _request_id(scope: Scope) -> str:
    given: bytes = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode("ascii") if _REQUEST_ID.fullmatch(given) else secrets.token_hex(12)


def _plain(path: str) -> str:
    """Doubled and trailing slashes mean the same as none."""
    while "//" in path:
        path = path.replace("//", "/")
    return path.rstrip("/") or "/"


async def _whole_body(scope: Scope, receive: Receive) -> Receive:
    """Read the body, bounded, and hand it on as one message; disconnects still come through."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > MAX_BODY:
        raise Problem(413, TOO_LARGE, "Body too large")
    if length in (b"", b"0") and b"transfer-encoding" not in headers:
        return receive
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone  # what has come may look whole, and is not what the client meant
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY:
            raise Problem(413, TOO_LARGE, "Body too large")
        chunks.append(chunk)
        more = message.get("more_body", False)
    whole: list[Message] = [{"type": "http.request", "body": b"".join(chunks), "more_body": False}]

    async def replay() -> Message:
        return whole.pop() if whole else await receive()

    return replay
