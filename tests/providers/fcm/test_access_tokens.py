"""Access tokens for messaging: how they are asked for and renewed."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from heliograph.outbound.google import GRANT
from heliograph.ports.push import Accepted, Misconfigured, Outcome, RetryLater, Tools, Unavailable
from heliograph.providers.fcm import SCOPE
from heliograph.providers.fcm.answers import Verdict
from heliograph.providers.fcm.sending import Fcm
from heliograph.providers.transport import Connections
from tests.providers.credentials import pem_of, service_account
from tests.providers.fcm.rig import built, error, send
from tests.providers.fcm.test_answers import info, refused
from tests.support.wire import Answer, Raw, Wire, closed_port, json_answer
from tests.support.wire_http2 import Http2Wire


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
