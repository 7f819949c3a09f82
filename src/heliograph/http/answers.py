"""A request as the edge has taken it, and an answer on its way out."""

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import field
from typing import Any
from urllib.parse import parse_qsl, quote

from heliograph.domain.record import record
from heliograph.http.room import Place

_IN_PATHS = "/:@!$&'()*+,;=~"  # RFC 3986, 3.3

_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

JSON = b"application/json; charset=utf-8"


@record
class Request:
    """What came in: the ASGI scope, the parameters in its path, and the whole of the body."""

    scope: MutableMapping[str, Any]
    path: Mapping[str, str]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """A header, by its name in lower case."""
        for known, value in self.scope["headers"]:
            if known == name:
                return str(value, "latin-1")
        return None

    def query(self) -> list[tuple[str, str]]:
        """The parameters after the question mark, in their order."""
        raw = self.scope["query_string"]
        return parse_qsl(raw.decode("latin-1"), keep_blank_values=True) if raw else []

    def url(self, query: str) -> str:
        """Its own address with another query; from the path on where it does not say a host that can stand in one."""
        host = self.header(b"host") or ""
        origin = f"{self.scope['scheme']}://{host}" if _HOST.fullmatch(host) else ""
        return f"{origin}{quote(self.scope['path'], _IN_PATHS)}?{query}"


@record
class Answer:
    """Status, headers and the whole of the body. `place`: its share of its organization's room until it is taken."""

    body: bytes
    status: int = 200
    media_type: bytes = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    place: Place | None = None

    def fields(self, request_id: bytes) -> list[tuple[bytes, bytes]]:
        """Its header fields, for any server to send as they are; raises ValueError for one that would be two."""
        own = [_field(name, value) for name, value in self.headers.items()] if self.headers else ()
        length = b"%d" % len(self.body)
        return [(b"content-type", self.media_type), (b"content-length", length), *own, (b"x-request-id", request_id)]


def _field(name: str, value: str) -> tuple[bytes, bytes]:
    if _CONTROL.search(name) or _CONTROL.search(value):
        raise ValueError("a header must not hold control characters")
    return name.lower().encode("ascii"), value.encode("latin-1")
