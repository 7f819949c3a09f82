"""As tests.support.wire, over HTTP/2 and TLS: what is told of a server there holds here too.

`Raw` bytes come in the middle of the connection, in place of frames. Outcomes of the lab's server may be told as well.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Any

import trustme

from heliograph_lab.http2 import Answer as Http2Answer
from heliograph_lab.http2 import Cut, Outcome, Request, Server, Silence
from tests.support.wire import Answer, Hang, Raw, Seen, Wire


@cache
def authority() -> trustme.CA:
    return trustme.CA()


def ca_pem() -> str:
    return authority().cert_pem.bytes().decode()


def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    authority().issue_cert("127.0.0.1").configure_cert(context)
    return context


class Http2Wire(Wire):
    """See `Wire`. `server` counts connections and requests."""

    server: Server

    async def _answered(self, request: Request) -> Outcome:
        seen = Seen(request.method, request.path, request.headers, request.body)
        self.seen.append(seen)
        self.got_one.set()
        await self.may_answer.wait()
        return _outcome(self._next(seen), request)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Http2Wire]:
        self.server = Server(self._answered, tls())
        await self.server.start()
        self.url = self.server.url
        try:
            # The server's own library logs what it reads; whoever looks for secrets in logs looks for the client's.
            with _mute("hpack.hpack"), _mute("hpack.table"):
                yield self
        finally:
            await self.server.stop()


@contextlib.contextmanager
def _mute(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _outcome(action: Any, request: Request) -> Outcome:
    if isinstance(action, Answer):
        headers = tuple((name.lower(), value) for name, value in action.headers.items())
        cut_after = len(action.body) if action.missing else None
        return Http2Answer(action.status, headers, action.body + b"." * action.missing, cut_after)
    if isinstance(action, Hang):
        return Silence()
    if not isinstance(action, Raw):
        outcome: Outcome = action
        return outcome
    if not action.data:
        return Cut()
    connection: Any = request.peer
    connection._transport.write(action.data)
    connection._transport.close()
    return Silence()
