"""FCM on the wire: what is sent, and what each answer means."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.outbound.google import GRANT
from heliograph.ports.push import (
    Accepted,
    CannotTell,
    CannotWithdraw,
    Misconfigured,
    Outcome,
    PushMessage,
    Rejected,
    RetryLater,
    Tools,
    Unavailable,
    Works,
)
from heliograph.providers.fcm import MAX_DATA_BYTES, PLUGIN, SCOPE
from heliograph.providers.fcm.answers import BAD_REQUEST, ERROR_INFO, FCM_ERROR, QUOTA_FAILURE, Verdict, verdict_on
from heliograph.providers.fcm.sending import MAX_LIFE_S, NOBODY, Fcm
from heliograph.providers.transport import Connections
from heliograph.providers.transport.answers import AGAIN
from heliograph_lab.http2 import Answer as Http2Answer
from heliograph_lab.http2 import Reset
from heliograph_lab.http2.model import INTERNAL_ERROR
from heliograph_protocol.messages import PushOffer
from tests.providers.credentials import ec_key, pem_of, service_account
from tests.providers.samples import NOTIFICATION, SILENT, WAKE, Contract, target
from tests.providers.transport.clock import StandingClock
from tests.support.wire import Answer, Raw, Seen, Wire, closed_port, json_answer
from tests.support.wire_http2 import Http2Wire, ca_pem

TOKEN = f"dQw4w9WgXcQ0123456789a:APA91b{'canary20' * 16}"
FID = "dQw4w9WgXcQ0123456789a"
NAME = "0:1700000000000000%31bd1c9631bd1c96"
ACCEPTED = json_answer({"name": f"projects/my-project/messages/{NAME}"})
ELSEWHERE = "https://tokens.example/token"
NEW_KEY = "download a new key"
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({}, "serviceAccount", "is required"),
    ({"serviceAccount": ""}, "serviceAccount", f"is empty: {NEW_KEY}"),
    ({"serviceAccount": 5}, "serviceAccount", f"is not a JSON object: {NEW_KEY}"),
    ({"serviceAccount": json.dumps(service_account())[:900]}, "serviceAccount", "is cut off or damaged"),
    ({"serviceAccount": "-----BEGIN PRIVATE KEY-----"}, "serviceAccount", "is not JSON"),
    ({"serviceAccount": {"type": "authorized_user"}}, "serviceAccount", "person's own login"),
    ({"serviceAccount": {"project_info": {"project_id": "x"}}}, "serviceAccount", 'has no "type": "service_account"'),
    (
        {"serviceAccount": service_account(private_key=pem_of(ec_key()))},
        "serviceAccount",
        "private_key: must be an RSA key",
    ),
    ({"serviceAccount": service_account(private_key="canary")}, "serviceAccount", "private_key: is cut off"),
    (
        {"serviceAccount": service_account(token_uri=ELSEWHERE)},
        "serviceAccount",
        "names a token_uri that is not Google's",
    ),
    (
        {"serviceAccount": service_account(token_uri=ELSEWHERE), "tokenUrl": f"{ELSEWHERE}2"},
        "serviceAccount",
        "names a token_uri that is not Google's",
    ),
    ({"serviceAccount": service_account(project_id=None)}, "projectId", "is required"),
    ({"serviceAccount": service_account(project_id="a/b")}, "project_id", "must be the id of a Firebase project"),
    ({"serviceAccount": service_account(), "projectId": "My project"}, "projectId", "must be the id of"),
    ({"serviceAccount": service_account(), "tokenUrl": "ftp://x"}, "tokenUrl", "must be an http or https address"),
    ({"serviceAccount": service_account(), "baseUrl": "http://127.0.0.1:1"}, "baseUrl", "must be an https address"),
    ({"serviceAccount": service_account(), "apiKey": "AAAA"}, "apiKey", "is not known here"),
]


def config(url: str, **changes: Any) -> dict[str, Any]:
    return {
        "serviceAccount": json.dumps(service_account()),
        "tokenUrl": "http://127.0.0.1:1/token",
        "baseUrl": url,
        "ca": ca_pem(),
    } | changes


def contract(url: str) -> Contract:
    secrets = [*service_account()["private_key"].splitlines()[1:-1], TOKEN]
    bad = [f" {TOKEN}", f"{FID}:short", "0123456789abcdef" * 4, "/topics/all", f"{TOKEN}{'x' * 2000}", f"{TOKEN}\n"]
    return Contract(
        config(url),
        secrets,
        TOKEN,
        wrong=[settings for settings, _, _ in WRONG],
        bad_tokens=bad,
        over_http2=True,
        tokens="tokenUrl",
    )


class Google(Wire):
    """A token endpoint that gives `token-1`, `token-2`, …"""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0
        self.handler = self._give

    def _give(self, seen: Seen) -> Answer:
        self.given += 1
        return json_answer({"access_token": f"token-{self.given}", "expires_in": 3599, "token_type": "Bearer"})


@pytest.fixture
async def google() -> AsyncIterator[Wire]:
    async with Google().serving() as google:
        yield google


@pytest.fixture
async def wire() -> AsyncIterator[Http2Wire]:
    async with Http2Wire().serving() as wire:
        wire.otherwise = ACCEPTED
        yield wire


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
async def tools(clock: StandingClock) -> AsyncIterator[Tools]:
    connections = Connections(clock)
    yield Tools(clock, connections)
    await connections.close()


def built(tools: Tools, url: str, **changes: Any) -> Fcm:
    settings = {name: value for name, value in config(url, **changes).items() if value is not None}
    provider = PLUGIN.build(PLUGIN.read_config(Fields(settings)), tools)
    assert isinstance(provider, Fcm)
    return provider


@pytest.fixture
async def app(wire: Http2Wire, google: Wire, tools: Tools) -> AsyncIterator[Fcm]:
    app = built(tools, wire.url, tokenUrl=f"{google.url}/token")
    yield app
    await app.close()


async def send(app: Fcm, message: PushMessage = WAKE) -> Outcome:
    return await app.send(message, target("fcm", TOKEN))


async def test_who_only_names_anothers_ids_shares_no_connection_with_that_one(
    google: Wire, wire: Http2Wire, tools: Tools
) -> None:
    """Its owner may close it, as each change of the account does."""
    assert isinstance(tools.transports, Connections)
    other = json.dumps(service_account(private_key=pem_of(generate_private_key(65537, 2048))))
    ours, theirs = (built(tools, wire.url, tokenUrl=google.url, **said) for said in ({}, {"serviceAccount": other}))
    for app in (ours, theirs):
        assert isinstance(await send(app), Accepted)
    assert len(tools.transports) == 2
    await theirs.close()
    assert len(tools.transports) == 1
    await ours.close()


# ---------------------------------------------------------------- send


@pytest.mark.parametrize(
    ("message", "android"),
    [
        (WAKE, {"priority": "HIGH", "ttl": "3600s", "collapse_key": "wake"}),
        (NOTIFICATION, {"priority": "HIGH", "ttl": "60s"}),
        (SILENT, {"priority": "NORMAL", "ttl": "1s"}),
    ],
)
async def test_the_request(
    wire: Http2Wire, google: Wire, app: Fcm, message: PushMessage, android: dict[str, str]
) -> None:
    assert await send(app, message) == Accepted(NAME, evidence={"status": 200})
    (seen,) = wire.seen
    assert (seen.method, seen.target) == ("POST", "/v1/projects/my-project/messages:send")
    assert seen.headers["authorization"] == "Bearer token-1"
    assert seen.headers["content-type"] == "application/json"
    assert seen.json.keys() == {"message"}
    data = seen.json["message"].pop("data")
    assert seen.json["message"] | {"data": 0} == {"token": TOKEN, "android": android, "data": 0}
    assert data.keys() == {"heliograph"}
    assert msgspec.json.decode(data["heliograph"], type=PushOffer) == PushOffer(
        id=message.id,
        kind=message.kind,  # type: ignore[arg-type]  # the port names the same three kinds
        expires_in_ms=message.life_s * 1000,
        command_id=message.command_id,
        title=message.title,
        body=message.body,
        data=message.data,
    )


async def test_the_kind_of_an_address_is_the_member_that_names_it(wire: Http2Wire, app: Fcm) -> None:
    await app.send(WAKE, dataclasses.replace(target("fcm", FID), kind="fid"))
    message = wire.seen[0].json["message"]
    assert (message["fid"], "token" in message) == (FID, False)


@pytest.mark.parametrize(("life_s", "sent"), [(0, "1s"), (-5, "1s"), (60, "60s"), (10**9, f"{MAX_LIFE_S}s")])
async def test_the_life_stays_within_what_fcm_takes(wire: Http2Wire, app: Fcm, life_s: int, sent: str) -> None:
    await send(app, PushMessage("a" * 24, "wake", life_s))
    assert wire.seen[0].json["message"]["android"]["ttl"] == sent


def error(status: int, code: str, *details: Any, **headers: str) -> Answer:
    body = {"error": {"code": status, "message": "words", "status": code, "details": list(details)}}
    return json_answer(body, status, **headers)


def fcm(code: str) -> dict[str, str]:
    return {"@type": FCM_ERROR, "errorCode": code}


def wrong(field: str) -> dict[str, Any]:
    return {"@type": BAD_REQUEST, "fieldViolations": [{"field": field, "description": "words"}]}


def info(reason: str) -> dict[str, str]:
    return {"@type": ERROR_INFO, "reason": reason, "domain": "googleapis.com"}


def quota(**violation: Any) -> dict[str, Any]:
    return {"@type": QUOTA_FAILURE, "violations": [violation]}


def gone(verdict: Verdict, status: int, code: str) -> Rejected:
    return Rejected(verdict, token_gone=True, evidence={"status": status, "code": code})


def refused(verdict: Verdict, status: int, code: str) -> Misconfigured:
    return Misconfigured(f"{verdict} ({code})", {"status": status, "code": code})


NO_ADDRESS = gone(Verdict.NO_ADDRESS, 400, "INVALID_ARGUMENT")
TOO_MANY = RetryLater(Verdict.DEVICE_LIMIT, 5.0, evidence={"status": 429, "code": "DEVICE_QUOTA"})
OUR_FAULT = Rejected(Verdict.REJECTED, evidence={"status": 400, "code": "BAD_REQUEST"})
STRANGE = RetryLater("an answer that is not FCM's", uncertain=True, evidence={"status": 200})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        # The two meanings of one 400
        (error(400, "INVALID_ARGUMENT", fcm("INVALID_ARGUMENT")), NO_ADDRESS),
        (error(400, "INVALID_ARGUMENT", fcm("INVALID_ARGUMENT"), wrong("message.token")), NO_ADDRESS),
        (error(400, "INVALID_ARGUMENT", wrong("message.fid")), NO_ADDRESS),
        (error(400, "INVALID_ARGUMENT", wrong("message.android.ttl")), OUR_FAULT),
        (error(400, "INVALID_ARGUMENT", fcm("INVALID_ARGUMENT"), wrong("message.data")), OUR_FAULT),
        (error(400, "INVALID_ARGUMENT"), OUR_FAULT),
        (
            error(400, "FAILED_PRECONDITION"),
            Rejected(Verdict.REJECTED, evidence={"status": 400, "code": "FAILED_PRECONDITION"}),
        ),
        # Addresses
        (error(404, "NOT_FOUND", fcm("UNREGISTERED")), gone(Verdict.GONE, 404, "UNREGISTERED")),
        (
            error(403, "PERMISSION_DENIED", fcm("SENDER_ID_MISMATCH")),
            gone(Verdict.OTHER_PROJECT, 403, "SENDER_ID_MISMATCH"),
        ),
        # An address of an iOS or web app, which whoever knows the app can make: no device halts the account with one.
        (
            error(401, "UNAUTHENTICATED", fcm("THIRD_PARTY_AUTH_ERROR")),
            gone(Verdict.THIRD_PARTY, 401, "THIRD_PARTY_AUTH_ERROR"),
        ),
        # Accounts
        (error(404, "NOT_FOUND"), refused(Verdict.NO_PROJECT, 404, "NOT_FOUND")),
        (
            error(403, "PERMISSION_DENIED", info("IAM_PERMISSION_DENIED")),
            refused(Verdict.ACCOUNT, 403, "IAM_PERMISSION_DENIED"),
        ),
        (error(403, "PERMISSION_DENIED", info("SERVICE_DISABLED")), refused(Verdict.ACCOUNT, 403, "SERVICE_DISABLED")),
        (Answer(403, b"<html>"), Misconfigured(Verdict.ACCOUNT, {"status": 403})),
        # Limits
        (
            error(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED"), Retry_After="90"),
            RetryLater(Verdict.LIMIT, 90.0, account_wide=True, evidence={"status": 429, "code": "QUOTA_EXCEEDED"}),
        ),
        (
            error(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED"), Retry_After="5"),
            RetryLater(Verdict.LIMIT, 5.0, account_wide=True, evidence={"status": 429, "code": "QUOTA_EXCEEDED"}),
        ),
        (Answer(429, b""), RetryLater(Verdict.LIMIT, 60.0, account_wide=True, evidence={"status": 429})),
        # Of a single device, which must not make all others wait
        (error(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED"), quota(subject="device:x"), Retry_After="5"), TOO_MANY),
        (error(429, "RESOURCE_EXHAUSTED", quota(description="Device message rate"), Retry_After="5"), TOO_MANY),
        (
            error(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED"), quota(description="device message rate")),
            dataclasses.replace(TOO_MANY, after_s=None),
        ),
        (
            error(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED"), quota(subject="project:my-devices")),
            RetryLater(Verdict.LIMIT, 60.0, account_wide=True, evidence={"status": 429, "code": "QUOTA_EXCEEDED"}),
        ),
        (
            error(429, "RESOURCE_EXHAUSTED", fcm("QUOTA_EXCEEDED"), quota(subject="device:x"), quota(subject=7)),
            RetryLater(Verdict.LIMIT, 60.0, account_wide=True, evidence={"status": 429, "code": "QUOTA_EXCEEDED"}),
        ),
        # Faults of the service
        (
            error(500, "INTERNAL", fcm("INTERNAL"), Retry_After="2"),
            RetryLater(Verdict.UNCLEAR, 2.0, uncertain=True, evidence={"status": 500, "code": "INTERNAL"}),
        ),
        (
            error(503, "UNAVAILABLE", fcm("UNAVAILABLE"), Retry_After="7"),
            RetryLater(Verdict.LATER, 7.0, evidence={"status": 503, "code": "UNAVAILABLE"}),
        ),
        (Answer(503, b""), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence={"status": 503})),
        (Answer(408, b"<html>"), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence={"status": 408})),
        (Answer(404, b"<html>"), RetryLater(Verdict.LATER, evidence={"status": 404})),
        (json_answer({"error": "words"}, 400), RetryLater(Verdict.LATER, evidence={"status": 400})),
        (json_answer({"error": {"details": 5}}, 400), RetryLater(Verdict.LATER, evidence={"status": 400})),
        (error(400, TOKEN, fcm(TOKEN), 7, wrong(TOKEN)), OUR_FAULT),
        (Answer(302, b""), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence={"status": 302})),
        (Answer(200, b""), STRANGE),
        (json_answer({"name": f"projects/my-project/{NAME}"}), STRANGE),
        (json_answer({"name": 5}), STRANGE),
        (json_answer({"name": f"projects/p/messages/{'x' * 200}"}), STRANGE),
    ],
)
async def test_answers(wire: Http2Wire, app: Fcm, answer: Answer, expected: Outcome) -> None:
    wire.answers.append(answer)
    assert await send(app) == expected
    assert len(wire.seen) == 1


async def test_a_success_whose_name_was_cut_off_is_one(wire: Http2Wire, app: Fcm) -> None:
    wire.otherwise = Http2Answer(200, (), ACCEPTED.body, reset_after=10)  # type: ignore[assignment]
    assert await send(app) == Accepted(WAKE.id, evidence={"status": 200})


@pytest.mark.parametrize(
    ("fault", "cause"),
    [(Raw(b""), "the connection was lost"), (Reset(INTERNAL_ERROR), "the server ended the stream")],
)
async def test_without_an_answer_it_may_have_been_taken(wire: Http2Wire, app: Fcm, fault: Any, cause: str) -> None:
    wire.answers.append(fault)
    assert await send(app) == RetryLater(cause, uncertain=True, evidence={"sendingAgain": AGAIN})


# ---------------------------------------------------------------- access tokens


async def test_tokens_are_asked_for_with_an_assertion_for_messaging_alone(google: Wire, app: Fcm) -> None:
    await send(app)
    form = dict(part.split("=", 1) for part in google.seen[0].body.decode().split("&"))
    assert form["grant_type"].replace("%3A", ":") == GRANT
    claims = jwt.decode(form["assertion"], options={"verify_signature": False})
    assert claims["scope"] == SCOPE
    assert claims["aud"] == "https://oauth2.googleapis.com/token"
    assert google.seen[0].path == "/token"


async def test_a_token_that_is_not_taken_is_renewed_once(wire: Http2Wire, app: Fcm) -> None:
    expired = error(401, "UNAUTHENTICATED", info("ACCESS_TOKEN_EXPIRED"))
    wire.answers.append(expired)
    assert isinstance(await send(app), Accepted)
    assert [seen.headers["authorization"] for seen in wire.seen] == ["Bearer token-1", "Bearer token-2"]
    wire.answers.extend([expired, expired])
    assert await send(app) == refused(Verdict.ACCOUNT, 401, "ACCESS_TOKEN_EXPIRED")
    assert len(wire.seen) == 4


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            json_answer({"error": "invalid_grant"}, 400),
            Misconfigured(
                "the token endpoint gave no token (400 invalid_grant): "
                "was its key deleted, or is this machine's clock wrong?"
            ),
        ),
        (
            Answer(503, b"", {"Retry-After": "8"}),
            RetryLater("the token endpoint gave no token (503)", 8.0, account_wide=True),
        ),
        (Answer(200, b"<html>"), RetryLater("the token endpoint gave no token (200)", account_wide=True)),
        (
            Raw(b"garbage\r\n\r\n"),
            RetryLater("the token endpoint cannot be reached (RemoteProtocolError)", account_wide=True),
        ),
    ],
)
async def test_without_a_token_nothing_is_sent(
    wire: Http2Wire, google: Wire, app: Fcm, answer: Any, expected: Outcome
) -> None:
    google.answers.extend([answer, answer])
    assert await send(app) == expected
    probed = await app.probe()
    assert isinstance(probed, Misconfigured if isinstance(expected, Misconfigured) else Unavailable)
    assert wire.seen == []
    assert isinstance(await send(app), Accepted)


async def test_nobody_at_the_token_endpoint(wire: Http2Wire, tools: Tools) -> None:
    app = built(tools, wire.url, tokenUrl=f"{await closed_port()}/token")
    assert await send(app) == RetryLater("the token endpoint cannot be reached (ConnectError)", account_wide=True)
    await app.close()


# ---------------------------------------------------------------- the rest


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(400, "INVALID_ARGUMENT", fcm("INVALID_ARGUMENT")), Works("FCM takes the service account")),
        (error(404, "NOT_FOUND", fcm("UNREGISTERED")), Works("FCM takes the service account")),
        (ACCEPTED, Works("FCM takes the service account")),
        (
            error(403, "PERMISSION_DENIED", info("IAM_PERMISSION_DENIED")),
            Misconfigured(f"{Verdict.ACCOUNT} (IAM_PERMISSION_DENIED)"),
        ),
        (error(404, "NOT_FOUND"), Misconfigured(f"{Verdict.NO_PROJECT} (NOT_FOUND)")),
        (error(400, "INVALID_ARGUMENT", wrong("message.data")), Unavailable(f"{Verdict.REJECTED} (BAD_REQUEST)")),
        (error(503, "UNAVAILABLE", Retry_After="3"), Unavailable(Verdict.LATER, 3.0)),
        (Answer(404, b"<html>"), Unavailable(Verdict.LATER)),
        (Raw(b""), Unavailable("the connection was lost")),
    ],
)
async def test_probe(wire: Http2Wire, app: Fcm, answer: Any, expected: Any) -> None:
    wire.answers.append(answer)
    assert await app.probe() == expected
    assert wire.seen[0].json["validate_only"] is True
    assert wire.seen[0].json["message"]["token"] == NOBODY


async def test_it_never_tells_and_never_takes_back(app: Fcm) -> None:
    assert isinstance(await app.status("x", 1), CannotTell)
    assert isinstance(await app.withdraw("x"), CannotWithdraw)


@pytest.mark.parametrize(("settings", "setting", "says"), WRONG)
def test_mistakes(settings: dict[str, Any], setting: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        PLUGIN.read_config(Fields(settings, "config"))
    assert "BEGIN" not in str(refusal.value).replace("from BEGIN to END", "")
    assert says in {fault.path.removeprefix("config."): fault.reason for fault in refusal.value.fields}[setting]


def test_what_is_taken() -> None:
    account = service_account()
    usual = {"serviceAccount": account, "projectId": "my-project", "requestsPerMinute": 600_000}
    text = json.dumps(account | {"client_id": "1", "universe_domain": "googleapis.com"})
    for given in (account, text, f"\ufeff{text}\r\n"):
        assert PLUGIN.read_config(Fields({"serviceAccount": given})) == usual
    other = {"projectId": "other-1", "requestsPerMinute": "0"}
    assert PLUGIN.read_config(Fields({"serviceAccount": text, **other})) == usual | {
        "projectId": "other-1",
        "requestsPerMinute": 0,
    }
    named = service_account(token_uri=ELSEWHERE)
    stored = PLUGIN.read_config(Fields({"serviceAccount": named, "tokenUrl": ELSEWHERE}))
    assert stored == usual | {"serviceAccount": named, "tokenUrl": ELSEWHERE}
    # What is stored is read again with each change.
    assert PLUGIN.read_config(Fields(msgspec.json.decode(msgspec.json.encode(stored)))) == stored


def test_what_fits() -> None:
    def sized(characters: int) -> PushMessage:
        return PushMessage("a" * 24, "silent", 60, data={"x": "y" * characters})

    most = max(size for size in range(3500, 4100) if PLUGIN.check(sized(size)) is None)
    assert (
        PLUGIN.check(sized(most + 1)) == f"is too large for FCM: {MAX_DATA_BYTES + 1} bytes, at most {MAX_DATA_BYTES}"
    )
    assert PLUGIN.check(PushMessage("a", "silent", 1, data={"x": object()})) == "cannot be written as JSON"


def test_every_status_and_code_has_a_verdict() -> None:
    for status in range(1000):
        for code in ("", "UNREGISTERED", "NEVER_HEARD_OF"):
            assert isinstance(verdict_on(status, code), Verdict)
