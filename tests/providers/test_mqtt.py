"""MQTT: pushes through a real broker, and on the wire what no broker would answer."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest
import trustme

from heliograph.domain.devices import PushTarget
from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.ports.push import (
    Accepted,
    CannotTell,
    CannotWithdraw,
    Misconfigured,
    Outcome,
    PushMessage,
    Rejected,
    RetryLater,
    Unavailable,
    Works,
)
from heliograph.providers import mqtt
from heliograph.providers.mqtt import Mqtt, Verdict, link
from heliograph_protocol.messages import PushOffer
from tests.providers.samples import MESSAGES, NOTIFICATION, WAKE, Contract, tools
from tests.support.mosquitto import PREFIX, SERVER, Mosquitto, mosquitto
from tests.support.mqtt_wire import CONNECTED, acknowledged, as_broker, connected_with, refused
from tests.support.wire import Action, Hang, Raw, Seen, Wire

DEVICE, OTHER = "d" * 24, "e" * 24
TOPIC = f"{PREFIX}/{DEVICE}/mdmAgent"
PASSWORD = "canary-PASSWORD-19"
WRONG: list[dict[str, Any]] = [
    {},
    {"url": "https://broker.example"},
    {"url": "mqtt://u:canary-PASSWORD-19@broker.example"},
    {"url": "mqtt://broker.example/path"},
    {"url": "mqtt://broker.example:0"},
    {"url": "mqtt://broker.example", "topicPrefix": "a/+/b"},
    {"url": "mqtt://broker.example", "topicPrefix": "a/#"},
    {"url": "mqtt://broker.example", "topicPrefix": "$SYS"},
    {"url": "mqtt://broker.example", "topicPrefix": "a//b"},
    {"url": "mqtt://broker.example", "topicPrefix": "a/"},
    {"url": "mqtt://broker.example", "password": PASSWORD},
    {"url": "mqtt://broker.example", "clientId": "a b"},
    {"url": "mqtt://broker.example", "ca": PASSWORD},
    {"url": "mqtt://broker.example", "usernane": "x"},
]


def contract(url: str) -> Contract:
    address = url.replace("http:", "mqtt:")
    config = {"url": address, "username": "heliograph", "password": PASSWORD}
    return Contract(config, [PASSWORD], "", wrong=WRONG, bad_tokens=[TOPIC, "x"], backs_off=True, speak=as_broker)


def build(config: dict[str, Any], timeout_s: float = 30) -> Mqtt:
    provider = mqtt.PLUGIN.build(mqtt.PLUGIN.read_config(Fields(config)), tools())
    assert isinstance(provider, Mqtt)
    provider._timeout_s = timeout_s
    return provider


async def send(provider: Mqtt, message: PushMessage = WAKE, device: str = DEVICE, token: str = "") -> Outcome:
    return await provider.send(message, PushTarget(device, "mdmAgent", "mqtt", "f" * 24, token, 0))


async def until_accepted(provider: Mqtt, message: PushMessage = WAKE) -> Accepted:
    """Send as the dispatcher does: again, after what the provider says."""
    async with asyncio.timeout(30):
        while not isinstance(outcome := await send(provider, message), Accepted):
            assert isinstance(outcome, RetryLater), outcome
            await asyncio.sleep(outcome.after_s or 0.05)
    return outcome


# ---------------------------------------------------------------- a real broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path, [DEVICE, OTHER]) as broker:
        yield broker


@pytest.fixture
async def provider(broker: Mosquitto) -> AsyncIterator[Mqtt]:
    provider = build(broker.account())
    yield provider
    await provider.close()


async def inbox(broker: Mosquitto, user: str = DEVICE, count: int = 1) -> list[aiomqtt.Message]:
    """What waits for a device, and the next that comes."""
    async with broker.device(user) as client, asyncio.timeout(30):
        messages = client.messages
        return [await anext(messages) for _ in range(count)]


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


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
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
        assert await doubting.probe() == Unavailable("the broker's certificate is not trusted", ANY_TIME)
        await doubting.close()


class _AnyTime(float):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and other >= 0

    __hash__ = None  # type: ignore[assignment]


ANY_TIME = _AnyTime()


# ---------------------------------------------------------------- what no broker would answer


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire().serving() as wire:
        as_broker(wire)
        yield wire


@pytest.fixture
async def app(wire: Wire) -> AsyncIterator[Mqtt]:
    app = build(contract(wire.url).config)
    yield app
    await app.close()


def answering(wire: Wire, code: int) -> None:
    def answer(seen: Seen) -> Action:
        return Raw(CONNECTED if seen.method == "CONNECT" else acknowledged(seen, code), keep=True)

    wire.handler = answer


ACKNOWLEDGED: list[tuple[int, Outcome]] = [
    (0x80, RetryLater(Verdict.LATER, evidence={"reasonCode": 0x80, "reason": "Unspecified error"})),
    (0x83, RetryLater(Verdict.LATER, evidence={"reasonCode": 0x83, "reason": "Implementation specific error"})),
    (0x87, Misconfigured(Verdict.TOPIC, {"reasonCode": 0x87, "reason": "Not authorized"})),
    (0x90, Misconfigured(Verdict.TOPIC, {"reasonCode": 0x90, "reason": "Topic name invalid"})),
    (0x91, RetryLater(Verdict.LATER, evidence={"reasonCode": 0x91, "reason": "Packet identifier in use"})),
    (
        0x97,
        RetryLater(Verdict.QUOTA, account_wide=True, evidence={"reasonCode": 0x97, "reason": "Quota exceeded"}),
    ),
    (0x99, Rejected(Verdict.REJECTED, evidence={"reasonCode": 0x99, "reason": "Payload format invalid"})),
    (0x00, Accepted(WAKE.id, evidence={"reasonCode": 0, "reason": "Success"})),
]


@pytest.mark.parametrize(("code", "expected"), ACKNOWLEDGED)
async def test_reasons_of_an_acknowledgement(wire: Wire, app: Mqtt, code: int, expected: Outcome) -> None:
    answering(wire, code)
    assert await send(app) == expected


@pytest.mark.parametrize(
    ("code", "verdict"), [(0x84, Verdict.SETTINGS), (0x86, Verdict.ACCOUNT), (0x8A, Verdict.ACCOUNT), (1, None)]
)
async def test_a_refused_account(wire: Wire, app: Mqtt, code: int, verdict: Verdict | None) -> None:
    wire.handler = lambda _: Raw(refused(code))
    outcome = await send(app)
    if verdict is None:  # no reason of MQTT 5
        assert isinstance(outcome, RetryLater | Misconfigured)
    else:
        assert outcome == Misconfigured(verdict, {"reasonCode": code})


@pytest.mark.parametrize("code", [0x88, 0x89, 0x97, 0x9F])
async def test_a_broker_that_has_no_time(wire: Wire, app: Mqtt, code: int) -> None:
    wire.handler = lambda _: Raw(refused(code))
    outcome = await send(app)
    assert isinstance(outcome, RetryLater)
    assert (outcome.reason, outcome.uncertain, outcome.account_wide) == (Verdict.LATER, False, True)


GARBAGE = [
    b"",
    b"\x20",
    b"\x20\xff\xff\xff\xff\xff\xff",
    b"\x20\x00",
    b"\x20\x03\x00\x00\x05",
    b"\x20\x05\x00\x00\x02\x7e\x00",
    b"\x40\x02\x00\x07",  # of no message that was sent
    b"\x00\x00",
    b"\xff" * 64,
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\x30\x02\xff\xff",
    b"\xe0\x00",
]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("data", GARBAGE)
async def test_garbage_in_place_of_a_broker(
    wire: Wire, data: bytes, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "ANSWER_S", 0.3)
    app = build(contract(wire.url).config)
    wire.handler = lambda _: Raw(data, keep=keep)
    outcome = await send(app)
    assert isinstance(outcome, RetryLater), outcome
    assert not outcome.uncertain
    assert isinstance(await app.probe(), Unavailable)
    await app.close()


@pytest.mark.parametrize("data", GARBAGE)
async def test_garbage_in_place_of_an_acknowledgement(wire: Wire, data: bytes) -> None:
    app = build(contract(wire.url).config, timeout_s=1)
    wire.handler = lambda seen: Raw(CONNECTED, keep=True) if seen.method == "CONNECT" else Raw(data, keep=True)
    outcome = await send(app)
    assert isinstance(outcome, RetryLater), outcome
    assert outcome.uncertain
    await app.close()


async def test_silence_before_a_connection_is_surely_not_sent(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "ANSWER_S", 0.2)
    wire.handler = lambda _: Hang()
    app = build(contract(wire.url).config)
    outcome = await send(app)
    assert isinstance(outcome, RetryLater)
    assert not outcome.uncertain
    await app.close()


async def test_silence_after_a_publish_is_uncertain_and_ends_the_connection(wire: Wire) -> None:
    wire.otherwise = Hang()
    app = build(contract(wire.url).config, timeout_s=0.3)
    assert await send(app) == RetryLater("the broker did not acknowledge it in time", uncertain=True)
    answering(wire, 0)
    assert isinstance(await until_accepted(app), Accepted)
    assert [seen.method for seen in wire.seen].count("CONNECT") == 2
    await app.close()


async def after(app: Mqtt, seconds: float) -> Outcome:
    """What comes of a push at once, where the broker answers."""
    async with asyncio.timeout(seconds):
        return await send(app)


async def test_brokers_that_do_not_answer_keep_no_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some take the connection and say nothing; to others there is none, which holds a thread."""
    connect, may_go_on = link.Connection._client_connect, threading.Event()
    held: list[str] = []

    def held_up(connection: link.Connection) -> None:
        if connection._client._username == b"unreachable":
            held.append("")
            may_go_on.wait(30)
        connect(connection)

    monkeypatch.setattr(link.Connection, "_client_connect", held_up)
    async with Wire().serving() as silent, Wire().serving() as well:
        as_broker(silent)
        as_broker(well)
        answering(well, 0)
        silent.handler = lambda _: Hang()
        shared = tools()

        def account(wire: Wire, organization_id: str, username: str = "x") -> Mqtt:
            config = mqtt.PLUGIN.read_config(Fields({**contract(wire.url).config, "username": username}))
            built = mqtt.PLUGIN.build(config, replace(shared, organization_id=organization_id))
            assert isinstance(built, Mqtt)
            return built

        sick = [account(silent, "acme") for _ in range(30)]
        sick += [account(well, "acme", "unreachable") for _ in range(30)]
        waiting = [asyncio.create_task(send(app)) for app in sick]
        async with asyncio.timeout(30):
            while len(held) < 8 or len(silent.seen) < 1:  # noqa: ASYNC110 - a list offers no event
                await asyncio.sleep(0.01)
        other = account(well, "other")
        assert isinstance(await after(other, 3), Accepted)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "at once"), 3)  # the loop's own threads are free
        assert len(held) == link.THREADS // 8
        may_go_on.set()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        keepers = [app._link._keeper for app in sick if app._link._keeper is not None]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await other.close()


async def test_a_cut_after_a_publish_is_uncertain(wire: Wire, app: Mqtt) -> None:
    wire.otherwise = Raw(b"")
    assert await send(app) == RetryLater("the connection was lost before the broker acknowledged it", uncertain=True)


async def test_a_connection_that_ends_as_soon_as_it_is_made(wire: Wire) -> None:
    """aiomqtt then waits for ever for the end of a connection that has ended before it began to wait."""
    app = build(contract(wire.url).config, timeout_s=5)
    wire.handler = lambda _: Raw(CONNECTED)
    answers = [await app.probe() for _ in range(6)]
    assert Unavailable("the broker does not answer in time") not in answers
    assert all(isinstance(answer, Unavailable) for answer in answers)
    answering(wire, 0)
    assert isinstance(await until_accepted(app), Accepted)
    await app.close()


async def test_no_more_in_flight_than_the_broker_grants(wire: Wire) -> None:
    """And what waited for room when the connection ended was surely not sent."""
    published = asyncio.Event()

    def answer(seen: Seen) -> Action:
        if seen.method == "CONNECT":
            return Raw(connected_with(b"\x21\x00\x03"), keep=True)  # Receive Maximum 3
        if sum(seen.method == "PUBLISH" for seen in wire.seen) == 3:
            published.set()
        return Raw(b"", keep=True)

    wire.handler = answer
    app = build(contract(wire.url).config, timeout_s=1)
    outcomes = await asyncio.gather(*(send(app) for _ in range(10)))
    assert published.is_set()
    assert sum(seen.method == "PUBLISH" for seen in wire.seen) == 3
    assert [isinstance(o, RetryLater) and o.uncertain for o in outcomes].count(True) == 3
    await app.close()


async def test_closing_waits_for_what_is_under_way(wire: Wire, app: Mqtt) -> None:
    answering(wire, 0)
    wire.may_answer.set()
    assert isinstance(await send(app), Accepted)
    wire.may_answer.clear()
    wire.got_one.clear()
    sending = asyncio.create_task(send(app))
    await wire.got_one.wait()
    await app.close()
    assert not sending.done()
    wire.may_answer.set()
    assert isinstance(await sending, Accepted)
    assert await send(app) == RetryLater("the client was closed", 0.0, account_wide=True)


async def test_an_account_leaves_no_connection_behind(wire: Wire) -> None:
    app = build(contract(wire.url).config)
    answering(wire, 0)
    await send(app)
    await app.close()
    assert wire.seen[-1].method == "DISCONNECT"


# ---------------------------------------------------------------- settings


def test_settings_as_they_are_kept() -> None:
    given = {"url": "mqtts://broker.example:8884", "username": "u", "password": "p", "topicPrefix": "a/b"}
    assert mqtt.PLUGIN.read_config(Fields(given)) == given


def test_settings_name_all_that_is_wrong() -> None:
    with pytest.raises(InvalidInput) as refusal:
        mqtt.PLUGIN.read_config(Fields({"url": "x", "password": PASSWORD, "topicPrefix": "#", "more": 1}))
    assert [fault.path for fault in refusal.value.fields] == ["more", "url", "username", "topicPrefix"]
    assert PASSWORD not in str(refusal.value)


def test_settings_that_decide_who_gets_the_password_are_addresses() -> None:
    assert mqtt.PLUGIN.addresses.keys() == {"url", "ca"}
