"""Every way an HTTP call can end is a value, and says whether the service may have got the request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from heliograph.outbound import (
    MAX_BODY_BYTES,
    MAX_RETRY_AFTER_S,
    NEVER_SENT,
    Exchange,
    NoReply,
    NotSent,
    Outbound,
    Reply,
    is_address,
    retry_after_s,
)
from tests.support.secrets_in_logs import LogWatch
from tests.support.wire import Answer, Hang, Raw, Wire, closed_port

SOON_S = 0.5


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment of whoever runs the tests is no part of them."""
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire().serving() as wire:
        yield wire


@contextlib.asynccontextmanager
async def client(url: str, transport: httpx2.AsyncBaseTransport | None = None) -> AsyncIterator[Outbound]:
    outbound = Outbound(url, transport=transport)
    try:
        yield outbound
    finally:
        await outbound.close()


async def ask(url: str, deadline_s: float = 30) -> Exchange:
    async with client(url) as outbound:
        return await outbound.exchange("POST", "/x", json={"a": 1}, deadline_s=deadline_s)


async def test_answers_come_back_with_status_body_and_retry_after(wire: Wire) -> None:
    wire.answers.append(Answer(429, b'{"no":1}', {"Retry-After": "7"}))
    answer = await ask(wire.url)
    assert answer == Reply(429, b'{"no":1}', 7.0)
    assert isinstance(answer, Reply)
    assert answer.json() == {"no": 1}
    assert wire.seen[0].json == {"a": 1}
    assert wire.seen[0].headers["content-type"] == "application/json"


async def test_a_redirect_is_not_followed(wire: Wire) -> None:
    wire.answers.append(Answer(302, b"", {"Location": f"{wire.url}/other"}))
    assert await ask(wire.url) == Reply(302)
    assert len(wire.seen) == 1


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200", b"\x00\x01garbage\r\n\r\n", b"HTTP/1.1 103 Early\r\n\r\n"])
async def test_a_connection_cut_before_the_answer_leaves_it_open(wire: Wire, raw: bytes) -> None:
    wire.answers.append(Raw(raw))
    assert isinstance(await ask(wire.url), NoReply)


async def test_a_cut_body_leaves_the_status(wire: Wire) -> None:
    wire.answers.append(Answer(429, b'{"a"', {"Retry-After": "3"}, missing=10))
    assert await ask(wire.url) == Reply(429, b"", 3.0, whole=False)


async def test_a_body_that_does_not_end_leaves_the_status(wire: Wire) -> None:
    wire.answers.append(Answer(503, b'{"a"', missing=10, keep=True))
    assert await ask(wire.url, SOON_S) == Reply(503, whole=False)


async def test_a_body_over_the_limit_is_dropped(wire: Wire) -> None:
    wire.answers += [Answer(200, b"x" * MAX_BODY_BYTES), Answer(200, b"x" * (MAX_BODY_BYTES + 1))]
    assert await ask(wire.url) == Reply(200, b"x" * MAX_BODY_BYTES)
    assert await ask(wire.url) == Reply(200, too_long=True, whole=False)


async def test_no_answer_in_time_after_sending_may_have_been_done(wire: Wire) -> None:
    wire.answers += [Answer(200, b"{}", keep=True), Hang()]
    async with client(wire.url) as outbound:
        await outbound.exchange("GET", "/", deadline_s=30)
        assert await outbound.exchange("GET", "/", deadline_s=SOON_S) == NoReply("no answer in time")


async def test_no_connection_in_time_is_not_sent() -> None:
    class NeverConnects(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            await asyncio.Event().wait()
            raise AssertionError

    async with client("http://nowhere.invalid", NeverConnects()) as outbound:
        assert await outbound.exchange("GET", "/", deadline_s=0.01) == NotSent("no connection in time")


@pytest.mark.parametrize("left_s", [0, -3.5])
async def test_no_time_left_is_not_sent(wire: Wire, left_s: float) -> None:
    """Also on a connection that is open already, where nothing makes the request pause before it is written."""
    wire.answers += [Answer(200, b"{}", keep=True), Answer(200, b"{}")]
    async with client(wire.url) as outbound:
        await outbound.exchange("GET", "/", deadline_s=30)
        assert await outbound.exchange("GET", "/", deadline_s=left_s) == NotSent("no time left")


async def test_nobody_listening_is_not_sent() -> None:
    assert await ask(await closed_port()) == NotSent("ConnectError")


async def test_an_unknown_host_is_not_sent() -> None:
    assert isinstance(await ask("http://nowhere.invalid"), NotSent)


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "http://[", "http://host:99999", "http://h\x00st"])
async def test_an_address_that_is_none_is_not_sent(url: str) -> None:
    assert isinstance(await ask(url), NotSent)


async def test_what_cannot_be_written_is_not_sent(wire: Wire) -> None:
    async with client(wire.url) as outbound:
        for unwritable in (object(), "\ud800", {1: object()}):
            assert isinstance(await outbound.exchange("POST", "/", json=unwritable, deadline_s=30), NotSent)
    assert wire.seen == []


def every_exception() -> list[type[Exception]]:
    named = [getattr(httpx2, name) for name in dir(httpx2)]
    return [thing for thing in named if isinstance(thing, type) and issubclass(thing, Exception)]


@pytest.mark.parametrize("kind", every_exception())
async def test_every_exception_of_the_client_becomes_a_value(kind: type[Exception]) -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        if issubclass(kind, httpx2.HTTPStatusError):
            raise kind("boom", request=request, response=httpx2.Response(500))
        raise kind("boom") if "message" in str(kind.__init__.__annotations__) else kind()

    async with client("http://x.invalid", httpx2.MockTransport(fail)) as outbound:
        answer = await outbound.exchange("GET", "/", deadline_s=30)
    assert isinstance(answer, NotSent if issubclass(kind, NEVER_SENT) else NoReply)


async def test_a_closed_client_sends_nothing_and_lets_calls_in_flight_end(wire: Wire) -> None:
    outbound = Outbound(wire.url)
    wire.may_answer.clear()
    wire.otherwise = Answer(200, b'{"done":1}')
    call = asyncio.create_task(outbound.exchange("GET", "/", deadline_s=30))
    await wire.got_one.wait()
    await outbound.close()
    wire.may_answer.set()
    assert await call == Reply(200, b'{"done":1}')
    assert await outbound.exchange("GET", "/", deadline_s=30) == NotSent("the client was closed")


async def test_urls_never_reach_the_log(
    wire: Wire, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = LogWatch(caplog, capsys)
    async with client(wire.url) as outbound:
        answer = await outbound.exchange(
            "GET", "/", params={"key": "canary17"}, headers={"Authorization": "Bearer canary18"}, deadline_s=30
        )
    assert wire.seen[0].query == {"key": "canary17"}
    watch.assert_none_of(["canary17", "canary18"], answer)


NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("999999999999", MAX_RETRY_AFTER_S),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(hours=1), usegmt=True), 0.0),
        (format_datetime(NOW + timedelta(days=400), usegmt=True), MAX_RETRY_AFTER_S),
        ("Sunday, 01-Mar-26 12:00:30 GMT", 30.0),
        ("Sun Mar  1 12:00:30 2026", 30.0),
        ("Sun, 01 Mar 2026 12:00:30 -0000", 30.0),
        (None, None),
        ("", None),
        ("-1", None),
        ("1e3", None),
        ("٣", None),
        ("soon", None),
        ("Sun, 99 Mar 2026 12:00:30 GMT", None),
        ("1, 2, 3, 4, 5", None),
    ],
)
def test_retry_after_forms(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == seconds


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("https://api.pushy.me", True),
        ("http://127.0.0.1:8080/base/", True),
        ("http://[::1]:1", True),
        ("", False),
        ("api.pushy.me", False),
        ("ftp://a", False),
        ("https://", False),
        ("https://user:pw@host", False),
        ("https://host?a=1", False),
        ("https://host#a", False),
        ("https://host:0", False),
        ("https://host:99999", False),
        ("https://[", False),
        ("https://ho st", False),
        ("https://höst", False),
    ],
)
def test_addresses(text: str, fits: bool) -> None:
    assert is_address(text) is fits
