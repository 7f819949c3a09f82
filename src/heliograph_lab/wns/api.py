"""The routes, as ASGI: channels answer by headers and without a body, token services by JSON."""

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import msgspec

from heliograph_lab.service import Receive, Scope, Send
from heliograph_lab.web import JSON, body_of
from heliograph_lab.wns.auth import Service, exchange
from heliograph_lab.wns.model import WnsError
from heliograph_lab.wns.settings import WnsSettings
from heliograph_lab.wns.store import WnsStore

STORE_PATH = "/accesstoken.srf"
_ENTRA_PATH = re.compile(r"/[^/]+/oauth2/v2\.0/token")


class Answer(NamedTuple):
    """Status, headers and, of a token service, the JSON of its body."""

    status: int
    headers: Mapping[str, str]
    body: Any = None


# What is seen of WNS's refusals: tjanczuk/wns#4, pywebpush#162, web-push-csharp#93.
_REFUSED = {400: "dropped", 403: "dropped", 406: "appthrottled"}

Push = Callable[[str, Mapping[str, str], bytes], Awaitable[Answer]]


def fault_body(status: int) -> Any:
    """The body of a fault's answer, as a token service has it; a channel's is not looked at."""
    error = "temporarily_unavailable" if status >= 500 or status == 429 else "invalid_client"
    return {"error": error, "error_description": f"fault {status}, asked for in the lab"}


class Api:
    """`push` takes a channel's token, the headers (names in lower case) and the body of a notification."""

    def __init__(self, store: WnsStore, settings: WnsSettings, push: Push) -> None:
        self._store, self._settings, self._push = store, settings, push

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the lab speaks HTTP only, not {scope['type']}")
        answer = await self._answer(scope, await body_of(receive))
        content = b"" if answer.body is None else msgspec.json.encode(answer.body)
        headers = {**answer.headers, "Content-Length": str(len(content))}
        if answer.body is not None:
            headers["Content-Type"] = JSON
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope, body: bytes) -> Answer:
        path, method = scope["path"], scope["method"]
        if path == STORE_PATH and method == "POST":
            return self._token("store", body)
        if _ENTRA_PATH.fullmatch(path) and method == "POST":
            return self._token("entra", body)
        try:
            answer = await self._notify(scope, body)
        except WnsError as error:
            after = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
            said = {"X-WNS-Error-Description": error.description} if error.description else {}
            if error.status in _REFUSED:
                said["X-WNS-Status"] = _REFUSED[error.status]
            answer = Answer(error.status, {**said, **after})
        return answer._replace(headers={**_debug(), **answer.headers})

    async def _notify(self, scope: Scope, body: bytes) -> Answer:
        if scope["path"] != "/":
            raise WnsError(404, "The channel URI is not valid or is not recognized")
        if scope["method"] != "POST":
            raise WnsError(405, "Only POST is allowed")
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
        return await self._push(token, headers, body)

    def _token(self, service: Service, body: bytes) -> Answer:
        life = self._settings.store_token_seconds if service == "store" else self._settings.entra_token_seconds
        status, content = exchange(service, body, self._store.apps, self._store.now(), life)
        return Answer(status, {"Cache-Control": "no-store"}, content)


def _debug() -> dict[str, str]:
    return {
        "X-WNS-Msg-ID": secrets.token_hex(8).upper(),
        "X-WNS-Debug-Trace": f"LAB{secrets.token_hex(4).upper()}",
        "MS-CV": f"{secrets.token_urlsafe(16)}.0",
    }
