"""One try of one request by pyreqwest, and what its faults mean. Nothing else of ours knows that library.

Facts of pyreqwest 0.15.1 that this rests on (it is pinned: the texts are no API, and the tests read them anew):
- Its exception classes say nothing about how far a request got; only the chain of texts in `details["causes"]` does.
- A cancelled task does not stop its request. So nobody may cancel one; deadlines are the library's own.
- Its thread lets go of Python objects just after an answer. Should the interpreter be ending then, Python up to 3.13
  kills the thread, whose unwinding aborts the process (https://github.com/PyO3/pyo3-async-runtimes/issues/40).
- A body that RST_STREAM(NO_ERROR) cuts comes as a whole one, so its length is compared with Content-Length.
"""

import atexit
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from heliograph.ports.transport import Answered, Cause, Endpoint, NotProcessed, Outcome, Unknown

MAX_BODY_BYTES = 64 * 1024

# Before the interpreter ends, for the library's thread to come to rest: it has taken less than a hundredth of this.
LAST_REST_S = 0.1

# What the library raises; bare ValueErrors and RuntimeErrors come from its own checks.
FAULTS = (PyreqwestError, OSError, RuntimeError, ValueError, TypeError)

# First match decides: a pattern over the chain of texts, joined by " > ", and what it means. Found by provoking each.
# hyper says `Connect` before a connection stands, and `SendRequest` from then on.
SURE: tuple[tuple[str, Cause], ...] = (
    (r"client error \(Connect\).* > dns error", Cause.NO_NAME),
    (r"client error \(Connect\).* > invalid peer certificate", Cause.NO_TRUST),
    # Of TLS 1.3: the refusal comes after the client's first bytes, which a server that refuses never decrypts.
    (r"received fatal alert: (\w*Certificate\w*|UnknownCA|AccessDenied)", Cause.NO_ENTRY),
    (r"client error \(Connect\) > (tcp connect error > )?operation timed out", Cause.NO_CONNECTION_YET),
    (r"client error \(Connect\)", Cause.NO_CONNECTION),
    (r"builder error", Cause.UNUSABLE),
    # GOAWAY, and this stream was above its last id or not yet open. Streams below go on, or end as `LOST`.
    (r"http2 error > connection error received: ", Cause.GOING_AWAY),
    (r"http2 error > stream error received: refused stream", Cause.REFUSED),
)
UNSURE: tuple[tuple[str, Cause], ...] = (
    (r"stream error received: ", Cause.RESET),
    (r"keep-alive timed out|connection error|connection closed|dispatch task is gone", Cause.LOST),
    (r"operation timed out", Cause.SILENT),
)
REASON = re.compile(r'\\?"reason\\?"\s*:\s*\\?"([A-Za-z]{1,64})\\?"')


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds. A connection that does not answer a ping in time is given up, with all requests on it."""

    connect_s: float = 5.0
    ping_every_s: float = 20.0
    ping_answer_s: float = 10.0


class Wire:
    """One connection to an endpoint, made by the first request and again whenever it has gone.

    Create it in the process and keep one at a time per endpoint: the library's threads do not survive a fork.
    """

    def __init__(self, endpoint: Endpoint, timing: Timing, proxy: str | None = None) -> None:
        self._endpoint, self._timing, self._proxy = endpoint, timing, proxy
        self._client: Client | None = None

    async def exchange(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Outcome:
        """One POST, ended after `timeout_s` seconds at the latest. Must not be cancelled: it would be sent unheard."""
        try:
            client = self._client = self._client or self._build()
        except FAULTS:
            return NotProcessed(Cause.UNUSABLE)
        try:
            request = self._request(client, path, headers, body, timeout_s)
        except FAULTS:
            return NotProcessed(Cause.UNWRITABLE)
        return await _sent(request)

    async def close(self) -> None:
        """Close the connection; nothing may be in flight."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _request(
        self, client: Client, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> StreamRequest:
        if not path.startswith("/"):
            raise ValueError("a path begins with a slash")
        builder = client.post(self._endpoint.address + path).headers(headers).body_bytes(body)
        return builder.timeout(timedelta(seconds=timeout_s)).build_streamed()

    def _build(self) -> Client:
        _rest_at_exit()
        seconds, timing, endpoint = timedelta, self._timing, self._endpoint
        builder = (
            ClientBuilder()
            .http2_prior_knowledge()
            .https_only(True)
            .user_agent("heliograph")
            .connect_timeout(seconds(seconds=timing.connect_s))
            .timeout(seconds(seconds=60))  # each request has a shorter one
            .http2_keep_alive_interval(seconds(seconds=timing.ping_every_s))
            .http2_keep_alive_timeout(seconds(seconds=timing.ping_answer_s))
            .http2_keep_alive_while_idle(True)
            .pool_idle_timeout(None)
            .follow_redirects(False)
            .referer(False)
            # Not compressed: a small answer must not unfold into a large one.
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
        )
        builder = builder.no_proxy() if self._proxy is None else builder.proxy(ProxyBuilder.all(self._proxy))
        if endpoint.ca_pem is not None:
            if b"-----BEGIN CERTIFICATE-----" not in endpoint.ca_pem:  # which the library would pass over
                raise ValueError("no certificate")
            builder = builder.add_root_certificate_pem(endpoint.ca_pem)
        if endpoint.certificate_pem is not None:
            builder = builder.identity_pem(endpoint.certificate_pem)
        return builder.build()


@cache
def _rest_at_exit() -> None:
    atexit.register(time.sleep, LAST_REST_S)


async def _sent(request: StreamRequest) -> Outcome:
    answer: Answered | None = None
    try:
        async with request as response:
            answer = Answered(response.status, dict(response.headers), whole=False)
            body = await _read(response)
            if body is None or not _is_whole(answer.headers, body):
                return answer
            return Answered(answer.status, answer.headers, body)
    except FAULTS as error:
        return answer or verdict(texts_of(error))


async def _read(response: Response) -> bytes | None:
    """The body; None where it is too long."""
    reader = response.body_reader
    body = bytearray()
    while (chunk := await reader.read_chunk()) is not None:
        body += memoryview(chunk)
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _is_whole(headers: Mapping[str, str], body: bytes) -> bool:
    length = headers.get("content-length")
    return length is None or length == str(len(body))


def texts_of(error: BaseException) -> list[str]:
    """The chain of causes, outermost first. The first names the address, and is of no use here."""
    details: Any = getattr(error, "details", None)
    causes = details.get("causes") if isinstance(details, dict) else None
    texts = [str(cause.get("message", "")) for cause in causes or [] if isinstance(cause, dict)]
    return [text for text in texts if not text.startswith("error sending request for url")]


def verdict(texts: Sequence[str]) -> NotProcessed | Unknown:
    """What a chain of causes means for a request that got no status. What is not known to be sure is unsure."""
    chain = " > ".join(texts)
    said = REASON.search(chain)
    reason = said.group(1) if said else None
    for pattern, cause in SURE:
        if re.search(pattern, chain, re.DOTALL):
            return NotProcessed(cause, reason)
    for pattern, cause in UNSURE:
        if re.search(pattern, chain, re.DOTALL):
            return Unknown(cause, reason)
    return Unknown(Cause.UNEXPLAINED, reason)
