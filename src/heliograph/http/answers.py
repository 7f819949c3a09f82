"""A request as the edge has taken it, and an answer on its way out."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import field
from typing import Any
from urllib.parse import parse_qsl, quote

from heliograph.domain.record import record

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_IN_PATHS = "/:@!$&'()*+,;=~"  # RFC 3986, 3.3

JSON = b"application/json; charset=utf-8"


@record
class Request:
    """What came in: the ASGI scope, the parameters in its path, and the whole of the body."""

    scope: MutableMapping[str, Any]
    path: Mapping[str, str]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """A header, by its name in lower case."""
        return next((value.decode("latin-1") for known, value in self.scope["headers"] if known == name), None)

    def query(self) -> list[tuple[str, str]]:
        """The parameters after the question mark, in their order."""
        return parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)

    def url(self, query: str) -> str:
        """Its own address with another query."""
        return f"{self.scope['scheme']}://{self.header(b'host') or ''}{quote(self.scope['path'], _IN_PATHS)}?{query}"


@record
class Answer:
    """Status, headers and the whole of the body."""

    body: bytes
    status: int = 200
    media_type: bytes = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, send: Send, *, is_all: bool = True) -> None:
        """Send it. To a HEAD request the server sends no body by itself. Not `is_all`: the caller ends the answer."""
        headers = [(b"content-type", self.media_type), (b"content-length", b"%d" % len(self.body))]
        headers += [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": not is_all})
