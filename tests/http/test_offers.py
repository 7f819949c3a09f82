"""Requests that offer to go on in another protocol, which is not taken up."""

from __future__ import annotations

import asyncio

import pytest

from tests.http.served import (
    GO_ON,
    POST,
    SHORT,
    ask,
    refusal,
    serving,
)

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
BODIES = (b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")


@pytest.mark.parametrize("cut", [0, 1, 3, 40])
@pytest.mark.parametrize("body", BODIES)
async def test_an_offer_to_speak_http_2_is_ignored_and_the_request_served_with_its_body(body: bytes, cut: int) -> None:
    """As Java's client, Spring and `curl --http2` make it with every request to an address without TLS."""
    sent = POST + OFFER + body
    at = len(sent) - cut
    async with serving() as served:
        raw = await served.answer(sent[:at], sent[at:], sent + ask(more=GO_ON) + sent, ask())
    assert [part.rpartition(b"\r\n")[2] for part in raw.split(b"HTTP/1.1 200 OK")[1:]] == [b"3", b"3", b"0", b"3", b"0"]


async def test_a_body_behind_an_offer_is_no_request_of_its_own() -> None:
    hidden = ask(b"/told")
    length = b"Content-Length: %d\r\n\r\n" % len(hidden)
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(POST + OFFER + length)
        await writer.drain()
        await asyncio.sleep(0.05)  # the head comes by itself, as Java sends it
        writer.write(hidden + ask())
        raw = await reader.read()
        writer.close()
    assert raw.count(b"HTTP/1.1 ") == 2
    assert b"\r\n%d" % len(hidden) in raw
    assert b"/told?" not in raw


@pytest.mark.parametrize("offer", [b"Connection: upgrade, close\r\nUpgrade: h2c\r\n", b"Upgrade: h2c\r\n"])
async def test_what_else_stands_beside_an_offer_counts(offer: bytes) -> None:
    async with serving() as served:
        raw = await served.answer(POST + offer + b"Content-Length: 1\r\n\r\na", ask())
    assert raw.startswith(b"HTTP/1.1 200 OK")
    assert raw.count(b"HTTP/1.1 200 OK") == (1 if b"close" in offer else 2)


async def test_a_request_with_an_offer_has_to_come_to_its_end_in_time() -> None:
    async with serving(SHORT) as served:
        assert refusal(await served.answer(POST + OFFER + b"Content-Length: 9\r\n\r\na")) == (408, 4008)
        assert refusal(await served.answer(POST + OFFER)) == (408, 4008)
