"""Faults of single streams and of whole connections: no exception, the right outcome, and nothing runs twice."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from heliograph.ports.transport import Answered, Cause, Endpoint, NotProcessed, Unknown
from heliograph.providers.transport import Connections, Timing
from heliograph.providers.transport.wire import MAX_BODY_BYTES, Wire
from heliograph.system import SystemClock
from heliograph_lab.http2 import Answer, Authority, Cut, Fault, Limits, Outcome, Request, Reset, Silence
from tests.providers.transport.conftest import BODY, PATIENT_S, MakeSite, seen, until
from tests.providers.transport.tls import NotAccepting, RefusingTls
from tests.support.ports import free_port

SENT = 20
VICTIM = "7"


def victim(outcome: Outcome, *, processed: bool = False) -> Callable[[Request], Fault | None]:
    """A script that does this to one request of a burst."""
    return lambda request: Fault(outcome, processed=processed) if request.headers.get("apns-id") == VICTIM else None


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize("code", [0x0, 0x1, 0x2, 0x5, 0x8, 0xB, 0xD])
async def test_a_reset_stream_is_unknown_and_others_are_unharmed(
    make_site: MakeSite, code: int, processed: bool
) -> None:
    site = await make_site(script=victim(Reset(code), processed=processed))
    await site.working()
    outcomes = await site.burst(SENT)
    assert outcomes[VICTIM] == Unknown(Cause.RESET)
    assert seen(outcomes.values())["200"] == SENT - 1
    assert site.server.counts.connections == 1


async def test_a_refused_stream_is_sent_again(make_site: MakeSite) -> None:
    refusals = 5  # more than the library repeats by itself

    def refuse(request: Request) -> Fault | None:
        nonlocal refusals
        if request.headers["apns-id"] != VICTIM or refusals == 0:
            return None
        refusals -= 1
        return Fault(Reset(0x7))

    site = await make_site(script=refuse)
    await site.working()
    assert seen((await site.burst(SENT)).values()) == {"200": SENT}
    assert refusals == 0


async def test_a_stream_that_is_always_refused_is_given_up(make_site: MakeSite) -> None:
    site = await make_site(script=victim(Reset(0x7)))
    await site.working()
    outcomes = await site.burst(SENT)
    assert outcomes[VICTIM] == NotProcessed(Cause.REFUSED)
    assert seen(outcomes.values())["200"] == SENT - 1


async def test_a_stream_without_an_answer_ends_by_its_own_deadline(make_site: MakeSite) -> None:
    site = await make_site(script=victim(Silence()))
    await site.working()
    outcomes = {VICTIM: await site.post(VICTIM, timeout_s=0.3), "8": await site.post("8")}
    site.compare(outcomes)
    assert seen(outcomes.values()) == {f"Unknown: {Cause.SILENT}": 1, "200": 1}
    assert site.server.counts.connections == 1


async def test_a_slow_answer_is_waited_for(make_site: MakeSite) -> None:
    site = await make_site(script=lambda _: Fault(delay=0.5))
    assert seen((await site.burst(SENT)).values()) == {"200": SENT}


async def test_a_wait_that_was_cancelled_can_be_taken_up_again(make_site: MakeSite) -> None:
    site = await make_site(lambda request: Answer(200, (), request.body), script=lambda _: Fault(delay=0.3))
    wire = Wire(site.endpoint, Timing())
    flight = wire.exchange("/x", {"apns-id": "1"}, BODY, PATIENT_S)
    for _ in range(3):
        waiting = asyncio.ensure_future(flight)
        await until(lambda: site.server.counts.seen == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    outcome = await flight
    assert isinstance(outcome, Answered)
    assert (outcome.status, outcome.body, outcome.whole) == (200, BODY, True)
    assert site.server.counts.processed_by_id == {"1": 1}
    await wire.close()


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_is_cancelled_and_when_no_request_and_no_turn_is_lost(make_site: MakeSite, seed: int) -> None:
    def hold_first(request: Request) -> Fault | None:
        return Fault(delay=0.3) if request.headers["apns-id"] == "caller-0" else None

    site = await make_site(streams=4, script=hold_first)
    await site.working()
    chance = random.Random(seed)
    callers = [asyncio.create_task(site.post(f"caller-{number}")) for number in range(200)]
    await until(lambda: "caller-0" in site.server.counts.processed_by_id)
    callers[0].cancel()  # in flight, whatever the others are when chance meets them
    while waiting := [caller for caller in callers if not caller.done()]:
        chance.choice(waiting).cancel()
        await asyncio.sleep(chance.choice((0, 0, 0.001, 0.003)))
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert seen((await site.burst(50)).values()) == {"200": 50}
    client = site.connections._kept[site.endpoint].client
    await until(lambda: not client.busy)
    arrived = site.server.counts.processed_by_id
    answered = {f"caller-{number}" for number, outcome in enumerate(outcomes) if isinstance(outcome, Answered)}
    assert answered < {name for name in arrived if name.startswith("caller")}
    assert (set(arrived.values()), client._streams._busy) == ({1}, 0)


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200),
        Answer(503),
        Answer(429, (("retry-after", "17"),), b'{"reason":"TooManyRequests"}'),
        Answer(410, (("content-type", "application/json"),), b'{"reason":"Unregistered","timestamp":1}'),
        Answer(200, (), b"<html>not what you think"),
        Answer(302, (("location", "https://127.0.0.1:1/elsewhere"),)),
        Answer(200, (("content-encoding", "gzip"),), b"no gzip at all"),
        Answer(200, (), b"x" * MAX_BODY_BYTES),
    ],
)
async def test_an_answer_comes_as_it_was_given(make_site: MakeSite, answer: Answer) -> None:
    site = await make_site(lambda _: answer)
    got = await site.post()
    assert isinstance(got, Answered)
    assert (got.status, got.body, got.whole) == (answer.status, answer.body, True)
    assert dict(answer.headers).items() <= dict(got.headers).items()


async def test_of_a_repeated_header_the_last_value_counts(make_site: MakeSite) -> None:
    site = await make_site(lambda _: Answer(200, (("retry-after", "1"), ("x", "a"), ("retry-after", "2"))))
    got = await site.post()
    assert isinstance(got, Answered)
    assert (got.headers["retry-after"], got.headers["x"]) == ("2", "a")


@pytest.mark.parametrize("answer", [Answer(200, (), b"x" * 100, reset_after=10), Answer(200, (), b"x" * 100_000)])
async def test_a_body_that_is_cut_or_too_long_leaves_the_status(make_site: MakeSite, answer: Answer) -> None:
    site = await make_site(lambda _: answer)
    outcomes = await site.burst(SENT)
    assert seen(outcomes.values()) == {"200 in part": SENT}
    assert all(isinstance(outcome, Answered) and outcome.body == b"" for outcome in outcomes.values())


# ---------------------------------------------------------------- windows and limits


@pytest.mark.parametrize("window", [200, 65_535])
async def test_large_bodies_fit_through_small_windows(make_site: MakeSite, window: int) -> None:
    site = await make_site(lambda request: Answer(200, (), request.body), limits=Limits(initial_window_size=window))
    body = b"".join(b"%06d" % number for number in range(500))
    outcomes = await site.burst(300, body)
    assert all(isinstance(outcome, Answered) and outcome.body == body for outcome in outcomes.values())


@pytest.mark.parametrize("body", [b"", b"{}", "\u00fc\U0001f4e3\0".encode(), b"\xff\xfe\0\x80", bytes(range(256))])
async def test_a_body_and_headers_arrive_as_they_were_given(make_site: MakeSite, body: bytes) -> None:
    seen_headers: list[dict[str, str]] = []

    def look(request: Request) -> Answer:
        seen_headers.append({name: value for name, value in request.headers.items() if not name.startswith(":")})
        return Answer(200, (), request.body)

    site = await make_site(look)
    got = await site.post("x", body)
    assert isinstance(got, Answered)
    assert got.body == body
    given = {"apns-id": "x", "user-agent": "heliograph", "accept": "*/*"}
    assert [headers | {"content-length": "?"} for headers in seen_headers] == [given | {"content-length": "?"}]


async def test_windows_and_stream_limits_change_on_the_way(make_site: MakeSite) -> None:
    turn = 0

    def change(_: Request) -> Answer:
        nonlocal turn
        turn += 1
        if turn % 50 == 0:
            site.server.change(
                max_concurrent_streams=(1, 300, 7)[turn // 50 % 3], initial_window_size=(100, 65_535)[turn // 50 % 2]
            )
        return Answer(200, (), b"{}")

    site = await make_site(change, limits=Limits(max_concurrent_streams=200))
    assert seen((await site.burst(1000, b"x" * 500)).values()) == {"200": 1000}


async def test_a_fresh_connection_that_allows_one_stream_is_never_given_two(make_site: MakeSite) -> None:
    """As APNs does until it has accepted a token. Without a probe, a hundred are sent before the limit is known."""

    def accept(request: Request) -> Answer:
        request.peer.change(max_concurrent_streams=1000)
        return Answer(200)

    site = await make_site(accept, limits=Limits(max_concurrent_streams=1))
    assert seen((await site.burst(300)).values()) == {"200": 300}
    assert (site.server.counts.refused, site.server.counts.connections) == (0, 1)


async def test_one_stream_for_ever_is_enough(make_site: MakeSite) -> None:
    site = await make_site(limits=Limits(max_concurrent_streams=1))
    assert seen((await site.burst(300)).values()) == {"200": 300}
    assert site.server.counts.refused == 0


# ---------------------------------------------------------------- connections


@pytest.mark.parametrize("how", ["rst", "fin"])
async def test_a_cut_connection_leaves_what_was_in_flight_unknown(make_site: MakeSite, how: str) -> None:
    arrived = 0

    def cut_at_the_last(_: Request) -> Fault:
        nonlocal arrived
        arrived += 1
        if arrived == 1:
            return Fault()
        return Fault(Cut(how) if arrived == SENT + 1 else Silence(), processed=arrived % 2 == 0)  # type: ignore[arg-type]

    site = await make_site(script=cut_at_the_last)
    await site.working()
    assert seen((await site.burst(SENT)).values()) == {f"Unknown: {Cause.LOST}": SENT}
    site.server.script = None
    assert seen([await site.post("after")]) == {"200": 1}
    assert site.server.counts.connections == 2


async def test_a_connection_gone_deaf_is_found_by_ping(make_site: MakeSite) -> None:
    """Otherwise it would be used again and again, and each request would run to its own deadline."""
    site = await make_site(pings=(0.3, 2))
    await site.working()
    site.server.script = lambda _: Fault(Silence())
    waiting = asyncio.create_task(site.burst(SENT))
    await until(lambda: site.server.counts.seen == SENT + 1)
    site.server.freeze()
    assert seen((await waiting).values()) == {f"Unknown: {Cause.LOST}": SENT}
    site.server.freeze(False)
    site.server.script = None
    assert seen([await site.post("after")]) == {"200": 1}
    assert site.server.counts.connections == 2


async def test_no_connection_from_a_closed_port() -> None:
    assert await to(Endpoint(f"https://127.0.0.1:{free_port()}")) == {f"NotProcessed: {Cause.NO_CONNECTION}": SENT}


async def test_no_connection_from_a_port_that_does_not_answer() -> None:
    with NotAccepting() as url:
        assert await to(Endpoint(url), connect_s=0.3) == {f"NotProcessed: {Cause.NO_CONNECTION_YET}": SENT}


async def test_a_server_of_an_unknown_authority_gets_nothing(make_site: MakeSite) -> None:
    site = await make_site()
    assert await to(Endpoint(site.server.url)) == {f"NotProcessed: {Cause.NO_TRUST}": SENT}
    assert site.server.counts.seen == 0


async def test_a_server_under_another_name_gets_nothing(make_site: MakeSite) -> None:
    site = await make_site()
    elsewhere = site.server.url.replace("127.0.0.1", "127.0.0.2")
    outcome = await to(Endpoint(elsewhere, site.ca_pem))
    assert outcome in ({f"NotProcessed: {cause}": SENT} for cause in (Cause.NO_TRUST, Cause.NO_CONNECTION))
    assert site.server.counts.seen == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_certificate_that_is_refused_by_alert_was_not_processed(
    authority: tuple[Authority, bytes], tmp_path: Path, version: ssl.TLSVersion
) -> None:
    context = authority[0].server_context()
    context.maximum_version = version
    alien = Authority(tmp_path).client_certificate(uid="com.example")
    with RefusingTls(context) as server:
        outcome = await to(Endpoint(server.url, authority[1], alien))
    assert outcome == {f"NotProcessed: {Cause.NO_ENTRY}": SENT}
    assert server.met == 1  # all were told what the first had found out


async def test_a_client_certificate_that_is_refused_without_a_word_is_never_an_answer(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = await make_site(certificate=Authority(tmp_path).client_certificate(uid="com.example"))
    site.server.tls.verify_mode = ssl.CERT_REQUIRED
    outcomes = await site.burst(SENT)
    # How much of the refusal arrives before the connection ends is chance.
    either = {f"Unknown: {Cause.LOST}", f"NotProcessed: {Cause.NO_ENTRY}", f"NotProcessed: {Cause.NO_CONNECTION}"}
    assert seen(outcomes.values()).keys() <= either
    assert site.server.counts.seen == 0


async def test_a_client_certificate_is_shown(make_site: MakeSite, authority: tuple[Authority, bytes]) -> None:
    shown: list[bytes | None] = []

    def look(request: Request) -> Answer:
        shown.append(request.peer.certificate)
        return Answer(200)

    pem = authority[0].client_certificate(uid="com.apple.mgmt.External.1")
    site = await make_site(look, certificate=pem)
    await site.working()
    assert shown == [x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)]


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint("https://127.0.0.1:1", b"no certificate"),
        Endpoint("https://127.0.0.1:1", None, b"no certificate"),
        Endpoint("http://127.0.0.1:1"),
    ],
)
async def test_settings_that_cannot_be_used_are_an_outcome(endpoint: Endpoint) -> None:
    assert await to(endpoint) == {f"NotProcessed: {Cause.UNUSABLE}": SENT}


async def to(endpoint: Endpoint, connect_s: float = 5) -> dict[str, int]:
    """A burst to somewhere else."""
    connections = Connections(SystemClock(), timing=Timing(connect_s))
    transport = connections.at(endpoint)
    outcomes = await asyncio.gather(*(transport.post("/x", {}, b"{}", PATIENT_S) for _ in range(SENT)))
    await connections.close()
    return dict(seen(outcomes))
