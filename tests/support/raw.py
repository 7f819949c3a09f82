"""HTTP byte by byte, for what no well-behaved client would send."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class RawAnswer:
    """What came back before the server closed the connection, or the answer was complete."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> tuple[int, int]:
        """HTTP status and contract code of a refusal."""
        return self.status, json.loads(self.body)["error"]["code"]

    @property
    def data(self) -> Any:
        """`data` of a success."""
        return json.loads(self.body)["data"]


def connect(base_url: str) -> socket.socket:
    """A connection to the server."""
    parts = urlsplit(base_url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)


def head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of a request, with `Host`."""
    given = list(headers)
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [] if any(name.lower() == "host" for name, _ in given) else ["Host: localhost"]
    lines += [f"{name}: {value}" for name, value in given]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of a body; an empty one ends it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def exchange(
    base_url: str, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
) -> RawAnswer:
    """One request on a connection of its own. `body` goes out as it is: announce it yourself."""
    with connect(base_url) as connection:
        connection.sendall(head(method, target, headers))
        # It may be refused before all of it was sent: the answer is there.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(body)
        return read(connection, without_body=method == "HEAD")


def read(connection: socket.socket, *, without_body: bool = False) -> RawAnswer:
    """The next answer on a connection."""
    stream = connection.makefile("rb")
    status = int(stream.readline().split()[1])
    headers: dict[str, str] = {}
    while line := stream.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if status == 100:
        return read(connection, without_body=without_body)
    return RawAnswer(status, headers, b"" if without_body else stream.read(int(headers.get("content-length", "0"))))
