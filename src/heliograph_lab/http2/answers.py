"""Sends answers as far as the client's windows let it, and the rest later."""

import contextlib
from collections.abc import Callable

from h2.exceptions import ProtocolError

from heliograph_lab.http2.model import NO_ERROR, Answer
from heliograph_lab.http2.protocol import Http2


class Answers:
    """Those of one connection. `gone` is called with each stream that has ended on our side."""

    def __init__(self, http2: Http2, gone: Callable[[int], None]) -> None:
        self._http2 = http2
        self._gone = gone
        self._blocked: dict[int, tuple[bytes, bool]] = {}  # what no window was open for; whether the stream ends so

    def send(self, stream_id: int, answer: Answer) -> bool:
        """Begin an answer; False when the client has taken the request back."""
        headers = [(b":status", b"%d" % answer.status)]
        headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
        if answer.body:
            headers.append((b"content-length", b"%d" % len(answer.body)))
        try:
            self._http2.send_headers(stream_id, headers, end_stream=not answer.body)
        except ProtocolError:
            return False  # its RST_STREAM came in the same breath, and is the next event
        if answer.body:
            self._send(stream_id, answer.body[: answer.reset_after], ends=answer.reset_after is None)
        else:
            self._gone(stream_id)
        return True

    def reset(self, stream_id: int, code: int) -> None:
        """RST_STREAM."""
        with contextlib.suppress(ProtocolError):  # the client was faster
            self._http2.reset_stream(stream_id, code)
        self._gone(stream_id)

    def go_on(self) -> None:
        """A window has opened."""
        blocked, self._blocked = self._blocked, {}
        for stream_id, (rest, ends) in blocked.items():
            self._send(stream_id, rest, ends=ends)

    def forget(self, stream_id: int) -> None:
        """The client wants no more of this one."""
        self._blocked.pop(stream_id, None)

    def _send(self, stream_id: int, rest: bytes, *, ends: bool) -> None:
        most = self._http2.max_outbound_frame_size
        while rest and (room := min(self._http2.local_flow_control_window(stream_id), most)) > 0:
            part, rest = rest[:room], rest[room:]
            self._http2.send_data(stream_id, part, end_stream=ends and not rest)
        if rest:
            self._blocked[stream_id] = (rest, ends)
        elif ends:
            self._gone(stream_id)
        else:
            self.reset(stream_id, NO_ERROR)
