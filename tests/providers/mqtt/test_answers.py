"""What a broker's words mean: reasons of an acknowledgement, refusals, garbage."""

from __future__ import annotations

import pytest

from heliograph.ports.push import Accepted, Misconfigured, Outcome, Rejected, RetryLater, Unavailable
from heliograph.providers.mqtt import Mqtt, Verdict, link
from tests.providers.mqtt.rig import build, send
from tests.providers.samples import WAKE
from tests.providers.test_mqtt import contract
from tests.support.mqtt_wire import CONNECTED, acknowledged, refused
from tests.support.wire import Action, Raw, Seen, Wire


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
    ("code", "says"), [(0x87, "Not authorized"), (0x8B, "Server shutting down"), (0x97, "Quota exceeded")]
)
async def test_why_the_broker_ends_the_connection(wire: Wire, app: Mqtt, code: int, says: str) -> None:
    """As some brokers refuse a topic. What they say need not be about this push, which they may have taken."""
    wire.handler = lambda seen: (
        Raw(CONNECTED, keep=True) if seen.method == "CONNECT" else Raw(bytes([0xE0, 2, code, 0]))
    )
    reason = "the broker ended the connection before it acknowledged it"
    assert await send(app) == RetryLater(reason, uncertain=True, evidence={"reasonCode": code, "reason": says})


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
