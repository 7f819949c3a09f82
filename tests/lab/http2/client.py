"""A client that sees the frames: what a library would hide is what these tests are about."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event
from hyperframe.frame import Frame, GoAwayFrame


class _Http2(H2Connection):
    """h2 takes a connection for closed once it has got GOAWAY; this one goes on."""

    def __init__(self) -> None:
        super().__init__(H2Configuration(client_side=True, header_encoding=None))
        self.goaways: list[GoAwayFrame] = []

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        self.goaways.append(frame)
        return [], []


class Client:
    """One connection. `status`, `body`, `resets` are by stream id."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.h2 = _Http2()
        self.h2.initiate_connection()
        self.status: dict[int, int] = {}
        self.headers: dict[int, dict[str, str]] = {}
        self.body: dict[int, bytes] = {}
        self.resets: dict[int, int] = {}
        self.done: set[int] = set()
        self.hungry = True  # whether it opens its windows again as data comes
        self.closed: Exception | str | None = "no"  # then how it ended
        self._news = asyncio.Event()
        self.flush()
        self._task = asyncio.create_task(self._read())

    @property
    def alpn(self) -> str | None:
        tls: ssl.SSLObject = self._writer.get_extra_info("ssl_object")
        return tls.selected_alpn_protocol()

    def send(
        self, path: str = "/", body: bytes | None = b"x", headers: dict[str, str] | None = None, *, ends: bool = True
    ) -> int:
        """Send a request; its stream id. `body=None` sends none."""
        stream_id = self.h2.get_next_available_stream_id()
        pseudo = [(":method", "POST"), (":scheme", "https"), (":authority", "lab"), (":path", path)]
        self.h2.send_headers(stream_id, [*pseudo, *(headers or {}).items()], end_stream=body is None and ends)
        if body is not None:
            self.h2.send_data(stream_id, body, end_stream=ends)
        self.flush()
        return stream_id

    async def send_slowly(self, body: bytes) -> int:
        """Send a request with as much of the body at a time as the server's windows allow."""
        stream_id = self.send(body=None, ends=False)
        while body:
            await self.until(lambda: self.h2.local_flow_control_window(stream_id) > 0)
            room = self.h2.local_flow_control_window(stream_id)
            part, body = body[:room], body[room:]
            self.h2.send_data(stream_id, part, end_stream=not body)
            self.flush()
        return stream_id

    async def answer(self, stream_id: int) -> int:
        """Its status, once it is complete."""
        await self.until(lambda: stream_id in self.done)
        return self.status[stream_id]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def flush(self) -> None:
        self._writer.write(self.h2.data_to_send())

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            async with asyncio.timeout(1):
                await self._writer.wait_closed()

    async def _read(self) -> None:
        ended: Exception | None = None
        try:
            while data := await self._reader.read(65_536):
                for event in self.h2.receive_data(data):
                    self._on(event)
                self.flush()
                self._news.set()
        except OSError as error:
            ended = error
        self.closed = ended
        self._news.set()

    def _on(self, event: Any) -> None:
        if isinstance(event, events.ResponseReceived):
            headers = {name.decode(): value.decode() for name, value in event.headers}
            self.headers[event.stream_id] = headers
            self.status[event.stream_id] = int(headers[":status"])
        elif isinstance(event, events.DataReceived):
            self.body[event.stream_id] = self.body.get(event.stream_id, b"") + event.data
            if self.hungry:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.StreamReset):
            self.resets[event.stream_id] = int(event.error_code)
        elif isinstance(event, events.StreamEnded):
            self.done.add(event.stream_id)


@contextlib.asynccontextmanager
async def connected(port: int, ca_path: Path, certificate: Path | None = None) -> AsyncIterator[Client]:
    """A connection to the server, closed at the end."""
    context = ssl.create_default_context(cafile=ca_path)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if certificate is not None:
        context.load_cert_chain(certificate)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    client = Client(reader, writer)
    try:
        yield client
    finally:
        await client.close()
