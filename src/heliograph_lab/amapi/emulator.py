"""The ASGI application: routing, authentication and errors around the modelled methods."""

import asyncio
import logging
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from heliograph_lab.amapi.administration import Administration
from heliograph_lab.amapi.calls import Call, Handler
from heliograph_lab.amapi.devices import Registry
from heliograph_lab.amapi.discovery import Method, match
from heliograph_lab.amapi.enrolment import Enrolment
from heliograph_lab.amapi.enterprises import Enterprises
from heliograph_lab.amapi.errors import NOT_FOUND_PAGE, ApiError, Unmodelled, Violations, encode, error_json
from heliograph_lab.amapi.events import Channel, Outlet, Silent
from heliograph_lab.amapi.execution import Executor
from heliograph_lab.amapi.handlers import Handlers
from heliograph_lab.amapi.methods import bound
from heliograph_lab.amapi.oauth import UNKNOWN_PROJECT, exchange, project_of_token
from heliograph_lab.amapi.operations import Book
from heliograph_lab.amapi.quota import Quota
from heliograph_lab.amapi.settings import EmulatorSettings
from heliograph_lab.amapi.signup import PATH as SIGNUP_PATH
from heliograph_lab.amapi.signup import Signups
from heliograph_lab.amapi.tokens import Tokens
from heliograph_lab.amapi.validate import parse_query
from heliograph_lab.fleet import Fleet
from heliograph_lab.kernel import Kernel
from heliograph_lab.service import ASGIApp, Receive, Scope, Send

SERVICE = "amapi"
_log = logging.getLogger("heliograph_lab.amapi")
_MOST_BODY = 1024 * 1024
_JSON = b"application/json; charset=UTF-8"
_HTML = b"text/html; charset=UTF-8"
_LONGEST_PROJECT = 100
_Headers = list[tuple[bytes, bytes]]
_UNMODELLED_PARAMETERS = {"callback", "fields", "$fields"}


class AmapiEmulator:
    """Google's Android Management API for the devices of a fleet.

    `app` is complete (ASGI): requests are recorded, faults applied, tokens given out at POST /token, and behind a
    sign-up URL there is a page. `settings` may be changed while it runs. All but the quota's counts survives a
    SIGKILL: `start` goes on where the last run ended.
    """

    def __init__(
        self, kernel: Kernel, fleet: Fleet, settings: EmulatorSettings | None = None, outlet: Outlet | None = None
    ) -> None:
        self.settings = kernel.settings.open(SERVICE, settings or EmulatorSettings())
        self._clock = kernel.clock
        self.book = Book(kernel)
        self.quota = Quota(kernel.clock, self.settings)
        self._signups = Signups(kernel)
        self.enterprises = Enterprises(kernel, fleet, self._signups, self.settings)
        tokens = Tokens(kernel)
        self.registry = Registry(kernel, fleet, self.book, self.enterprises, self.settings)
        self.enrolment = Enrolment(kernel, fleet, tokens, self.registry, self.enterprises)
        self._executor = Executor(kernel, fleet, self.book, self.registry, self.settings, outlet or Silent())
        self._methods = bound(
            Handlers(self.book, self.registry, self.enterprises, self._executor, self.settings),
            Administration(self.enterprises, self._signups, tokens, self.registry, self.settings),
        )
        fleet.subscribe(self._executor.device_changed)
        kernel.clock.on_settle(self._executor.settled)
        self.app: ASGIApp = kernel.service(SERVICE, self._serve, error_json)

    async def start(self) -> None:
        """Load what is on disk and begin to run it."""
        await self._executor.start()

    def channel(self, enterprise: str) -> Channel | None:
        """Where the enterprise's notifications go; None when it has no topic."""
        shown = self.enterprises.resource(enterprise)  # of one that is deleted or unknown no more than a name
        topic = shown.get("pubsubTopic", "")
        return Channel(topic, frozenset(shown.get("enabledNotificationTypes", ()))) if topic else None

    def resource(self, name: str) -> dict[str, Any] | None:
        """A device or an operation as the API shows it; None when there is none."""
        if "/operations/" in name:
            slot = self.book.find(name)
            return slot.published.resource() if slot is not None and slot.published is not None else None
        device = self.registry.find(name)
        return self.registry.resource(device) if device is not None else None

    async def stop(self) -> None:
        """Stop running commands; everything is on disk already."""
        await self._executor.stop()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("the emulator speaks HTTP only; start() and stop() are called by its owner")
        body = await _body(receive)
        if scope["path"] == "/token" and scope["method"] == "POST":
            status, answer = exchange(body or b"", f"{_origin(scope)}/token", self._clock.now().timestamp())
            await _respond(send, status, encode(answer), _JSON)
            return
        if scope["path"].startswith(SIGNUP_PATH) and scope["method"] == "GET":
            await self._sign_up(scope, send)
            return
        found = match(scope["method"], scope["path"])
        if found is None:
            # As Google's front end does for what no API has, a known path with another verb included.
            level = logging.INFO if scope["path"] == "/" else logging.WARNING  # "/" is how one asks for the time
            _log.log(level, "404: no such method in the API: %s %s", scope["method"], scope["path"])
            await _respond(send, 404, NOT_FOUND_PAGE, _HTML)
            return
        status, answer, headers = await self._answer(scope, body, *found)
        _log.info("%s %s: %d", found[0].id, scope["path"], status)
        await _respond(send, status, encode(answer), _JSON, headers)

    async def _sign_up(self, scope: Scope, send: Send) -> None:
        status, target, page = await self._signups.visit(scope["path"].removeprefix(SIGNUP_PATH))
        await _respond(send, status, page, _HTML, [(b"location", target.encode("ascii"))] if target else [])

    async def _answer(
        self, scope: Scope, body: bytes | None, method: Method, path: dict[str, str]
    ) -> tuple[int, dict[str, Any], _Headers]:
        try:
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            self.quota.take(self._project(scope, query))
            handler = self._handler(method)
            self._see_whose_it_is(scope, path)
            call = Call(path, _checked_query(method, query), _decoded(body, scope["method"]), _origin(scope))
            # Shielded: what was taken in is seen through even when the client has gone away.
            return 200, await asyncio.shield(self._executor.spawn(_run(handler, call))), []
        except ApiError as error:
            if isinstance(error, Unmodelled):
                _log.error("501 to %s: %s", method.id, error)
            after = [] if error.retry_after is None else [(b"retry-after", b"%d" % error.retry_after)]
            return error.status, error.body, after
        except Exception:  # noqa: BLE001 - whatever it was, the client gets Google's shape
            _log.exception("500: the emulator failed in %s", method.id)
            return 500, error_json(500), []

    def _handler(self, method: Method) -> Handler:
        handler = self._methods.get(method.id)
        if handler is None:
            raise Unmodelled(method.id)
        return handler

    def _see_whose_it_is(self, scope: Scope, path: dict[str, str]) -> None:
        """403 where the token is one of another project's account than the one that made the enterprise."""
        name = path.get("name") or path.get("parent") or ""
        account = project_of_token(_bearer(scope))
        if account != UNKNOWN_PROJECT and not self.enterprises.may_manage(account, "/".join(name.split("/")[:2])):
            raise ApiError(403)

    def _project(self, scope: Scope, query: list[tuple[str, str]]) -> str:
        """The project that the request counts for; 401 without a token, unless that is allowed."""
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        token = _bearer(scope) or next((value for key, value in query if key in {"access_token", "oauth_token"}), "")
        if not token and self.settings.require_token:
            raise ApiError(401)
        return headers.get(b"x-goog-user-project", "")[:_LONGEST_PROJECT] or project_of_token(token)


def _bearer(scope: Scope) -> str:
    """The token of the Authorization header; empty without one."""
    given = next((value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"authorization"), "")
    scheme, _, token = given.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _run(handler: Handler, call: Call) -> dict[str, Any]:
    return await handler(call)


def _checked_query(method: Method, query: list[tuple[str, str]]) -> dict[str, Any]:
    for name, value in query:
        if name in _UNMODELLED_PARAMETERS or (name.removeprefix("$") == "alt" and value != "json"):
            raise Unmodelled(f"the parameter {name}")
    found = Violations()
    values = parse_query(method, query, found)
    found.raise_if_any()
    return values


def _decoded(body: bytes | None, http_method: str) -> Any:
    if http_method in {"GET", "DELETE"}:
        return None
    if body is None:
        raise ApiError(400, f"Request payload size exceeds the limit: {_MOST_BODY} bytes.")
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ApiError(400, "Invalid JSON payload received. Expected a value.") from None


async def _body(receive: Receive) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        parts.append(part)
        more = message.get("more_body", False)
        if size > _MOST_BODY:
            parts.clear()
    return b"".join(parts) if size <= _MOST_BODY else None


def _origin(scope: Scope) -> str:
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"host"), "")
    return f"{scope.get('scheme', 'http')}://{host}"


async def _respond(send: Send, status: int, body: bytes, kind: bytes, more: _Headers | None = None) -> None:
    headers = [
        *(more or []),
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"vary", b"Origin, X-Origin, Referer"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="https://accounts.google.com/"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
