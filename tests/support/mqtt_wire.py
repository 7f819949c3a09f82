"""MQTT 5 on a `Wire`, as little of it as tests need to answer what no broker would."""

from __future__ import annotations

import asyncio

from tests.support.wire import Action, Raw, Seen, Wire

CONNECTED = bytes([0x20, 3, 0, 0, 0])
NAMES = {1: "CONNECT", 3: "PUBLISH", 12: "PINGREQ", 14: "DISCONNECT"}


def refused(code: int) -> bytes:
    """CONNACK with a reason."""
    return bytes([0x20, 3, 0, code, 0])


def connected_with(properties: bytes) -> bytes:
    """CONNACK that grants something."""
    return bytes([0x20, 3 + len(properties), 0, 0, len(properties)]) + properties


def acknowledged(publish: Seen, code: int = 0) -> bytes:
    """PUBACK of a PUBLISH with QoS 1."""
    topic = int.from_bytes(publish.body[:2], "big")
    return bytes([0x40, 3]) + publish.body[2 + topic : 4 + topic] + bytes([code])


async def read_mqtt(reader: asyncio.StreamReader) -> Seen | None:
    """One control packet; `method` names its type."""
    try:
        first = (await reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        return Seen(NAMES.get(first >> 4, str(first >> 4)), "", {}, await reader.readexactly(length))
    except asyncio.IncompleteReadError:
        return None


def as_broker(wire: Wire) -> None:
    """Let every client in, and answer each PUBLISH with `wire.otherwise`."""

    def answer(seen: Seen) -> Action:
        if seen.method == "CONNECT":
            return Raw(CONNECTED, keep=True)
        return wire.otherwise if seen.method == "PUBLISH" else Raw(b"", keep=seen.method == "PINGREQ")

    wire.read, wire.handler = read_mqtt, answer
