"""A body that comes in pieces, with no word of its length: all of it is read."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest

from heliograph.ports.transport import Answered, Endpoint
from heliograph.providers.transport import Timing
from heliograph.providers.transport.wire import MAX_BODY_BYTES, Wire
from heliograph_lab.http2 import Authority

PIECES = [b'{"reason":', b'"Bad', b"DeviceToken", b'"}']


async def answer_in_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pieces: list[bytes]) -> None:
    http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    http2.initiate_connection()
    writer.write(http2.data_to_send())
    while data := await reader.read(65_536):
        ended = [event for event in http2.receive_data(data) if isinstance(event, h2.events.StreamEnded)]
        writer.write(http2.data_to_send())
        for event in ended:
            http2.send_headers(event.stream_id, [(":status", "400")])
            for number, piece in enumerate(pieces, 1):
                http2.send_data(event.stream_id, piece, end_stream=number == len(pieces))
                writer.write(http2.data_to_send())
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def serving(authority: Authority, pieces: list[bytes]) -> AsyncIterator[int]:
    """A service that answers so, by its port; gone with all of its connections at the end."""
    lines: list[asyncio.Task[None]] = []

    async def line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(
                ConnectionError, ssl.SSLError, h2.exceptions.ProtocolError
            ):  # whoever has enough hangs up
                await answer_in_pieces(reader, writer, pieces)
        finally:
            writer.transport.abort()  # to close it would wait for a word of the client, who has gone
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(asyncio.ensure_future(line(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=authority.server_context())
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*lines)
        await server.wait_closed()


@pytest.mark.parametrize(
    "pieces", [PIECES, [b"x" * 8_000, b"y" * 8_000], [b"x" * 16_000] * (MAX_BODY_BYTES // 16_000 + 1)]
)
async def test_all_of_it_is_read(tmp_path: Path, pieces: list[bytes]) -> None:
    authority = Authority(tmp_path)
    async with serving(authority, pieces) as port:
        wire = Wire(Endpoint(f"https://127.0.0.1:{port}", ca_pem=authority.ca_path.read_bytes()), Timing())
        outcome = await wire.exchange("/x", {}, b"{}", 30.0)
        await wire.close()
    body = b"".join(pieces)
    if len(body) > MAX_BODY_BYTES:
        assert outcome == Answered(400, outcome.headers, whole=False)  # type: ignore[union-attr]
    else:
        assert outcome == Answered(400, {}, body)
