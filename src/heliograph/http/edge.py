"""The outermost ring: everything that is decided before an operation is known to run.

Slashes, request ids, unknown routes and methods, the size of the body; and that every answer, also an unexpected
fault, is the documented envelope with its request id.
"""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from heliograph.http.answers import JSON, Answer, Request
from heliograph.http.metrics import requests_of, seconds_of
from heliograph.http.problems import TOO_LARGE, UNAVAILABLE, UNKNOWN_ROUTE, Problem, problem_of
from heliograph.http.room import Place

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

EXCHANGE = "heliograph.exchange"  # among the scope's extensions, where the server has it: server_protocol.Exchange

MAX_BODY = 1024 * 1024
# Of bodies that come in pieces, all together: they are kept before it is known who sends them.
MAX_COMING = 64 * MAX_BODY
_DROP_BYTES, _DROP_S = 16 * MAX_BODY, 3.0  # the largest message that Pub/Sub pushes, in base64, is within it
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_PARAMETER = re.compile(r"\{(\w+)\}")
# A request id guards nothing, and asking the kernel for random bytes each time is dear.
_RANDOM = random.Random()  # noqa: S311


CLIENT_GONE = 499  # in the figures only: there is nobody to answer


class _ClientGone(Exception):
    """The request never came to its end."""


Endpoint = Callable[[Request], Awaitable[Answer]]


class Routes:
    """Which paths exist, and what answers each method there. HEAD comes with GET."""

    def __init__(self, endpoints: Iterable[tuple[str, str, Endpoint]]) -> None:
        found: dict[str, dict[str, Endpoint]] = {}
        for method, path, endpoint in endpoints:
            found.setdefault(path, {}).update(
                dict.fromkeys((method, "HEAD") if method == "GET" else (method,), endpoint)
            )
        # By their number of segments: few patterns are left to try.
        self._table: dict[int, list[tuple[re.Pattern[str], str, dict[str, Endpoint]]]] = {}
        for path, methods in found.items():
            pattern = re.compile(_PARAMETER.sub(r"(?P<\1>[^/]+)", path))
            self._table.setdefault(path.count("/"), []).append((pattern, path, methods))

    def find(self, path: str) -> tuple[str, dict[str, Endpoint], dict[str, str]] | None:
        """The route's template, what answers its methods, and the parameters in the path; or None."""
        for pattern, template, methods in self._table.get(path.count("/"), ()):
            match = pattern.fullmatch(path)
            if match is not None:
                return template, methods, match.groupdict()
        return None


class Edge:
    """The ASGI application: HTTP by its routes, WebSockets on `line_path` by `line`.

    `too_large`: by the route's path, what answers a request whose body is too large, without the body. 413 elsewhere.
    """

    def __init__(
        self, routes: Routes, line: ASGIApp, line_path: str, log: Any, too_large: Mapping[str, Endpoint] | None = None
    ) -> None:
        self._routes, self._line, self._line_path, self._log = routes, line, line_path, log
        self._too_large = too_large or {}
        self._coming = _Coming()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            known = _plain(scope["path"]) == self._line_path
            await (self._line if known else _refuse_line)(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = _request_id(scope)
        exchange = scope["extensions"].get(EXCHANGE) if "extensions" in scope else None
        answer = _Sender(exchange, send, request_id)
        template, unread, place = "unknown", None, None
        began = time.perf_counter()
        try:
            template, endpoint, parameters = self._routed(scope)
            unread = receive
            body = await _whole_body(scope, receive, exchange, self._coming)
            if body is None:
                endpoint = self._too_large.get(template, _refuse_body)
            else:
                unread = None
            place = await answer.give_made(endpoint(Request(scope, parameters, body or b"")), unread)
        except _ClientGone:
            answer.status = CLIENT_GONE
        except asyncio.CancelledError:
            # The server is stopping and has waited long enough; whoever still waits for an answer gets one.
            await answer.refuse(Problem(503, UNAVAILABLE, "The server is stopping", {"Retry-After": "1"}))
        except Exception as error:  # noqa: BLE001 (every fault becomes an answer)
            shown = request_id.decode("ascii")
            problem = problem_of(error, shown)
            if problem.status == 500:
                self._log.exception("http.fault", request_id=shown, route=template, method=scope["method"])
            await answer.refuse(problem, unread)
        finally:
            method = scope["method"] if template != "unknown" else "any"
            requests_of(method, template, str(answer.status)).inc()
            seconds_of(template).observe(time.perf_counter() - began)
        if place is not None:
            await _taken(exchange, place)

    def _routed(self, scope: Scope) -> tuple[str, Endpoint, dict[str, str]]:
        """The template of the route, what answers there, and the parameters; refuses unknown routes and methods."""
        path = scope["path"] = _plain(scope["path"])
        route = self._routes.find(path)
        if route is None:
            raise Problem(404, UNKNOWN_ROUTE, "Route not found")
        template, methods, parameters = route
        endpoint = methods.get(scope["method"])
        if endpoint is None:
            raise Problem(405, UNKNOWN_ROUTE, "Method not allowed", {"Allow": ", ".join(sorted(methods))})
        return template, endpoint, parameters


class _Sender:
    """Sends one answer, under its request id, and knows whether it has."""

    def __init__(self, exchange: Any, send: Send, request_id: bytes) -> None:
        self._exchange, self._send, self._id = exchange, send, request_id
        self.status = 0

    async def give(self, answer: Answer, unread: Receive | None = None) -> None:
        """Send an answer; in one step where the server can. To a HEAD request it sends no body by itself.

        What is `unread` of the request is read and dropped before the connection is closed: else the kernel resets it,
        and a client that writes before it reads never sees the answer.
        """
        if unread is not None:
            answer = replace(answer, headers={**answer.headers, "Connection": "close"})
        fields = answer.fields(self._id)
        self.status = answer.status
        if self._exchange is not None and unread is None:
            await self._exchange.answer(answer.status, fields, answer.body)
            return
        await self._send({"type": "http.response.start", "status": answer.status, "headers": fields})
        await self._send({"type": "http.response.body", "body": answer.body, "more_body": unread is not None})
        if unread is not None:
            await _drop(unread)
            await self._send({"type": "http.response.body", "body": b""})

    async def give_made(self, making: Awaitable[Answer], unread: Receive | None) -> Place | None:
        """Send the answer that is being made; the room that it takes from then on, which is its caller's to give back.

        Who calls does not hold the answer itself: once it is sent, the server has it.
        """
        made = await making
        try:
            await self.give(made, unread)
        except BaseException:
            if made.place is not None:
                made.place.leave()
            raise
        return made.place

    async def refuse(self, problem: Problem, unread: Receive | None = None) -> None:
        """Send a refusal."""
        if not self.status:  # else it is too late for another answer
            await self.give(Answer(problem.body(), problem.status, headers=problem.headers), unread)


async def _refuse_body(_: Request) -> Answer:
    """Where nothing else is said of bodies that are too large."""
    raise Problem(413, TOO_LARGE, "Body too large")


async def _refuse_line(scope: Scope, receive: Receive, send: Send) -> None:
    """There is one path for WebSockets."""
    await receive()  # websocket.connect
    problem = Problem(404, UNKNOWN_ROUTE, "Route not found")
    body = problem.body()
    headers = [(b"content-type", JSON), (b"x-request-id", _request_id(scope))]
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "websocket.http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


async def _taken(exchange: Any, place: Place) -> None:
    """Give back the room of an answer once its client has taken it, or is gone."""
    try:
        if exchange is not None:
            with suppress(asyncio.CancelledError):  # the server is stopping
                await exchange.taken()
    finally:
        place.leave()


async def _drop(receive: Receive) -> None:
    """Read what is left of a request that was refused, within bounds."""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DROP_S):
            while size <= _DROP_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                size += len(message.get("body", b""))


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            if _REQUEST_ID.fullmatch(value):
                return bytes(value)
            break
    return b"%024x" % _RANDOM.getrandbits(96)


def _plain(path: str) -> str:
    """Doubled and trailing slashes mean the same as none."""
    while "//" in path:
        path = path.replace("//", "/")
    return path.rstrip("/") or "/"


class _Coming:
    """The bytes of bodies that have not come to their end."""

    def __init__(self) -> None:
        self._size = 0

    async def whole(self, receive: Receive) -> bytes | None:
        """A body that comes in pieces; None where it is too large. Raises a Problem where too much comes at once."""
        chunks: list[bytes] = []
        size = 0
        more = True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _ClientGone  # what has come may look whole, and is not what the client meant
                chunk = message.get("body", b"")
                size += len(chunk)
                self._size += len(chunk)
                if size > MAX_BODY:
                    return None
                if self._size > MAX_COMING:
                    raise Problem(503, UNAVAILABLE, "Too many large bodies at once", {"Retry-After": "1"})
                chunks.append(chunk)
                more = message.get("more_body", False)
            return b"".join(chunks)
        finally:
            self._size -= size


async def _whole_body(scope: Scope, receive: Receive, exchange: Any, coming: _Coming) -> bytes | None:
    """The body; None where it is too large."""
    length, is_chunked = b"", False
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = value
        elif name == b"transfer-encoding":
            is_chunked = True
    if not is_chunked and length in (b"", b"0"):
        return b""
    if length.isdigit() and int(length) > MAX_BODY:
        return None
    body: bytes | None = None if exchange is None else exchange.body()
    if body is not None:
        return body if len(body) <= MAX_BODY else None
    return await coming.whole(receive)
