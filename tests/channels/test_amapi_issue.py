"""Issuing: every answer, and every lack of one, has the one meaning that its proof allows."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from heliograph.channels import AmapiChannel, AmapiSettings
from heliograph.domain.catalog import ANDROID_TYPES
from heliograph.outbound import MAX_BODY_BYTES
from heliograph.outbound.google import TokenSource
from heliograph.ports.channel import IssueAnswer, NotTaken, Refused, Taken, Uncertain, Unreachable
from tests.channels.google import (
    DEVICE_NAME,
    OPERATION_NAME,
    Google,
    account,
    command,
    device,
    error,
    operation,
)
from tests.support.secrets_in_logs import LogWatch
from tests.support.wire import Action, Answer, Hang, Raw, Seen, closed_port, json_answer

LOCK = {"duration": "3600s"}


async def issue(
    channel: AmapiChannel, params: dict[str, Any] | None = None, kind: str = "LOCK", deadline_s: float = 30
) -> IssueAnswer:
    return await channel.issue(device(), command(kind), LOCK if params is None else params, deadline_s)


async def test_the_request(google: Google, channel: AmapiChannel) -> None:
    google.answers(json_answer(operation()))
    answer = await issue(channel)
    assert answer == Taken(OPERATION_NAME, operation())
    (seen,) = google.asked
    assert (seen.method, seen.path) == ("POST", f"/v1/{DEVICE_NAME}:issueCommand")
    assert seen.headers["authorization"] == "Bearer token-1"
    assert seen.json == {"type": "LOCK", "duration": "3600s"}


async def test_an_operation_of_another_device_is_not_what_the_command_became(
    google: Google, channel: AmapiChannel
) -> None:
    """Somebody in between who mixes answers up: the command may have been taken all the same."""
    google.answers(json_answer(operation("enterprises/LC1/devices/d12/operations/1")))
    assert await issue(channel) == Uncertain("the answer is not about this device")


@pytest.mark.parametrize(
    ("kind", "params", "body"),
    [
        (
            "RESET_PASSWORD",
            {"newPassword": "s3cret", "resetPasswordFlags": ["LOCK_NOW"], "wipeParams": {}},
            {"newPassword": "s3cret", "resetPasswordFlags": ["LOCK_NOW"]},
        ),
        (
            "ADD_ESIM",
            {"activationCode": "LPA:1$x", "activationState": "ACTIVATED", "carrierName": "label"},
            {"addEsimParams": {"activationCode": "LPA:1$x", "activationState": "ACTIVATED"}},
        ),
        ("REBOOT", {"type": "WIPE", "wipeParams": {}}, {}),
    ],
)
async def test_the_body_holds_what_the_catalog_writes_and_nothing_else(
    google: Google, channel: AmapiChannel, kind: str, params: dict[str, Any], body: dict[str, Any]
) -> None:
    google.answers(json_answer(operation()))
    await issue(channel, params | {"duration": "60s"}, kind)
    assert google.asked[0].json == body | {"type": kind, "duration": "60s"}


@pytest.mark.parametrize("kind", ANDROID_TYPES)
async def test_no_type_raises_whatever_the_parameters(google: Google, channel: AmapiChannel, kind: str) -> None:
    google.api = lambda _: json_answer(operation())
    for params in ({}, {"addEsimParams": 5, "activationCode": object(), "packageNames": None}):
        assert isinstance(await issue(channel, params, kind), Taken | Refused | NotTaken)


async def test_without_a_duration_the_commands_own_life_is_sent(google: Google, channel: AmapiChannel) -> None:
    google.answers(json_answer(operation()))
    await issue(channel, {})
    assert google.asked[0].json["duration"] == "3600.000000s"


async def test_a_type_that_google_has_not_is_refused_unsent(google: Google, channel: AmapiChannel) -> None:
    assert isinstance(await issue(channel, kind="NOPE"), Refused)
    assert isinstance(await issue(channel, kind="DISENROLL"), Refused)
    assert google.wire.seen == []


@pytest.mark.parametrize(
    "name", [None, "", "d1", "enterprises/LC1", "enterprises//devices/d", "enterprises/../devices/d1", "a/b/devices/d"]
)
async def test_a_device_without_a_usable_name_is_refused_unsent(
    google: Google, channel: AmapiChannel, name: str | None
) -> None:
    answer = await channel.issue(device(name), command(), LOCK, 30)
    assert isinstance(answer, Refused)
    assert not answer.gone
    assert google.wire.seen == []


async def test_names_are_quoted_in_the_path(google: Google, channel: AmapiChannel) -> None:
    google.answers(json_answer(operation()))
    await channel.issue(device("enterprises/LC 1/devices/a?b#c%2F"), command(), LOCK, 30)
    assert google.asked[0].target == "/v1/enterprises/LC%201/devices/a%3Fb%23c%252F:issueCommand"


GONE = "Requested entity was not found."
NOT_ITS_WORD = ": that is not the API's word; does a proxy stand between?"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        # Proof of non-acceptance that invites another try.
        (error(429, "Quota", headers={"Retry-After": "30"}), NotTaken("Google answered 429", 30.0)),
        (Answer(429, b""), NotTaken("Google answered 429")),
        (Answer(429, b"x", missing=5), NotTaken("Google answered 429")),
        (error(503, "Unavailable"), NotTaken("Google answered 503")),
        (error(503, "Busy", headers={"Retry-After": "nonsense"}), NotTaken("Google answered 503")),
        (error(408, "late"), NotTaken("Google answered 408")),
        (error(409, "The operation was aborted.", "ABORTED"), NotTaken("Google answered 409")),
        (error(409, "Requested entity already exists", "ALREADY_EXISTS"), NotTaken("Google answered 409")),
        (Answer(400, b"<html>"), NotTaken(f"Google answered 400{NOT_ITS_WORD}")),
        (Answer(407, b"<html>Proxy Authentication Required"), NotTaken(f"Google answered 407{NOT_ITS_WORD}")),
        (Answer(451, b""), NotTaken(f"Google answered 451{NOT_ITS_WORD}")),
        (error(403, "Caller is not authorized"), NotTaken("Google answered 403: the credentials may not do this")),
        (Answer(404, b"<html>"), NotTaken("404, but not from the API: is the base address right?")),
        (Answer(404, b""), NotTaken("404, but not from the API: is the base address right?")),
        # The end of the matter.
        (error(400, "Bad", "INVALID_ARGUMENT"), Refused("INVALID_ARGUMENT", "Bad")),
        (error(400, "Device is no longer being managed", "X"), Refused("X", "Device is no longer being managed", True)),
        (error(404, GONE, "NOT_FOUND"), Refused("NOT_FOUND", GONE, True)),
        (error(404, "anything"), Refused("HTTP_404", "anything", True)),
        (error(500, GONE, "INTERNAL"), Refused("INTERNAL", GONE, True)),
        (
            error(403, "Device is no longer being managed."),
            Refused("HTTP_403", "Device is no longer being managed.", True),
        ),
        (error(412, "No", "FAILED_PRECONDITION"), Refused("FAILED_PRECONDITION", "No")),
        (error(501, "No", "UNIMPLEMENTED"), Refused("UNIMPLEMENTED", "No")),
        (json_answer({"error": {"message": ["x"], "status": 5}}, 400), Refused("HTTP_400", "")),
        # No proof of anything.
        (error(500, "Internal error"), Uncertain("Google answered 500")),
        (Answer(502, b"<html>"), Uncertain("Google answered 502")),
        (Answer(503, b"upstream connect error or disconnect/reset before headers"), Uncertain("Google answered 503")),
        (Answer(503, b"<html>", {"Retry-After": "9"}), Uncertain("Google answered 503")),
        (Answer(408, b""), Uncertain(f"Google answered 408{NOT_ITS_WORD}")),
        (Answer(501, b"<html>"), Uncertain("Google answered 501")),
        (error(504, "Deadline expired"), Uncertain("Google answered 504")),
        (Answer(599, b""), Uncertain("Google answered 599")),
        (Answer(302, b"", {"Location": "/login"}), Uncertain("Google answered 302")),
        (Answer(204, b""), Uncertain("204 without an operation")),
        (Answer(200, b""), Uncertain("200 without an operation")),
        (Answer(200, b"<html>"), Uncertain("200 without an operation")),
        (Answer(200, b'{"name":"' + OPERATION_NAME.encode()), Uncertain("200 without an operation")),
        (Answer(200, b"[" * 100_000), Uncertain("200 without an operation")),
        (Answer(200, b'{"a":' * 400 + b"1" + b"}" * 400), Uncertain("200 without an operation")),
        (Answer(200, b" " * (MAX_BODY_BYTES + 1)), Uncertain("200 without an operation")),
        (json_answer(operation(DEVICE_NAME)), Uncertain("200 without an operation")),
        (json_answer(operation(metadata="x")), Uncertain("200 without an operation")),
        (json_answer({"name": 7}), Uncertain("200 without an operation")),
        (Answer(200, json.dumps(operation()).encode(), missing=9), Uncertain("200 without an operation")),
        (Raw(b""), Uncertain("RemoteProtocolError")),
        (Raw(b"garbage\r\n\r\n"), Uncertain("RemoteProtocolError")),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-"), Uncertain("RemoteProtocolError")),
    ],
)
async def test_answers(google: Google, channel: AmapiChannel, answer: Action, expected: IssueAnswer) -> None:
    google.answers(answer)
    assert await issue(channel) == expected
    assert len(google.asked) == 1


async def test_every_status_has_a_meaning(google: Google, channel: AmapiChannel) -> None:
    for status in range(200, 600):
        google.api = partial(_answer, Answer(status, b"\xff\x00"))
        assert isinstance(await issue(channel), NotTaken | Refused | Uncertain), status


def _answer(answer: Action, _: Seen) -> Action:
    return answer


async def test_a_refused_token_is_renewed_once(google: Google, channel: AmapiChannel) -> None:
    google.answers(error(401, "expired"), json_answer(operation()))
    assert isinstance(await issue(channel), Taken)
    assert [seen.headers["authorization"] for seen in google.asked] == ["Bearer token-1", "Bearer token-2"]


async def test_credentials_that_are_refused_twice_are_the_operators_matter(
    google: Google, channel: AmapiChannel
) -> None:
    google.api = lambda _: error(401, "no")
    answer = await issue(channel)
    assert answer == NotTaken("Google answered 401: Google does not accept the enterprise's credentials")
    assert len(google.asked) == 2


async def test_after_a_refused_token_the_second_attempt_counts(google: Google, channel: AmapiChannel) -> None:
    google.answers(error(401, "expired"), Raw(b""))
    assert isinstance(await issue(channel), Uncertain)


async def test_without_a_token_nothing_was_sent(google: Google, channel: AmapiChannel) -> None:
    google.token_answers = [Answer(503, b"", {"Retry-After": "4"}), json_answer({"error": "invalid_grant"}, 400)]
    assert await issue(channel) == NotTaken("the token endpoint gave no token (503)", 4.0)
    assert await issue(channel) == NotTaken("the token endpoint gave no token (400 invalid_grant)")
    assert google.asked == []


async def test_a_key_that_is_refused_is_not_tried_with_every_request(
    google: Google, channel: AmapiChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("heliograph.channels.amapi._now", lambda: now)
    google.token_answers = [json_answer({"error": "invalid_grant"}, 400)]
    refusal = await channel.authorise()
    assert refusal == Unreachable("the token endpoint gave no token (400 invalid_grant)")
    assert [await channel.authorise() for _ in range(20)] == [refusal] * 20
    assert len(google.wire.seen) == 1
    now += 6
    assert await channel.authorise() is None
    assert google.tokens == 1


async def test_no_new_token_after_a_refusal_is_no_acceptance(google: Google, channel: AmapiChannel) -> None:
    def refuse(_: object) -> Action:
        google.token_answers = [json_answer({"error": "invalid_grant"}, 400)]
        return error(401, "no")

    google.api = refuse
    assert isinstance(await issue(channel), NotTaken)


def impatient(google: Google, base_url: str | None = None) -> AmapiChannel:
    settings = AmapiSettings(base_url or google.wire.url, read_timeout_s=0.5)
    return AmapiChannel(TokenSource(account(google.token_uri)), settings)


async def test_a_token_endpoint_that_hangs(google: Google) -> None:
    channel = impatient(google)
    google.token_answers = [Hang()]
    assert await issue(channel, deadline_s=0.5) == NotTaken("the token endpoint did not answer in time")
    await channel.close()


async def test_no_answer_in_time_is_uncertain(google: Google) -> None:
    channel = impatient(google)
    google.answers(Answer(200, b"{}", keep=True), Hang())
    await issue(channel)  # a token and a connection are there, so that the time goes to waiting alone
    assert await issue(channel, deadline_s=0.5) == Uncertain("no answer in time")
    await channel.close()


async def test_nobody_at_the_api(google: Google) -> None:
    channel = impatient(google, await closed_port())
    assert await issue(channel) == NotTaken("ConnectError")
    await channel.close()


async def test_secrets_leave_neither_in_answers_nor_in_logs(
    google: Google, channel: AmapiChannel, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = LogWatch(caplog, capsys)
    canary, params = "canary-4711", {"newPassword": "canary-4711", "duration": "60s"}
    metadata = {"type": "RESET_PASSWORD", "newPassword": canary, "x": [{"NewPassword": canary}], "note": f"is {canary}"}
    google.answers(
        json_answer(operation(metadata=metadata, error={"code": 3, "message": f"bad {canary}\0"})),
        error(400, f"Invalid value at 'new_password' (TYPE_STRING), \"{canary}\"", "INVALID_ARGUMENT"),
        error(500, canary),
        Answer(200, canary.encode()),
        Raw(canary.encode()),
    )
    answers = [await issue(channel, params, "RESET_PASSWORD") for _ in range(5)]
    taken, refused = answers[:2]
    assert taken == Taken(
        OPERATION_NAME,
        operation(
            metadata={"type": "RESET_PASSWORD", "x": [{}], "note": "is …"}, error={"code": 3, "message": "bad …"}
        ),
    )
    assert refused == Refused("INVALID_ARGUMENT", "Invalid value at 'new_password' (TYPE_STRING), \"…\"")
    assert google.asked[0].json["newPassword"] == canary
    watch.assert_none_of([canary, "token-1", "PRIVATE KEY"], answers)


async def test_a_short_secret_does_not_damage_the_operations_name(google: Google, channel: AmapiChannel) -> None:
    google.answers(json_answer(operation()))
    answer = await issue(channel, {"newPassword": "1"}, "RESET_PASSWORD")
    assert isinstance(answer, Taken)
    assert answer.name == answer.operation["name"] == OPERATION_NAME


async def test_no_part_of_a_secret_survives_the_cut_of_a_long_message(google: Google, channel: AmapiChannel) -> None:
    google.answers(error(400, "x" * 495 + "canary-4711", "canary-4711"))
    answer = await issue(channel, {"newPassword": "canary-4711"}, "RESET_PASSWORD")
    assert answer == Refused("HTTP_400", "x" * 495 + "…")
