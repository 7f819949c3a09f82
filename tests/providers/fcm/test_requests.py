"""What is sent to FCM: the message, its address, its life."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from heliograph.ports.push import Accepted, PushMessage
from heliograph.providers.fcm.sending import MAX_LIFE_S, Fcm
from heliograph_protocol.messages import PushOffer
from tests.providers.fcm.rig import send
from tests.providers.samples import NOTIFICATION, SILENT, WAKE, target
from tests.providers.test_fcm import FID, NAME, TOKEN
from tests.support.wire import Wire
from tests.support.wire_http2 import Http2Wire


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
