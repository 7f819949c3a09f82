"""Pushes: the wrapper, the signature, what counts as an acknowledgement, and redelivery with back-off."""

from __future__ import annotations

from typing import Any

import google.auth.jwt
import jwt
import pytest

from heliograph_lab.pubsub.keys import TokenFault
from tests.lab.pubsub.rig import SUBSCRIPTION, TOPIC, Endpoint, Json, Push, Rig
from tests.lab.serving import until

EMAIL = "pusher@p1.iam.gserviceaccount.com"
AUDIENCE = "https://heliograph.example/push"


def texts(pushes: list[Push]) -> list[str]:
    return [push.text for push in pushes]


async def set_up(rig: Rig, target: Endpoint, **more: Any) -> None:
    await rig.set_up(pushConfig={"pushEndpoint": target.url, **more.pop("push", {})}, **more)


def settled(rig: Rig) -> bool:
    return len(rig.emulator.store.backlog(SUBSCRIPTION)) == 0


async def claims(rig: Rig, token: str, **more: Any) -> Json:
    """What a receiver learns, which has the keys from `/certs` and PyJWT to check with."""
    keys = jwt.PyJWKSet.from_dict((await rig.http.get("/certs")).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    options: Any = {"require": ["exp", "iat", "aud", "iss"]}
    return jwt.decode(
        token, key.key, ["RS256"], audience=AUDIENCE, issuer="https://accounts.google.com", options=options, **more
    )


async def test_the_wrapper(rig: Rig, target: Endpoint) -> None:
    await set_up(rig, target)
    (message_id,) = await rig.publish("a", notificationType="COMMAND")
    (push,) = await target.until(lambda pushes: len(pushes) == 1)
    time = push["body"]["message"]["publishTime"]
    assert push["body"] == {
        "message": {
            "data": "YQ==",
            "attributes": {"notificationType": "COMMAND"},
            "messageId": message_id,
            "message_id": message_id,
            "publishTime": time,
            "publish_time": time,
        },
        "subscription": SUBSCRIPTION,
    }
    assert push["headers"]["content-type"] == "application/json"
    assert "authorization" not in push["headers"]
    await until(lambda: settled(rig))
    assert rig.emulator.log.shown()["pushes"][0].status == 204  # type: ignore[union-attr]


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_what_acknowledges(rig: Rig, target: Endpoint, status: int) -> None:
    await set_up(rig, target)
    target.answers = [status]
    await rig.publish("a")
    await until(lambda: len(target.pushes) == 1 and settled(rig))
    await rig.kernel.clock.advance(3600)
    await rig.publish("b")
    await target.until(lambda pushes: texts(pushes) == ["a", "b"])


@pytest.mark.parametrize("status", [203, 301, 400, 401, 404, 429, 500, 503])
async def test_what_does_not(rig: Rig, target: Endpoint, status: int) -> None:
    await set_up(rig, target)
    target.answers = [status]
    (message_id,) = await rig.publish("a")
    pushes = await target.until(lambda pushes: len(pushes) == 2)
    assert {push["body"]["message"]["messageId"] for push in pushes} == {message_id}
    await until(lambda: settled(rig))


async def test_the_back_off_doubles_on_the_labs_clock(rig: Rig, target: Endpoint) -> None:
    await set_up(rig, target, retryPolicy={"minimumBackoff": "100s", "maximumBackoff": "300s"})
    target.answers = [500] * 4
    await rig.publish("a")
    for count, rest in enumerate((100, 200, 300, 300), 1):
        await target.until(lambda pushes, count=count: len(pushes) == count)  # type: ignore[misc]
        await until(lambda count=count: len(rig.emulator.log.shown()["pushes"]) == count)  # type: ignore[misc]
        await rig.kernel.clock.advance(rest - 10)
        await rig.emulator.store.clean()
        assert len(target.pushes) == count
        await rig.kernel.clock.advance(11)
    await target.until(lambda pushes: len(pushes) == 5)


async def test_a_slow_answer_counts_for_nothing_after_the_deadline(rig: Rig, target: Endpoint) -> None:
    await set_up(rig, target)
    target.hold.clear()
    await rig.publish("a")
    await target.until(lambda pushes: len(pushes) == 1)
    await rig.kernel.clock.advance(11)
    await target.until(lambda pushes: len(pushes) == 2)  # the first still waits for its answer
    target.hold.set()
    await until(lambda: settled(rig))


async def test_an_endpoint_that_is_not_there_is_tried_until_it_is(rig: Rig, target: Endpoint) -> None:
    await rig.set_up(pushConfig={"pushEndpoint": "http://127.0.0.1:9/"})
    await rig.publish("a")
    await until(lambda: bool(rig.emulator.log.shown()["pushes"]))
    assert rig.emulator.log.shown()["pushes"][0].status is None  # type: ignore[union-attr]
    config = {"pushConfig": {"pushEndpoint": target.url}}
    await rig.ask("POST", f"{SUBSCRIPTION}:modifyPushConfig", config)
    await rig.kernel.clock.advance(60)
    await target.until(lambda pushes: texts(pushes) == ["a"])


async def test_an_emptied_push_config_turns_to_pulling(rig: Rig, target: Endpoint) -> None:
    await set_up(rig, target)
    await rig.ask("POST", f"{SUBSCRIPTION}:modifyPushConfig", {"pushConfig": {}})
    await rig.publish("a")
    assert len(await rig.pull()) == 1
    await rig.ask("POST", f"{SUBSCRIPTION}:modifyPushConfig", {"pushConfig": {"pushEndpoint": target.url}})
    await rig.publish("b")
    await target.until(lambda pushes: texts(pushes) == ["b"])


async def test_a_push_is_signed(rig: Rig, target: Endpoint) -> None:
    await set_up(rig, target, push={"oidcToken": {"serviceAccountEmail": EMAIL, "audience": AUDIENCE}})
    await rig.publish("a")
    (push,) = await target.until(lambda pushes: len(pushes) == 1)
    found = await claims(rig, push.token)
    assert (found["email"], found["email_verified"]) == (EMAIL, True)
    assert found["exp"] - found["iat"] == 3600
    # A second opinion: Google's own library, with the same key in another form.
    keys = jwt.PyJWKSet.from_dict((await rig.http.get("/certs")).json())
    certificates = {key.key_id: _pem(key) for key in keys.keys}
    assert google.auth.jwt.decode(push.token, certificates, audience=AUDIENCE)["email"] == EMAIL  # type: ignore[no-untyped-call]


def _pem(key: jwt.PyJWK) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem: bytes = key.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


async def test_the_audience_is_the_endpoint_unless_set(rig: Rig, target: Endpoint) -> None:
    await set_up(rig, target, push={"oidcToken": {"serviceAccountEmail": EMAIL}})
    await rig.publish("a")
    (push,) = await target.until(lambda pushes: len(pushes) == 1)
    assert jwt.decode(push.token, options={"verify_signature": False})["aud"] == target.url


WRONG: list[tuple[TokenFault, type[Exception] | None]] = [
    ("expired", jwt.ExpiredSignatureError),
    ("audience", jwt.InvalidAudienceError),
    ("issuer", jwt.InvalidIssuerError),
    ("signature", jwt.InvalidSignatureError),
    ("unknownKey", KeyError),
    ("algNone", KeyError),
    ("garbage", jwt.DecodeError),
    ("email", None),
    ("unverified", None),
    ("none", None),
]


@pytest.mark.parametrize(("fault", "error"), WRONG, ids=[fault for fault, _ in WRONG])
async def test_a_token_can_be_wrong_once(
    rig: Rig, target: Endpoint, fault: TokenFault, error: type[Exception] | None
) -> None:
    await set_up(rig, target, push={"oidcToken": {"serviceAccountEmail": EMAIL, "audience": AUDIENCE}})
    rig.emulator.rules.replace([{"action": {"token": fault}, "times": 1}])
    target.answers = [401]
    await rig.publish("a")
    wrong, right = await target.until(lambda pushes: len(pushes) == 2)
    assert (await claims(rig, right.token))["email"] == EMAIL
    if error is not None:
        with pytest.raises(error):
            await claims(rig, wrong.token)
    elif fault == "none":
        assert "authorization" not in wrong["headers"]
    else:
        found = await claims(rig, wrong.token)
        assert (found["email"] == EMAIL) == (fault != "email")
        assert found["email_verified"] == (fault != "unverified")


async def test_keys_rotate_and_old_ones_may_stay(rig: Rig) -> None:
    old = rig.emulator.keys.token(EMAIL, AUDIENCE)
    await rig.emulator.keys.rotate(keep_old=True)
    new = rig.emulator.keys.token(EMAIL, AUDIENCE)
    assert jwt.get_unverified_header(old)["kid"] != jwt.get_unverified_header(new)["kid"]
    assert (await claims(rig, old))["email"] == (await claims(rig, new))["email"] == EMAIL
    for _ in range(5):
        await rig.emulator.keys.rotate(keep_old=True)
    answer = await rig.http.get("/certs")
    assert len(answer.json()["keys"]) == 3
    assert "max-age" in answer.headers["cache-control"]
    await rig.emulator.keys.rotate(keep_old=False)
    assert len((await rig.http.get("/certs")).json()["keys"]) == 1
    with pytest.raises(KeyError):
        await claims(rig, new)


async def test_a_body_can_be_broken(rig: Rig, target: Endpoint) -> None:
    rig.emulator.rules.replace([{"action": {"malformed": "body"}, "times": 1}])
    await set_up(rig, target)
    await rig.publish("a")
    (push,) = await target.until(lambda pushes: len(pushes) == 1)
    assert push["body"] == b'{"message": {"data": '


async def test_two_subscriptions_of_a_topic_each_get_everything(rig: Rig, target: Endpoint) -> None:
    await set_up(rig, target)
    await rig.ask("PUT", f"{SUBSCRIPTION}-pull", {"topic": TOPIC})
    await rig.publish("a", "b")
    pushes = await target.until(lambda pushes: len(pushes) == 2)
    assert sorted(texts(pushes)) == ["a", "b"]
    assert len(await rig.pull(subscription=f"{SUBSCRIPTION}-pull")) == 2
