"""A client for each endpoint, bounded in number; and none of the secrets that travel is ever written down."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from heliograph.ports.transport import Answered, Cause, Endpoint, NotProcessed, Outcome, Transport, Transports
from heliograph.providers.transport import Connections
from heliograph_lab.http2 import Answer, Cut, Fault, GoAway, Reset, Silence
from tests.providers.transport.clock import StandingClock
from tests.providers.transport.conftest import MakeSite, seen, until
from tests.providers.transport.flights import Flight
from tests.support.ports import free_port
from tests.support.secrets_in_logs import LogWatch

CLOSED = NotProcessed(Cause.CLOSED)


@dataclass
class Made:
    """Wires that say which one they are, and when they were closed."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    endpoints: list[Endpoint] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def make(self, endpoint: Endpoint) -> Wire:
        self.endpoints.append(endpoint)
        return Wire(self, len(self.endpoints) - 1)


@dataclass
class Wire:
    made: Made
    number: int

    def exchange(self, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Flight:
        return Flight(self._exchange())

    async def _exchange(self) -> Outcome:
        await self.made.gate.wait()
        return Answered(200, {}, b"%d" % self.number)

    async def close(self) -> None:
        self.made.closed.append(self.number)


def at(name: str) -> Endpoint:
    return Endpoint(f"https://{name}.example")


async def ask(transport: Transport) -> int:
    outcome = await transport.post("/x", {}, b"", 60)
    assert isinstance(outcome, Answered)
    return int(outcome.body)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "other",
    [
        {"address": "https://b.example"},
        {"certificate_pem": b"another"},
        {"credential": "another"},
        {"ca_pem": b"another"},
    ],
)
async def test_equal_endpoints_share_a_client_and_others_do_not(other: dict[str, object]) -> None:
    made = Made()
    connections: Transports = Connections(StandingClock(), make=made.make)
    mine = Endpoint("https://a.example", b"ca", b"certificate", "key")
    same = Endpoint("https://a.example", b"ca", b"certificate", "key")
    theirs = replace(mine, **other)  # type: ignore[arg-type]
    assert [await ask(connections.at(endpoint)) for endpoint in (mine, same, theirs, mine)] == [0, 0, 1, 0]


async def test_the_least_recently_used_goes_when_there_are_too_many() -> None:
    made = Made()
    connections = Connections(StandingClock(), limit=2, make=made.make)
    a, b, c = (connections.at(at(name)) for name in "abc")
    assert [await ask(way) for way in (a, b, a, c)] == [0, 1, 0, 2]
    await settle()
    assert (len(connections), made.closed) == (2, [1])
    assert await ask(b) == 3
    await settle()
    assert made.closed == [1, 0]


async def test_what_nobody_uses_goes() -> None:
    made, clock = Made(), StandingClock()
    connections = Connections(clock, idle_s=600, make=made.make)
    a, b = connections.at(at("a")), connections.at(at("b"))
    await ask(a)
    clock.advance(599)
    await ask(b)
    await settle()
    assert made.closed == []
    clock.advance(1)
    await ask(b)
    await settle()
    assert (made.closed, len(connections)) == ([0], 1)


async def test_one_that_is_let_go_ends_its_requests_and_who_waited_there_goes_elsewhere() -> None:
    made = Made()
    connections = Connections(StandingClock(), limit=1, make=made.make)
    a, b = connections.at(at("a")), connections.at(at("b"))
    made.gate.clear()
    asking = [asyncio.create_task(ask(a)) for _ in range(3)]
    await settle()
    asking.append(asyncio.create_task(ask(b)))
    await settle()
    assert made.closed == []
    made.gate.set()
    assert await asyncio.gather(*asking) == [0, 2, 2, 1]
    await connections.close()
    assert sorted(made.closed) == [0, 1, 2]


async def test_closing_one_endpoint_leaves_the_others_and_a_later_request_begins_anew() -> None:
    made = Made()
    connections = Connections(StandingClock(), make=made.make)
    a, b = connections.at(at("a")), connections.at(at("b"))
    assert [await ask(a), await ask(b)] == [0, 1]
    await a.close()
    await a.close()
    assert made.closed == [0]
    assert [await ask(a), await ask(b)] == [2, 1]


async def test_a_client_that_is_not_new_is_renewed_once_for_all_who_had_used_it() -> None:
    made, clock = Made(), StandingClock()
    connections = Connections(clock, make=made.make)
    a, also_a = connections.at(at("a")), connections.at(at("a"))
    assert await ask(a) == 0
    assert not a.renew(clock.elapsed())
    clock.advance(59)
    assert not a.renew(clock.elapsed())
    clock.advance(1)
    began = clock.elapsed()
    assert [a.renew(began), also_a.renew(began)] == [True, True]
    clock.advance(1)
    assert await ask(a) == 1
    assert also_a.renew(began)
    assert [await ask(a), await ask(also_a), made.closed] == [1, 1, [0]]
    assert not a.renew(clock.elapsed())
    await connections.close()
    assert not a.renew(began)


async def test_a_request_that_has_made_the_client_meets_no_other() -> None:
    """Else each first request that is refused would be made twice."""
    made, clock = Made(), StandingClock()
    a = Connections(clock, make=made.make).at(at("a"))
    began = clock.elapsed()
    clock.advance(0.001)
    assert await ask(a) == 0
    assert not a.renew(began)


async def test_after_the_end_nothing_is_sent() -> None:
    made = Made()
    connections = Connections(StandingClock(), make=made.make)
    await connections.close()
    assert await connections.at(at("a")).post("/x", {}, b"", 60) == CLOSED
    assert made.endpoints == []


# ---------------------------------------------------------------- with a real server


async def test_closing_waits_for_answers_that_nobody_waits_for_any_more(make_site: MakeSite) -> None:
    may_answer = asyncio.Event()

    async def handle(_: object) -> Answer:
        await may_answer.wait()
        return Answer(200)

    site = await make_site(lambda _: Answer(200))
    await site.working()
    site.server.handler = handle
    callers = [asyncio.create_task(site.post(f"{number}")) for number in range(50)]
    await until(lambda: site.server.counts.seen == 51)
    for caller in callers[:25]:
        caller.cancel()
    gone = await asyncio.gather(*callers[:25], return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in gone)
    assert site.server.counts.answered == 1
    closing = asyncio.create_task(site.connections.close())
    await asyncio.sleep(0)
    assert not closing.done()
    may_answer.set()
    assert seen(await asyncio.gather(*callers[25:])) == {"200": 25}
    await closing
    counts = site.server.counts
    assert (counts.answered, counts.cancelled, counts.duplicates()) == (51, 0, {})
    assert await site.post() == CLOSED


async def test_a_proxy_of_the_environment_is_not_used(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = await make_site()
    monkeypatch.delenv("NO_PROXY")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    await site.working()


async def test_a_proxy_that_is_configured_is_used(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = await make_site()
    monkeypatch.delenv("NO_PROXY")
    connections = Connections(StandingClock(), proxy=f"http://127.0.0.1:{free_port()}")
    outcome = await connections.at(site.endpoint).post("/x", {}, b"", 60)
    await connections.close()
    assert outcome == NotProcessed(Cause.NO_CONNECTION)
    assert site.server.counts.connections == 0


@pytest.mark.parametrize(
    ("path", "headers"), [("x", {}), ("/x", {"a": "b\nc"}), ("/x", {"a b": "c"}), ("/x", {"": ""})]
)
async def test_a_request_that_cannot_be_written_is_an_outcome(
    make_site: MakeSite, path: str, headers: dict[str, str]
) -> None:
    site = await make_site()
    assert await site.transport.post(path, headers, b"", 60) == NotProcessed(Cause.UNWRITABLE)
    assert site.server.counts.seen == 0


async def test_no_secret_is_written_down(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = LogWatch(caplog, capsys)
    caplog.set_level(logging.INFO, logger="hpack")  # of the server in this process, which may read all of it
    site = await make_site()
    debug = b'{"reason":"canary1 and","authorization":"canary1"}'
    faults = [
        *(Fault(Reset(code)) for code in (2, 7)),
        *(Fault(Cut(how)) for how in ("rst", "fin")),
        Fault(GoAway(code=11, debug=debug)),
        Fault(Silence()),
        Fault(Answer(403, (), b'{"reason":"InvalidProviderToken"}')),
    ]
    outcomes: list[Outcome] = []
    for fault in faults:
        site.server.script = lambda _, fault=fault: fault
        headers = {"authorization": "bearer canary2"}
        outcomes.append(await site.transport.post("/3/device/canary3", headers, b"canary4", 0.5))
    watch.assert_none_of([f"canary{number}" for number in range(1, 5)], outcomes)
    assert len(seen(outcomes)) >= 4
    assert "canary" not in repr(Endpoint("https://x", b"canary5", b"canary6"))


def run(script: str) -> str:
    """Another process, which must end well."""
    begin = f"""
import asyncio, os, sys
from heliograph.ports.transport import Endpoint
from heliograph.providers.transport import Connections
from heliograph.system import SystemClock
connections = Connections(SystemClock())
transport = connections.at(Endpoint("https://127.0.0.1:{free_port()}"))
async def main(close):
    print(await transport.post("/x", {{}}, b"", 60), flush=True)
    if close:
        await connections.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", begin + script], capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_connections_made_before_a_fork_serve_the_child() -> None:
    output = run("""
child = os.fork()
asyncio.run(main(True))
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert output.count("Cause.NO_CONNECTION") == 2


@pytest.mark.parametrize("close", [True, False])
def test_a_process_that_ends_just_after_an_answer_ends_well(close: bool) -> None:
    """Without a rest at exit, about every second one aborts."""
    for _ in range(6):
        run(f"asyncio.run(main({close}))")
