"""Pushy on the wire: what is sent, and what each answer means."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.ports.push import (
    Accepted,
    CannotWithdraw,
    Forgotten,
    Misconfigured,
    Outcome,
    Pending,
    PushMessage,
    Rejected,
    RetryLater,
    Unavailable,
    Withdrawn,
)
from heliograph.providers import pushy
from heliograph.providers.pushy import MAX_DATA_BYTES, MAX_LIFE_S, Pushy, Verdict, verdict_on
from heliograph_protocol.messages import PushOffer
from tests.providers.samples import NOTIFICATION, SILENT, WAKE, Contract, target
from tests.support.wire import Action, Answer, Hang, Raw, Wire, closed_port, json_answer

KEY, TOKEN = "canary0KEY17", "canaryTOKEN18"
WRONG: list[dict[str, Any]] = [
    {},
    {"apiKey": ""},
    {"apiKey": 5},
    {"apiKey": "with-hyphen"},
    {"apiKey": "x" * 300},
    {"apiKey": "x", "baseUrl": "api.pushy.me"},
    {"apiKey": "x", "baseUrl": "https://u:p@host"},
    {"apiKey": "x", "baseUrl": 5},
    {"apiKey": "x", "apikey": "y"},
]


def contract(url: str) -> Contract:
    return Contract({"apiKey": KEY, "baseUrl": url}, [KEY, TOKEN], TOKEN, wrong=WRONG)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire().serving() as wire:
        yield wire


@pytest.fixture
async def app(wire: Wire) -> AsyncIterator[Pushy]:
    app = Pushy(KEY, wire.url, timeout_s=30)
    yield app
    await app.close()


async def send(app: Pushy, message: PushMessage = WAKE) -> Outcome:
    return await app.send(message, target("pushy", TOKEN))


def accepted(**members: Any) -> Answer:
    return json_answer(
        {"success": True, "id": "5742fe0407c3674e226892f9", "info": {"devices": 1, "failed": []}} | members
    )


# ---------------------------------------------------------------- send


@pytest.mark.parametrize("message", [WAKE, NOTIFICATION, SILENT])
async def test_the_request(wire: Wire, app: Pushy, message: PushMessage) -> None:
    wire.answers.append(accepted())
    assert await send(app, message) == Accepted("5742fe0407c3674e226892f9", evidence={"status": 200})
    (seen,) = wire.seen
    assert (seen.method, seen.path, seen.query) == ("POST", "/push", {"api_key": KEY})
    assert seen.headers["content-type"] == "application/json"
    assert seen.json.keys() == {"to", "data", "time_to_live"}
    assert seen.json["to"] == TOKEN
    assert seen.json["time_to_live"] == message.life_s
    assert msgspec.convert(seen.json["data"], PushOffer) == PushOffer(
        id=message.id,
        kind=message.kind,  # type: ignore[arg-type]  # the port names the same three kinds
        expires_in_ms=message.life_s * 1000,
        command_id=message.command_id,
        title=message.title,
        body=message.body,
        data=message.data,
    )


@pytest.mark.parametrize(("life_s", "sent"), [(0, 1), (-5, 1), (1, 1), (MAX_LIFE_S, MAX_LIFE_S), (10**9, MAX_LIFE_S)])
async def test_the_life_stays_within_what_pushy_takes(wire: Wire, app: Pushy, life_s: int, sent: int) -> None:
    wire.answers.append(accepted())
    await send(app, PushMessage("a" * 24, "wake", life_s))
    assert wire.seen[0].json["time_to_live"] == sent


def failure(status: int, code: str, **headers: str) -> Answer:
    return json_answer({"code": code, "error": "words"}, status, **headers)


def evidence(status: int, code: str) -> dict[str, Any]:
    return {"status": status, "code": code, "error": "words"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            accepted(info={"devices": 0, "failed": [TOKEN]}),
            Rejected(Verdict.GONE, token_gone=True, evidence={"status": 200}),
        ),
        (
            accepted(info={"devices": 1, "failed": ["another"]}),
            Accepted("5742fe0407c3674e226892f9", None, {"status": 200}),
        ),
        (accepted(info=None), Accepted("5742fe0407c3674e226892f9", None, {"status": 200})),
        (
            failure(400, "NO_RECIPIENTS"),
            Rejected(Verdict.GONE, token_gone=True, evidence=evidence(400, "NO_RECIPIENTS")),
        ),
        (failure(400, "INVALID_PARAM"), Rejected(Verdict.REJECTED, evidence=evidence(400, "INVALID_PARAM"))),
        (failure(400, "NEVER_HEARD_OF"), Rejected(Verdict.REJECTED, evidence=evidence(400, "NEVER_HEARD_OF"))),
        (
            failure(400, "PAYLOAD_LIMIT_EXCEEDED"),
            Rejected(Verdict.REJECTED, evidence=evidence(400, "PAYLOAD_LIMIT_EXCEEDED")),
        ),
        (
            failure(400, "RATE_LIMIT_EXCEEDED"),
            RetryLater(Verdict.LIMIT, account_wide=True, evidence=evidence(400, "RATE_LIMIT_EXCEEDED")),
        ),
        (failure(400, "INVALID_API_KEY"), Misconfigured(Verdict.KEY, evidence=evidence(400, "INVALID_API_KEY"))),
        (failure(200, "INVALID_PARAM"), Rejected(Verdict.REJECTED, evidence=evidence(200, "INVALID_PARAM"))),
        (failure(401, "INVALID_API_KEY"), Misconfigured(Verdict.KEY, evidence=evidence(401, "INVALID_API_KEY"))),
        (Answer(403, b""), Misconfigured(Verdict.KEY, evidence={"status": 403})),
        (Answer(400, b"<html>"), RetryLater(Verdict.LATER, evidence={"status": 400})),
        (Answer(404, b"<html>"), RetryLater(Verdict.LATER, evidence={"status": 404})),
        (
            failure(429, "RATE_LIMIT_EXCEEDED", Retry_After="17"),
            RetryLater(Verdict.LIMIT, 17.0, account_wide=True, evidence=evidence(429, "RATE_LIMIT_EXCEEDED")),
        ),
        (Answer(429, b"", missing=4), RetryLater(Verdict.LIMIT, account_wide=True, evidence={"status": 429})),
        (
            Answer(503, b"", {"Retry-After": "2"}),
            RetryLater(Verdict.UNCLEAR, 2.0, uncertain=True, evidence={"status": 503}),
        ),
        (Answer(408, b"<html>"), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence={"status": 408})),
        (Answer(500, b""), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence={"status": 500})),
        (Answer(502, b"<html>"), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence={"status": 502})),
        (Answer(302, b""), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence={"status": 302})),
    ],
)
async def test_answers(wire: Wire, app: Pushy, answer: Action, expected: Outcome) -> None:
    wire.answers.append(answer)
    assert await send(app) == expected
    assert len(wire.seen) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b""),
        Answer(200, b"<html>Welcome to the hotel"),
        Answer(200, b"[1]"),
        Answer(200, b"\xff" * 2_000_000),
        Answer(200, b'{"success":true,"id":"abc"}', missing=3),
        accepted(success=False),
        accepted(id=None),
        accepted(id=""),
        accepted(id=7),
        accepted(id=".."),
        accepted(id="a/b"),
        Raw(b""),
        Raw(b"garbage\r\n\r\n"),
    ],
)
async def test_no_usable_answer_is_uncertain(wire: Wire, app: Pushy, answer: Action) -> None:
    wire.answers.append(answer)
    outcome = await send(app)
    assert isinstance(outcome, RetryLater)
    assert outcome.uncertain


async def test_no_answer_in_time_is_uncertain(wire: Wire) -> None:
    app = Pushy(KEY, wire.url, timeout_s=0.5)
    wire.answers += [Answer(200, b"{}", keep=True), Hang()]
    await send(app)  # the connection is there, so that the time goes to waiting alone
    assert await send(app) == RetryLater("no answer in time", uncertain=True)
    await app.close()


async def test_nobody_there_is_certain() -> None:
    app = Pushy(KEY, await closed_port())
    assert await send(app) == RetryLater("ConnectError")
    assert await app.status("x", 5) == Unavailable("ConnectError")
    assert await app.withdraw("x") == Unavailable("ConnectError")
    await app.close()


async def test_what_pushy_repeats_of_the_request_is_not_kept(wire: Wire, app: Pushy) -> None:
    wire.answers.append(json_answer({"code": "BAD", "error": f"key {KEY}, token {TOKEN}\0 {'x' * 500}"}, 400))
    outcome = await send(app)
    assert isinstance(outcome, Rejected)
    assert outcome.evidence["error"].startswith("key …, token … x")
    assert len(outcome.evidence["error"]) == 300


def test_every_status_and_code_has_a_verdict() -> None:
    for status in range(100, 1000):
        for code in ("", "X", "RATE", "_" * 100, "line\nbreak"):
            assert isinstance(verdict_on(status, code), Verdict)
    assert verdict_on(400, "INTEGRATED") is Verdict.REJECTED
    assert verdict_on(400, "rate_limit_exceeded") is Verdict.LIMIT


# ---------------------------------------------------------------- status and withdrawal


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (json_answer({"push": {"pending_devices": ["a"], "expiration": 1464003935}}), Pending(1, 1464003935_000_000)),
        (json_answer({"push": {"pending_devices": [], "expiration": 1.5}}), Pending(0, 1_500_000)),
        (json_answer({"push": {"pending_devices": ["a", "b"]}}), Pending(2)),
        (json_answer({"push": {"pending_devices": [], "expiration": "soon"}}), Pending(0)),
        (json_answer({"push": {"pending_devices": [], "expiration": True}}), Pending(0)),
        (json_answer({"push": {"pending_devices": [], "expiration": -1}}), Pending(0)),
        (json_answer({"push": {"pending_devices": [], "expiration": 1e300}}), Pending(0)),
        (failure(429, "RATE_LIMIT_EXCEEDED", Retry_After="9"), Unavailable(Verdict.LIMIT, 9.0)),
        (failure(401, "INVALID_API_KEY"), Unavailable(Verdict.KEY)),
        (Answer(500, b""), Unavailable(Verdict.UNCLEAR)),
        (Answer(400, b"<html>"), Unavailable(Verdict.LATER)),
        (json_answer({"push": {}}), Unavailable("an answer that is not Pushy's")),
        (json_answer({"push": {"pending_devices": 0}}), Unavailable("an answer that is not Pushy's")),
        (Answer(200, b""), Unavailable("an answer that is not Pushy's")),
        (Answer(200, b"<html>"), Unavailable("an answer that is not Pushy's")),
        (Raw(b""), Unavailable("RemoteProtocolError")),
    ],
)
async def test_status(wire: Wire, app: Pushy, answer: Action, expected: object) -> None:
    wire.answers.append(answer)
    assert await app.status("5742fe0407c3674e226892f9", 30) == expected
    assert (wire.seen[0].method, wire.seen[0].path) == ("GET", "/pushes/5742fe0407c3674e226892f9")
    assert wire.seen[0].query == {"api_key": KEY}


async def test_a_forgotten_push(wire: Wire, app: Pushy) -> None:
    wire.otherwise = failure(400, "INVALID_PUSH_ID")
    assert isinstance(await app.status("x", 30), Forgotten)
    assert isinstance(await app.withdraw("x"), CannotWithdraw)


async def test_a_status_that_does_not_come_in_time(wire: Wire, app: Pushy) -> None:
    wire.otherwise = Hang()
    assert isinstance(await app.status("x", 0.1), Unavailable)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (json_answer({"success": True}), Withdrawn()),
        (json_answer({"success": False}), Unavailable("an answer that is not Pushy's")),
        (Answer(200, b""), Unavailable("an answer that is not Pushy's")),
        (failure(429, "RATE_LIMIT_EXCEEDED"), Unavailable(Verdict.LIMIT)),
        (Answer(503, b"", {"Retry-After": "3"}), Unavailable(Verdict.UNCLEAR, 3.0)),
        (Raw(b""), Unavailable("RemoteProtocolError")),
    ],
)
async def test_withdrawal(wire: Wire, app: Pushy, answer: Action, expected: object) -> None:
    wire.answers.append(answer)
    assert await app.withdraw("a?b/../c") == expected
    assert (wire.seen[0].method, wire.seen[0].target) == ("DELETE", f"/pushes/a%3Fb%2F..%2Fc?api_key={KEY}")


# ---------------------------------------------------------------- settings and sizes


def test_the_size_is_that_of_the_data_on_the_wire() -> None:
    def sized(characters: int, character: str = "y") -> PushMessage:
        return PushMessage("a" * 24, "silent", 60, data={"x": character * characters})

    empty = len(
        json.dumps(
            msgspec.to_builtins(PushOffer(id="a" * 24, kind="silent", expires_in_ms=60000, data={"x": ""})),
            separators=(",", ":"),
        )
    )
    most = MAX_DATA_BYTES - empty
    assert pushy.PLUGIN.check(sized(most)) is None
    assert "at most 4096" in (pushy.PLUGIN.check(sized(most + 1)) or "")
    assert pushy.PLUGIN.check(sized(most // 2 + 1, "ü")) is not None
    assert pushy.PLUGIN.check(sized(1, "\ud800")) == "cannot be written as JSON"


def test_settings_have_a_default_address() -> None:
    config = pushy.PLUGIN.read_config(Fields({"apiKey": "k1"}))
    assert config == {"apiKey": "k1", "baseUrl": "https://api.pushy.me", "requestsPerMinute": 800}


def test_settings_name_all_that_is_wrong() -> None:
    with pytest.raises(InvalidInput) as refusal:
        pushy.PLUGIN.read_config(Fields({"apiKey": "canary-key", "baseUrl": "x", "more": 1}))
    assert [fault.path for fault in refusal.value.fields] == ["more", "apiKey", "baseUrl"]
    assert "canary-key" not in str(refusal.value)
