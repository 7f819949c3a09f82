"""The endpoint that Google's Pub/Sub pushes to: who is let in, and which answers make a message come again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heliograph.app.setup import add_enterprise
from heliograph.domain.errors import NoToken, Unauthenticated
from heliograph.http.answers import Answer, Request
from heliograph.http.google_notifications import GoogleNotifications
from heliograph.http.problems import Problem
from heliograph.ports.channel import Unreachable
from tests.app.conftest import DEVICE_NAME, Desk
from tests.app.telling import ENTERPRISE_NAME, enterprise_of, message

HOW = {"push_audience": "https://mdm.example", "push_email": "push@p.example"}


async def post(desk: Desk, body: bytes, token: str | None = "genuine", enterprise_id: str | None = None) -> Answer:
    if (await enterprise_of(desk)).push_email is None:
        await add_enterprise(desk.services, desk.organization, ENTERPRISE_NAME, HOW)
    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    path = {"enterpriseId": enterprise_id or (await enterprise_of(desk)).id.upper()}
    return await GoogleNotifications(desk.services).take(Request({"headers": headers}, path, body))


def wrapped(raw: Any) -> bytes:
    return json.dumps({"subscription": "projects/p/subscriptions/s", "message": raw}).encode()


REPORT = wrapped(message("STATUS_REPORT", {"name": DEVICE_NAME, "state": "DISABLED"}))


async def test_a_report_is_taken(desk: Desk) -> None:
    assert (await post(desk, REPORT)).status == 200
    device = await desk.work.devices.find_by_external_name(DEVICE_NAME)
    assert device is not None
    assert device.state == "DISABLED"


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"{}", b'{"message":5}', b"[" * 5000, wrapped({})])
async def test_what_cannot_be_understood_is_acknowledged(desk: Desk, body: bytes) -> None:
    assert (await post(desk, body)).status == 200


async def test_what_is_not_known_here_yet_comes_again(desk: Desk) -> None:
    raw = message("COMMAND", {"name": f"{DEVICE_NAME}/operations/1", "done": True}, desk.clock.now() / 1e6)
    with pytest.raises(Problem) as refused:
        await post(desk, wrapped(raw))
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "10"})


async def test_nobody_else_is_let_in(desk: Desk) -> None:
    with pytest.raises(NoToken):
        await post(desk, REPORT, token=None)
    with pytest.raises(Unauthenticated):
        await post(desk, REPORT, token="forged")
    with pytest.raises(Unauthenticated):
        await post(desk, REPORT, enterprise_id="0" * 24)
    await add_enterprise(desk.services, desk.organization, ENTERPRISE_NAME, {"push_audience": "", "push_email": "x@y"})
    with pytest.raises(Unauthenticated):
        await post(desk, REPORT)
    device = await desk.work.devices.find_by_external_name(DEVICE_NAME)
    assert device is not None
    assert device.state == "ACTIVE"


async def test_a_body_that_is_too_large_is_acknowledged_for_google_alone(desk: Desk) -> None:
    await post(desk, REPORT)  # how it is pushed to is said now
    endpoint, path = GoogleNotifications(desk.services), {"enterpriseId": (await enterprise_of(desk)).id}
    for token, refusal in ((None, NoToken), (b"forged", Unauthenticated)):
        headers = [] if token is None else [(b"authorization", b"Bearer " + token)]
        with pytest.raises(refusal):
            await endpoint.pass_over(Request({"headers": headers}, path, b""))
    genuine = Request({"headers": [(b"authorization", b"Bearer genuine")]}, path, b"")
    assert (await endpoint.pass_over(genuine)).status == 200


async def test_a_token_that_cannot_be_checked_now_is_no_refusal(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(*_: str) -> Unreachable:
        return Unreachable("keys")

    monkeypatch.setattr(desk.services.channels, "is_from_upstream", unreachable)
    with pytest.raises(Problem) as refused:
        await post(desk, REPORT)
    assert refused.value.status == 503
