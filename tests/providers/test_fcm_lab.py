"""FCM against the emulator that Google's own library is tested with, with access tokens of the lab's token endpoint."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heliograph.domain.fields import Fields
from heliograph.ports.push import Accepted, Misconfigured, Outcome, PushMessage, Rejected, RetryLater, Tools, Works
from heliograph.providers.fcm import PLUGIN
from heliograph.providers.fcm.answers import Verdict
from heliograph.providers.fcm.sending import Fcm
from heliograph.providers.transport import Connections
from heliograph_lab.http2 import GoAway
from heliograph_lab.serve import Lab, LabOptions
from heliograph_protocol.messages import PushOffer
from tests.lab.fcm.conftest import Phone
from tests.providers.credentials import service_account
from tests.providers.samples import NOTIFICATION, SILENT, WAKE, target
from tests.providers.transport.clock import StandingClock

PROJECT = "my-project"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(LabOptions(state_dir=tmp_path / "lab"))
    await lab.start()
    yield lab
    await lab.stop()


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock(int(time.time()) * 1_000_000)


@pytest.fixture
async def tools(clock: StandingClock) -> AsyncIterator[Tools]:
    connections = Connections(clock)
    yield Tools(clock, connections)
    await connections.close()


def built(lab: Lab, tools: Tools, **changes: Any) -> Fcm:
    token_url = f"{lab.urls['amapiUrl']}/token"
    settings = {
        "serviceAccount": service_account(token_uri=token_url),
        "tokenUrl": token_url,
        "baseUrl": lab.urls["fcmUrl"],
        "ca": Path(lab.urls["caPath"]).read_text(),
    }
    provider = PLUGIN.build(PLUGIN.read_config(Fields(settings | changes)), tools)
    assert isinstance(provider, Fcm)
    return provider


@pytest.fixture
async def app(lab: Lab, tools: Tools) -> AsyncIterator[Fcm]:
    app = built(lab, tools)
    yield app
    await app.close()


@pytest.fixture
async def phone(lab: Lab) -> Phone:
    return Phone(lab.fcm, await lab.fcm.register(PROJECT, "d1/agent"))


async def send(app: Fcm, phone: Phone, message: PushMessage = WAKE) -> Outcome:
    return await app.send(message, target("fcm", phone.address))


def fault(lab: Lab, **action: Any) -> None:
    lab.kernel.faults.replace([{"service": "fcm", "action": action, "times": 1}])


def token_requests(lab: Lab) -> int:
    return sum(1 for request in lab.kernel.requests.items() if request.path == "/token")


async def test_messages_arrive_as_data_alone(app: Fcm, phone: Phone) -> None:
    await phone.online()
    for message in (WAKE, NOTIFICATION, SILENT):
        outcome = await send(app, phone, message)
        got = await phone.next()
        assert isinstance(outcome, Accepted)
        assert outcome.reference == got.name
        assert got.notification is None
        assert got.data.keys() == {"heliograph"}
        offer = msgspec.json.decode(got.data["heliograph"], type=PushOffer)
        assert (offer.id, offer.kind, offer.title, offer.data) == (
            message.id,
            message.kind,
            message.title,
            message.data,
        )
        assert got.priority == ("normal" if message is SILENT else "high")


async def test_a_message_that_is_too_large_costs_no_address(app: Fcm, phone: Phone) -> None:
    outcome = await send(app, phone, replace(SILENT, data={"x": "y" * 5000}))
    assert outcome == Rejected(Verdict.REJECTED, evidence={"status": 400, "code": "BAD_REQUEST"})


async def test_of_wakes_the_newest_waits_and_of_others_each(app: Fcm, phone: Phone) -> None:
    for number in range(3):
        await send(app, phone, replace(WAKE, id=f"{number}" * 24))
        await send(app, phone, replace(NOTIFICATION, id=f"{number + 5}" * 24))
    await phone.online()
    ids = [msgspec.json.decode((await phone.next()).data["heliograph"])["id"][0] for _ in range(4)]
    assert sorted(ids) == ["2", "5", "6", "7"]
    assert phone.got.empty()


async def test_installation_ids(lab: Lab, app: Fcm) -> None:
    phone = Phone(lab.fcm, await lab.fcm.register(PROJECT, "d1/agent", "fid"))
    await phone.online()
    assert isinstance(await app.send(WAKE, replace(target("fcm", phone.address), kind="fid")), Accepted)
    await phone.next()


async def test_addresses_that_are_none(lab: Lab, app: Fcm, phone: Phone) -> None:
    await lab.fcm.end(phone.address)
    assert await send(app, phone) == Rejected(
        Verdict.GONE, token_gone=True, evidence={"status": 404, "code": "UNREGISTERED"}
    )
    for damaged in (f"{phone.address}a", phone.address[:-1], "0123456789abcdef" * 4):
        assert await app.send(WAKE, target("fcm", damaged)) == Rejected(
            Verdict.NO_ADDRESS, token_gone=True, evidence={"status": 400, "code": "INVALID_ARGUMENT"}
        )
    other = Phone(lab.fcm, await lab.fcm.register("other-project", "d1/agent"))
    assert await send(app, other) == Rejected(
        Verdict.OTHER_PROJECT, token_gone=True, evidence={"status": 403, "code": "SENDER_ID_MISMATCH"}
    )


async def test_probe(lab: Lab, app: Fcm, tools: Tools) -> None:
    assert await app.probe() == Works("FCM takes the service account")
    assert lab.fcm.sent == {"delivered": 0, "stored": 0, "dropped": 0}
    stranger = built(lab, tools, projectId="other-project")
    assert await stranger.probe() == Misconfigured(f"{Verdict.ACCOUNT} (IAM_PERMISSION_DENIED)")
    await stranger.close()


async def test_access_tokens_are_few_and_renewed_before_their_end(
    lab: Lab, app: Fcm, phone: Phone, clock: StandingClock
) -> None:
    assert Counter(map(type, await asyncio.gather(*(send(app, phone) for _ in range(50))))) == {Accepted: 50}
    assert token_requests(lab) == 1
    for _ in range(6):
        clock.advance(600)
        await lab.kernel.clock.advance(600)
        assert isinstance(await send(app, phone), Accepted)
    # Four fifths of an hour are over after 48 minutes.
    assert token_requests(lab) == 2
    # No token was refused: nothing was sent twice.
    assert len(lab.kernel.requests.items("fcm")) == 56


async def test_an_access_token_that_died_early_is_replaced_at_once(lab: Lab, app: Fcm, phone: Phone) -> None:
    assert isinstance(await send(app, phone), Accepted)
    await lab.kernel.clock.advance(3700)  # ours has not moved: to us the token is good
    assert Counter(map(type, await asyncio.gather(*(send(app, phone) for _ in range(20))))) == {Accepted: 20}
    assert token_requests(lab) == 2


async def test_refusals_for_now(lab: Lab, app: Fcm, phone: Phone) -> None:
    fault(lab, status=429)
    assert await send(app, phone) == RetryLater(
        Verdict.LIMIT, 60.0, account_wide=True, evidence={"status": 429, "code": "QUOTA_EXCEEDED"}
    )
    lab.fcm.settings.requests_per_minute = 1
    await send(app, phone)
    over = await send(app, phone)
    assert isinstance(over, RetryLater)
    assert over.account_wide
    assert over.after_s is not None
    assert 0 < over.after_s <= 60
    lab.fcm.settings.requests_per_minute = 600_000
    fault(lab, status=503, retryAfter=4)
    assert await send(app, phone) == RetryLater(Verdict.LATER, 4.0, evidence={"status": 503, "code": "UNAVAILABLE"})
    fault(lab, status=400, reason="BAD_REQUEST")
    assert await send(app, phone) == Rejected(Verdict.REJECTED, evidence={"status": 400, "code": "BAD_REQUEST"})
    fault(lab, status=401, reason="THIRD_PARTY_AUTH_ERROR")
    third = await send(app, phone)
    assert isinstance(third, Rejected)
    assert (third.reason, third.token_gone) == (Verdict.THIRD_PARTY, True)


async def test_the_largest_message_is_taken(app: Fcm, phone: Phone) -> None:
    def sized(characters: int) -> PushMessage:
        return PushMessage("a" * 24, "silent", 60, data={"x": "y" * characters})

    most = max(size for size in range(3500, 4097) if PLUGIN.check(sized(size)) is None)
    assert isinstance(await send(app, phone, sized(most)), Accepted)
    assert await send(app, phone, sized(most + 1)) == Rejected(
        Verdict.REJECTED, evidence={"status": 400, "code": "BAD_REQUEST"}
    )


async def test_connections_that_end_in_order_lose_and_double_nothing(lab: Lab, app: Fcm, phone: Phone) -> None:
    lab.fcm.server.identify = lambda request: msgspec.json.decode(
        msgspec.json.decode(request.body)["message"]["data"]["heliograph"]
    )["id"]
    lab.fcm.server.plan = GoAway(after=100, graceful=True)
    await phone.online()
    messages = [replace(WAKE, id=f"{number:024x}") for number in range(600)]
    outcomes = await asyncio.gather(*(send(app, phone, message) for message in messages))
    assert Counter(map(type, outcomes)) == {Accepted: 600}
    assert lab.fcm.server.counts.duplicates() == {}
    assert lab.fcm.server.counts.goaways >= 4


async def test_a_cut_after_processing_is_uncertain(lab: Lab, app: Fcm, phone: Phone) -> None:
    await phone.online()
    fault(lab, cut="after")
    outcome = await send(app, phone)
    assert isinstance(outcome, RetryLater)
    assert outcome.uncertain
    assert isinstance(await send(app, phone), Accepted)
    first, second = await phone.next(), await phone.next()
    assert first.data == second.data  # one id: the agent drops the second
