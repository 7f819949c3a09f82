"""Reading and cancelling operations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest

from heliograph.app.google_channel import OUT_OF_QUOTA, MeteredChannel
from heliograph.app.quota import Quota
from heliograph.channels import AmapiChannel, AmapiSettings
from heliograph.channels.amapi import MAX_PAGES, _Deadline
from heliograph.outbound.google import TokenSource
from heliograph.ports.changes import NORMAL
from heliograph.ports.channel import TOO_MANY, CancelRefused, CancelTaken, Gone, ListPage, Operations, Unreachable
from tests.channels.google import DEVICE_NAME, OPERATION_NAME, Google, account, device, error, operation
from tests.support.wire import Action, Answer, Raw, Seen, json_answer

GONE = "Requested entity was not found."
NOT_ITS_WORD = ": that is not the API's word; does a proxy stand between?"


@asynccontextmanager
async def made(google: Google, settings: AmapiSettings) -> AsyncIterator[AmapiChannel]:
    channel = AmapiChannel(TokenSource(account(google.token_uri)), settings)
    yield channel
    await channel.close()


def op(number: int) -> dict[str, Any]:
    return operation(f"{DEVICE_NAME}/operations/{number}")


# ---------------------------------------------------------------- list


async def test_all_pages_are_read_in_order(google: Google, channel: AmapiChannel) -> None:
    google.answers(
        json_answer({"operations": [op(1), op(2)], "nextPageToken": "a+/="}),
        json_answer({"operations": [], "nextPageToken": "b"}),
        json_answer({"operations": [op(3)]}),
    )
    assert await channel.operations(device()) == Operations([op(1), op(2), op(3)])
    assert [seen.query for seen in google.asked] == [
        {"pageSize": "100"},
        {"pageSize": "100", "pageToken": "a+/="},
        {"pageSize": "100", "pageToken": "b"},
    ]
    assert google.asked[0].path == f"/v1/{DEVICE_NAME}/operations"
    assert google.tokens == 1


@pytest.mark.parametrize("tokens", [0, 1, 2, 3])
async def test_each_page_takes_a_token_of_the_quota(google: Google, channel: AmapiChannel, tokens: int) -> None:
    class Bucket:
        async def take(self, project: str, priority: int, patience_s: float) -> bool:
            granted.append(len(granted) < tokens)
            return granted[-1]

    granted: list[bool] = []
    google.answers(
        json_answer({"operations": [op(1)], "nextPageToken": "a"}),
        json_answer({"operations": [op(2)], "nextPageToken": "b"}),
        json_answer({"operations": [op(3)]}),
    )
    found = await MeteredChannel(channel, "e", cast("Quota", Bucket()), NORMAL).operations(device())
    assert len(google.asked) == sum(granted) == tokens
    if tokens < 3:  # a list that may be incomplete is none, and nobody asks on
        assert isinstance(found, Unreachable)
        assert (found.reason, found.status) == (OUT_OF_QUOTA, TOO_MANY)
    else:
        assert found == Operations([op(1), op(2), op(3)])


async def test_waiting_for_a_token_takes_nothing_of_the_time_for_asking(google: Google, channel: AmapiChannel) -> None:
    deadline = _Deadline(30)
    before = deadline._end
    assert await deadline.without(asyncio.sleep(0.05, True))
    assert deadline._end - before > 0.04


async def test_each_page_of_a_long_list_has_the_time_of_a_read(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody could look at a device with a thousand operations."""
    now = [0.0]
    monkeypatch.setattr("heliograph.channels.amapi._now", lambda: now[0])
    most = 12

    def slow(seen: Seen) -> Action:
        page = int(seen.query.get("pageToken", "0"))
        now[0] += 4.0
        return json_answer({"operations": [op(page)]} | ({"nextPageToken": str(page + 1)} if page < most else {}))

    google.api = slow
    settings = AmapiSettings(google.wire.url, read_timeout_s=5, list_timeout_s=60)
    async with made(google, settings) as channel:
        assert await channel.operations(device()) == Operations([op(n) for n in range(most + 1)])
        most = 20
        found = await channel.operations(device())
        assert found == Unreachable("no time left")  # nor does it take for ever
        assert len(google.asked) == 13 + 15


async def test_no_operations(google: Google, channel: AmapiChannel) -> None:
    google.answers(json_answer({}), json_answer({"nextPageToken": ""}))
    assert await channel.operations(device()) == Operations([])
    assert await channel.operations(device()) == Operations([])


@pytest.mark.parametrize(
    "page",
    [
        json_answer([op(1)]),
        json_answer({"operations": {}}),
        json_answer({"operations": [op(1)], "unreachable": ["elsewhere"]}),
        json_answer({"operations": [op(1)], "nextPageToken": 7}),
        Answer(200, b""),
        Answer(200, b"<html>"),
        Answer(200, json.dumps({"operations": [op(1)]}).encode(), missing=3),
        Answer(302, b""),
        Answer(404, b"<html>"),
        error(403, "no"),
        error(500, "no"),
        error(501, "no"),
        Raw(b""),
    ],
)
async def test_a_list_that_may_be_incomplete_is_no_list(google: Google, channel: AmapiChannel, page: Action) -> None:
    google.answers(page)
    assert isinstance(await channel.operations(device()), Unreachable)
    google.answers(json_answer({"operations": [op(1)], "nextPageToken": "a"}), page)
    assert isinstance(await channel.operations(device()), Unreachable)


async def test_an_operation_of_another_shape_hides_none_of_the_others(google: Google, channel: AmapiChannel) -> None:
    google.answers(
        json_answer({"operations": [op(1), {"name": "x"}], "nextPageToken": "a"}), json_answer({"operations": [op(2)]})
    )
    assert await channel.operations(device()) == Operations([op(1), op(2)], is_whole=False)


async def test_a_list_of_another_device_s_operations_is_no_answer(google: Google, channel: AmapiChannel) -> None:
    """Somebody in between who mixes answers up: what was done there is not what was done here."""
    google.answers(json_answer({"operations": [op(1), operation("enterprises/LC1/devices/d12/operations/1")]}))
    assert await channel.operations(device()) == Unreachable("the answer is not about this device")


async def test_a_list_without_end(google: Google, channel: AmapiChannel) -> None:
    google.api = lambda _: json_answer({"operations": [op(1)], "nextPageToken": "same"})
    assert await channel.operations(device()) == Unreachable("the list of operations does not end")
    assert len(google.asked) == 2

    def endless(seen: Seen) -> Action:
        return json_answer({"nextPageToken": seen.query.get("pageToken", "") + "x"})

    google.api = endless
    assert await channel.operations(device()) == Unreachable("the list of operations does not end")
    assert len(google.asked) == 2 + MAX_PAGES


async def test_a_device_that_google_does_not_know(google: Google, channel: AmapiChannel) -> None:
    google.answers(error(404, GONE), error(500, GONE))
    assert await channel.operations(device()) == Gone(GONE)
    assert await channel.operations(device()) == Gone(GONE)
    assert isinstance(await channel.operations(device("phone")), Gone)


async def test_when_to_ask_again(google: Google, channel: AmapiChannel) -> None:
    google.token_answers = [Answer(429, b"", {"Retry-After": "5"})]
    google.answers(error(429, "Quota", headers={"Retry-After": "8"}))
    assert await channel.operations(device()) == Unreachable("the token endpoint gave no token (429)", 5.0)
    assert await channel.operations(device()) == Unreachable("Google answered 429", 8.0)


@pytest.mark.parametrize("is_gone", [False, True])
async def test_what_time_it_is_for_google(
    google: Google, channel: AmapiChannel, monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    now = [1000.0]
    monkeypatch.setattr("heliograph.channels.amapi._now", lambda: now[0])
    date, at = {"Date": "Tue, 24 Nov 2026 10:00:00 GMT"}, 1_795_514_400_000_000
    google.answers(
        Answer(200, b"<html>", date),
        Answer(404, b"<html>", date),
        error(404, GONE, headers=date) if is_gone else Answer(200, b"{}", date),
        Answer(200, b"{}", {}),
    )
    for _ in range(2):
        await channel.operations(device())
        assert channel.time() is None
    for heard in (0, 5):
        now[0] += heard
        await channel.operations(device())
        assert channel.time() == at + heard * 1_000_000
    now[0] += 3600
    assert channel.time() is None  # two clocks drift apart


# ---------------------------------------------------------------- devices


async def test_devices_come_page_by_page(google: Google, channel: AmapiChannel) -> None:
    google.answers(json_answer({"devices": [{"name": "d1"}], "nextPageToken": "a+/="}), json_answer({}))
    assert await channel.device_page("enterprises/LC1", "") == ListPage([{"name": "d1"}], "a+/=")
    assert await channel.device_page("enterprises/LC1", "a+/=") == ListPage([])
    assert [(seen.path, seen.query) for seen in google.asked] == [
        ("/v1/enterprises/LC1/devices", {"pageSize": "100"}),
        ("/v1/enterprises/LC1/devices", {"pageSize": "100", "pageToken": "a+/="}),
    ]


@pytest.mark.parametrize("status", [401, 403, 429, 503])
async def test_a_refusal_says_with_what_status(google: Google, channel: AmapiChannel, status: int) -> None:
    google.answers(error(status, "no"), error(status, "no"))
    page = await channel.device_page("enterprises/LC1", "")
    assert isinstance(page, Unreachable)
    assert page.status == status


async def test_a_page_of_devices_that_report_much_is_read(google: Google, channel: AmapiChannel) -> None:
    """A hundred devices with the reports that a policy may ask for."""
    devices = [{"name": f"d{n}", "applicationReports": ["x" * 99_000]} for n in range(100)]
    google.answers(json_answer({"devices": devices}))
    page = await channel.device_page("enterprises/LC1", "")
    assert isinstance(page, ListPage)
    assert len(page.items) == 100


async def test_a_page_that_leaves_something_out_is_none(google: Google, channel: AmapiChannel) -> None:
    pages = [{"devices": {}}, {"devices": [], "unreachable": ["x"]}, {"devices": [], "nextPageToken": 7}]
    google.answers(*(json_answer(page) for page in pages))
    for _ in pages:
        assert isinstance(await channel.device_page("enterprises/LC1", ""), Unreachable)
    assert await channel.device_page("enterprises/LC1/devices/d", "") == Gone("not the name of an enterprise")


# ---------------------------------------------------------------- get


async def test_one_operation_without_its_secrets(google: Google, channel: AmapiChannel) -> None:
    google.answers(json_answer(operation(metadata={"type": "ADD_ESIM", "addEsimParams": {"activationCode": "c"}})))
    assert await channel.operation(OPERATION_NAME) == operation(metadata={"type": "ADD_ESIM", "addEsimParams": {}})
    assert google.asked[0].path == f"/v1/{OPERATION_NAME}"


async def test_another_operation_than_the_one_asked_for_is_no_answer(google: Google, channel: AmapiChannel) -> None:
    google.answers(json_answer(op(5)), json_answer({"done": True}))
    assert isinstance(await channel.operation(OPERATION_NAME), Unreachable)
    assert isinstance(await channel.operation(OPERATION_NAME), Unreachable)


async def test_an_operation_that_is_gone(google: Google, channel: AmapiChannel) -> None:
    google.answers(error(404, GONE), error(404, ""))
    assert await channel.operation(OPERATION_NAME) == Gone(GONE)
    assert isinstance(await channel.operation(OPERATION_NAME), Gone)
    for name in ("", DEVICE_NAME, f"{OPERATION_NAME}/x", f"{DEVICE_NAME}/operations/.."):
        assert isinstance(await channel.operation(name), Gone)
        assert isinstance(await channel.cancel(name), CancelRefused)
    assert len(google.asked) == 2


# ---------------------------------------------------------------- cancel


async def test_the_request_to_cancel(google: Google, channel: AmapiChannel) -> None:
    google.answers(json_answer({}))
    assert await channel.cancel(OPERATION_NAME) == CancelTaken()
    (seen,) = google.asked
    assert (seen.method, seen.path, seen.body) == ("POST", f"/v1/{OPERATION_NAME}:cancel", b"")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(400, "Finished", "FAILED_PRECONDITION"), CancelRefused(400, "Finished")),
        (error(404, GONE), CancelRefused(404, GONE)),
        (error(500, GONE), CancelRefused(500, GONE)),
        (error(501, "No"), CancelRefused(501, "No")),
        (Answer(501, b"<html>"), Unreachable("Google answered 501")),
        (Answer(400, b"<html>"), Unreachable(f"Google answered 400{NOT_ITS_WORD}")),
        (Answer(407, b"<html>"), Unreachable(f"Google answered 407{NOT_ITS_WORD}")),
        (error(429, "Quota", headers={"Retry-After": "8"}), Unreachable("Google answered 429", 8.0)),
        (error(409, "The operation was aborted.", "ABORTED"), Unreachable("Google answered 409")),
        (error(500, "Internal"), Unreachable("Google answered 500")),
        (error(503, "Unavailable"), Unreachable("Google answered 503")),
        (error(403, "No"), Unreachable("Google answered 403: the credentials may not do this")),
        (Answer(404, b"<html>"), Unreachable("404, but not from the API: is the base address right?")),
        (Answer(200, b""), Unreachable("200 without a JSON object")),
        (Raw(b""), Unreachable("RemoteProtocolError")),
    ],
)
async def test_answers_to_a_cancel(google: Google, channel: AmapiChannel, answer: Action, expected: object) -> None:
    google.answers(answer)
    assert await channel.cancel(OPERATION_NAME) == expected


@pytest.mark.parametrize(
    ("answer", "is_unsure"),
    [
        (Raw(b""), True),
        (Answer(200, b""), True),
        (Answer(302, b""), True),
        (error(500, "Internal"), True),
        (Answer(503, b"<html>"), True),
        (error(503, "Unavailable"), False),
        (error(429, "Quota"), False),
        (error(403, "No"), False),
        (Answer(407, b"<html>"), False),
    ],
)
async def test_what_may_have_cancelled_without_saying_so(
    google: Google, channel: AmapiChannel, answer: Action, is_unsure: bool
) -> None:
    google.answers(answer)
    found = await channel.cancel(OPERATION_NAME)
    assert isinstance(found, Unreachable)
    assert found.is_unsure is is_unsure
    google.token_answers = [Answer(500)]
    google.api = lambda _: error(401, "expired")
    unsent = await channel.cancel(OPERATION_NAME)
    assert isinstance(unsent, Unreachable)
    assert unsent.is_unsure is False


async def test_every_status_has_a_meaning(google: Google, channel: AmapiChannel) -> None:
    for status in range(200, 600):
        google.api = partial(_answer, Answer(status, b"<html>"))
        assert isinstance(await channel.operations(device()), Gone | Unreachable), status
        assert isinstance(await channel.operation(OPERATION_NAME), Gone | Unreachable), status
        assert isinstance(await channel.cancel(OPERATION_NAME), CancelRefused | Unreachable), status


def _answer(answer: Action, _: Seen) -> Action:
    return answer
