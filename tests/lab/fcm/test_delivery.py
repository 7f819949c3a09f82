"""What devices get: at once, after they were offline, or never."""

from __future__ import annotations

import asyncio

from heliograph_lab.fcm import FcmEmulator, Message
from heliograph_lab.http2 import Authority
from heliograph_lab.kernel import Kernel
from tests.lab.fcm.conftest import PROJECT, Phone, Sender


async def test_online(sender: Sender, phone: Phone) -> None:
    await phone.online()
    await sender.send(phone.address, data={"n": "1"}, android={"priority": "high", "ttl": "0s", "data": {"m": "2"}})
    await sender.send(phone.address, notification={"title": "hi"})
    first, second = await phone.next(), await phone.next()
    assert (first.data, first.priority) == ({"n": "1", "m": "2"}, "high")
    assert second.notification == {"title": "hi"}
    await phone.offline()
    assert sender.fcm.sent == {"delivered": 2, "stored": 0, "dropped": 0}


async def test_offline_in_order_until_the_time_is_over(sender: Sender, phone: Phone, kernel: Kernel) -> None:
    await sender.send(phone.address, data={"n": "now or never"}, android={"ttl": "0s"})
    await sender.send(phone.address, data={"n": "short"}, android={"ttl": "60s"})
    await sender.send(phone.address, data={"n": "1"}, android={"ttl": "7200s"})
    await sender.send(phone.address, data={"n": "2"})
    await kernel.clock.advance(61)
    await phone.online()
    assert [(await phone.next()).data["n"] for _ in range(2)] == ["1", "2"]
    await kernel.clock.advance(28 * 86_400)
    assert sender.fcm.store.waiting(phone.address) == []


async def test_collapse_keys(sender: Sender, phone: Phone) -> None:
    for number, key in enumerate("aabcdea"):
        await sender.send(phone.address, data={"n": str(number)}, android={"collapse_key": key})
    await sender.send(phone.address, data={"n": "plain"})
    waiting = [(message.collapse_key, message.data["n"]) for message in sender.fcm.store.waiting(phone.address)]
    assert waiting == [("c", "3"), ("d", "4"), ("e", "5"), ("a", "6"), (None, "plain")]


async def test_over_a_hundred_all_are_dropped(sender: Sender, phone: Phone) -> None:
    await sender.send(phone.address, data={"n": "kept"}, android={"collapse_key": "k"})
    for number in range(101):
        await sender.send(phone.address, data={"n": str(number)})
    await sender.send(phone.address, data={"n": "later"})
    await phone.online()
    kept, word, later = [await phone.next() for _ in range(3)]
    assert (kept.data, word.deleted, word.data, later.data) == ({"n": "kept"}, True, {}, {"n": "later"})


async def test_restart(sender: Sender, phone: Phone, kernel: Kernel, authority: Authority) -> None:
    for number in range(12):
        await sender.send(phone.address, data={"n": str(number)})
    again = FcmEmulator(kernel, authority)
    assert await again.register(PROJECT, "d1/agent") == phone.address
    returned = Phone(again, phone.address)
    await returned.online()
    assert [(await returned.next()).data["n"] for _ in range(12)] == [str(number) for number in range(12)]
    await again.stop()
    assert FcmEmulator(kernel, authority).store.waiting(phone.address) == []


async def test_an_ended_registration_forgets(sender: Sender, phone: Phone, kernel: Kernel) -> None:
    await sender.send(phone.address)
    await sender.fcm.end(phone.address)
    assert sender.fcm.store.waiting(phone.address) == []
    assert kernel.state.all("fcm.waiting") == {}


async def test_going_offline_with_a_hundred_waiting_drops_none(sender: Sender, phone: Phone) -> None:
    for number in range(100):
        await sender.send(phone.address, data={"n": str(number)})

    async def stuck(_message: Message) -> None:
        await asyncio.Event().wait()

    await sender.fcm.connect(phone.address, stuck)
    await phone.offline()
    await phone.online()
    assert [(await phone.next()).data["n"] for _ in range(100)] == [str(number) for number in range(100)]
