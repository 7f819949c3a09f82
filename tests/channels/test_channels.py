"""One channel per enterprise, built from what is stored now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from heliograph.channels import AmapiChannels, AmapiSettings
from heliograph.domain.devices import Enterprise
from heliograph.domain.errors import InvalidInput
from heliograph.ports.channel import Channels, ManagementChannel, NotTaken, Operations, Taken, TooMuch
from tests.channels.google import Google, account, account_file, command, device, operation
from tests.support.sealing import TestBox
from tests.support.secrets_in_logs import LogWatch
from tests.support.wire import closed_port, json_answer

ORG, ENTERPRISE = "1" * 24, "3" * 24


class Stored:
    """What a loader would read from the database."""

    def __init__(self, enterprise: Enterprise) -> None:
        self.enterprise: Enterprise | None = enterprise

    async def load(self, organization_id: str, enterprise_id: str) -> Enterprise | None:
        found = self.enterprise
        return found if found and (found.organization_id, found.id) == (organization_id, enterprise_id) else None


@pytest.fixture
def stored(google: Google) -> Stored:
    sealed = TestBox().seal(account_file(google.token_uri))
    return Stored(Enterprise(ENTERPRISE, ORG, "android", "Test", 0, sealed, google.wire.url))


@pytest.fixture
async def channels(stored: Stored) -> AsyncIterator[AmapiChannels]:
    settings = AmapiSettings(read_timeout_s=30)
    channels = AmapiChannels(stored.load, TestBox(), settings)
    yield channels
    await channels.close()


async def test_it_works_from_sealed_credentials(google: Google, channels: AmapiChannels) -> None:
    google.answers(json_answer(operation()))
    channel = await channels.channel(ORG, ENTERPRISE)
    assert channel is not None
    assert isinstance(await channel.issue(device(), command(), {"duration": "1s"}, 30), Taken)


async def test_it_fits_the_ports(channels: AmapiChannels) -> None:
    port: Channels = channels
    channel: ManagementChannel | None = await port.channel(ORG, ENTERPRISE)
    assert channel is not None


async def test_of_a_checked_file_only_what_is_needed_is_stored(
    google: Google, stored: Stored, channels: AmapiChannels
) -> None:
    raw = account_file(google.token_uri, auth_uri="https://x", private_key_id=None)
    kept = channels.check_credentials(raw)
    assert json.loads(kept) == account(google.token_uri, private_key_id=None)
    assert stored.enterprise is not None
    stored.enterprise = replace(stored.enterprise, credentials=TestBox().seal(kept))
    assert await channels.channel(ORG, ENTERPRISE) is not None
    with pytest.raises(InvalidInput, match="cut off"):
        channels.check_credentials(raw[:100])


async def test_one_channel_is_kept(channels: AmapiChannels) -> None:
    found = await asyncio.gather(*(channels.channel(ORG, ENTERPRISE) for _ in range(5)))
    assert found[0] is not None
    assert len(set(found)) == 1


async def test_no_channel_without_usable_credentials(
    google: Google,
    stored: Stored,
    channels: AmapiChannels,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    watch = LogWatch(caplog, capsys)
    good = stored.enterprise
    assert good is not None
    assert await channels.channel("9" * 24, ENTERPRISE) is None
    for useless in (
        None,
        replace(good, platform="aosp"),
        replace(good, credentials=None),
        replace(good, credentials=TestBox(b"other").seal(account_file(google.token_uri))),
        replace(good, credentials=TestBox().seal(b'{"private_key": "canary5"')),
        replace(good, credentials=TestBox().seal(account_file(google.token_uri, private_key="canary5"))),
    ):
        stored.enterprise = useless
        assert await channels.channel(ORG, ENTERPRISE) is None
    watch.assert_none_of(["canary5"])


async def test_a_loader_that_answers_with_anothers_enterprise_is_not_believed(
    stored: Stored, channels: AmapiChannels
) -> None:
    assert stored.enterprise is not None
    stored.enterprise = replace(stored.enterprise, organization_id="9" * 24)

    async def careless(organization_id: str, enterprise_id: str) -> Enterprise | None:
        return stored.enterprise

    assert await AmapiChannels(careless, TestBox()).channel(ORG, ENTERPRISE) is None


async def test_new_credentials_or_address_replace_it_while_calls_in_flight_end(
    google: Google, stored: Stored, channels: AmapiChannels
) -> None:
    google.api = lambda _: json_answer({})
    old = await channels.channel(ORG, ENTERPRISE)
    assert old is not None
    assert stored.enterprise is not None
    assert await old.operations(device()) == Operations([])
    google.wire.got_one.clear()
    google.wire.may_answer.clear()
    in_flight = asyncio.create_task(old.operations(device()))
    await google.wire.got_one.wait()
    stored.enterprise = replace(stored.enterprise, api_url=f"{google.wire.url}/other/")
    new = await channels.channel(ORG, ENTERPRISE)
    google.wire.may_answer.set()
    assert new is not None
    assert new is not old
    assert await in_flight == Operations([])
    assert await new.operations(device()) == Operations([])
    assert google.asked[-1].path.startswith("/other/v1/enterprises/")
    # Whoever still holds the old one learns that nothing was sent.
    assert isinstance(await old.issue(device(), command(), {"duration": "1s"}, 30), NotTaken)


async def test_the_base_address_of_the_settings_holds_where_the_enterprise_names_none(
    google: Google, stored: Stored
) -> None:
    assert stored.enterprise is not None
    stored.enterprise = replace(stored.enterprise, api_url=None)
    channels = AmapiChannels(stored.load, TestBox(), AmapiSettings(base_url=await closed_port()))
    channel = await channels.channel(ORG, ENTERPRISE)
    assert channel is not None
    assert await channel.issue(device(), command(), {"duration": "1s"}, 30) == NotTaken("ConnectError")
    await channels.close()
    assert google.asked == []


async def test_the_largest_message_can_be_pulled_and_two_of_them_are_too_much(google: Google, stored: Stored) -> None:
    channels = AmapiChannels(stored.load, TestBox(), AmapiSettings(pubsub_url=google.wire.url))
    assert stored.enterprise is not None
    subscription = await channels.subscription(replace(stored.enterprise, subscription="projects/p/subscriptions/s"))
    assert subscription is not None
    message = {"data": "A" * 13_400_000, "attributes": {"notificationType": "COMMAND"}, "messageId": "7"}
    waiting = [{"ackId": f"a{n}", "message": message} for n in range(2)]
    google.answers(json_answer({"receivedMessages": waiting[:1]}), json_answer({"receivedMessages": waiting}))
    received = await subscription.pull(1)
    assert isinstance(received, list)
    assert [(item.ack_id, item.notification.fault) for item in received] == [("a0", "the data is too large")]
    assert await subscription.pull(2) == TooMuch()
    await channels.close()
