"""HTTP calls to services outside. Answers are values, and they keep apart what a retry depends on.

    Reply      the service answered: its status counts, even where its body was cut, too long or late
    NotSent    surely not sent: no connection, or the deadline passed before the first byte left
    NoReply    sent, or partly sent, and no answer: the service may have done it

Used by push providers and management channels. Reasons name the kind of fault, never an address, a header or a body,
since keys travel in all of these.
"""

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from ssl import SSLContext
from typing import Any

import httpx2
import msgspec

from heliograph.domain.addresses import is_address as is_address  # plug-ins take it from here

MAX_BODY_BYTES = 1024 * 1024
MAX_RETRY_AFTER_S = 24 * 3600.0

# Raised by httpx2 before a request is written. Everything else may have left, in part or as a whole.
NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,  # no tunnel
    httpx2.UnsupportedProtocol,
    httpx2.InvalidURL,
)
# Raised while a request is put together.
UNWRITABLE = (httpx2.InvalidURL, TypeError, ValueError, RuntimeError)
# All that httpx2 raises otherwise. RuntimeError holds its StreamErrors, ValueError what cannot be encoded.
FAULTS = (httpx2.HTTPError, httpx2.CookieConflict, OSError, RuntimeError, ValueError)


class NoConnection(httpx2.ConnectError):
    """There is no connection. The message says why, for people; never the address."""


class AddressRefused(NoConnection):
    """No connection is made to this address. The message names the rule, never the address."""


def _quiet(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


# httpx2 logs every URL at INFO, query included, where some services want their key. A filter, because a level set
# on the root logger or on this one must not bring it back.
logging.getLogger("httpx2").addFilter(_quiet)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer. `body` is empty where it could not be read as a whole (then `whole` is False), `too_long` where
    there was too much of it.

    `at_s`: when the service says that it is, in seconds since the epoch (its Date header, to the second). `headers`: by
    name in lower case, no part of what makes two answers equal.
    """

    status: int
    body: bytes = b""
    after_s: float | None = None
    at_s: float | None = None
    too_long: bool = False
    whole: bool = True
    headers: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def json(self) -> dict[str, Any] | None:
        """The body as a JSON object; None where it is anything else."""
        try:
            value = msgspec.json.decode(self.body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


@dataclass(frozen=True, slots=True)
class NotSent:
    """The service surely did not get the request. `after_s`: when to try again, where somebody said so.

    `forbidden`: it may not be sent there, by our own rules (`heliograph.guard`).
    """

    reason: str
    after_s: float | None = None
    forbidden: bool = False


@dataclass(frozen=True, slots=True)
class NoReply:
    """The service may have got the request."""

    reason: str


Exchange = Reply | NotSent | NoReply


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Retry-After in seconds, from seconds or an HTTP date (RFC 9110, 10.2.3); None where it is neither."""
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,15}", text):
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(text)
        wait = (date if date.tzinfo else date.replace(tzinfo=UTC)) - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(0.0, wait.total_seconds()), MAX_RETRY_AFTER_S)


def _date_s(value: str | None) -> float | None:
    """A Date header in seconds since the epoch; None where there is none that can be read."""
    try:
        date = parsedate_to_datetime(value or "")
        return date.timestamp() if date.tzinfo else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


@cache
def tls() -> SSLContext:
    """One context for all: building one takes longer than many a request."""
    return httpx2.create_ssl_context()


class _Progress:
    """How far one request got."""

    def __init__(self) -> None:
        self.sent = False
        self.status: int | None = None
        self.after_s: float | None = None
        self.at_s: float | None = None
        self.headers: dict[str, str] = {}

    async def trace(self, event: str, _: Mapping[str, Any]) -> None:
        """httpcore2's trace extension: the events are named `http11.send_request_headers.started` and so on."""
        if event.endswith("send_request_headers.started"):
            self.sent = True

    def answered(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.after_s = retry_after_s(response.headers.get("retry-after"), datetime.now(UTC))
        self.at_s = _date_s(response.headers.get("date"))
        self.headers = {name.lower(): value for name, value in response.headers.items()}

    def reply(self) -> Reply | None:
        """The answer as far as it came: without a body."""
        if self.status is None:
            return None
        return Reply(self.status, b"", self.after_s, self.at_s, whole=False, headers=self.headers)


class Outbound:
    """Connections to one service. `base_url` is put before every path as it is.

    `most_connections`: at a time, beyond which requests wait for one; None = no limit, for answers that are held back.
    """

    def __init__(
        self,
        base_url: str,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        most_connections: int | None = 100,
    ) -> None:
        self._base_url, self._max_body_bytes = base_url, max_body_bytes
        self._busy = 0
        self._closing = False
        self._client = httpx2.AsyncClient(
            verify=tls(),
            transport=transport,
            limits=httpx2.Limits(max_connections=most_connections, max_keepalive_connections=20),
            timeout=None,  # one deadline holds for a call as a whole, see `_bounded`
            follow_redirects=False,
            # Not compressed: a small answer must not unfold into a large one.
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "heliograph"},
        )

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        deadline_s: float,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Exchange:
        """One request, ended after `deadline_s` seconds at the latest. Raises nothing but cancellation.

        One of `json`, `form` and `content` is its body; the last is sent as it is, its type is among the `headers`.
        """
        if self._closing:
            return NotSent("the client was closed")
        if deadline_s <= 0:
            return NotSent("no time left")
        progress = _Progress()
        try:
            request = self._client.build_request(
                method,
                self._base_url + path,
                params=params,
                headers=dict(headers or {}) | ({} if json is None else {"Content-Type": "application/json"}),
                content=content if json is None else msgspec.json.encode(json),
                data=form,
                extensions={"trace": progress.trace},
            )
        except UNWRITABLE as error:
            return NotSent(f"the request cannot be written ({type(error).__name__})")
        return await self._bounded(request, progress, deadline_s)

    async def _bounded(self, request: httpx2.Request, progress: _Progress, deadline_s: float) -> Exchange:
        self._busy += 1
        try:
            async with asyncio.timeout(deadline_s):
                return await self._send(request, progress)
        except TimeoutError:
            late = NoReply("no answer in time") if progress.sent else NotSent("no connection in time")
            return progress.reply() or late
        except AddressRefused as error:
            return NotSent(str(error), forbidden=True)
        except NoConnection as error:
            return NotSent(str(error))
        except NEVER_SENT as error:
            return NotSent(type(error).__name__)
        except FAULTS as error:
            return progress.reply() or NoReply(type(error).__name__)
        finally:
            self._busy -= 1
            await self._close_if_idle()

    async def _send(self, request: httpx2.Request, p: _Progress) -> Reply:
        response = await self._client.send(request, stream=True)
        try:
            p.answered(response)
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > self._max_body_bytes:
                    return Reply(response.status_code, b"", p.after_s, p.at_s, True, whole=False, headers=p.headers)
            return Reply(response.status_code, bytes(body), p.after_s, p.at_s, headers=p.headers)
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Let go of connections, once the calls in flight have ended."""
        self._closing = True
        await self._close_if_idle()

    async def _close_if_idle(self) -> None:
        if self._closing and not self._busy:
            await self._client.aclose()
