"""What each emulator has received, secrets included: tests of secrecy look here."""

from collections import deque
from datetime import UTC, datetime

import msgspec

from heliograph_lab.state import timestamp

NEWEST_KEPT = 20_000  # a service
BYTES_KEPT = 64 * 1024 * 1024  # a service


class RecordedRequest(msgspec.Struct, frozen=True):
    """One request as it came: `path` decoded, `query` and `body` as sent, header names in lower case."""

    at: str
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: str


class RequestLog:
    """The newest requests of each service, in memory."""

    def __init__(self, newest: int = NEWEST_KEPT, most_bytes: int = BYTES_KEPT) -> None:
        self._newest = newest
        self._most_bytes = most_bytes
        self._items: dict[str, deque[RecordedRequest]] = {}
        self._bytes: dict[str, int] = {}

    def record(self, service: str, *, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> None:
        """Keep one request; the oldest make room."""
        text = body.decode("utf-8", "replace")
        at = timestamp(datetime.now(UTC))  # real time: it is compared with the server's log
        items = self._items.setdefault(service, deque())
        items.append(RecordedRequest(at, method, path, query, headers, text))
        size = self._bytes.get(service, 0) + len(text)
        while len(items) > self._newest or (size > self._most_bytes and len(items) > 1):
            size -= len(items.popleft().body)
        self._bytes[service] = size

    def items(self, service: str | None = None) -> list[RecordedRequest]:
        """The requests of one service, or of all, oldest first."""
        if service is not None:
            return list(self._items.get(service, ()))
        every = [item for items in self._items.values() for item in items]
        return sorted(every, key=lambda item: item.at)
