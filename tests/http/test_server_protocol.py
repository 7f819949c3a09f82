"""What one connection may take before anybody is known to be on it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from heliograph.http.server_protocol import (
    MAX_HEAD_BYTES,
    MAX_PIPELINED,
    MAX_REQUEST_BYTES,
    ConnectionLimits,
)
from tests.http.served import (
    GO_ON,
    HELD,
    HOST,
    LARGE,
    POST,
    SHORT,
    UPGRADE,
    ask,
    refusal,
    serving,
    until,
)


async def test_headers_without_end_are_refused() -> None:
    line = b"X-Filler: " + b"a" * 4000 + b"\r\n"
    async with serving() as served:
        raw = await served.answer(b"GET /echo HTTP/1.1\r\n" + HOST, *[line] * (MAX_HEAD_BYTES // len(line) + 1))
    assert refusal(raw) == (431, 5213)


async def test_an_address_without_end_is_refused() -> None:
    async with serving() as served:
        raw = await served.answer(b"GET /", *[b"a" * 4096] * (MAX_HEAD_BYTES // 4096))
    assert refusal(raw) == (431, 5213)


async def test_a_head_of_the_permitted_size_is_served() -> None:
    filler = b"X-Filler: " + b"a" * (MAX_HEAD_BYTES - 200) + b"\r\n"
    async with serving() as served:
        raw = await served.answer(b"GET /echo HTTP/1.1\r\n" + HOST + filler + b"Connection: close\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 200 ")


async def test_trailers_without_end_are_not_kept() -> None:
    trailer = b"X-Filler: " + b"a" * 60_000 + b"\r\n"
    async with serving() as served:
        head = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
        assert await served.answer(head, *[trailer] * (MAX_REQUEST_BYTES // len(trailer) + 1)) == b""


async def test_a_silent_connection_is_closed() -> None:
    async with serving(SHORT) as served:
        assert await served.answer() == b""


@pytest.mark.parametrize("begun", [b"GET /echo HT", POST + b"X-A: b\r\n", POST + b"Content-Length: 2\r\n\r\na"])
async def test_a_request_that_is_not_finished_is_answered_408(begun: bytes) -> None:
    async with serving(SHORT) as served:
        assert refusal(await served.answer(begun)) == (408, 4008)


async def test_the_second_request_of_a_connection_has_to_end_too() -> None:
    async with serving(SHORT) as served:
        raw = await served.answer(POST + b"Content-Length: 1\r\n\r\na" + POST + b"Content-Length: 9\r\n\r\na")
    first, _, second = raw.partition(b"\r\n\r\n1")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert refusal(second) == (408, 4008)


async def test_a_connection_above_the_number_is_answered_503_and_the_others_go_on() -> None:
    async with serving(ConnectionLimits(connections=1)) as served:
        reader, writer = await served.connect()
        writer.write(b"GET /echo HTTP/1.1\r\n" + HOST + b"\r\n")
        await reader.readuntil(b"\r\n\r\n0")
        assert refusal(await served.answer()) == (503, 1003)
        writer.write(b"GET /echo HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_requests_sent_ahead_are_bounded() -> None:
    ahead = b"GET /echo HTTP/1.1\r\n" + HOST + b"\r\n"
    async with serving() as served:
        raw = await served.answer(ahead * (MAX_PIPELINED + 2))
    assert raw.count(b"HTTP/1.1 200 ") < MAX_PIPELINED


async def test_what_is_not_http_is_refused_in_the_envelope() -> None:
    async with serving() as served:
        assert refusal(await served.answer(b"\x16\x03\x01 hello\r\n\r\n")) == (400, 5209)


async def test_a_websocket_elsewhere_than_on_the_line_is_refused_quietly(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        with caplog.at_level(logging.WARNING):
            raw = await served.answer(b"GET /echo HTTP/1.1\r\n" + HOST + UPGRADE + b"\r\n")
        assert refusal(raw) == (404, 1002)
        assert served.line.asked == 0
        assert caplog.records == []
        await served.answer(b"GET /line HTTP/1.1\r\n" + HOST + UPGRADE + b"\r\n")
        assert served.line.asked == 1


async def test_an_answer_says_when_what_how_long_and_whose_it_is() -> None:
    async with serving() as served:
        raw = await served.answer(ask(more=GO_ON) + ask(b"/told", more=GO_ON + b"Connection: close\r\n"))
    first, second = [part.split(b"\r\n") for part in raw.split(b"HTTP/1.1 ")[1:]]
    assert first[1].startswith(b"date: ")
    common = [b"content-type: application/json; charset=utf-8", b"content-length: 1"]
    assert first[:1] + first[2:] == [b"200 OK", b"server: uvicorn", *common, b"x-request-id: mine", b"", b"0"]
    link = b"link: http://localhost/told?page=2"
    ended = [b"x-request-id: mine", b"connection: close", b"", b"0"]
    assert second[:1] + second[2:] == [b"201 Created", b"server: uvicorn", *common, link, *ended]


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"Host: [::1]:8080\r\n", b"http://[::1]:8080"),
        (b"Host: a_b.example\r\n", b"http://a_b.example"),
        (b'Host: x>; rel="next", <http://elsewhere\r\n', b""),
        (b"Host:\r\n", b""),
        (b"", b""),
    ],
)
async def test_a_link_repeats_a_host_and_nothing_else(host: bytes, origin: bytes) -> None:
    async with serving() as served:
        raw = await served.answer(b"GET /told HTTP/1.0\r\n" + host + b"\r\n")
    assert b"\r\nlink: " + origin + b"/told?page=2\r\n" in raw


@pytest.mark.parametrize("more", [b"Connection: close\r\n", b"Connection: x, Close\r\n"])
async def test_an_answer_says_that_it_is_the_last(more: bytes) -> None:
    async with serving() as served:
        assert b"\r\nconnection: close\r\n" in await served.answer(ask(more=more))


@pytest.mark.parametrize("more", [GO_ON, b"Connection: keep-alive\r\n"])
async def test_an_answer_to_http_1_0_is_the_last(more: bytes) -> None:
    async with serving() as served:
        assert b"\r\nconnection: close\r\n" in await served.answer(ask(version=b"1.0", more=more))


async def test_requests_sent_ahead_are_answered_in_their_order_and_head_without_a_body() -> None:
    bodies = [POST + b"Content-Length: %d\r\n\r\n" % n + b"a" * n for n in range(5)]
    async with serving() as served:
        raw = await served.answer(*bodies[:4], ask(method=b"HEAD", more=GO_ON), bodies[4], ask())
    parts = [part.partition(b"\r\n\r\n") for part in raw.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert [body for _, _, body in parts] == [b"0", b"1", b"2", b"3", b"", b"4", b"0"]
    assert all(b"content-length: 1\r\n" in head for head, _, _ in parts)


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked_where_it_is_read() -> None:
    waits = b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(POST + waits)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ab")
        assert (await reader.readuntil(b"\r\n\r\n2")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.write(POST + waits + b"ab")  # it may as well not wait
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await reader.readuntil(b"\r\n\r\n2")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.write(b"POST /nothing HTTP/1.1\r\n" + HOST + waits)
        assert (await reader.readuntil(b"}}")).startswith(b"HTTP/1.1 404 ")
        writer.close()


@pytest.mark.parametrize("sent", [b"a" * 70_000, b"a" * 1024 * 1024])
async def test_a_body_arrives_whole_in_however_many_parts(sent: bytes) -> None:
    length = b"Content-Length: %d\r\n\r\n" % len(sent)
    async with serving() as served:
        raw = await served.answer(POST + length, sent[:10], sent[10:], POST + length + sent, ask())
    assert [part.rpartition(b"\r\n")[2] for part in raw.split(b"HTTP/1.1 ")[1:]] == [b"%d" % len(sent)] * 2 + [b"0"]


async def test_answers_that_nobody_reads_yet_are_not_lost() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(ask(b"/large", more=GO_ON) * 3 + ask())
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.05)  # the server comes to what its buffer does not take
        raw = await reader.read()
        writer.close()
    assert raw.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert len(raw) - len(raw.replace(b"\0", b"")) == 3 * len(LARGE)


@pytest.mark.parametrize(
    "wrong",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nX-Filler: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        POST + b"Content-Length: 1\r\n\r\na" + POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\nxyz\r\n",
    ],
)
async def test_what_is_wrong_overtakes_no_answer_to_a_request_before_it(wrong: bytes) -> None:
    """That one may have been carried out, and its client must not take the refusal for its answer."""
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(ask(b"/slow", more=GO_ON))
        await until(lambda: HELD)
        writer.write(wrong)
        [connection] = served.connections
        try:
            await until(lambda: connection._is_over)
        finally:
            HELD.pop().set()
        raw = await reader.read()
        writer.close()
    answers = raw.split(b"HTTP/1.1 ")[1:]
    assert [part.rpartition(b"\r\n")[2] for part in answers] == [b"slow", b"1"][: 1 + wrong.count(b"Length")]
    assert b"connection: close" in answers[-1]


async def test_requests_that_are_wrong_by_themselves_are_refused_after_an_answer() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        writer.write(ask(more=GO_ON))
        await reader.readuntil(b"\r\n\r\n0")
        writer.write(b"GARBAGE\r\n\r\n")
        assert refusal(await reader.read()) == (400, 5209)
        writer.close()


async def test_a_header_that_would_be_two_is_never_sent() -> None:
    async with serving() as served:
        raw = await served.answer(ask(b"/forged"))
    assert raw.startswith(b"HTTP/1.1 500 ")
    assert b"Set-Cookie" not in raw
