"""What handlers and scripts of the HTTP/2 server deal with: requests, outcomes and faults."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

import msgspec

NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0x0, 0x2, 0x7, 0x8, 0xB  # RFC 9113, 7
HIGHEST_STREAM = 2**31 - 1


class Peer(Protocol):
    """The connection that a request came on."""

    number: int  # 1, 2, 3 … in the order of the server's connections
    certificate: bytes | None  # the client's, DER
    notes: dict[str, Any]  # whatever a handler wants to remember of this connection

    def change(self, *, max_concurrent_streams: int | None = None, initial_window_size: int | None = None) -> None:
        """Announce other SETTINGS on this connection; the stream limit is in force at once."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One complete request. `path` is as sent, with the query; header names are in lower case, repeated ones joined."""

    method: str
    path: str
    authority: str
    headers: dict[str, str]
    body: bytes
    peer: Peer
    stream_id: int


class Answer(msgspec.Struct, frozen=True):
    """A response. With `reset_after` only so many bytes of the body are sent, and then RST_STREAM(NO_ERROR)."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    reset_after: int | None = None


class Reset(msgspec.Struct, frozen=True):
    """RST_STREAM with this error code in place of an answer."""

    code: int


class Silence(msgspec.Struct, frozen=True):
    """No answer, ever; the stream stays open."""


class Cut(msgspec.Struct, frozen=True):
    """The TCP connection ends at once, without a word: by RST, or by FIN."""

    how: Literal["rst", "fin"] = "rst"


class GoAway(msgspec.Struct, frozen=True, kw_only=True):
    """GOAWAY on a connection once it has seen `after` requests (0 = at the next occasion).

    The server keeps to the last stream id that it names: streams above it are never processed, those up to it are
    answered, and then the connection is closed. `graceful` says it in two steps: 2^31-1 first, the true id when the
    client has answered a PING. `below`: so many of the newest requests are not processed, and lie above the id (fewer
    when the client sends no more for 50 ms). `unanswered`: so many of those below the id are processed and never
    answered, for the connection is closed right behind the GOAWAY.
    """

    after: int = 0
    graceful: bool = False
    below: int = 0
    unanswered: int = 0
    code: int = NO_ERROR
    debug: bytes = b""


Outcome = Answer | Reset | Silence | Cut | GoAway
Handler = Callable[[Request], Outcome | Awaitable[Outcome]]


class Fault(msgspec.Struct, frozen=True):
    """What a script does to a request.

    Without `outcome` it is processed, and answered `delay` seconds late. With one that comes instead: before the
    handler has seen the request, or with `processed` in place of the answer of a handler that has run.
    """

    outcome: Outcome | None = None
    processed: bool = False
    delay: float = 0.0


Script = Callable[[Request], Fault | None]


class Limits(msgspec.Struct, kw_only=True):
    """What a connection announces at its start. Streams over the limit are refused with REFUSED_STREAM."""

    max_concurrent_streams: int = 1000
    initial_window_size: int = 65_535
    connection_window: int = 1_048_576  # never below 65,535, which is where HTTP/2 begins
