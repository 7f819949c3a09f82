"""What APNs takes and refuses."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from heliograph_lab.apns import ApnsEmulator
from heliograph_lab.kernel import Kernel
from tests.lab.apns.conftest import TOPIC, Phone, Sender, pem
from tests.lab.http2.client import connected


def reason(answer: httpx.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json()["reason"]


async def test_accepted(sender: Sender, phone: Phone) -> None:
    message = str(uuid.uuid4())
    answer = await sender.push(phone.token, apns_id=message, apns_priority="5", apns_collapse_id="c" * 64)
    assert (answer.status_code, answer.content, answer.headers["apns-id"]) == (200, b"", message)
    assert answer.http_version == "HTTP/2"
    assert "apns-unique-id" not in answer.headers
    assert sender.apns.server.counts.processed_by_id == {message: 1}
    made = (await sender.push(phone.token)).headers["apns-id"]
    assert str(uuid.UUID(made)) == made


async def test_unique_id_in_the_sandbox(sender: Sender, phone: Phone) -> None:
    sender.apns.settings.sandbox = True
    unique = (await sender.push(phone.token)).headers["apns-unique-id"]
    assert str(uuid.UUID(unique)) == unique


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"apns_id": "no-uuid"}, (400, "BadMessageId")),
        ({"apns_topic": "com.example other"}, (400, "BadTopic")),
        ({"apns_topic": "com.example.other"}, (400, "DeviceTokenNotForTopic")),
        ({"apns_push_type": "loud"}, (400, "InvalidPushType")),
        ({"apns_priority": "7"}, (400, "BadPriority")),
        ({"apns_push_type": "background", "apns_priority": "10"}, (400, "BadPriority")),
        ({"apns_expiration": "soon"}, (400, "BadExpirationDate")),
        ({"apns_expiration": "-1"}, (400, "BadExpirationDate")),
        ({"apns_collapse_id": "c" * 65}, (400, "BadCollapseId")),
        ({"apns_collapse_id": "ü" * 33}, (400, "BadCollapseId")),
        ({"authorization": ""}, (403, "MissingProviderToken")),
    ],
)
async def test_headers(sender: Sender, phone: Phone, headers: dict[str, str], expected: tuple[int, str]) -> None:
    sent: dict[str, Any] = {name: value.encode() for name, value in headers.items()}
    answer = await sender.push(phone.token, **sent)
    assert reason(answer) == expected
    assert answer.headers["apns-id"]


async def test_no_topic(sender: Sender, phone: Phone) -> None:
    assert reason(await sender.push(phone.token, without=("apns-topic",))) == (400, "MissingTopic")


async def test_paths(sender: Sender, phone: Phone) -> None:
    assert reason(await sender.push("")) == (400, "MissingDeviceToken")
    assert reason(await sender.push("xyz")) == (400, "BadDeviceToken")
    assert reason(await sender.push("ab" * 32)) == (400, "BadDeviceToken")
    assert reason(await sender.client.post("/3/devices/x")) == (404, "BadPath")
    assert reason(await sender.client.get(f"/3/device/{phone.token}")) == (405, "MethodNotAllowed")
    assert (await sender.push(phone.token.upper())).status_code == 200
    sender.apns.settings.unknown_tokens = True
    assert (await sender.push("ab" * 32)).status_code == 200
    assert sender.apns.sent["dropped"] == 2  # the other one went to an offline phone, without expiration


MDM = {"apns_push_type": "mdm"}
BACKGROUND = {"apns_push_type": "background", "apns_priority": "5"}


def padded(size: int) -> bytes:
    return b'{"aps":{},"x":"' + b"x" * (size - 17) + b'"}'


@pytest.mark.parametrize(
    ("payload", "headers", "expected"),
    [
        (padded(4096), {}, None),
        (padded(4097), {}, (413, "PayloadTooLarge")),
        (padded(5120), {"apns_push_type": "voip"}, None),
        (padded(5121), {"apns_push_type": "voip"}, (413, "PayloadTooLarge")),
        (b"", {}, (400, "PayloadEmpty")),
        (b"{}", {}, (400, "PayloadEmpty")),
        (b"{", {}, (400, "LabBadPayload")),
        (b"\xff", {}, (400, "LabBadPayload")),
        (b"[1]", {}, (400, "LabBadPayload")),
        ({"mdm": "magic"}, MDM, None),
        ({"mdm": "magic", "aps": {}}, MDM, (400, "LabBadPayload")),
        ({"mdm": 1}, MDM, (400, "LabBadPayload")),
        ({"aps": {"content-available": 1}}, BACKGROUND, None),
        ({"aps": {"content-available": 1, "alert": "hi"}}, BACKGROUND, (400, "LabBadPayload")),
        ({"aps": {}}, BACKGROUND, (400, "LabBadPayload")),
    ],
)
async def test_payloads(
    sender: Sender, phone: Phone, payload: Any, headers: dict[str, Any], expected: tuple[int, str] | None
) -> None:
    answer = await sender.push(phone.token, payload, **headers)
    assert (reason(answer) if expected else answer.status_code) == (expected or 200)


# ------------------------------------------------------------ who may push


async def test_provider_tokens(sender: Sender, phone: Phone) -> None:
    foreign = pem(ec.generate_private_key(ec.SECP256R1()))

    async def push(**made: Any) -> tuple[int, Any]:
        sender.token = sender.provider_token(**made)
        return reason(await sender.push(phone.token))

    assert await push(age=3601) == (403, "ExpiredProviderToken")
    assert await push(age=-120) == (403, "InvalidProviderToken")
    assert await push(key=foreign) == (403, "InvalidProviderToken")
    assert await push(kid="UNKNOWN123") == (403, "InvalidProviderToken")
    assert await push(iss="OTHERTEAM1") == (403, "InvalidProviderToken")
    assert await push(iat="yesterday") == (403, "InvalidProviderToken")
    sender.token = "no.jwt"
    assert reason(await sender.push(phone.token)) == (403, "InvalidProviderToken")
    sender.token = sender.provider_token(age=3500)
    assert (await sender.push(phone.token)).status_code == 200
    assert (await sender.push(phone.token)).status_code == 200
    assert sender.apns.tokens.seen == 3  # two of them too old or too early, and this one


async def test_without_keys_the_form_counts(sender: Sender, phone: Phone) -> None:
    await sender.apns.tokens.put_keys([])
    sender.token = sender.provider_token(key=pem(ec.generate_private_key(ec.SECP256R1())), kid="ANYOTHER12")
    assert (await sender.push(phone.token)).status_code == 200
    sender.token = sender.provider_token(age=4000)
    assert reason(await sender.push(phone.token)) == (403, "ExpiredProviderToken")


async def test_renewed_too_often(sender: Sender, phone: Phone) -> None:
    sender.apns.settings.token_renewal_seconds = 1200
    sender.token = old = sender.provider_token(age=2000)
    assert (await sender.push(phone.token)).status_code == 200
    sender.token = sender.provider_token(age=860)
    assert reason(await sender.push(phone.token)) == (429, "TooManyProviderTokenUpdates")
    sender.token = old
    assert (await sender.push(phone.token)).status_code == 200
    sender.token = sender.provider_token(age=800)
    assert (await sender.push(phone.token)).status_code == 200


async def test_keys_for_some_topics(sender: Sender, phone: Phone, kernel: Kernel) -> None:
    await sender.apns.tokens.put_keys([msgspec.structs.replace(sender.key, topics=["com.example.other"])])
    assert reason(await sender.push(phone.token)) == (400, "TopicDisallowed")
    assert "PRIVATE" not in str(kernel.state.all("apns.keys"))
    await sender.apns.tokens.put_keys([msgspec.structs.replace(sender.key, topics=[TOPIC])])
    assert reason(await sender.push(phone.token)) == (400, "TopicDisallowed")  # as at this connection's first push
    async with sender.new_client() as client:
        assert (await sender.push(phone.token, client=client)).status_code == 200


async def test_certificates(sender: Sender, tmp_path: Path) -> None:
    topic = "com.apple.mgmt.External.1"
    token = await sender.apns.register(topic, "d1/mdm")
    path = tmp_path / "client.pem"
    path.write_bytes(sender.authority.client_certificate(uid=topic))
    async with sender.new_client(str(path)) as client:
        without = ("authorization", "apns-topic")
        answer = await sender.push(token, {"mdm": "magic"}, client=client, without=without, apns_push_type="mdm")
        assert answer.status_code == 200
        refused = await sender.push(token, client=client, without=("authorization",), apns_topic=TOPIC)
        assert reason(refused) == (400, "TopicDisallowed")


async def test_one_stream_before_the_first_token(sender: Sender, phone: Phone) -> None:
    async with connected(sender.apns.server.port, sender.authority.ca_path) as client:
        headers = {"authorization": f"bearer {sender.token}", "apns-topic": TOPIC}
        first = client.send(f"/3/device/{phone.token}", b'{"aps":', headers, ends=False)
        second = client.send(f"/3/device/{phone.token}", b'{"aps":{}}', headers)
        await client.until(lambda: client.resets == {second: 7})
        client.h2.send_data(first, b"{}}", end_stream=True)
        client.flush()
        assert await client.answer(first) == 200
        await client.until(lambda: client.h2.remote_settings.max_concurrent_streams == 1000)
        many = [client.send(f"/3/device/{phone.token}", b'{"aps":{}}', headers) for _ in range(20)]
        assert await asyncio.gather(*map(client.answer, many)) == [200] * 20


# ------------------------------------------------------------ dead tokens, and faults


async def test_dead_tokens(sender: Sender, phone: Phone, kernel: Kernel, apns: ApnsEmulator) -> None:
    before = time.time() * 1000
    await apns.end(phone.token)
    answer = await sender.push(phone.token)
    assert reason(answer) == (410, "Unregistered")
    assert before - 1 <= answer.json()["timestamp"] <= time.time() * 1000
    again = await apns.register(TOPIC, "d1/agent")
    assert again != phone.token
    apns.settings.gone_after_seconds = 86_400
    await apns.end(again, "ExpiredToken")
    assert (await sender.push(again)).status_code == 200
    await kernel.clock.advance(86_400)
    assert reason(await sender.push(again)) == (410, "ExpiredToken")


async def test_faults_by_token(sender: Sender, phone: Phone, kernel: Kernel) -> None:
    def rule(action: dict[str, Any]) -> None:
        kernel.faults.replace([{"service": "apns", "match": {"path": f"{phone.token}$"}, "action": action}])

    rule({"status": 429, "retryAfter": 7})
    answer = await sender.push(phone.token)
    assert (reason(answer), answer.headers["retry-after"]) == ((429, "TooManyRequests"), "7")
    rule({"status": 410})
    answer = await sender.push(phone.token)
    assert (reason(answer), answer.json()["timestamp"] > 1e12) == ((410, "Unregistered"), True)
    rule({"status": 400, "reason": "DeviceTokenNotForTopic"})
    assert reason(await sender.push(phone.token)) == (400, "DeviceTokenNotForTopic")
    rule({"status": 403})
    assert reason(await sender.push(phone.token)) == (403, "ExpiredProviderToken")
    rule({"status": 500})
    assert reason(await sender.push(phone.token)) == (500, "InternalServerError")
    rule({"status": 503, "body": ""})
    answer = await sender.push(phone.token)
    assert (answer.status_code, answer.content) == (503, b"")
    for action in ({"reset": "INTERNAL_ERROR"}, {"cut": "before"}, {"cut": "after"}):
        rule(action)
        with pytest.raises(httpx.RemoteProtocolError if "reset" in action else httpx.TransportError):
            await sender.push(phone.token)
    rule({"silence": True})
    with pytest.raises(httpx.ReadTimeout):
        await sender.client.post(f"/3/device/{phone.token}", timeout=0.2)
    rule({"delayMs": 60_000})
    with pytest.raises(httpx.ReadTimeout):
        await sender.client.post(f"/3/device/{phone.token}", timeout=0.2)
    assert sender.apns.server.counts.processed == 2  # cut after, and late
    assert len(kernel.requests.items("apns")) == 11


async def test_reason_in_a_goaway(sender: Sender, phone: Phone, kernel: Kernel) -> None:
    action = {"goAway": {"debug": '{"reason":"Shutdown"}'}}
    kernel.faults.replace([{"service": "apns", "action": action, "times": 1}])
    with pytest.raises(httpx.RemoteProtocolError, match=b"Shutdown".hex()):
        await sender.push(phone.token)
    async with sender.new_client() as client:
        assert (await sender.push(phone.token, client=client)).status_code == 200
