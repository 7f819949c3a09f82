"""Key files are refused with words that help, and tokens are fetched once for everybody."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from heliograph.channels import read_service_account
from heliograph.domain.errors import InvalidInput
from heliograph.outbound.google import GRANT, SCOPE, NoToken, TokenSource, check_project, payer_of
from tests.channels.google import Google, account, account_file, claims_of, pem
from tests.support.secrets_in_logs import LogWatch
from tests.support.wire import Action, Answer, Hang, Raw, closed_port, json_answer

URI = "https://oauth2.googleapis.com/token"
COMPUTE = "123-compute@developer.gserviceaccount.com"


def ec_pem() -> str:
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def test_a_good_file_is_read() -> None:
    assert read_service_account(account_file(URI)) == account(URI)
    assert read_service_account(b"\xef\xbb\xbf" + account_file(URI) + b"\r\n") == account(URI)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (account_file(URI)[:900], "is cut off or damaged"),
        (account_file(URI)[:-1], "is cut off or damaged"),
        (b"{" * 60_000, "is cut off or damaged"),
        (b"\x30\x82\x01\x00", "is not JSON"),
        (b"<html>", "is not JSON"),
        (b"x" * 70_000, "is larger than"),
        (b"[]", "is not a JSON object"),
        (b"{}", "service_account"),
        (b'{"type": 7}', "service_account"),
        (b'{"type": "authorized_user"}', "person's own login"),
        (b'{"type": "external_account"}', "workload identity"),
        (b'{"installed": {}}', "OAuth client"),
        (account_file(URI, client_email=None), "client_email: is required"),
        (account_file(URI, client_email="nobody"), "client_email: must be"),
        (account_file(URI, token_uri=None), "token_uri: is required"),
        (account_file(URI, token_uri="ftp://x"), "token_uri: must be"),
        (account_file(URI, private_key_id=5), "private_key_id: must be a string"),
        (account_file(URI, private_key=None), "private_key: is required"),
        (account_file(URI, private_key=7), "private_key: must be a string"),
        (account_file(URI, private_key=""), "private_key: must not be empty"),
        (account_file(URI, private_key=pem()[:800]), "private_key: is cut off"),
        (account_file(URI, private_key=pem().replace("\n", "\\n")), "line breaks"),
        (account_file(URI, private_key=pem().replace("MII", "AAA", 1)), "no readable private key"),
        (account_file(URI, private_key=ec_pem()), "must be an RSA key"),
    ],
)
def test_a_bad_file_is_refused_with_advice(raw: bytes, says: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        read_service_account(raw)
    assert says in str(refusal.value)
    assert "download a new key" in str(refusal.value)
    assert "MII" not in str(refusal.value)


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(InvalidInput) as refusal:
        read_service_account(account_file(URI, private_key=None, client_email=None, token_uri=None))
    assert [fault.path for fault in refusal.value.fields] == ["client_email", "token_uri", "private_key"]


# ---------------------------------------------------------------- tokens


@pytest.mark.parametrize(
    ("address", "project", "payer"),
    [
        ("helio@my-project.iam.gserviceaccount.com", "my-project", "my-project"),
        ("Helio@My-Project.iam.gserviceaccount.com", "my-project", "my-project"),
        ("helio@name.example.com.iam.gserviceaccount.com", "example.com:name", "name.example.com"),
        ("my-project@appspot.gserviceaccount.com", "my-project", "my-project"),
        ("name.example.com@appspot.gserviceaccount.com", "example.com:name", "name.example.com"),
        (COMPUTE, "my-project", COMPUTE),
        ("helio@my-project.iam.gserviceaccount.com", None, "my-project"),
    ],
)
def test_the_address_of_an_account_says_who_pays(address: str, project: str | None, payer: str) -> None:
    found = account(URI, client_email=address, project_id=project)
    assert payer_of(found) == payer
    check_project(found)


@pytest.mark.parametrize(
    ("address", "project"),
    [
        ("helio@mine.iam.gserviceaccount.com", "yours"),
        ("helio@yours.mine.iam.gserviceaccount.com", "yours"),
        ("helio@mine.yours.com.iam.gserviceaccount.com", "mine"),
        ("mine@appspot.gserviceaccount.com", "yours"),
    ],
)
def test_a_file_that_names_another_project_than_its_account_is_refused(address: str, project: str) -> None:
    with pytest.raises(InvalidInput, match="project_id: is not the project of client_email"):
        check_project(account(URI, client_email=address, project_id=project))


@pytest.mark.parametrize(
    "address",
    [
        "x@yours@appspot.gserviceaccount.com",
        "yours.iam.gserviceaccount.com@mine.example",
        "helio@yours.iam.gserviceaccount.com.mine.example",
    ],
)
def test_an_address_of_others_stands_for_itself(address: str) -> None:
    assert payer_of(account(URI, client_email=address)) == address


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def source(google: Google, clock: Clock) -> AsyncIterator[TokenSource]:
    source = TokenSource(account(google.token_uri), clock=clock, timeout_s=30)
    yield source
    await source.close()


async def test_the_request_is_a_signed_assertion(google: Google, source: TokenSource) -> None:
    assert await source.token(deadline_s=30) == "token-1"
    form = dict(part.split("=", 1) for part in google.wire.seen[0].body.decode().split("&"))
    assert form["grant_type"].replace("%3A", ":") == GRANT
    claims = claims_of(form["assertion"])
    assert claims | {"iat": 0, "exp": 0} == {
        "iss": "helio@p.iam.gserviceaccount.com",
        "scope": SCOPE,
        "aud": google.token_uri,
        "iat": 0,
        "exp": 0,
    }
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["iat"] <= time.time()


async def test_one_request_serves_all_that_wait(google: Google, source: TokenSource) -> None:
    google.wire.may_answer.clear()
    calls = [asyncio.create_task(source.token(deadline_s=30)) for _ in range(20)]
    await google.wire.got_one.wait()
    google.wire.may_answer.set()
    assert await asyncio.gather(*calls) == ["token-1"] * 20
    assert google.tokens == 1


async def test_a_caller_that_leaves_does_not_take_the_token_from_the_others(
    google: Google, source: TokenSource
) -> None:
    google.wire.may_answer.clear()
    leaves, stays = (asyncio.create_task(source.token(deadline_s=30)) for _ in range(2))
    await google.wire.got_one.wait()
    leaves.cancel()
    assert await source.token(deadline_s=0.001) == NoToken("the token endpoint did not answer in time")
    google.wire.may_answer.set()
    assert await stays == "token-1"
    assert google.tokens == 1


async def test_a_token_is_renewed_while_it_is_still_good(google: Google, source: TokenSource, clock: Clock) -> None:
    assert await source.token(deadline_s=30) == "token-1"
    clock.now += 3599 * 0.8 - 1
    assert await source.token(deadline_s=30) == "token-1"
    google.wire.may_answer.clear()
    google.wire.got_one.clear()
    clock.now += 2
    # Nobody waits for the new one.
    assert [await source.token(deadline_s=30) for _ in range(5)] == ["token-1"] * 5
    async with asyncio.timeout(30):
        await google.wire.got_one.wait()
        google.wire.may_answer.set()
        clock.now += 3599 * 0.2 - 61
        while await source.token(deadline_s=30) == "token-1":  # noqa: ASYNC110 - the source has no event for it
            await asyncio.sleep(0.01)
    assert google.tokens == 2


async def test_a_renewal_that_fails_is_tried_again_now_and_then(
    google: Google, source: TokenSource, clock: Clock
) -> None:
    assert await source.token(deadline_s=30) == "token-1"
    google.token_answers = [Answer(500)]
    clock.now += 3599 * 0.8 + 1
    assert await source.token(deadline_s=30) == "token-1"
    async with asyncio.timeout(30):
        while google.token_answers:  # noqa: ASYNC110 - until it was answered
            await asyncio.sleep(0.01)
    for _ in range(20):
        assert await source.token(deadline_s=30) == "token-1"
        await asyncio.sleep(0.01)  # room for requests that should not be
    assert len(google.wire.seen) == 2
    clock.now += 3599 * 0.2  # its end has come: now all wait
    assert await source.token(deadline_s=30) == "token-2"


async def test_a_token_is_not_used_in_its_last_minute(google: Google, source: TokenSource, clock: Clock) -> None:
    assert await source.token(deadline_s=30) == "token-1"
    clock.now += 3599 - 59
    assert await source.token(deadline_s=30) == "token-2"


async def test_a_refused_token_is_replaced_once_for_all(google: Google, source: TokenSource) -> None:
    assert await source.token(deadline_s=30) == "token-1"
    renewed = await asyncio.gather(*(source.token(deadline_s=30, refused="token-1") for _ in range(5)))
    assert renewed == ["token-2"] * 5
    assert await source.token(deadline_s=30, refused="token-1") == "token-2"
    assert google.tokens == 2


@pytest.mark.parametrize("life", [None, 0, -5, True, "3600", 1])
async def test_a_life_that_makes_no_sense_is_taken_for_a_short_one(
    google: Google, source: TokenSource, clock: Clock, life: Any
) -> None:
    google.token_answers = [json_answer({"access_token": "odd", "expires_in": life})]
    assert await source.token(deadline_s=30) == "odd"
    clock.now += 400
    assert await source.token(deadline_s=30) == "token-1"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (json_answer({"error": "invalid_grant", "error_description": "canary9"}, 400), "(400 invalid_grant)"),
        (json_answer({"error": "Canary9 is not a code"}, 401), "(401)"),
        (json_answer({"error": ["canary9"]}, 400), "(400)"),
        (Answer(500, b"<html>canary9"), "(500)"),
        (Answer(200, b""), "(200)"),
        (Answer(200, b"canary9"), "(200)"),
        (json_answer({}), "(200)"),
        (json_answer({"access_token": ""}), "(200)"),
        (json_answer({"access_token": "canary9\r\nX: y"}), "(200)"),
        (json_answer({"access_token": 9}), "(200)"),
        (json_answer({"access_token": "canary9"}, 302), "(302)"),
        (Raw(b""), "cannot be reached"),
        (Raw(b"canary9\r\n\r\n"), "cannot be reached"),
    ],
)
async def test_no_token_is_a_value_and_repeats_nothing(
    google: Google, source: TokenSource, answer: Action, says: str
) -> None:
    google.token_answers = [answer]
    outcome = await source.token(deadline_s=30)
    assert isinstance(outcome, NoToken)
    assert says in outcome.reason
    assert "canary9" not in outcome.reason.lower()
    assert await source.token(deadline_s=30) == "token-1"  # and the next caller asks anew


async def test_retry_after_of_the_token_endpoint_is_kept(google: Google, source: TokenSource) -> None:
    google.token_answers = [Answer(429, b"", {"Retry-After": "11"})]
    assert await source.token(deadline_s=30) == NoToken("the token endpoint gave no token (429)", 11.0)


async def test_nobody_at_the_token_endpoint() -> None:
    source = TokenSource(account(f"{await closed_port()}/token"))
    assert await source.token(deadline_s=30) == NoToken("the token endpoint cannot be reached (ConnectError)")
    await source.close()


async def test_close_ends_a_request_under_way(google: Google, source: TokenSource) -> None:
    google.token_answers = [Hang()]
    call = asyncio.create_task(source.token(deadline_s=30))
    await google.wire.got_one.wait()
    await source.close()
    assert isinstance(await call, NoToken)


async def test_nothing_secret_is_logged(
    google: Google, source: TokenSource, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = LogWatch(caplog, capsys)
    await source.token(deadline_s=30)
    assertion = google.wire.seen[0].body.decode().rsplit("assertion=", 1)[1]
    watch.assert_none_of([assertion, "token-1", json.loads(account_file(URI))["private_key"][100:140]])
