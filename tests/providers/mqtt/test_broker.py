"""Pushes through a real broker: what waits, what is refused, what a kill costs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trustme

from heliograph.ports.push import (
    Accepted,
    CannotTell,
    CannotWithdraw,
    Misconfigured,
    Outcome,
    PushMessage,
    Rejected,
    RetryLater,
    Works,
)
from heliograph.providers import mqtt
from heliograph.providers.mqtt import Mqtt, Verdict
from heliograph_protocol.messages import PushOffer
from tests.providers.mqtt.rig import build, inbox, send, until_accepted
from tests.providers.samples import MESSAGES, NOTIFICATION, WAKE
from tests.providers.test_mqtt import DEVICE, OTHER, PASSWORD, TOPIC
from tests.support.mosquitto import PREFIX, SERVER, Mosquitto, mosquitto


@pytest.mark.parametrize("message", MESSAGES)
async def test_a_push_waits_in_the_session_of_a_device_that_is_away(
    broker: Mosquitto, provider: Mqtt, message: PushMessage
) -> None:
    await broker.subscribe(DEVICE, TOPIC)
    message = replace(message, life_s=message.life_s + 30)
    outcome = await send(provider, message)
    assert outcome == Accepted(message.id, evidence={"reasonCode": 0, "reason": "Success"})
    [got] = await inbox(broker)
    assert str(got.topic) == TOPIC
    assert (got.qos, got.retain) == (1, False)
    stated = got.properties.json() if got.properties else {}  # type: ignore[no-untyped-call]
    assert bytes.fromhex(stated["CorrelationData"]) == message.id.encode()
    assert 0 < stated["MessageExpiryInterval"] <= message.life_s
    assert isinstance(got.payload, bytes)
    assert msgspec.json.decode(got.payload, type=PushOffer) == PushOffer(
        id=message.id,
        kind=message.kind,  # type: ignore[arg-type]  # the port names the same three kinds
        expires_in_ms=message.life_s * 1000,
        command_id=message.command_id,
        title=message.title,
        body=message.body,
        data=message.data,
    )


async def test_without_a_session_the_broker_has_taken_it_all_the_same_and_says_so(provider: Mqtt) -> None:
    assert await send(provider) == Accepted(WAKE.id, evidence={"reasonCode": 16, "reason": "No matching subscribers"})


async def test_what_the_broker_took_can_be_neither_asked_for_nor_taken_back(provider: Mqtt) -> None:
    await send(provider)
    assert isinstance(await provider.status(WAKE.id, 1), CannotTell)
    assert await provider.withdraw(WAKE.id) == CannotWithdraw(
        "MQTT cannot take a message back from the queue of a device"
    )


async def test_what_a_full_queue_drops_was_accepted_all_the_same(tmp_path: Path) -> None:
    """Why an acknowledgement of the broker proves nothing: mosquitto says nothing of what it drops."""
    with mosquitto(tmp_path, [DEVICE], settings="max_queued_messages 3") as broker:
        await broker.subscribe(DEVICE, TOPIC)
        provider = build(broker.account())
        outcomes = [await send(provider, replace(WAKE, id=f"{number:024}")) for number in range(10)]
        assert {type(outcome) for outcome in outcomes} == {Accepted}
        await provider.close()
        async with broker.device(DEVICE) as client:
            await client.subscribe(TOPIC, qos=1)  # its answer comes after all that waited
            assert len(client.messages) == 3


async def test_a_push_whose_life_is_over_is_not_delivered(broker: Mosquitto, provider: Mqtt) -> None:
    await broker.subscribe(DEVICE, TOPIC)
    await send(provider, replace(WAKE, id="1" * 24, life_s=1))
    await send(provider, replace(WAKE, id="2" * 24))
    await asyncio.sleep(2.1)  # the broker counts in whole seconds
    [got] = await inbox(broker)
    assert isinstance(got.payload, bytes)
    assert json.loads(got.payload)["id"] == "2" * 24


async def test_a_device_gets_nothing_of_another_whatever_it_says(broker: Mosquitto, provider: Mqtt) -> None:
    """The broker's list keeps it from reading, and our topic does not follow what it registers."""
    assert mqtt.PLUGIN.tokens == {"topic": ""}
    for topic in (TOPIC, f"{PREFIX}/#", f"{PREFIX}/{OTHER}/mdmAgent"):
        await broker.subscribe(OTHER, topic)
    await send(provider, NOTIFICATION, token=f"{PREFIX}/{OTHER}/mdmAgent")
    await send(provider, WAKE, OTHER, token=TOPIC)
    async with broker.device(OTHER) as client, asyncio.timeout(30):
        assert json.loads((await anext(client.messages)).payload)["id"] == WAKE.id
        # What the session holds comes in order, so a message of our own at its end shows that nothing else is in it.
        await send(provider, replace(WAKE, id="9" * 24), OTHER)
        got = [json.loads((await anext(client.messages)).payload)["id"]]
        while got[-1] != "9" * 24:
            got.append(json.loads((await anext(client.messages)).payload)["id"])
    assert NOTIFICATION.id not in got


async def test_many_at_once_are_taken_although_few_may_be_under_way(broker: Mosquitto, provider: Mqtt) -> None:
    """mosquitto ends the connection of a client that exceeds its Receive Maximum of 20."""
    assert {type(outcome) for outcome in await asyncio.gather(*(send(provider) for _ in range(500)))} == {Accepted}
    assert broker.log().count("New client connected") == 1


async def test_a_wrong_password_is_told_and_found_mended(broker: Mosquitto) -> None:
    provider = build({**broker.account(), "password": PASSWORD})
    outcome = await send(provider)
    assert isinstance(outcome, Misconfigured)
    assert outcome.reason == Verdict.ACCOUNT
    assert isinstance(await provider.probe(), Misconfigured)
    broker.passwords[SERVER] = PASSWORD
    broker.stop()
    broker.start()
    assert isinstance(await provider.probe(), Works)
    assert isinstance(await send(provider), Accepted)
    await provider.close()


async def test_an_account_that_may_not_write_is_told(broker: Mosquitto) -> None:
    provider = build(broker.account(OTHER))
    expected = Misconfigured(Verdict.TOPIC, {"reasonCode": 135, "reason": "Not authorized"})
    assert await send(provider) == expected
    assert await provider.probe() == expected
    await provider.close()


async def test_a_broker_that_acknowledges_nothing_is_told_and_gets_nothing(tmp_path: Path) -> None:
    """It ends the connection of whoever asks for an acknowledgement, and with it what others have under way there."""
    with mosquitto(tmp_path, [DEVICE], listener="max_qos 0\n") as broker:
        provider = build(broker.account())
        assert await send(provider) == Misconfigured(Verdict.NO_ACKNOWLEDGEMENT)
        assert await provider.probe() == Misconfigured(Verdict.NO_ACKNOWLEDGEMENT)
        assert "Too high QoS" not in broker.log()
        broker.listener = "max_qos 1\n"
        await asyncio.to_thread(broker.stop)  # meanwhile the end of the connection is seen
        await asyncio.to_thread(broker.start)
        assert isinstance(await provider.probe(), Works)
        assert isinstance(await send(provider), Accepted)
        await provider.close()


async def test_what_is_too_large_for_the_broker_is_rejected(tmp_path: Path) -> None:
    with mosquitto(tmp_path, [DEVICE], settings="max_packet_size 300") as broker:
        provider = build(broker.account())
        outcome = await send(provider, replace(WAKE, data={"x": "y" * 300}))
        assert isinstance(outcome, Rejected), outcome
        assert outcome.reason.startswith(Verdict.TOO_LARGE)
        assert isinstance(await send(provider), Accepted)
        await provider.close()


async def test_the_size_is_that_on_the_wire(tmp_path: Path) -> None:
    """To the byte: mosquitto ends the connection of a client that sends one more than it announced."""
    with mosquitto(tmp_path, [DEVICE], settings="max_packet_size 300") as broker:
        provider = build(broker.account())
        outcomes = [await send(provider, replace(WAKE, data={"x": "y" * size})) for size in range(20, 120)]
        kinds = [type(outcome) for outcome in outcomes]
        most = kinds.count(Accepted)
        assert kinds == [Accepted] * most + [Rejected] * (len(kinds) - most)
        first = outcomes[most]
        assert isinstance(first, Rejected)
        assert first.reason == f"{Verdict.TOO_LARGE}: 301 bytes, at most 300"
        assert broker.log().count("New client connected") == 1
        await provider.close()


async def test_a_killed_broker_comes_back_and_what_it_had_saved_is_delivered(broker: Mosquitto, provider: Mqtt) -> None:
    await broker.subscribe(DEVICE, TOPIC)
    await send(provider, replace(WAKE, id="1" * 24))
    await broker.until_saved(b"1" * 24)
    broker.kill()
    outcome = await send(provider)
    assert isinstance(outcome, RetryLater), outcome
    broker.start()
    await until_accepted(provider, replace(WAKE, id="2" * 24))
    got = [json.loads(message.payload)["id"] for message in await inbox(broker, count=2)]
    assert got == ["1" * 24, "2" * 24]


async def test_pushes_during_kills_are_accepted_or_to_be_repeated(broker: Mosquitto, provider: Mqtt) -> None:
    """Whatever was on its way when the broker died: nothing fails for good, and in the end all are accepted."""
    outcomes: list[Outcome] = []

    async def deliver(number: int) -> None:
        message = replace(WAKE, id=f"{number:024}")
        while True:
            outcomes.append(outcome := await send(provider, message))
            if isinstance(outcome, Accepted):
                return
            assert isinstance(outcome, RetryLater), outcome
            await asyncio.sleep(outcome.after_s or 0.01)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(deliver(number))
            if number in (100, 200):
                await asyncio.to_thread(broker.kill)
                await asyncio.to_thread(broker.start)
            await asyncio.sleep(0)
    assert sum(isinstance(outcome, Accepted) for outcome in outcomes) == 300


async def test_tls_with_authorities_of_ones_own(tmp_path: Path) -> None:
    ca, stranger = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    cert = ca.issue_cert("127.0.0.1")
    cert.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    for index, blob in enumerate(cert.cert_chain_pems):
        blob.write_to_path(str(tmp_path / "cert.pem"), append=index > 0)
    files = f"certfile {tmp_path / 'cert.pem'}\nkeyfile {tmp_path / 'key.pem'}\n"
    with mosquitto(tmp_path, [DEVICE], listener=files) as broker:
        account = {**broker.account(), "url": f"mqtts://127.0.0.1:{broker.port}"}
        trusting = build({**account, "ca": ca.cert_pem.bytes().decode()})
        assert isinstance(await send(trusting), Accepted)
        await trusting.close()
        doubting = build({**account, "ca": stranger.cert_pem.bytes().decode()})
        assert await doubting.probe() == Misconfigured("the broker's certificate is not trusted")
        assert await send(doubting) == Misconfigured("the broker's certificate is not trusted")
        await doubting.close()
