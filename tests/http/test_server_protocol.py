"""What one connection may take before anybody is known to be on it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import structlog
import uvicorn
import uvloop

from heliograph.bootstrap import listen
from heliograph.http.answers import Answer, Request
from heliograph.http.edge import Edge, Routes
from heliograph.http.room import Room
from heliograph.http.server_protocol import (
    MAX_HEAD_BYTES,
    MAX_PIPELINED,
    MAX_REQUEST_BYTES,
    ConnectionLimits,
    HttpProtocol,
    LineProtocol,
)

HOST = b"Host: localhost\r\n"
POST = b"POST /echo HTTP/1.1\r\n" + HOST
SHORT = ConnectionLimits(head_s=0.05, body_s=0.05)
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Line:
    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await receive()
        await send({"type": "websocket.close", "code": 1000})


class Served:
    """A server with one route, and how to reach it."""

    def __init__(self, port: int, line: _Line, connections: set[Any]) -> None:
        self.port, self.line, self.connections = port, line, connections

    def left(self) -> int:
        """Bytes of answers that no client has taken yet, beside what the kernel holds."""
        return sum(connection.transport.get_write_buffer_size() for connection in self.connections)

    async def connect(self) -> Stream:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer(self, *parts: bytes) -> bytes:
        """All that comes back until the server hangs up."""
        reader, writer = await self.connect()
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


async def _echo(request: Request) -> Answer:
    return Answer(b"%d" % len(request.body))


async def _large(_: Request) -> Answer:
    return Answer(LARGE)


async def _forged(_: Request) -> Answer:
    return Answer(b"0", headers={"X-Said": "a\r\nSet-Cookie: b"})


async def _told(request: Request) -> Answer:
    return Answer(b"0", 201, headers={"Link": request.url("page=2")})


async def _slow(_: Request) -> Answer:
    HELD.append(asyncio.Event())
    await HELD[-1].wait()
    return Answer(b"slow")


HELD: list[asyncio.Event] = []


async def _kept(_: Request) -> Answer:
    return Answer(LARGE, place=await ROOM.take(len(LARGE)))


ROOM = Room(2**30)
LARGE = bytes(4 * 1024 * 1024)
ROUTES = [
    ("POST", "/echo", _echo),
    ("GET", "/echo", _echo),
    ("GET", "/large", _large),
    ("GET", "/forged", _forged),
    ("GET", "/kept", _kept),
    ("GET", "/slow", _slow),
    ("GET", "/told", _told),
]


@asynccontextmanager
async def serving(limits: ConnectionLimits | None = None, kernel_holds: int = 0) -> AsyncIterator[Served]:
    line = _Line()
    edge = Edge(Routes(ROUTES), line, "/line", structlog.get_logger())
    http: Any = partial(HttpProtocol, limits=limits or ConnectionLimits())
    config = uvicorn.Config(edge, log_config=None, access_log=False, lifespan="off", http=http, ws=LineProtocol)
    listener = listen("127.0.0.1", 0)
    if kernel_holds:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel_holds)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    await server.on_tick(0)  # the headers that every answer has
    try:
        yield Served(listener.getsockname()[1], line, server.server_state.connections)
    finally:
        await server.shutdown(sockets=[listener])


def refusal(raw: bytes) -> tuple[int, int]:
    """HTTP status and contract code of an answer that is the envelope and says that the connection ends."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert b"connection: close" in lines
    assert any(line.startswith(b"x-request-id: ") for line in lines)
    assert b"content-length: %d" % len(body) in lines
    return int(head.split()[1]), json.loads(body)["error"]["code"]


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


def ask(path: bytes = b"/echo", method: bytes = b"GET", version: bytes = b"1.1", more: bytes = b"") -> bytes:
    """A request that ends its connection unless `more` says otherwise."""
    return method + b" " + path + b" HTTP/" + version + b"\r\n" + HOST + (more or b"Connection: close\r\n") + b"\r\n"


GO_ON = b"X-Request-Id: mine\r\n"


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


async def until(read: Callable[[], Any]) -> Any:
    async with asyncio.timeout(10):
        while not (found := read()):  # noqa: ASYNC110 - nobody says when
            await asyncio.sleep(0.01)
    return found


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


async def until_gone(served: Served) -> None:
    await until(lambda: not served.connections)


def taking_little(served: Served) -> socket.socket:
    """A connection that takes as little as it can."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", served.port))
    client.setblocking(False)
    return client


@pytest.mark.parametrize("last", [GO_ON, b"Connection: close\r\n"])
@pytest.mark.parametrize("ahead", [1, 3])
async def test_who_takes_nothing_of_an_answer_is_gone(last: bytes, ahead: int) -> None:
    async with serving(ConnectionLimits(taken_s=0.05)) as served:
        with taking_little(served) as client:
            client.sendall(ask(b"/large", more=GO_ON) * (ahead - 1) + ask(b"/large", more=last))
            await until(lambda: served.left() > 0)
            await until_gone(served)


def test_an_answer_that_waited_for_a_client_who_is_gone_is_no_fault() -> None:
    """On the loop that servers run on, whose transports refuse to write once they are closed."""

    async def leave() -> None:
        async with serving(ConnectionLimits(taken_s=0.05)) as served:
            with taking_little(served) as client:
                client.sendall(ask(b"/large", more=GO_ON) * 3)
                await until(lambda: served.left() > 0)
                await until_gone(served)

    with structlog.testing.capture_logs() as told:
        uvloop.run(leave())
    assert told == []


async def test_who_leaves_the_end_of_an_answer_is_gone() -> None:
    """What is left is less than asyncio calls much, and closing waits for it as well."""
    async with serving(ConnectionLimits(taken_s=0.2), kernel_holds=4096) as served:
        with taking_little(served) as client:
            client.sendall(ask(b"/large", more=b"Connection: close\r\n"))
            await until(lambda: served.left() > 0)
            while served.left() > 50_000:
                with contextlib.suppress(BlockingIOError):
                    client.recv(10_000)
                await asyncio.sleep(0)
            assert served.left() > 0
            await until_gone(served)


@pytest.mark.parametrize("is_taken", [True, False])
async def test_an_answer_has_its_room_until_it_is_taken_or_nobody_is_there(is_taken: bool) -> None:
    async with serving() as served:
        with taking_little(served) as client:
            client.sendall(ask(b"/kept"))
            await until(lambda: served.left() > 0)
            assert not ROOM.is_empty
            while is_taken and await asyncio.get_running_loop().sock_recv(client, 64 * 1024):
                pass
        await until(lambda: ROOM.is_empty)


async def test_an_answer_that_needs_no_body_keeps_no_room() -> None:
    async with serving() as served:
        with taking_little(served) as client:
            client.sendall(ask(b"/kept", method=b"HEAD", more=GO_ON))
            assert b"\r\n\r\n" in await asyncio.get_running_loop().sock_recv(client, 4096)
            await until(lambda: ROOM.is_empty)
            assert served.connections


async def test_who_takes_an_answer_slowly_gets_all_of_it() -> None:
    """The kernel holds megabytes, and takes no more of ours before a good part of those is gone."""
    async with serving(ConnectionLimits(taken_s=0.2)) as served:
        with taking_little(served) as client:
            client.sendall(ask(b"/large"))
            got = 0
            while part := await asyncio.get_running_loop().sock_recv(client, 64 * 1024):
                got += len(part)
                await asyncio.sleep(0.003)
    assert got > len(LARGE)


async def test_a_header_that_would_be_two_is_never_sent() -> None:
    async with serving() as served:
        raw = await served.answer(ask(b"/forged"))
    assert raw.startswith(b"HTTP/1.1 500 ")
    assert b"Set-Cookie" not in raw


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
