"""The HTTP/2 server when it is told to misbehave: seen frame by frame, and by a client library."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from h2.events import PingAckReceived
from pyreqwest.client import Client as Pyreqwest
from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import PyreqwestError

from heliograph_lab.http2 import Answer, Authority, Cut, Fault, GoAway, Outcome, Request, Reset, Server, Silence
from tests.lab.http2.client import Client, connected
from tests.lab.http2.conftest import echo
from tests.lab.serving import until

IN_FLIGHT = 100


def once(fault: Fault) -> Callable[[Request], Fault | None]:
    """A script that does this to the first request only."""
    left = [fault]
    return lambda _request: left.pop() if left else None


async def test_reset(client: Client, server: Server) -> None:
    server.script = once(Fault(Reset(11)))
    one, two = client.send(), client.send()
    assert await client.answer(two) == 200
    await client.until(lambda: one in client.resets)
    assert client.resets == {one: 11}
    assert (server.counts.seen, server.counts.processed) == (2, 1)


async def test_silence(client: Client, server: Server) -> None:
    server.script = once(Fault(Silence(), processed=True))
    one, two = client.send(), client.send()
    assert await client.answer(two) == 200
    assert one not in client.status
    assert one not in client.resets
    assert server.counts.processed == 2


async def test_late(client: Client, server: Server) -> None:
    server.script = once(Fault(delay=0.05))
    one, two = client.send(), client.send()
    assert await client.answer(two) == 200
    assert one not in client.done
    assert await client.answer(one) == 200


async def test_empty_body(client: Client, server: Server) -> None:
    server.script = once(Fault(Answer(503)))
    one = client.send()
    assert await client.answer(one) == 503
    assert one not in client.body


async def test_body_cut_short(client: Client, server: Server) -> None:
    server.script = once(Fault(Answer(200, body=b"0123456789", reset_after=4)))
    one = client.send()
    await client.until(lambda: one in client.resets)
    assert (client.body[one], client.headers[one]["content-length"], client.resets[one]) == (b"0123", "10", 0)


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize("how", ["rst", "fin"])
async def test_cut(client: Client, server: Server, how: Any, processed: bool) -> None:
    server.script = once(Fault(Cut(how), processed))
    client.send()
    await client.until(lambda: client.closed != "no")
    assert isinstance(client.closed, ConnectionResetError) == (how == "rst")
    assert (server.counts.processed, server.counts.answered) == (int(processed), 0)


async def test_black_hole(client: Client, server: Server) -> None:
    answered: list[bytes] = []
    seen = client._on
    client._on = lambda event: (  # type: ignore[method-assign]
        answered.append(event.ping_data) if isinstance(event, PingAckReceived) else seen(event)
    )
    client.h2.ping(b"1" * 8)
    client.flush()
    await client.until(lambda: len(answered) == 1)
    server.freeze()
    client.h2.ping(b"2" * 8)
    client.send()
    await asyncio.sleep(0.1)
    assert (answered, server.counts.seen) == ([b"1" * 8], 0)
    server.freeze(False)
    await client.until(lambda: len(answered) == 2)


# ------------------------------------------------------------ GOAWAY


async def test_below_the_newest(authority: Authority, server: Server) -> None:
    server.plan = GoAway(after=10, below=4, code=11, debug=b'{"reason":"Shutdown"}')
    async with connected(server.port, authority.ca_path) as client:
        sent = [client.send(headers={"x-id": str(number)}) for number in range(10)]
        await client.until(lambda: len(client.done) == 6 and bool(client.h2.goaways))
        (frame,) = client.h2.goaways
        assert (frame.last_stream_id, frame.error_code) == (sent[5], 11)
        assert frame.additional_data == b'{"reason":"Shutdown"}'
        client.send()  # too late: ignored
        await client.until(lambda: client.closed != "no")
        assert client.closed is None
        assert client.done == set(sent[:6])
    assert server.counts.processed_by_id == {str(number): 1 for number in range(6)}
    assert server.counts.ignored == 5


async def test_below_the_newest_when_no_more_come(authority: Authority, server: Server) -> None:
    server.plan = GoAway(after=100, below=99)
    async with connected(server.port, authority.ca_path) as client:
        sent = [client.send() for _ in range(3)]
        await client.until(lambda: bool(client.h2.goaways))
        assert client.h2.goaways[0].last_stream_id == sent[0]
        assert await client.answer(sent[0]) == 200


async def test_bodies_that_come_after_the_goaway(authority: Authority, server: Server) -> None:
    server.plan = GoAway(after=2, below=1)
    async with connected(server.port, authority.ca_path) as client:
        early, late = client.send(ends=False), client.send(ends=False)
        await client.until(lambda: bool(client.h2.goaways))
        assert client.h2.goaways[0].last_stream_id == early
        for stream in (late, early):
            client.h2.send_data(stream, b"y", end_stream=True)
        client.flush()
        assert await client.answer(early) == 200
        await client.until(lambda: client.closed != "no")
        assert late not in client.status
    assert server.counts.processed == 1


async def test_graceful_in_two_steps(authority: Authority, server: Server) -> None:
    server.plan = GoAway(after=2, graceful=True)
    server.plan_times = 1
    async with connected(server.port, authority.ca_path) as client:
        sent = [client.send() for _ in range(3)]  # the third was sent before the client could know
        await client.until(lambda: len(client.h2.goaways) == 2)
        warning, last = client.h2.goaways
        assert (warning.last_stream_id, warning.error_code) == (2**31 - 1, 0)
        assert (last.last_stream_id, last.error_code) == (sent[2], 0)
        await client.until(lambda: client.closed != "no")
        assert client.done == set(sent)
    async with connected(server.port, authority.ca_path) as client:
        for _ in range(4):
            assert await client.answer(client.send()) == 200
        assert client.h2.goaways == []


async def test_processed_and_never_answered(authority: Authority, server: Server) -> None:
    server.plan = GoAway(after=5, unanswered=2)
    async with connected(server.port, authority.ca_path) as client:
        sent = [client.send() for _ in range(5)]
        await client.until(lambda: client.closed != "no")
        assert client.h2.goaways[0].last_stream_id == sent[4]
        assert client.done == set(sent[:3])
    assert (server.counts.processed, server.counts.answered) == (5, 3)


async def test_now_on_all(client: Client, server: Server) -> None:
    assert await client.answer(client.send()) == 200
    server.leave(GoAway(debug=b"bye"))
    await client.until(lambda: client.closed != "no")
    assert [(frame.last_stream_id, frame.additional_data) for frame in client.h2.goaways] == [(1, b"bye")]


async def test_in_place_of_an_answer(client: Client, server: Server) -> None:
    server.script = lambda request: Fault(GoAway(code=2)) if request.body == b"bad" else None
    good, bad = client.send(), client.send(body=b"bad")
    assert await client.answer(good) == 200
    await client.until(lambda: client.closed != "no")
    assert [(frame.last_stream_id, frame.error_code) for frame in client.h2.goaways] == [(good, 2)]
    assert bad not in client.status
    assert server.counts.processed == 1


# ------------------------------------------------------------ a library's view


class Library:
    """pyreqwest, sending many at once."""

    def __init__(self, server: Server, authority: Authority) -> None:
        self.url = server.url
        self.client: Pyreqwest = (
            ClientBuilder()
            .add_root_certificate_pem(authority.ca_path.read_bytes())
            .http2_prior_knowledge()
            .no_proxy()
            .timeout(dt.timedelta(seconds=30))
            .build()
        )

    async def send(self, number: int) -> int | str:
        try:
            request = self.client.post(self.url).headers({"x-id": str(number)}).body_bytes(b"x" * 200).build()
            return (await request.send()).status
        except PyreqwestError as error:
            return str(error.args[1:] or error)

    async def burst(self, count: int) -> list[int | str]:
        some = asyncio.Semaphore(IN_FLIGHT)

        async def send(number: int) -> int | str:
            async with some:
                return await self.send(number)

        async with self.client:
            return await asyncio.gather(*map(send, range(count)))


@pytest.mark.parametrize(
    ("plan", "lost"),
    [
        (GoAway(after=100, graceful=True), 0),
        (GoAway(after=200, below=50), 0),
        (GoAway(after=200, below=50, code=11), 850),
    ],
    ids=["graceful", "lower id", "error"],
)
async def test_nothing_above_the_last_id_is_processed(
    server: Server, authority: Authority, plan: GoAway, lost: int
) -> None:
    """The library sends again what it may; with an error code it does not, but what it sends again is new to us."""
    server.plan = plan
    answers = await Library(server, authority).burst(1000)
    done = {str(number) for number, answer in enumerate(answers) if answer == 200}
    assert done == set(server.counts.processed_by_id)
    assert server.counts.duplicates() == {}
    assert len(done) >= 1000 - lost * server.counts.goaways
    assert server.counts.goaways >= 4


async def test_limits_that_change_under_load(server: Server, authority: Authority) -> None:
    rounds = iter([(1, 100), (300, 65_535), (20, 200)])

    def handler(request: Request) -> Outcome:
        if server.counts.processed % 300 == 150 and (limits := next(rounds, None)) is not None:
            server.change(max_concurrent_streams=limits[0], initial_window_size=limits[1])
        return echo(request)

    server.handler = handler
    answers = await Library(server, authority).burst(1000)
    assert set(answers) == {200}
    assert server.counts.duplicates() == {}
    await until(lambda: server.counts.processed == 1000)
