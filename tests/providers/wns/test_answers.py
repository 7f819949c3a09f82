"""What each answer of WNS means, and what it means that none comes."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.domain.fields import Fields
from heliograph.ports.push import Accepted, Misconfigured, Outcome, Rejected, RetryLater
from heliograph.providers import wns
from heliograph.providers.wns.answers import Verdict, verdict_on
from heliograph.providers.wns.client import Wns
from tests.providers.samples import WAKE, target
from tests.providers.test_wns import BEARER, CHANNEL, SECRET, contract
from tests.providers.wns.rig import ManualClock, Service, answer, send
from tests.support.wire import Action, Answer, Hang, Raw, closed_port


def why(status: int, **members: str) -> dict[str, Any]:
    return {"status": status, **members}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(200, "received"), Accepted(WAKE.id, evidence=why(200, wnsStatus="received"))),
        (answer(200, Msg_ID="M1"), Accepted("M1", evidence=why(200, messageId="M1"))),
        (
            answer(200, "received", Msg_ID="a/b"),
            Accepted(WAKE.id, evidence=why(200, wnsStatus="received", messageId="a/b")),
        ),
        (answer(200, NotificationStatus="received"), Accepted(WAKE.id, evidence=why(200, wnsStatus="received"))),
        (
            answer(200, "received", DeviceConnectionStatus="disconnected"),
            Accepted(WAKE.id, evidence=why(200, wnsStatus="received", deviceConnection="disconnected")),
        ),
        (answer(200, "dropped"), RetryLater(Verdict.DROPPED, evidence=why(200, wnsStatus="dropped"))),
        (answer(200, "Dropped"), RetryLater(Verdict.DROPPED, evidence=why(200, wnsStatus="Dropped"))),
        (
            answer(200, "channelthrottled"),
            RetryLater(Verdict.CHANNEL_LIMIT, evidence=why(200, wnsStatus="channelthrottled")),
        ),
        (
            answer(200, "new-word"),
            RetryLater(Verdict.UNCLEAR, uncertain=True, evidence=why(200, wnsStatus="new-word")),
        ),
        (Answer(200, b"<html>"), RetryLater("an answer that is not WNS's", uncertain=True, evidence=why(200))),
        (Answer(202, b""), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence=why(202))),
        (answer(302), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence=why(302))),
        (answer(400, Error_Description="bad"), Rejected(Verdict.REJECTED, evidence=why(400, error="bad"))),
        (answer(403), Rejected(Verdict.OTHER_APP, token_gone=True, evidence=why(403))),
        (answer(404), Rejected(Verdict.GONE, token_gone=True, evidence=why(404))),
        (answer(405), Rejected(Verdict.REJECTED, evidence=why(405))),
        (
            answer(410, "dropped"),
            Rejected(Verdict.GONE, token_gone=True, evidence=why(410, wnsStatus="dropped")),
        ),
        (
            answer(410, Error_Description="Domain Blocked"),
            Misconfigured(Verdict.BLOCKED, why(410, error="Domain Blocked")),
        ),
        (
            Answer(406, b"", {"Retry-After": "60"}),
            RetryLater(Verdict.LIMIT, 60.0, account_wide=True, evidence=why(406)),
        ),
        (
            answer(406, "channelthrottled"),
            RetryLater(Verdict.CHANNEL_LIMIT, evidence=why(406, wnsStatus="channelthrottled")),
        ),
        (Answer(429, b"", {"Retry-After": "x"}), RetryLater(Verdict.LIMIT, account_wide=True, evidence=why(429))),
        (answer(413), Rejected(Verdict.REJECTED, evidence=why(413))),
        (answer(407), RetryLater(Verdict.LATER, evidence=why(407))),
        (answer(500), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence=why(500))),
        (answer(502), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence=why(502))),
        (Answer(503, b"", {"Retry-After": "9"}), RetryLater(Verdict.LATER, 9.0, evidence=why(503))),
        (Answer(408, b"<html>"), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence=why(408))),
        (Raw(b""), RetryLater("RemoteProtocolError", uncertain=True)),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Le"), RetryLater("RemoteProtocolError", uncertain=True)),
    ],
)
async def test_answers(wire: Service, app: Wns, given: Action, expected: Outcome) -> None:
    wire.pushes.append(given)
    assert await send(app, wire) == expected
    assert len(wire.pushed) == 1


def test_every_answer_has_a_verdict() -> None:
    for status in range(100, 1000):
        for word in ("", "received", "dropped", "channelthrottled", "x", "line\nbreak"):
            assert isinstance(verdict_on(status, word), Verdict)
            assert (verdict_on(status, word) is Verdict.TAKEN) == (status == 200 and word in ("", "received"))


async def test_what_wns_says_is_kept_within_bounds_and_without_secrets(wire: Service, app: Wns) -> None:
    said = f"{SECRET} {BEARER} {CHANNEL} {wire.url}/?token={CHANNEL}"
    trace = {"Debug_Trace": f"{said} {'x' * 1000}", "Error_Description": said, "Msg_ID": CHANNEL}
    wire.pushes.append(answer(200, "received", **trace))
    outcome = await send(app, wire)
    assert isinstance(outcome, Accepted)
    assert outcome.reference == WAKE.id
    assert outcome.evidence["debugTrace"].startswith("… … … … xxx")
    assert outcome.evidence["error"] == "… … … …"
    assert len(outcome.evidence["debugTrace"]) == 300
    assert set(outcome.evidence) == {"status", "wnsStatus", "messageId", "error", "debugTrace"}


async def test_the_head_counts_where_the_body_does_not_come(wire: Service, app: Wns) -> None:
    wire.pushes.append(Answer(200, b"", {"X-WNS-Status": "dropped"}, missing=4))
    assert await send(app, wire) == RetryLater(Verdict.DROPPED, evidence=why(200, wnsStatus="dropped"))


async def test_no_answer_in_time_is_uncertain(wire: Service, clock: ManualClock) -> None:
    app = Wns(wns.PLUGIN.read_config(Fields(contract(wire.url).config)), clock, timeout_s=0.5)
    await app.probe()
    wire.pushes += [Answer(200, b"", {"X-WNS-Status": "received"}, keep=True), Hang()]
    await send(app, wire)  # the connection is there, so that the time goes to waiting alone
    assert await send(app, wire) == RetryLater("no answer in time", uncertain=True)
    await app.close()


async def test_a_token_service_that_hangs_ends_the_call(wire: Service, clock: ManualClock) -> None:
    app = Wns(wns.PLUGIN.read_config(Fields(contract(wire.url).config)), clock, timeout_s=0.2)
    wire.logins.append(Hang())
    outcome = await send(app, wire)
    assert isinstance(outcome, RetryLater)
    assert not outcome.uncertain
    await app.close()


async def test_nobody_there_is_certain(clock: ManualClock) -> None:
    url = await closed_port()
    app = Wns(wns.PLUGIN.read_config(Fields(contract(url).config)), clock)
    outcome = await app.send(WAKE, target("wns", contract(url).token))
    assert outcome == RetryLater("the token service cannot be reached (ConnectError)", account_wide=True)
    await app.close()
