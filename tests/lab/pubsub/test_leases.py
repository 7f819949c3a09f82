"""Deadlines, retention and idleness on the lab's clock: what another Pub/Sub could not be made to show."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.lab.pubsub.rig import SUBSCRIPTION, TOPIC, Rig, running
from tests.support.direct import direct

DAY = 86_400


async def test_a_missed_deadline_brings_the_message_back(rig: Rig) -> None:
    await rig.set_up(ackDeadlineSeconds=60)
    await rig.publish("a")
    (first,) = await rig.pull()
    await rig.kernel.clock.advance(55)
    assert await rig.pull() == []
    await rig.kernel.clock.advance(6)
    (second,) = await rig.pull()
    assert second["message"] == first["message"]
    assert second["ackId"] != first["ackId"]
    await rig.acknowledge(first)  # late: no error, no effect
    await rig.kernel.clock.advance(61)
    (third,) = await rig.pull()
    await rig.acknowledge(third)
    await rig.kernel.clock.advance(61)
    assert await rig.pull() == []


async def test_a_deadline_can_be_moved(rig: Rig) -> None:
    await rig.set_up()
    await rig.publish("a")
    (received,) = await rig.pull()
    await rig.modify(600, received)
    await rig.kernel.clock.advance(500)
    assert await rig.pull() == []
    await rig.acknowledge(received)
    await rig.kernel.clock.advance(200)
    assert await rig.pull() == []


async def test_a_waiting_pull_gets_what_a_deadline_sets_free(rig: Rig) -> None:
    await rig.set_up()
    await rig.publish("a")
    (received,) = await rig.pull()
    waiting = asyncio.create_task(rig.pull(at_once=False))
    while len(rig.kernel.requests.items("pubsub")) < 5:  # noqa: ASYNC110 - until the emulator has the request
        await asyncio.sleep(0.005)
    await rig.kernel.clock.advance(11)
    (again,) = await waiting
    assert again["message"] == received["message"]


async def test_a_retry_policy_lets_messages_rest(rig: Rig) -> None:
    await rig.set_up(retryPolicy={"minimumBackoff": "30s", "maximumBackoff": "100s"})
    await rig.publish("a")
    await rig.modify(0, *await rig.pull())
    await rig.kernel.clock.advance(25)
    assert await rig.pull() == []
    await rig.kernel.clock.advance(6)
    assert len(await rig.pull()) == 1


async def test_who_hangs_up_while_waiting_takes_nothing_along(rig: Rig) -> None:
    await rig.set_up()
    async with direct(str(rig.http.base_url)) as other:
        asking = other.post(f"/v1/{SUBSCRIPTION}:pull", json={"maxMessages": 1}, timeout=60)
        waiting = asyncio.create_task(asking)
        while len(rig.kernel.requests.items("pubsub")) < 3:  # noqa: ASYNC110 - until the emulator has the request
            await asyncio.sleep(0.005)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    # The emulator hears of it by an event of the socket, which comes before the next request is read.
    await rig.ask("GET", SUBSCRIPTION)
    await rig.publish("a")
    assert len(await rig.pull()) == 1


async def test_messages_are_kept_for_seven_days(rig: Rig) -> None:
    await rig.set_up(expirationPolicy={})
    assert (await rig.ask("GET", SUBSCRIPTION))["messageRetentionDuration"] == "604800s"
    await rig.publish("a")
    await rig.kernel.clock.advance(6.9 * DAY)
    await rig.publish("b")
    await rig.kernel.clock.advance(0.2 * DAY)
    assert len(await rig.pull()) == 1
    assert len(rig.kernel.state.all("pubsub.messages")) == 1


async def test_an_idle_subscription_is_deleted_unless_it_never_expires(rig: Rig) -> None:
    await rig.set_up()
    never = f"{SUBSCRIPTION}-never"
    await rig.ask("PUT", never, {"topic": TOPIC, "expirationPolicy": {}})
    assert (await rig.ask("GET", SUBSCRIPTION))["expirationPolicy"] == {"ttl": "2678400s"}
    assert (await rig.ask("GET", never))["expirationPolicy"] == {}
    for _ in range(3):
        await rig.kernel.clock.advance(20 * DAY)
        await rig.pull()  # as long as somebody pulls, it stays
    await rig.kernel.clock.advance(32 * DAY)
    await rig.ask("GET", SUBSCRIPTION, status=404)
    await rig.ask("GET", never)


async def test_a_deleted_topic_leaves_its_subscriptions_what_they_have(rig: Rig) -> None:
    await rig.set_up()
    await rig.publish("a")
    await rig.ask("DELETE", TOPIC)
    assert (await rig.ask("GET", SUBSCRIPTION))["topic"] == "_deleted-topic_"
    await rig.ask("PUT", TOPIC, {})
    await rig.publish("b")
    assert len(await rig.pull()) == 1


async def test_a_deleted_subscription_takes_its_messages_along(rig: Rig) -> None:
    await rig.set_up()
    await rig.publish("a")
    await rig.ask("DELETE", SUBSCRIPTION)
    await rig.ask("POST", f"{SUBSCRIPTION}:pull", {"maxMessages": 1}, status=404)
    assert rig.kernel.state.all("pubsub.messages") == rig.kernel.state.all("pubsub.pending") == {}
    await rig.ask("PUT", SUBSCRIPTION, {"topic": TOPIC})
    assert await rig.pull() == []


async def test_a_restart_loses_nothing_and_brings_nothing_back(tmp_path: Path) -> None:
    async with running(tmp_path / "lab") as rig:
        await rig.set_up()
        await rig.set_up("projects/p1/topics/other", "projects/p1/subscriptions/other")
        ids = await rig.publish("a", "b", "c")
        received = await rig.pull()
        await rig.acknowledge(next(item for item in received if item["message"]["messageId"] == ids[1]))
        policy = {"bindings": [{"role": "roles/pubsub.publisher", "members": ["user:a@example.org"]}]}
        await rig.ask("POST", f"{TOPIC}:setIamPolicy", {"policy": policy})
        keys = (await rig.http.get("/certs")).json()
    async with running(tmp_path / "lab") as rig:
        again = await rig.pull()
        assert sorted(item["message"]["messageId"] for item in again) == [ids[0], ids[2]]
        assert (await rig.publish("d"))[0] > max(ids)
        assert (await rig.ask("GET", f"{TOPIC}:getIamPolicy"))["bindings"] == policy["bindings"]
        assert (await rig.http.get("/certs")).json() == keys
        await rig.acknowledge(*again)
        await rig.acknowledge(*await rig.pull())
        assert rig.kernel.state.all("pubsub.messages") == rig.kernel.state.all("pubsub.pending") == {}
