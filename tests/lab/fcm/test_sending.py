"""What FCM takes and refuses."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from heliograph_lab.fcm import FcmEmulator
from heliograph_lab.fcm.errors import BAD_REQUEST, FCM_ERROR
from heliograph_lab.kernel import Kernel
from tests.lab.fcm.conftest import PROJECT, Phone, Sender


def code(answer: httpx.Response) -> tuple[int, str, str]:
    """HTTP status, Google's status, and what the detail says: FCM's code, or the wrong member."""
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    assert error["message"]
    for detail in error["details"]:
        if detail["@type"] == FCM_ERROR:
            return answer.status_code, error["status"], detail["errorCode"]
        if detail["@type"] == BAD_REQUEST:
            return answer.status_code, error["status"], detail["fieldViolations"][0]["field"]
        return answer.status_code, error["status"], detail["reason"]
    return answer.status_code, error["status"], ""


async def test_accepted_by_token_and_by_installation_id(sender: Sender, phone: Phone, fcm: FcmEmulator) -> None:
    answer = await sender.send(phone.address, data={"a": "b"}, android={"priority": "HIGH", "ttl": "3.5s"})
    assert answer.status_code == 200
    assert answer.json()["name"].startswith(f"projects/{PROJECT}/messages/0:")
    fid = await fcm.register(PROJECT, "d1/agent", "fid")
    assert len(fid) == 22
    assert (await sender.send(fid, kind="fid")).status_code == 200
    assert code(await sender.send(fid)) == (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert code(await sender.send(phone.address, kind="fid")) == (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")


async def test_validate_only_delivers_nothing(sender: Sender, phone: Phone) -> None:
    await phone.online()
    answer = await sender.post({"validate_only": True, "message": {"token": phone.address}})
    assert answer.json() == {"name": f"projects/{PROJECT}/messages/fake_message_id"}
    refused = await sender.post({"validateOnly": True, "message": {"token": phone.address, "data": {"a": 1}}})
    assert code(refused)[2] == "message.data[a]"
    await sender.send(phone.address, data={"n": "1"})
    assert (await phone.next()).data == {"n": "1"}


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"data": {"a": 1}}, "message.data[a]"),
        ({"data": {"google.x": "1"}}, "message.data"),
        ({"data": {"from": "1"}}, "message.data"),
        ({"data": ["a"]}, "message.data"),
        ({"android": {"ttl": "2419201s"}}, "message.android.ttl"),
        ({"android": {"ttl": "-1s"}}, "message.android.ttl"),
        ({"android": {"ttl": 3600}}, "message.android.ttl"),
        ({"android": {"priority": "loud"}}, "message.android.priority"),
        ({"android": {"collapseKey": 1}}, "message.android.collapse_key"),
        ({"android": {"colour": "red"}}, "message.android"),
        ({"android": []}, "message.android"),
        ({"topics": "x"}, "message"),
        ({"fid": "c" * 22}, "message"),
        ({"token": 1}, "message.token"),
    ],
)
async def test_wrong_requests(sender: Sender, phone: Phone, message: dict[str, Any], field: str) -> None:
    answer = await sender.post({"message": {"token": phone.address, **message}})
    assert code(answer) == (400, "INVALID_ARGUMENT", field)


async def test_other_wrong_requests(sender: Sender, phone: Phone) -> None:
    assert code(await sender.post(b"{")) == (400, "INVALID_ARGUMENT", "")
    assert code(await sender.post({"message": {"data": {}}})) == (400, "INVALID_ARGUMENT", "message")
    assert code(await sender.post({"message": {"topic": "news"}})) == (501, "UNIMPLEMENTED", "")
    assert (await sender.send(phone.address, data={"a": "x" * 4095})).status_code == 200
    # As Google words it: no member is named, and its own code is that of an address that is none.
    large = await sender.send(phone.address, data={"a": "x" * 4096})
    assert large.json()["error"] == {
        "code": 400,
        "message": "Message is too large. The maximum is 4K (4096 bytes).",
        "status": "INVALID_ARGUMENT",
        "details": [{"@type": BAD_REQUEST}, {"@type": FCM_ERROR, "errorCode": "INVALID_ARGUMENT"}],
    }
    lost = await sender.client.post("/v1/projects/p/messages:sendAll")
    assert code(lost) == (404, "NOT_FOUND", "")


async def test_addresses(sender: Sender, phone: Phone, fcm: FcmEmulator) -> None:
    malformed = (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert code(await sender.send("no-token")) == malformed
    unknown = phone.address[:-10] + "0123456789"
    assert code(await sender.send(unknown)) == malformed
    fcm.settings.unknown_tokens = True
    assert (await sender.send(unknown)).status_code == 200
    others = await fcm.register("other-project", "d1/agent")
    assert code(await sender.send(others)) == (403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH")
    await fcm.end(phone.address)
    assert code(await sender.send(phone.address)) == (404, "NOT_FOUND", "UNREGISTERED")
    assert await fcm.register(PROJECT, "d1/agent") != phone.address


async def test_bearer_tokens(sender: Sender, phone: Phone, kernel: Kernel) -> None:
    good = sender.bearer
    sender.bearer = ""
    assert code(await sender.send(phone.address)) == (401, "UNAUTHENTICATED", "CREDENTIALS_MISSING")
    for bearer in ("ya29.someone", "ya29.lab.cA.zz.x", good + ".x"):
        sender.bearer = bearer
        assert code(await sender.send(phone.address)) == (401, "UNAUTHENTICATED", "ACCESS_TOKEN_EXPIRED")
    sender.bearer = sender.new_bearer("other-project")
    assert code(await sender.send(phone.address)) == (403, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED")
    sender.bearer = good
    assert (await sender.send(phone.address)).status_code == 200
    await kernel.clock.advance(3600)
    assert code(await sender.send(phone.address)) == (401, "UNAUTHENTICATED", "ACCESS_TOKEN_EXPIRED")
    sender.bearer = sender.new_bearer()
    assert (await sender.send(phone.address)).status_code == 200


async def test_quota(sender: Sender, phone: Phone, kernel: Kernel) -> None:
    sender.fcm.settings.requests_per_minute = 2
    answers = [await sender.send(phone.address) for _ in range(5)]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) >= 1  # the minute may have changed in between, once
    assert code(refused[0]) == (429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    wait = int(refused[0].headers["retry-after"])
    assert 1 <= wait <= 60
    await kernel.clock.advance(60)
    assert (await sender.send(phone.address)).status_code == 200


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ({"status": 400}, (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")),
        ({"status": 400, "reason": "BAD_REQUEST"}, (400, "INVALID_ARGUMENT", "message")),
        ({"status": 401}, (401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR")),
        ({"status": 403}, (403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH")),
        ({"status": 404}, (404, "NOT_FOUND", "UNREGISTERED")),
        ({"status": 429}, (429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")),
        ({"status": 500}, (500, "INTERNAL", "INTERNAL")),
        ({"status": 503}, (503, "UNAVAILABLE", "UNAVAILABLE")),
    ],
)
async def test_faults_by_address(
    sender: Sender, phone: Phone, fcm: FcmEmulator, kernel: Kernel, action: Any, expected: Any
) -> None:
    other = await fcm.register(PROJECT, "d2/agent")
    retry = {**action, "retryAfter": 3}
    kernel.faults.replace([{"service": "fcm", "match": {"body": phone.address}, "action": retry}])
    answer = await sender.send(phone.address)
    assert (code(answer), answer.headers["retry-after"]) == (expected, "3")
    assert (await sender.send(other)).status_code == 200
    assert [item.path for item in kernel.requests.items("fcm")] == [f"/v1/projects/{PROJECT}/messages:send"] * 2


async def test_repeated_messages_are_counted(sender: Sender, phone: Phone) -> None:
    for data in ({"id": "a"}, {"id": "b"}, {"id": "a"}, {"other": "c"}):
        await sender.send(phone.address, data=data)
    await sender.post(b"{")
    counts = sender.fcm.server.counts
    assert (counts.duplicates(), counts.processed_by_id, counts.processed) == ({"a": 2}, {"a": 2, "b": 1}, 5)
