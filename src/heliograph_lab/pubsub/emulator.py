"""The ASGI application: routes, errors, and a client that hangs up."""

import asyncio
import logging
import re
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from heliograph_lab.amapi.errors import NOT_FOUND_PAGE, ApiError, encode, error_json
from heliograph_lab.kernel import Kernel
from heliograph_lab.pubsub.chaos import Rules
from heliograph_lab.pubsub.errors import fault_body, not_modelled
from heliograph_lab.pubsub.keys import SigningKeys
from heliograph_lab.pubsub.log import NotificationLog
from heliograph_lab.pubsub.model import Message
from heliograph_lab.pubsub.push import Pusher
from heliograph_lab.pubsub.store import PubsubStore
from heliograph_lab.pubsub.subscriptions import Subscriptions
from heliograph_lab.pubsub.topics import Call, Handler, Topics
from heliograph_lab.service import CUT, MOST_BODY, ASGIApp, Receive, Scope, Send

_log = logging.getLogger("heliograph_lab.pubsub")
_JSON = b"application/json; charset=UTF-8"
_PROJECT, _TOPIC, _SUBSCRIPTION = (
    r"projects/[^/]+",
    r"projects/[^/]+/topics/[^/]+",
    r"projects/[^/]+/subscriptions/[^/]+",
)
_OTHERS = rf"{_PROJECT}/(?:topics|subscriptions|snapshots|schemas)(?:[/:].*)?"
_CERTS_AGE = 3600  # seconds a client may keep the keys; Google says some hours


class PubsubEmulator:
    """Google's Pub/Sub for a subscriber and for an operator's set-up.

    `app` is complete (ASGI): requests are recorded and faults applied. Whoever asks may do everything. Topics,
    subscriptions and messages survive a SIGKILL; leases do not, so what was handed out is delivered again.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.store = PubsubStore(kernel)
        self.keys = SigningKeys(kernel)
        self.rules = Rules()
        self.log = NotificationLog()
        self._pusher = Pusher(self.store, kernel.clock, self.keys, self.log, self._spoil)
        self._routes = _routes(Topics(self.store), Subscriptions(self.store, kernel.clock))
        self.app: ASGIApp = kernel.service("pubsub", self._serve, fault_body)

    async def start(self) -> None:
        """Begin to push."""
        await self.keys.start()
        await self._pusher.start()

    async def stop(self) -> None:
        """Stop pushing; everything is on disk already."""
        await self._pusher.stop()

    def _spoil(self, message: Message) -> Any:
        enterprise = message.origin
        return self.rules.action(message.attributes.get("notificationType", ""), enterprise, at_push=True)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("the emulator speaks HTTP only; start() and stop() are called by its owner")
        body = await _body(receive)
        if scope["path"] == "/certs" and scope["method"] == "GET":
            age = b"public, max-age=%d" % _CERTS_AGE
            await _respond(send, 200, msgspec.json.encode(self.keys.jwks()), _JSON, (b"cache-control", age))
            return
        found = self._match(scope["method"], scope["path"])
        if found is None:
            _log.warning("404: no such method in the API: %s %s", scope["method"], scope["path"])
            await _respond(send, 404, NOT_FOUND_PAGE, b"text/html; charset=UTF-8")
            return
        handler, name = found
        work = asyncio.ensure_future(self._answer(scope, body, handler, name))
        # Shielded, unless it may wait for long: what was taken in is seen through even when the client has gone.
        try:
            answer = await (_unless_gone(receive, work) if _may_wait(scope) else asyncio.shield(work))
        except asyncio.CancelledError:
            # The lab is ending. No answer is the truth; the server would make it a 500.
            if (cut := scope.get("extensions", {}).get(CUT)) is not None:
                cut()
            raise
        if answer is not None:
            await _respond(send, answer[0], encode(answer[1]), _JSON)

    def _match(self, method: str, path: str) -> tuple[Handler, str] | None:
        for route_method, pattern, handler in self._routes:
            found = pattern.fullmatch(path)
            if found is not None and route_method in {method, "*"}:
                return handler, found["name"]
        return None

    async def _answer(self, scope: Scope, body: bytes, handler: Handler, name: str) -> tuple[int, Any]:
        try:
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            await self.store.clean()
            return 200, await handler(Call(name, dict(query), _decoded(body)))
        except ApiError as error:
            if error.status == 501:
                _log.error("501: %s", error)
            return error.status, error.body
        except Exception:  # noqa: BLE001 - whatever it was, the client gets Google's shape
            _log.exception("500: the emulator failed in %s %s", scope["method"], scope["path"])
            return 500, error_json(500, details=[])


async def _not_modelled(call: Call) -> Any:
    raise not_modelled(f"this method of {call.name}")


def _routes(topics: Topics, subscriptions: Subscriptions) -> list[tuple[str, re.Pattern[str], Handler]]:
    table: list[tuple[str, str, str, Handler]] = [
        ("PUT", _TOPIC, "", topics.create),
        ("GET", _TOPIC, "", topics.get),
        ("DELETE", _TOPIC, "", topics.delete),
        ("GET", _PROJECT, "/topics", topics.list),
        ("GET", _TOPIC, "/subscriptions", topics.list_subscriptions),
        ("POST", _TOPIC, ":publish", topics.publish),
        ("PUT", _SUBSCRIPTION, "", subscriptions.create),
        ("GET", _SUBSCRIPTION, "", subscriptions.get),
        ("PATCH", _SUBSCRIPTION, "", subscriptions.patch),
        ("DELETE", _SUBSCRIPTION, "", subscriptions.delete),
        ("GET", _PROJECT, "/subscriptions", subscriptions.list),
        ("POST", _SUBSCRIPTION, ":pull", subscriptions.pull),
        ("POST", _SUBSCRIPTION, ":acknowledge", subscriptions.acknowledge),
        ("POST", _SUBSCRIPTION, ":modifyAckDeadline", subscriptions.modify_ack_deadline),
        ("POST", _SUBSCRIPTION, ":modifyPushConfig", subscriptions.modify_push_config),
    ]
    for resource in (_TOPIC, _SUBSCRIPTION):
        table += [
            ("GET", resource, ":getIamPolicy", topics.get_policy),
            ("POST", resource, ":setIamPolicy", topics.set_policy),
            ("POST", resource, ":testIamPermissions", topics.test_permissions),
        ]
    # A name may hold no colon, or a GET of `t:publish` would read a topic of that name.
    routes = [
        (method, re.compile(f"/v1/(?P<name>{name.replace('[^/]+', '[^/:]+')}){end}"), handler)
        for method, name, end, handler in table
    ]
    return [*routes, ("*", re.compile(f"/v1/(?P<name>{_OTHERS})"), _not_modelled)]


def _may_wait(scope: Scope) -> bool:
    return bool(scope["path"].endswith(":pull"))


async def _unless_gone(receive: Receive, doing: "asyncio.Future[tuple[int, Any]]") -> tuple[int, Any] | None:
    """The result; None when the client hangs up before: nobody would get the messages that it waits for."""
    gone: asyncio.Future[Any] = asyncio.ensure_future(receive())
    both: list[asyncio.Future[Any]] = [doing, gone]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        return doing.result() if doing.done() else None
    finally:
        doing.cancel()
        gone.cancel()


def _decoded(body: bytes) -> Any:
    if len(body) >= MOST_BODY:
        raise ApiError(400, f"Request payload size exceeds the limit: {MOST_BODY} bytes.")
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ApiError(400, "Invalid JSON payload received. Expected a value.") from None


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _respond(send: Send, status: int, body: bytes, kind: bytes, *headers: tuple[bytes, bytes]) -> None:
    every = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": every})
    await send({"type": "http.response.body", "body": body})
