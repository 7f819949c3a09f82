"""uvicorn's protocols with what they lack: bounds on a request that does not end, and one system call an answer."""

import asyncio
import fcntl
import secrets
import sys
import termios
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from heliograph.http.edge import EXCHANGE
from heliograph.http.problems import INVALID, TIMED_OUT, TOO_LARGE, UNAVAILABLE, Problem

MAX_HEAD_BYTES = 64 * 1024
# As it travels: a body of 1 MiB in chunks of one byte; and the largest message that Pub/Sub pushes (13.4 MB), which is
# read to its end and dropped.
MAX_REQUEST_BYTES = 16 * 1024 * 1024
MAX_PIPELINED = 256
HEAD_S = 10.0
BODY_S = 30.0
TAKEN_S = 120.0  # a large receive buffer at 8 KiB a second confirms half a megabyte at a time, every minute
SLOWEST = 1024  # bytes a second


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection may take before its request is whole, and how many connections there may be.

    `connections` 0 = no limit. Times in seconds: from the connection or the first byte to the end of the headers, and
    from there to the end of the body. `taken_s`: how often it is seen whether answers are taken that wait to be.
    """

    connections: int = 0
    head_s: float = HEAD_S
    body_s: float = BODY_S
    taken_s: float = TAKEN_S


class HttpProtocol(HttpToolsProtocol):
    """One connection. All that is decided here is decided before any token was read.

    A request that comes whole in one read costs no timer. uvicorn takes an answer's head and body apart and writes each
    by a system call; here an answer that is whole leaves in one step.
    """

    def __init__(self, *args: Any, limits: ConnectionLimits | None = None, **named: Any) -> None:
        super().__init__(*args, **named)
        self._limits = limits or ConnectionLimits()
        self._in_head = True
        self._plain_head = b""  # of a request whose offer to speak another protocol is not taken up, without the offer
        self._whole: RequestResponseCycle | None = None  # the newest request that has come to its end
        self._is_over = False  # nothing is read any more: the answers that are owed go out, and then it ends
        self._came = 0  # bytes of the request that is being read, and at most one read of the one before
        self._timer: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # writing is paused as long as anything waits to be taken
        if 0 < self._limits.connections < len(self.connections):
            self._refuse(Problem(503, UNAVAILABLE, "Too many connections", {"Retry-After": "1"}))
            return
        self._expect(self._limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or was sent away."""
        self._expect(None)
        super().connection_lost(exc)
        self._cancel_taking()

    def pause_writing(self) -> None:
        """Something waits to be taken."""
        super().pause_writing()
        self._taking = self.loop.call_later(self._limits.taken_s, self._see_taken, self._left())

    def resume_writing(self) -> None:
        """All of it was."""
        super().resume_writing()
        self._cancel_taking()

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._is_deaf():
            return  # refused: what was on its way meanwhile is not read any more
        self._came += len(data)
        self._parse(data)
        if self._came == 0:
            if self._timer is not None:
                self._expect(None)
        elif self._in_head and self._came > MAX_HEAD_BYTES:
            self._refuse(Problem(431, TOO_LARGE, "Address and headers too large"))
        elif self._came > MAX_REQUEST_BYTES:
            self.transport.close()
        elif self._timer is None and not self._is_deaf():
            self._expect(self._limits.head_s if self._in_head else self._limits.body_s)

    def _parse(self, data: bytes) -> None:
        """Hand bytes to the parser. It takes what follows a head that offers another protocol for that protocol, so a
        request with an offer that is not taken up is read anew without it.
        """
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade as offered:
            plain, self._plain_head = self._plain_head, b""
            if plain:
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self._parse(plain + data[offered.args[0] :])
            elif self._should_upgrade():
                self.handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_head = True
        self._came = self._came or 1  # it may share its read with the end of the one before

    def on_headers_complete(self) -> None:
        """Everything but the body has come."""
        if self._came > MAX_HEAD_BYTES and self._head_bytes() > MAX_HEAD_BYTES:
            self._refuse(Problem(431, TOO_LARGE, "Address and headers too large"))
        if len(self.pipeline) >= MAX_PIPELINED:
            self.transport.close()
        if self._is_deaf():
            self.headers = deque(maxlen=0)  # type: ignore[assignment]
            return
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT" and not self._should_upgrade():
            self._plain_head = self._head_without_offer()
            return
        self._in_head = False
        if self._timer is not None:
            self._expect(None)
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            self.scope["extensions"] = {EXCHANGE: Exchange(self.cycle)}  # type: ignore[dict-item]
            self.headers = deque(maxlen=0)  # type: ignore[assignment]  # trailers: nobody reads them

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if not self._is_deaf():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._plain_head:
            return
        self._in_head = True
        self._came = 0
        if not self._is_deaf():
            super().on_message_complete()
            self._whole = self.cycle

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over as it was."""
        self._expect(None)
        self._cancel_taking()
        self.transport.set_write_buffer_limits()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(Problem(400, INVALID, msg))

    def _head_without_offer(self) -> bytes:
        """The head of the request once more (RFC 9110, 7.8: an offer may be ignored)."""
        version = self.parser.get_http_version().encode("ascii")
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                wanted = [option for option in value.split(b",") if option.strip().lower() != b"upgrade"]
                lines.append(b"connection: " + b",".join(wanted))
            elif name != b"upgrade":
                lines.append(name + b": " + value)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _expect(self, within_s: float | None) -> None:
        """Wait so long for what is missing of the request; None = nothing is missing."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if within_s is None else self.loop.call_later(within_s, self._late)

    def _left(self) -> int:
        """What the client has not taken yet: ours, and what the kernel holds, which takes it in large pieces."""
        return self.transport.get_write_buffer_size() + _unacknowledged(self.transport)

    def _see_taken(self, before: int) -> None:
        """Hang up on who takes next to nothing: even closing would wait for that, and the answer stay in memory."""
        if before - self._left() < self._limits.taken_s * SLOWEST:
            self.transport.abort()
        else:
            self._taking = self.loop.call_later(self._limits.taken_s, self._see_taken, self._left())

    def _cancel_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _late(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.pipeline or (self._in_head and self.cycle is not None and not self.cycle.response_complete):
            # Reading is paused, or an answer is under way that a refusal must not overtake.
            self._expect(self._limits.head_s)
        elif self._came == 0:
            self.transport.close()  # never said anything
        else:
            self._refuse(Problem(408, TIMED_OUT, "The request did not come to its end in time"))

    def _is_deaf(self) -> bool:
        return self._is_over or self.transport.is_closing()

    def _refuse(self, problem: Problem) -> None:
        """Answer past the application, and hang up.

        Requests that came whole before have their answers first: they may have been carried out. Where some are owed,
        the connection ends after the last of them, and the refused request goes without one.
        """
        if self._is_deaf():
            return
        self._expect(None)
        before = self._whole
        if before is not None and not before.response_complete and (self._in_head or self.pipeline):
            if not self._in_head:
                self.pipeline.popleft()  # the refused one
            before.keep_alive = False
            self._is_over = True
            return
        body = problem.body()
        headers = {
            "content-type": "application/json; charset=utf-8",
            "content-length": str(len(body)),
            "x-request-id": secrets.token_hex(12),
            "connection": "close",
        } | problem.headers
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(STATUS_LINE[problem.status] + head.encode("ascii") + b"\r\n" + body)
        self.transport.close()


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the other end has not confirmed; 0 where the system does not tell."""
    try:
        told = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):  # ValueError: it is closed
        return 0
    return int.from_bytes(told, sys.byteorder)


class LineProtocol(WebSocketsSansIOProtocol):
    """A line. uvicorn takes a handshake that was refused with an HTTP answer for one that the application forgot.

    And before it closes it waits until the client has taken all that was sent, which may be never: a line that is over
    in whatever way is gone after `close_timeout` here.
    """

    _abort: asyncio.TimerHandle | None = None

    async def send(self, message: Any) -> None:
        """Send what the application says."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True

    def handle_cont(self, event: Any) -> None:
        """A part of a message. Empty ones count towards no bound, so they are not kept."""
        if event.data or event.fin:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping, unless the client takes nothing: the answers would gather here without end."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def keepalive_timeout(self) -> None:
        """Hang up on who answers no ping."""
        super().keepalive_timeout()
        self.transport.abort()

    def handle_close(self, event: Any) -> None:
        """The client says that it is over."""
        super().handle_close(event)
        self._abort_soon()

    def handle_parser_exception(self) -> None:
        """What the client says is no WebSocket."""
        super().handle_parser_exception()
        self._abort_soon()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application is done with it."""
        super().on_task_complete(task)
        self._abort_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        super().connection_lost(exc)
        if self._abort is not None:
            self._abort.cancel()

    def _abort_soon(self) -> None:
        if self._abort is None and not self.disconnected:
            self._abort = self.loop.call_later(self.close_timeout, self.transport.abort)


class Exchange:
    """A request and its answer, for the application: what is whole needs none of ASGI's messages."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    def body(self) -> bytes | None:
        """The body that `receive` would give; None where `receive` has to be asked, since more than that is to do."""
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected or cycle.response_complete or cycle.waiting_for_100_continue:
            return None
        cycle.flow.resume_reading()
        cycle.message_event.clear()
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    async def answer(self, status: int, fields: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """What `send` does with both messages of an answer whose `fields` give its length. To HEAD, no body goes."""
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.transport.is_closing():
            cycle.disconnected = True  # uvicorn tells only the newest request of a connection that is lost
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        head = STATUS_LINE[status]
        for name, value in (*cycle.default_headers, *fields):
            head += b"%b: %b\r\n" % (name, value)
        if not cycle.keep_alive:
            head += b"connection: close\r\n"
        cycle.transport.write(head + b"\r\n" + (b"" if cycle.scope["method"] == "HEAD" else body))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    async def taken(self) -> None:
        """Wait until the client has taken the answer, or is gone."""
        if self._cycle.flow.write_paused:
            await self._cycle.flow.drain()
