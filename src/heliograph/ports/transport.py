"""The port of the HTTP/2 transport that APNs and FCM share. Answers are values, and nothing from the wire is raised.

They keep apart what a retry depends on:

    Answered      the service answered: its status counts, even where its body was cut, too long or late
    NotProcessed  the service surely did not act on the request
    Unknown       sent, or partly sent, and no answer: the service may have acted on it

Causes are of a closed list: never an address, a header or a body, since keys travel in all of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from heliograph.domain.record import record


class Cause(StrEnum):
    """Why there is no answer."""

    # Surely not processed
    NO_CONNECTION = "no connection"
    NO_CONNECTION_YET = "no connection in time"
    NO_NAME = "no connection: the server's name is not known"
    NO_TRUST = "no connection: the server's certificate is not trusted"
    NO_ENTRY = "no connection: the server refused the client certificate"
    GOING_AWAY = "the connection was being shut down"
    REFUSED = "the server refused the stream"
    NO_TURN = "no stream became free in time"
    UNWRITABLE = "the request cannot be written"
    UNUSABLE = "the address or the certificates cannot be used"
    CLOSED = "the client was closed"
    # Perhaps processed
    SILENT = "no answer in time"
    RESET = "the server ended the stream"
    LOST = "the connection was lost"
    UNEXPLAINED = "the client failed"


@record
class Answered:
    """An answer. Header names are in lower case; of a repeated header the last value counts.

    `body` is empty where it could not be read as a whole, and `whole` is False then.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    whole: bool = True


@record
class NotProcessed:
    """Safe to send again. `reason`: what the service said when it shut the connection down (APNs: a reason word)."""

    cause: Cause
    reason: str | None = None


@record
class Unknown:
    """Sending again may do it twice. `reason` as in `NotProcessed`."""

    cause: Cause
    reason: str | None = None


Outcome = Answered | NotProcessed | Unknown


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service and the credential that a connection to it is for; equal endpoints share a connection.

    `address`: https://HOST[:PORT]. `ca_pem`: an authority trusted besides the system's. `certificate_pem`: the client
    certificate, its chain and its key. `credential` keeps the connections of different token keys apart (a key id).
    `streams`: how many requests may be in flight at once; 100 is what RFC 9113 (6.5.2) asks every server to allow.
    """

    address: str
    ca_pem: bytes | None = field(default=None, repr=False)
    certificate_pem: bytes | None = field(default=None, repr=False)
    credential: str = ""
    streams: int = 100


class Transport(Protocol):
    """Requests to one endpoint."""

    async def post(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Outcome:
        """One POST. Raises nothing but cancellation, after which a request that was begun still runs to its end.

        It waits up to `timeout_s` seconds for its turn; from then on it has `timeout_s` seconds, re-sending included.
        """
        ...

    def renew(self, began: int) -> bool:
        """Whether a request that `began` then (`Clock.elapsed`) meets another connection if it is made again.

        The present one is let go of for that, unless it is almost new; what is in flight there ends.
        """
        ...

    async def close(self) -> None:
        """Let go of the connection, once the requests in flight have ended. A later `post` makes another."""
        ...


class Transports(Protocol):
    """All endpoints of this process."""

    def at(self, endpoint: Endpoint) -> Transport:
        """The transport to an endpoint; costs nothing until the first `post`."""
        ...
