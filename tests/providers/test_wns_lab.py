"""The provider against the emulated WNS, from the access token to the device."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from heliograph.domain.fields import Fields
from heliograph.ports.push import (
    Accepted,
    Misconfigured,
    Outcome,
    ProviderPlugin,
    PushMessage,
    Rejected,
    RetryLater,
    Works,
)
from heliograph.providers import wns
from heliograph.providers.wns.answers import Verdict
from heliograph.providers.wns.client import Wns
from heliograph_lab.kernel import Kernel
from heliograph_lab.wns import Notification, WnsEmulator
from heliograph_lab.wns.model import Step
from tests.lab.serving import serving, until
from tests.providers.samples import NOTIFICATION, SILENT, WAKE, target, tools

SID = "ms-app://s-1-15-2-1-2-3-4-5-6-7"
OTHER_SID = "ms-app://s-1-15-2-7-6-5-4-3-2-1"
CLIENT = "66666666-7777-8888-9999-000000000000"
DAY = 86_400
PLUGIN: ProviderPlugin = wns.PLUGIN


@dataclass
class World:
    """The emulator, and two apps that have accounts: one of the Store, one of the Windows App SDK."""

    kernel: Kernel
    emulator: WnsEmulator
    store: Wns
    sdk: Wns

    def paths(self) -> list[str]:
        return [request.path for request in self.kernel.requests.items("wns")]


def account(url: str, **identity: str) -> Wns:
    settings = {**identity, "clientSecret": "s3cret", "loginUrl": url, "channelHosts": urlsplit(url).netloc}
    app = PLUGIN.build(PLUGIN.read_config(Fields(settings)), tools())
    assert isinstance(app, Wns)
    return app


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    kernel = Kernel(tmp_path / "lab")
    emulator = WnsEmulator(kernel)
    async with serving(emulator.app) as url:
        emulator.base_url = url
        store = account(url, packageSid=SID)
        sdk = account(url, tenantId="my-tenant.example", clientId=CLIENT)
        yield World(kernel, emulator, store, sdk)
        await store.close()
        await sdk.close()
    await emulator.stop()
    kernel.close()


async def send(app: Wns, uri: str, message: PushMessage = WAKE) -> Outcome:
    assert PLUGIN.check_token("channel", uri) is None
    return await app.send(message, target("wns", uri))


@pytest.mark.parametrize("service", ["store", "sdk"])
async def test_every_kind_of_push_reaches_a_connected_device(world: World, service: str) -> None:
    app = getattr(world, service)
    uri = await world.emulator.register(SID if service == "store" else CLIENT, "d1")
    got: asyncio.Queue[Notification] = asyncio.Queue()
    await world.emulator.connect(uri, got.put)
    for message in (WAKE, NOTIFICATION, SILENT):
        outcome = await send(app, uri, message)
        assert isinstance(outcome, Accepted)
        assert len(outcome.reference) == 16
        assert outcome.evidence["wnsStatus"] == "received"
        assert outcome.evidence["deviceConnection"] == "connected"
        notification = await got.get()
        payload = notification.payload
        assert (payload["id"], payload["kind"]) == (message.id, message.kind)
        assert (payload.get("title"), payload.get("body")) == (message.title, message.body)
        assert payload.get("data") == message.data
        assert notification.expiration is not None
    assert world.paths().count("/") == 3
    assert len(world.paths()) == 4  # one access token for all


async def test_a_wake_up_waits_for_a_device_and_an_older_one_gives_way(world: World) -> None:
    uri = await world.emulator.register(SID, "d1")
    for message in (WAKE, SILENT):
        outcome = await send(world.store, uri, message)
        assert isinstance(outcome, Accepted)
        assert outcome.evidence["deviceConnection"] == "disconnected"
    got: list[Notification] = []

    async def take(notification: Notification) -> None:
        got.append(notification)

    await world.emulator.connect(uri, take)
    await until(lambda: bool(got))
    assert [notification.payload["id"] for notification in got] == [SILENT.id]


async def test_an_access_token_that_has_ended_is_renewed(world: World) -> None:
    uri = await world.emulator.register(SID, "d1")
    assert isinstance(await send(world.store, uri), Accepted)
    await world.kernel.clock.advance(DAY)  # of which the server knows nothing
    assert isinstance(await send(world.store, uri), Accepted)
    assert world.paths() == ["/accesstoken.srf", "/", "/", "/accesstoken.srf", "/"]
    assert isinstance(await send(world.store, uri), Accepted)
    assert len(world.paths()) == 6


async def test_a_channel_that_has_ended(world: World) -> None:
    uri = await world.emulator.register(SID, "d1")
    assert isinstance(await send(world.store, uri), Accepted)
    await world.kernel.clock.advance(30 * DAY)
    outcome = await send(world.store, uri)
    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.token_gone) == (Verdict.GONE, True)
    assert outcome.evidence["error"] == "The channel expired"
    assert isinstance(await send(world.store, await world.emulator.register(SID, "d1")), Accepted)


async def test_a_channel_that_never_was(world: World) -> None:
    outcome = await send(world.store, f"{world.emulator.base_url}/?token=nobody")
    assert isinstance(outcome, Rejected)
    assert outcome.token_gone


async def test_limits_of_a_channel_and_of_the_app(world: World) -> None:
    uri, other = [await world.emulator.register(SID, owner) for owner in ("d1", "d2")]
    world.emulator.settings.channel_per_minute, world.emulator.settings.app_per_minute = 1, 3
    assert isinstance(await send(world.store, uri), Accepted)
    outcome = await send(world.store, uri)
    assert isinstance(outcome, RetryLater)
    assert (outcome.reason, outcome.account_wide) == (Verdict.CHANNEL_LIMIT, False)
    assert isinstance(await send(world.store, other), Accepted)
    outcome = await send(world.store, other)
    assert isinstance(outcome, RetryLater)
    assert (outcome.reason, outcome.account_wide, outcome.after_s) == (Verdict.LIMIT, True, 60.0)


async def test_what_is_dropped_is_no_success(world: World) -> None:
    world.emulator.settings.toasts_kept = 0
    uri = await world.emulator.register(SID, "d1")
    outcome = await send(world.store, uri, NOTIFICATION)
    assert isinstance(outcome, RetryLater)
    assert (outcome.reason, outcome.uncertain, outcome.account_wide) == (Verdict.DROPPED, False, False)
    assert (outcome.evidence["wnsStatus"], outcome.evidence["deviceConnection"]) == ("dropped", "disconnected")


async def test_credentials_of_another_app(world: World) -> None:
    uri = await world.emulator.register(OTHER_SID, "d1")
    for app in (world.store, world.sdk):
        outcome = await send(app, uri)
        assert isinstance(outcome, Rejected)
        assert (outcome.reason, outcome.token_gone) == (Verdict.OTHER_APP, True)


async def test_a_wrong_secret(world: World) -> None:
    assert isinstance(await world.store.probe(), Works)
    await world.emulator.store.put_apps({SID: "another", CLIENT: "another"})
    assert await world.store.probe() == Misconfigured("the token service gave no token (400 invalid_client)")
    expected = Misconfigured("the token service gave no token (401 invalid_client AADSTS7000215)")
    assert await world.sdk.probe() == expected
    assert await send(world.sdk, await world.emulator.register(CLIENT, "d1")) == expected


async def test_a_blocked_sender_and_a_service_that_is_down(world: World) -> None:
    uri = await world.emulator.register(SID, "d1")
    channel = world.emulator.store.channels()[0]
    world.emulator.script(channel, [Step(status=410, description="Domain Blocked"), Step(status=503, retry_after=9)])
    blocked, down, fine = [await send(world.store, uri) for _ in range(3)]
    assert isinstance(blocked, Misconfigured)
    assert isinstance(down, RetryLater)
    assert (down.after_s, down.uncertain) == (9.0, False)
    assert isinstance(fine, Accepted)


async def test_an_answer_that_is_lost_is_uncertain(world: World) -> None:
    uri = await world.emulator.register(SID, "d1")
    rule = {"service": "wns", "match": {"path": "^/$"}, "times": 1}
    world.kernel.faults.replace([{**rule, "action": {"cut": "after"}}])
    outcome = await send(world.store, uri)
    assert isinstance(outcome, RetryLater)
    assert outcome.uncertain
    assert len(world.emulator.store.waiting(world.emulator.store.channels()[0].id)) == 1


async def test_a_token_service_that_is_down(world: World) -> None:
    uri = await world.emulator.register(SID, "d1")
    rule = {"service": "wns", "match": {"path": "accesstoken"}, "times": 1}
    world.kernel.faults.replace([{**rule, "action": {"status": 503, "retryAfter": 5}}])
    outcome = await send(world.store, uri)
    assert outcome == RetryLater("the token service gave no token (503)", 5.0, account_wide=True)
    assert isinstance(await send(world.store, uri), Accepted)
