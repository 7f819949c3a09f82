"""The plug-in's own tests, and what the project's contract suite has to know of it: `contract`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from heliograph_push_webhook import PLUGIN, Webhook

from heliograph.ports.push import Accepted, Misconfigured, Outcome, Rejected, RetryLater
from heliograph.providers import discover
from tests.providers.samples import WAKE, Contract, target
from tests.support.wire import Action, Answer, Raw, Wire, json_answer

KEY, TOKEN = "canaryKEY27", "canaryTOKEN28"
WRONG: list[dict[str, Any]] = [{}, {"url": "x", "key": KEY}, {"url": "https://h"}, {"url": "https://h", "key": "a b"}]


def contract(url: str) -> Contract:
    return Contract({"url": url, "key": KEY}, [KEY, TOKEN], TOKEN, wrong=WRONG, bad_tokens=["a/b"])


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire().serving() as wire:
        yield wire


def test_it_is_found_where_it_is_installed() -> None:
    assert discover()["webhook"] == PLUGIN


TAKEN = json_answer({"taken": True})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (TAKEN, Accepted(WAKE.id, evidence={"status": 200})),
        (Answer(401), Misconfigured("the endpoint does not accept the key", {"status": 401})),
        (Answer(410), Rejected("the endpoint knows no such address", token_gone=True, evidence={"status": 410})),
        (
            Answer(429, headers={"Retry-After": "7"}),
            RetryLater("the endpoint asks to wait", 7.0, account_wide=True, evidence={"status": 429}),
        ),
        (Answer(422), Rejected("the endpoint will not take this push", evidence={"status": 422})),
        (Answer(200, b"<html>"), RetryLater("the endpoint failed", uncertain=True, evidence={"status": 200})),
        (Raw(b""), RetryLater("RemoteProtocolError", uncertain=True)),
    ],
)
async def test_answers(wire: Wire, answer: Action, expected: Outcome) -> None:
    wire.answers.append(answer)
    webhook = Webhook(wire.url, KEY)
    assert await webhook.send(WAKE, target("webhook", TOKEN)) == expected
    await webhook.close()
    assert wire.seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert wire.seen[0].json["to"] == TOKEN
    assert wire.seen[0].json["push"]["id"] == WAKE.id
