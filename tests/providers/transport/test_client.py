"""Re-sending, deadlines, cancelled callers and the end, with the wire as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from heliograph.ports.transport import Answered, Cause, NotProcessed, Outcome, Unknown
from heliograph.providers.transport.client import BREAK_S, TRIES, Client
from tests.providers.transport.clock import StandingClock
from tests.providers.transport.flights import Flight

OK = Answered(200, {}, b"{}")
DENIED = Answered(403, {}, b"{}")
DOWN = NotProcessed(Cause.NO_CONNECTION)
GOAWAY = NotProcessed(Cause.GOING_AWAY)


@dataclass
class Wire:
    """Gives the outcomes in turn, then `last` for ever; waits for `gate` before each."""

    script: list[Outcome] = field(default_factory=list)
    last: Outcome = OK
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[tuple[str, float]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    def exchange(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Flight:
        return Flight(self._exchange(path, timeout_s))

    async def _exchange(self, path: str, timeout_s: float) -> Outcome:
        assert not self.closed
        self.begun.append((path, timeout_s))
        outcome = self.script.pop(0) if self.script else self.last
        await asyncio.sleep(0)
        await self.gate.wait()
        self.ended.append(path)
        return outcome

    async def close(self) -> None:
        assert len(self.begun) == len(self.ended)
        self.closed = True


def client(wire: Wire, streams: int = 10, clock: StandingClock | None = None) -> Client:
    return Client(wire, streams, clock or StandingClock(), jitter=lambda low, _: low / 20)


async def post(client: Client, path: str = "/x", timeout_s: float = 60) -> Outcome:
    return await client.post(path, {}, b"", timeout_s)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def three_that_wait() -> tuple[Wire, Client, list[asyncio.Task[Outcome]]]:
    """Callers of a client whose service answers once the gate is open: the first is at it, the others wait for it."""
    wire = Wire()
    one = client(wire)
    wire.gate.clear()
    callers = [asyncio.create_task(post(one, f"/{number}")) for number in range(3)]
    await turns()
    return wire, one, callers


@pytest.mark.parametrize("failure", [DOWN, GOAWAY, NotProcessed(Cause.REFUSED), NotProcessed(Cause.NO_NAME)])
async def test_what_was_not_processed_is_sent_again_so_often_and_no_more(failure: Outcome) -> None:
    wire = Wire([failure] * (TRIES - 1))
    assert await post(client(wire)) == OK
    wire = Wire(last=failure)
    assert await post(client(wire)) == failure
    assert len(wire.begun) == TRIES


@pytest.mark.parametrize(
    "outcome",
    [
        *(Unknown(cause) for cause in (Cause.SILENT, Cause.RESET, Cause.LOST, Cause.UNEXPLAINED)),
        *(NotProcessed(c) for c in (Cause.NO_TRUST, Cause.NO_ENTRY, Cause.NO_CONNECTION_YET, Cause.UNWRITABLE)),
        DENIED,
        Answered(503, {}),
    ],
)
async def test_anything_else_is_not_sent_again(outcome: Outcome) -> None:
    wire = Wire([outcome])
    assert await post(client(wire)) == outcome
    assert len(wire.begun) == 1


async def test_each_try_gets_what_is_left_of_the_time() -> None:
    wire = Wire([GOAWAY, GOAWAY])
    assert await post(client(wire), timeout_s=60) == OK
    times = [timeout for _, timeout in wire.begun]
    assert times[0] == 60
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 3


async def test_nothing_is_sent_again_where_no_time_is_left_for_it() -> None:
    wire = Wire(last=GOAWAY)
    patient = Client(wire, 10, StandingClock(), jitter=lambda *_: 3600)
    assert await post(patient, timeout_s=60) == GOAWAY
    assert len(wire.begun) == 1


async def test_waiting_for_a_turn_takes_nothing_from_the_time_of_the_request() -> None:
    wire = Wire()
    one_at_a_time = client(wire, streams=1)
    wire.gate.clear()
    both = [asyncio.create_task(post(one_at_a_time)) for _ in range(2)]
    await turns()
    assert len(wire.begun) == 1
    wire.gate.set()
    assert await asyncio.gather(*both) == [OK, OK]
    assert [timeout for _, timeout in wire.begun] == [60, 60]


async def test_who_gets_no_turn_in_time_was_never_sent() -> None:
    wire = Wire()
    one_at_a_time = client(wire, streams=1)
    wire.gate.clear()
    first = asyncio.create_task(post(one_at_a_time, "/first"))
    await turns()
    assert await post(one_at_a_time, "/second", timeout_s=0.05) == NotProcessed(Cause.NO_TURN)
    wire.gate.set()
    assert await first == OK
    assert wire.ended == ["/first"]


async def test_a_burst_waits_for_the_first_answer() -> None:
    wire = Wire()
    wire.gate.clear()
    fresh = client(wire)
    burst = [asyncio.create_task(post(fresh)) for _ in range(5)]
    await turns()
    assert len(wire.begun) == 1
    wire.gate.set()
    await asyncio.gather(*burst)
    wire.gate.clear()
    burst = [asyncio.create_task(post(fresh)) for _ in range(5)]
    await turns()
    assert len(wire.begun) == 10
    wire.gate.set()
    await asyncio.gather(*burst)


@pytest.mark.parametrize("first", [DENIED, Unknown(Cause.LOST), Unknown(Cause.SILENT)])
async def test_no_burst_follows_before_a_token_was_accepted(first: Outcome) -> None:
    wire = Wire([first])
    fresh = client(wire)
    assert await post(fresh) == first
    wire.gate.clear()
    burst = [asyncio.create_task(post(fresh)) for _ in range(5)]
    await turns()
    assert len(wire.begun) == 2
    wire.gate.set()
    assert await asyncio.gather(*burst) == [OK] * 5


@pytest.mark.parametrize("lost", [Unknown(Cause.LOST), NotProcessed(Cause.NO_TRUST)])
async def test_after_a_lost_connection_one_goes_first_again(lost: Outcome) -> None:
    wire, clock = Wire([OK, lost]), StandingClock()
    fresh = client(wire, clock=clock)
    assert [await post(fresh), await post(fresh)] == [OK, lost]
    clock.advance(BREAK_S)
    wire.gate.clear()
    burst = [asyncio.create_task(post(fresh)) for _ in range(5)]
    await turns()
    assert len(wire.begun) == 3
    wire.gate.set()
    assert await asyncio.gather(*burst) == [OK] * 5


async def test_a_server_that_is_down_is_not_asked_by_everybody() -> None:
    wire, clock = Wire(last=DOWN), StandingClock()
    fresh = client(wire, clock=clock)
    assert await asyncio.gather(*(post(fresh) for _ in range(300))) == [DOWN] * 300
    assert len(wire.begun) == TRIES
    assert await post(fresh) == DOWN
    assert len(wire.begun) == TRIES
    wire.last = OK
    clock.advance(BREAK_S)
    assert await asyncio.gather(*(post(fresh) for _ in range(300))) == [OK] * 300


async def test_a_cancelled_caller_is_free_at_once_and_its_request_runs_to_its_end() -> None:
    wire = Wire()
    one = client(wire)
    wire.gate.clear()
    caller = asyncio.create_task(post(one))
    await turns()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert (wire.ended, one.busy) == ([], True)
    closing = asyncio.create_task(one.close())
    await turns()
    assert not closing.done()
    wire.gate.set()
    await closing
    assert (wire.ended, wire.closed) == (["/x"], True)


async def test_what_a_cancelled_caller_has_begun_is_sent_again_too() -> None:
    wire = Wire([GOAWAY])
    one = client(wire)
    wire.gate.clear()
    caller = asyncio.create_task(post(one))
    await turns()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    wire.gate.set()
    async with asyncio.timeout(60):
        while one.busy:  # noqa: ASYNC110 - nobody is told, since who asked has gone
            await asyncio.sleep(0)
    assert wire.ended == ["/x", "/x"]


async def test_what_a_cancelled_caller_has_begun_still_says_who_may_follow() -> None:
    wire, one, callers = await three_that_wait()
    callers[0].cancel()
    await turns()
    assert [path for path, _ in wire.begun] == ["/0"]
    wire.gate.set()
    await asyncio.gather(*callers, return_exceptions=True)
    assert wire.ended == ["/0", "/1", "/2"]
    assert await post(one) == OK


async def test_a_caller_that_is_cancelled_before_its_turn_sends_nothing() -> None:
    wire, _, callers = await three_that_wait()
    callers[1].cancel()
    wire.gate.set()
    await asyncio.gather(*callers, return_exceptions=True)
    assert wire.ended == ["/0", "/2"]


async def test_closing_waits_for_what_is_in_flight_and_turns_the_rest_away() -> None:
    wire, one, callers = await three_that_wait()
    closing = asyncio.create_task(one.close())
    await turns()
    assert not closing.done()
    wire.gate.set()
    closed = NotProcessed(Cause.CLOSED)
    assert await asyncio.gather(*callers) == [OK, closed, closed]
    await closing
    assert await post(one) == closed
    assert wire.ended == ["/0"]
