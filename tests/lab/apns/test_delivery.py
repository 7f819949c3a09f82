"""What devices get: at once, after they were offline, or never."""

from __future__ import annotations

import asyncio
import time

from heliograph_lab.apns import ApnsEmulator, Notification
from heliograph_lab.http2 import Authority
from heliograph_lab.kernel import Kernel
from tests.lab.apns.conftest import TOPIC, Phone, Sender


def later(seconds: int = 3600) -> str:
    return str(int(time.time()) + seconds)


async def test_online(sender: Sender, phone: Phone) -> None:
    await phone.online()
    for number in range(3):
        assert (await sender.push(phone.token, {"n": number}, apns_collapse_id="c")).status_code == 200
    got = [await phone.next() for _ in range(3)]
    assert [notification.payload for notification in got] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert (got[0].topic, got[0].push_type, got[0].priority, got[0].collapse_id) == (TOPIC, "alert", 10, "c")
    await phone.offline()
    assert sender.apns.sent == {"delivered": 3, "stored": 0, "dropped": 0}


async def test_only_the_newest_waits(sender: Sender, phone: Phone) -> None:
    for number in range(3):
        await sender.push(phone.token, {"n": number}, apns_expiration=later())
    await phone.online()
    assert (await phone.next()).payload == {"n": 2}
    await sender.push(phone.token, {"n": 3})
    assert (await phone.next()).payload == {"n": 3}
    await phone.offline()
    await phone.online()
    await sender.push(phone.token, {"n": 4})
    assert (await phone.next()).payload == {"n": 4}


async def test_each_topic_has_one(sender: Sender, apns: ApnsEmulator, phone: Phone) -> None:
    other = Phone(apns, await apns.register("com.example.store", "d1/store"))
    await sender.push(phone.token, {"n": 1}, apns_expiration=later())
    await sender.push(other.token, {"n": 2}, apns_topic="com.example.store", apns_expiration=later())
    await phone.online()
    await other.online()
    assert ((await phone.next()).payload, (await other.next()).payload) == ({"n": 1}, {"n": 2})


async def test_not_stored(sender: Sender, phone: Phone, kernel: Kernel) -> None:
    assert (await sender.push(phone.token, {"n": 1}, apns_expiration="0")).status_code == 200
    assert (await sender.push(phone.token, {"n": 2})).status_code == 200
    assert sender.apns.store.stored(phone.token) is None
    await sender.push(phone.token, {"n": 3}, apns_expiration=later(3600))
    await kernel.clock.advance(3601)
    assert sender.apns.store.stored(phone.token) is None
    # However far the lab is ahead: what the sender wants kept for an hour is kept for an hour.
    await sender.push(phone.token, {"n": 4}, apns_expiration=later(3600))
    await kernel.clock.advance(3000)
    await phone.online()
    assert (await phone.next()).payload == {"n": 4}
    sender.apns.settings.store_without_expiration = True
    await phone.offline()
    await sender.push(phone.token, {"n": 5})
    await phone.online()
    assert (await phone.next()).payload == {"n": 5}


async def test_what_was_under_way_waits(sender: Sender, phone: Phone) -> None:
    begun = asyncio.Event()

    async def stuck(_notification: Notification) -> None:
        begun.set()
        await asyncio.Event().wait()

    await sender.apns.connect(phone.token, stuck)
    await sender.push(phone.token, {"n": 1}, apns_expiration=later())
    await sender.push(phone.token, {"n": 2}, apns_expiration=later())
    await begun.wait()
    await phone.offline()
    await phone.online()
    assert (await phone.next()).payload == {"n": 2}


async def test_restart(sender: Sender, phone: Phone, kernel: Kernel, authority: Authority) -> None:
    await sender.push(phone.token, {"n": 1}, apns_expiration=later())
    await sender.push(phone.token, {"n": 2}, apns_expiration=later())
    again = ApnsEmulator(kernel, authority)
    assert await again.register(TOPIC, "d1/agent") == phone.token
    assert [key.key_id for key in again.tokens.keys] == [sender.key.key_id]
    returned = Phone(again, phone.token)
    await returned.online()
    assert (await returned.next()).payload == {"n": 2}
    await again.stop()
    assert ApnsEmulator(kernel, authority).store.stored(phone.token) is None


async def test_a_dead_token_forgets(sender: Sender, phone: Phone, apns: ApnsEmulator) -> None:
    await sender.push(phone.token, apns_expiration=later())
    await apns.end(phone.token)
    assert apns.store.stored(phone.token) is None
