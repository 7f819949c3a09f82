"""One try of one request by pyreqwest, and what its faults mean. Nothing else of ours knows that library.

Facts of pyreqwest 0.15.1 that this rests on (it is pinned: the texts are no API, and the tests read them anew):
- Its exception classes say nothing about how far a request got; only the chain of texts in `details["causes"]` does.
- A cancelled task does not stop its request, and loses its outcome. So a cancellation never gets as far as the
  library; deadlines are the library's own.
- What its coroutines wait for only says that they may be asked again: asking anew, even where that was cancelled, loses
  nothing (Rust's futures are polled so).
- Its thread lets go of Python objects just after an answer. Should the interpreter be ending then, Python up to 3.13
  kills the thread, whose unwinding aborts the process (https://github.com/PyO3/pyo3-async-runtimes/issues/40).
- A body that RST_STREAM(NO_ERROR) cuts comes as a whole one, so its length is compared with Content-Length.
"""

import atexit
import re
import time
from collections.abc import Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, cast

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


class Flight:
    """A request that is under way once somebody awaits it. Who is cancelled meanwhile can await it again.

    No task of its own, for that would cost more than all else here: whoever awaits it runs `run` in its own task, and
    keeps cancellations to itself. `run` may wait for nothing but coroutines that can be asked anew at any time.
    """

    __slots__ = ("_run",)

    def __init__(self, run: Coroutine[Any, None, Outcome]) -> None:
        self._run = run

    def __await__(self) -> Generator[Any, None, Outcome]:
        """The outcome, once. One may wait at a time."""
        ask = self._run.send
        while True:
            try:
                until = ask(None)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            yield until  # a cancellation is raised here, and leaves `run` where it was


class Wire:
    """One connection to an endpoint, made by the first request and again whenever it has gone.

    Create it in the process and keep one at a time per endpoint: the library's threads do not survive a fork.
    """

    def __init__(self, endpoint: Endpoint, timing: Timing, proxy: str | None = None) -> None:
        self._endpoint, self._timing, self._proxy = endpoint, timing, proxy
        self._address = endpoint.address
        self._client: Client | None = None
        self._time = 0.0, timedelta()  # the last time limit: nearly all are the same

    def exchange(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Flight:
        """One POST, ended after `timeout_s` seconds at the latest."""
        return Flight(self._exchange(path, headers, body, timeout_s))

    async def close(self) -> None:
        """Close the connection; nothing may be in flight."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _exchange(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Outcome:
        try:
            client = self._client
            if client is None:
                client = self._client = self._build()
        except FAULTS:
            return NotProcessed(Cause.UNUSABLE)
        try:
            request = self._request(client, path, headers, body, timeout_s)
        except FAULTS:
            return NotProcessed(Cause.UNWRITABLE)
        try:
            response = await request.__aenter__()
            status, named = response.status, _headers_of(response)
        except FAULTS as error:
            return verdict(texts_of(error))
        try:
            content = await _read(request, response)
        except FAULTS:
            content = None
        if content is None or named.get("content-length", (length := str(len(content)))) != length:
            return Answered(status, named, whole=False)
        return Answered(status, named, content)

    def _request(
        self, client: Client, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> StreamRequest:
        if not path.startswith("/"):
            raise ValueError("a path begins with a slash")
        if timeout_s != self._time[0]:
            self._time = timeout_s, timedelta(seconds=timeout_s)
        builder = client.post(self._address + path).headers(headers).timeout(self._time[1])
        try:
            # A text is copied. Bytes stay Python's, and the library's thread would need its lock to let go of them.
            builder = builder.body_text(body.decode())
        except UnicodeDecodeError:
            builder = builder.body_bytes(body)
        return builder.build_streamed()

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


async def _read(request: StreamRequest, response: Response) -> bytes | None:
    """The body; None where it is too long."""
    # The library has already read more than that before it gives an answer: this seldom waits.
    body = await response.body_reader.read(MAX_BODY_BYTES + 1)
    if body is None:
        return b""
    if len(body) <= MAX_BODY_BYTES:
        return body.to_bytes()
    await request.__aexit__(None, None, None)  # has it stop reading; nothing is left to be stopped after a whole body
    return None


def _headers_of(response: Response) -> dict[str, str]:
    headers = response.headers
    named = headers.dict_multi_value()
    if len(named) != len(headers):  # some are repeated
        return {name: value if isinstance(value, str) else value[-1] for name, value in named.items()}
    return cast("dict[str, str]", named)


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
