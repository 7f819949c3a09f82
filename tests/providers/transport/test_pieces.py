"""A body that comes in pieces, with no word of its length: all of it is read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import h2.config
import h2.connection
import h2.events
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
    writer.close()


@pytest.mark.parametrize(
    "pieces", [PIECES, [b"x" * 8_000, b"y" * 8_000], [b"x" * 16_000] * (MAX_BODY_BYTES // 16_000 + 1)]
)
async def test_all_of_it_is_read(tmp_path: Path, pieces: list[bytes]) -> None:
    authority = Authority(tmp_path)
    server = await asyncio.start_server(
        lambda reader, writer: answer_in_pieces(reader, writer, pieces),
        "127.0.0.1",
        0,
        ssl=authority.server_context(),
    )
    port = server.sockets[0].getsockname()[1]
    wire = Wire(Endpoint(f"https://127.0.0.1:{port}", ca_pem=authority.ca_path.read_bytes()), Timing())
    outcome = await wire.exchange("/x", {}, b"{}", 30.0)
    await wire.close()
    server.close()
    body = b"".join(pieces)
    if len(body) > MAX_BODY_BYTES:
        assert outcome == Answered(400, outcome.headers, whole=False)  # type: ignore[union-attr]
    else:
        assert outcome == Answered(400, {}, body)
