"""One connection: frames in, requests to the handler, outcomes back as frames."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, cast

from h2 import events
from h2.exceptions import ProtocolError

from heliograph_lab.http2 import model
from heliograph_lab.http2.abort import abort
from heliograph_lab.http2.answers import Answers
from heliograph_lab.http2.counts import count
from heliograph_lab.http2.goaway import Fate, Leaving
from heliograph_lab.http2.model import Answer, Cut, Fault, GoAway, Outcome, Request, Reset, Silence
from heliograph_lab.http2.protocol import Http2

if TYPE_CHECKING:
    from heliograph_lab.http2.server import Server

MOST_BODY = 1024 * 1024
_PATIENCE = 0.05  # seconds without a new request, and a GOAWAY that withholds some goes out with fewer
_LINGER = 0.1  # seconds from the last answer to the end
_PING = b"goaway??"
_log = logging.getLogger(__name__)


class _Stream:
    """A request that is coming in, or is being answered."""

    __slots__ = ("body", "fate", "headers", "size")

    def __init__(self, headers: Any, fate: Fate) -> None:
        self.headers = headers
        self.fate = fate
        self.body: list[bytes] = []
        self.size = 0


class Connection(asyncio.Protocol):
    """An asyncio protocol; also the `Peer` that handlers see."""

    def __init__(self, server: "Server", plan: GoAway | None) -> None:
        self._server = server
        self._counts = server.counts
        self._h2 = Http2(server.limits)
        self._most_streams = server.limits.max_concurrent_streams
        self._leaving = Leaving(plan)
        self._streams: dict[int, _Stream] = {}
        self._answers = Answers(self._h2, self._gone)
        self._flush_due = False
        self._lingers = False
        self._patience: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._on: dict[type[events.Event], Any] = {
            events.RequestReceived: self._on_headers,
            events.DataReceived: self._on_data,
            events.StreamEnded: self._on_end,
            events.StreamReset: self._on_reset,
            events.WindowUpdated: self._on_window,
            events.RemoteSettingsChanged: self._on_window,
            events.PingAckReceived: self._on_ping_answered,
        }
        self.number = 0
        self.certificate: bytes | None = None
        self.notes: dict[str, Any] = {}

    # ------------------------------------------------------------ what others ask of it

    def change(self, *, max_concurrent_streams: int | None = None, initial_window_size: int | None = None) -> None:
        """See `Peer.change`."""
        if max_concurrent_streams is not None:
            self._most_streams = max_concurrent_streams
        self._h2.change(max_concurrent_streams, initial_window_size)
        self._flush_soon()

    def leave(self, plan: GoAway) -> None:
        """Follow this plan from now on; its `after` counts the connection's requests from the beginning."""
        if not self._leaving.said:
            self._leaving.plan = plan
            self._leave_if_due()

    def freeze(self, frozen: bool) -> None:
        """Read nothing more, PINGs included, and so answer nothing; or read on."""
        if self._transport is not None:
            (self._transport.pause_reading if frozen else self._transport.resume_reading)()

    def end(self, cut: Cut | None = None) -> None:
        """Close it after what is written, or cut it."""
        if self._transport is None:
            return
        if cut is not None:
            abort(self._transport, cut.how)
            return
        self._flush()
        self._transport.close()

    # ------------------------------------------------------------ asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TLS handshake is done."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self.certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        self._server.joined(self)
        self._flush()
        self._leave_if_due()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Whatever is being processed goes on; nobody gets the answer."""
        self._transport = None
        self._streams.clear()
        self._stop_waiting()
        self._server.left(self)

    def data_received(self, data: bytes) -> None:
        """Frames."""
        try:
            received = self._h2.receive_data(data)
        except ProtocolError as error:
            _log.info("connection %d ends: %s", self.number, error)
            self.end()  # h2 has put the reason in a GOAWAY
            return
        for event in received:
            on = self._on.get(type(event))
            if on is not None:
                on(event)
        self._leave_if_due()
        self._flush()

    def _flush_soon(self) -> None:
        # Answers of tasks that end in the same round leave in one write.
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._transport is not None and (data := self._h2.data_to_send()):
            self._transport.write(data)

    # ------------------------------------------------------------ requests

    def _on_headers(self, event: events.RequestReceived) -> None:
        fate = self._leaving.fate(event.stream_id)
        if fate in {Fate.IGNORED, Fate.WITHHELD}:
            self._counts.ignored += 1
        elif len(self._streams) >= self._most_streams:
            self._counts.refused += 1
            self._leaving.unanswered.discard(event.stream_id)
            self._answers.reset(event.stream_id, model.REFUSED_STREAM)
        else:
            self._streams[event.stream_id] = _Stream(event.headers, fate)

    def _on_data(self, event: events.DataReceived) -> None:
        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.body.append(event.data)
        stream.size += len(event.data)
        if stream.size > MOST_BODY:
            self._answers.reset(event.stream_id, model.ENHANCE_YOUR_CALM)

    def _on_end(self, event: events.StreamEnded) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        request = self._request(event.stream_id, stream)
        request_id = self._server.identify(request) if self._server.identify is not None else None
        self._counts.seen += 1
        count(self._counts.seen_by_id, request_id)
        fault = self._server.script(request) if self._server.script is not None else None
        if fault is not None:
            self._server.spawn(self._misbehave(request, request_id, stream, fault))
            return
        made = self._process(request)
        if isinstance(made, Awaitable):
            self._server.spawn(self._settle_later(request, request_id, stream, made))
        else:
            self._note(request_id, made)
            self._finish(request.stream_id, stream, made)

    def _on_reset(self, event: events.StreamReset) -> None:
        if self._streams.pop(event.stream_id, None) is not None:
            self._counts.cancelled += 1
            self._answers.forget(event.stream_id)
            self._leaving.unanswered.discard(event.stream_id)

    def _request(self, stream_id: int, stream: _Stream) -> Request:
        pseudo = {":method": "", ":path": "", ":authority": ""}
        headers: dict[str, str] = {}
        for raw_name, raw_value in stream.headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            if name[0] == ":":
                pseudo[name] = value
            else:
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Request(
            method=pseudo[":method"],
            path=pseudo[":path"],
            authority=pseudo[":authority"] or headers.get("host", ""),
            headers=headers,
            body=b"".join(stream.body),
            peer=self,
            stream_id=stream_id,
        )

    def _process(self, request: Request) -> Outcome | Awaitable[Outcome]:
        self._counts.processed += 1
        self._leaving.unanswered.discard(request.stream_id)
        try:
            return self._server.handler(request)
        except Exception:  # noqa: BLE001 - a provider that has crashed; the connection survives it
            return _crashed()

    def _note(self, request_id: str | None, outcome: Outcome) -> None:
        """Count what was taken: a request that the handler has refused may come again."""
        if not (isinstance(outcome, Answer) and outcome.status >= 400):
            count(self._counts.processed_by_id, request_id)

    async def _settle_later(
        self, request: Request, request_id: str | None, stream: _Stream, making: Awaitable[Outcome]
    ) -> None:
        made = await _made(making)
        self._note(request_id, made)
        self._finish(request.stream_id, stream, made)

    async def _misbehave(self, request: Request, request_id: str | None, stream: _Stream, fault: Fault) -> None:
        outcome = fault.outcome
        if outcome is None or fault.processed:
            making = self._process(request)
            made = await _made(making) if isinstance(making, Awaitable) else making
            self._note(request_id, made)
            outcome = outcome or made
        if fault.delay:
            await asyncio.sleep(fault.delay)
        self._finish(request.stream_id, stream, outcome)

    # ------------------------------------------------------------ outcomes

    def _finish(self, stream_id: int, stream: _Stream, outcome: Outcome) -> None:
        if self._transport is None or self._streams.get(stream_id) is not stream:
            return  # the client has gone, or has given this one up
        if isinstance(outcome, Cut):
            self.end(outcome)
        elif isinstance(outcome, Silence) or stream.fate is Fate.UNANSWERED:
            pass
        elif isinstance(outcome, Reset):
            self._answers.reset(stream_id, outcome.code)
        elif isinstance(outcome, GoAway):
            self._leave_before(stream_id, outcome)
        elif self._answers.send(stream_id, outcome):
            self._counts.answered += 1
        self._leave_if_due()
        self._flush_soon()

    def _on_window(self, _event: events.Event) -> None:
        self._answers.go_on()

    def _gone(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)
        self._leaving.unanswered.discard(stream_id)

    # ------------------------------------------------------------ GOAWAY

    def _leave_before(self, stream_id: int, plan: GoAway) -> None:
        """GOAWAY in place of an answer: the stream is above the last id, or refused where a later one is not."""
        self._streams.pop(stream_id, None)
        if not self._leaving.give_back(stream_id):
            self._answers.reset(stream_id, model.REFUSED_STREAM)
        self._leaving.plan = GoAway(code=plan.code, debug=plan.debug)

    def _leave_if_due(self) -> None:
        leaving, plan = self._leaving, self._leaving.plan
        if plan is None or self._transport is None:
            return
        if leaving.due and plan.graceful and not leaving.warned:
            leaving.warned = True
            self._say(model.HIGHEST_STREAM, model.NO_ERROR, b"")
            self._h2.ping(_PING)
        elif leaving.due and not plan.graceful:
            self._say_last(plan)
        elif leaving.holding:
            self._wait_for_more()
        if leaving.said:
            self._close_when_done(plan)

    def _on_ping_answered(self, event: events.PingAckReceived) -> None:
        plan = self._leaving.plan
        if event.ping_data == _PING and plan is not None and not self._leaving.said:
            self._say_last(plan)

    def _wait_for_more(self) -> None:
        self._stop_waiting()
        self._patience = self._loop.call_later(_PATIENCE, self._waited)

    def _waited(self) -> None:
        plan = self._leaving.plan
        if self._transport is not None and plan is not None and not self._leaving.said:
            self._say_last(plan)
            self._close_when_done(plan)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _say_last(self, plan: GoAway) -> None:
        self._stop_waiting()
        self._counts.goaways += 1
        self._say(self._leaving.say(), plan.code, plan.debug)

    def _say(self, last: int, code: int, debug: bytes) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.write(self._h2.go_away_frame(last, code, debug))

    def _close_when_done(self, plan: GoAway) -> None:
        """Once everything up to the last id is answered, or processed if it is to stay unanswered."""
        left = self._leaving.unanswered if plan.unanswered else self._streams
        if not left and not self._lingers:
            # Closed at once, what the client still sends would be answered with RST, and could cost it the GOAWAY.
            self._lingers = True
            self._loop.call_later(_LINGER, self.end)


async def _made(outcome: Awaitable[Outcome]) -> Outcome:
    try:
        return await outcome
    except Exception:  # noqa: BLE001 - as in `_process`
        return _crashed()


def _crashed() -> Outcome:
    _log.exception("a handler of the lab's HTTP/2 server failed")
    return Reset(model.INTERNAL_ERROR)
