"""Pushy's REST API: routes, checks and the shapes of its answers."""

import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from heliograph_lab.pushy import model
from heliograph_lab.pushy.model import Device, Push, PushyError
from heliograph_lab.pushy.send import SendRequest, read_send
from heliograph_lab.pushy.store import PushyStore, presence
from heliograph_lab.web import Handler, Reply, Request, Router

KeyHandler = Callable[[str, Request], Awaitable[Any]]
_KEY = re.compile(r"[0-9a-zA-Z]+")
_TOPIC = re.compile(r"[a-zA-Z0-9_.-]+")


def fault_body(status: int) -> Any:
    """The body of a fault's answer."""
    codes = {401: "INVALID_API_KEY", 429: "RATE_LIMIT_EXCEEDED"}
    code = codes.get(status, "INTERNAL_ERROR" if status >= 500 else "INVALID_PARAM")
    return {"code": code, "error": f"fault {status}, asked for in the lab"}


class Api:
    """The routes. What is not modelled answers 501, so that nobody takes it for Pushy's word."""

    def __init__(
        self,
        store: PushyStore,
        *,
        is_online: Callable[[str], bool],
        sent: Callable[[int, list[str]], None],
        requests_per_minute: int | None,
    ) -> None:
        self._store = store
        self._is_online = is_online
        self._sent = sent
        self._limit = requests_per_minute
        self._minute: dict[str, tuple[int, int]] = {}
        self.router = Router(on_error=_error, no_route=_not_modelled)
        routes: list[tuple[str, str, KeyHandler]] = [
            ("POST", "/push", self._send),
            ("GET", "/pushes/{id}", self._status),
            ("DELETE", "/pushes/{id}", self._delete),
            ("POST", "/devices/presence", self._presence),
            ("GET", "/devices/{token}", self._info),
            ("POST", "/topics/subscribe", self._subscribe),
            ("POST", "/topics/unsubscribe", self._unsubscribe),
            ("GET", "/topics", self._topics),
            ("GET", "/topics/{topic}", self._subscribers),
        ]
        for method, path, handler in routes:
            self.router.add(method, path, self._with_key(handler))

    def _with_key(self, handler: KeyHandler) -> Handler:
        async def handle(request: Request) -> Reply:
            api_key = request.query.get("api_key", "")
            if not _KEY.fullmatch(api_key):
                raise PushyError(401, "INVALID_API_KEY", "Please provide a valid, alphanumeric Secret API Key.")
            self._count(api_key)
            await self._store.forget()
            return Reply(await handler(api_key, request))

        return handle

    def _count(self, api_key: str) -> None:
        if self._limit is None:
            return
        minute = self._store.now() // 60
        last, used = self._minute.get(api_key, (minute, 0))
        used = used + 1 if last == minute else 1
        self._minute[api_key] = (minute, used)
        if used > self._limit:
            raise PushyError(429, "RATE_LIMIT_EXCEEDED", f"The app has exceeded {self._limit} requests per minute.")

    # ------------------------------------------------------------ pushes

    async def _send(self, api_key: str, request: Request) -> Any:
        now = self._store.now()
        wanted = read_send(_object(request), now)
        recipients, failed = self._recipients(api_key, wanted)
        if not recipients:
            raise PushyError(400, "NO_RECIPIENTS", "We could not find any recipients for this notification.")
        begin = max(now, wanted.schedule or 0)
        push = Push(
            id=f"{now:08x}{secrets.token_hex(8)}",
            api_key=api_key,
            order=0,
            date=now,
            expiration=begin + wanted.time_to_live,
            payload=wanted.data,
            due=wanted.schedule or 0,
            collapse_key=wanted.collapse_key,
        )
        await self._store.add(push, recipients)
        self._sent(push.due, self._store.waiting(push.id))
        return {"success": True, "id": push.id, "info": {"devices": len(recipients), "failed": failed}}

    def _recipients(self, api_key: str, wanted: SendRequest) -> tuple[list[str], list[str]]:
        found: dict[str, None] = {}
        failed: list[str] = []
        for token in wanted.tokens:
            if self._store.device(api_key, token) is not None:
                found[token] = None
            else:
                failed.append(token)
        if wanted.topics:
            topics = set(wanted.topics)
            found.update((d.token, None) for d in self._store.devices(api_key) if topics.intersection(d.subscriptions))
        return list(found), failed

    async def _status(self, api_key: str, request: Request) -> Any:
        push = self._push(api_key, request.params["id"])
        pending = self._store.waiting(push.id)[: model.MOST_PENDING_SHOWN]
        shown = {"date": push.date, "payload": push.payload, "expiration": push.expiration, "pending_devices": pending}
        return {"push": shown}

    async def _delete(self, api_key: str, request: Request) -> Any:
        await self._store.delete(self._push(api_key, request.params["id"]))
        return {"success": True}

    def _push(self, api_key: str, push_id: str) -> Push:
        push = self._store.push(api_key, push_id)
        if push is None:
            raise PushyError(400, "INVALID_PUSH_ID", "We could not find a notification with that ID.")
        return push

    # ------------------------------------------------------------ devices

    async def _info(self, api_key: str, request: Request) -> Any:
        device = self._device(api_key, request.params["token"])
        ago = max(0, self._store.now() - device.last_active)
        return {
            "device": {"date": device.date, "platform": device.platform},
            "presence": {
                "online": self._is_online(device.token),
                "last_active": {"date": device.last_active, "seconds_ago": ago},
            },
            "pending_notifications": [
                {"id": push.id, "date": push.date, "payload": push.payload, "expiration": push.expiration}
                for push in self._store.queue(device.token)
            ],
            "subscriptions": device.subscriptions,
        }

    async def _presence(self, api_key: str, request: Request) -> Any:
        tokens = _strings(_object(request), "tokens", model.MOST_PRESENCE_TOKENS)
        found = [device for token in tokens if (device := self._store.device(api_key, token)) is not None]
        if not found:
            raise PushyError(400, "NO_RESULTS", "We could not find any devices with those tokens.")
        return {"presence": [presence(device, self._is_online(device.token)) for device in found]}

    def _device(self, api_key: str, token: str) -> Device:
        device = self._store.device(api_key, token)
        if device is None:
            raise PushyError(400, "NO_RESULTS", "We could not find a device with that token.")
        return device

    # ------------------------------------------------------------ topics

    async def _subscribe(self, api_key: str, request: Request) -> Any:
        return await self._change_topics(api_key, request, wanted=True)

    async def _unsubscribe(self, api_key: str, request: Request) -> Any:
        return await self._change_topics(api_key, request, wanted=False)

    async def _change_topics(self, api_key: str, request: Request, *, wanted: bool) -> Any:
        body = _object(request)
        topics = _strings(body, "topics", model.MOST_TOPICS)
        if not all(_TOPIC.fullmatch(topic) for topic in topics):
            raise PushyError(400, "INVALID_PARAM", "Topic names must match [a-zA-Z0-9-_.]+.")
        token = body.get("token")
        await self._store.subscribe(
            self._device(api_key, token if isinstance(token, str) else ""), topics, wanted=wanted
        )
        return {"success": True}

    async def _topics(self, api_key: str, _request: Request) -> Any:
        counts: dict[str, int] = {}
        for device in self._store.devices(api_key):
            for topic in device.subscriptions:
                counts[topic] = counts.get(topic, 0) + 1
        return {"topics": [{"name": name, "subscribers": count} for name, count in sorted(counts.items())]}

    async def _subscribers(self, api_key: str, request: Request) -> Any:
        topic = request.params["topic"]
        tokens = [device.token for device in self._store.devices(api_key) if topic in device.subscriptions]
        if len(tokens) > model.MOST_PENDING_SHOWN:
            raise PushyError(501, "NOT_MODELLED", "The lab does not model the pages of a topic's subscribers.")
        return {"subscribers": tokens}


def _object(request: Request) -> dict[str, Any]:
    try:
        body = request.json()
    except ValueError as error:
        raise PushyError(400, "INVALID_PARAM", str(error)) from None
    if not isinstance(body, dict):
        raise PushyError(400, "INVALID_PARAM", "The request body must be a JSON object.")
    return body


def _strings(body: dict[str, Any], name: str, most: int) -> list[str]:
    value = body.get(name)
    try:
        values = msgspec.convert([value] if isinstance(value, str) else value, list[str])
    except msgspec.ValidationError:
        values = []
    if not 1 <= len(values) <= most:
        raise PushyError(400, "INVALID_PARAM", f"Please provide {name}: 1 to {most} strings.")
    return values


def _error(_request: Request, error: Exception) -> Reply:
    if not isinstance(error, PushyError):
        raise error
    return Reply({"code": error.code, "error": error.message}, error.status)


def _not_modelled(request: Request, _path_exists: bool) -> Reply:
    message = f"The lab's Pushy does not model {request.method} {request.path}."
    return Reply({"code": "NOT_MODELLED", "error": message}, 501)
