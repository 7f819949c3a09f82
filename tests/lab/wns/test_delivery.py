"""What a connected device gets, and what waits for one that is not."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph_lab.wns import Notification, WnsEmulator
from tests.lab.serving import until
from tests.lab.wns.conftest import CACHED, RAW, SID, TOAST, Device, World, said


async def test_a_connected_device_gets_everything_in_order(world: World) -> None:
    uri, device = await world.wns.register(SID, "d1"), Device()
    await world.wns.connect(uri, device)
    for number in range(5):
        answer = await world.push(uri, RAW if number % 2 else TOAST, f"{number}")
        assert said(answer) == (200, "received", "connected")
    await until(lambda: len(device.got) == 5)
    assert device.bodies == ["0", "1", "2", "3", "4"]
    assert (await world.control.get("/wns")).json() == {"delivered": 5, "stored": 0, "dropped": 0}


@pytest.mark.parametrize(
    ("headers", "word", "kept"),
    [
        (RAW, "dropped", []),
        ({**RAW, "X-WNS-Cache-Policy": "no-cache"}, "dropped", []),
        (CACHED, "received", ["2"]),
        (TOAST, "received", ["2"]),
    ],
)
async def test_what_waits_for_a_device(world: World, headers: dict[str, str], word: str, kept: list[str]) -> None:
    uri, device = await world.wns.register(SID, "d1"), Device()
    for number in range(3):
        assert said(await world.push(uri, headers, f"{number}")) == (200, word, "disconnected")
    await world.wns.connect(uri, device)
    await until(lambda: len(device.got) == len(kept))
    assert device.bodies == kept
    assert world.wns.store.waiting(device.got[0].channel if kept else "") == []


async def test_one_toast_and_one_raw_wait_and_outlive_the_lab(world: World) -> None:
    uri, device = await world.wns.register(SID, "d1"), Device()
    for headers, body in ((TOAST, "t1"), (CACHED, "r1"), (TOAST, "t2"), (CACHED, "r2")):
        await world.push(uri, headers, body)
    again = WnsEmulator(world.kernel)
    await again.connect(uri, device)
    await until(lambda: len(device.got) == 2)
    assert device.bodies == ["t2", "r2"]
    await again.stop()
    assert WnsEmulator(world.kernel).store.waiting(device.got[0].channel) == []


@pytest.mark.parametrize(("kept", "word", "bodies"), [(0, "dropped", []), (2, "received", ["1", "2"])])
async def test_how_many_toasts_wait_is_a_setting(world: World, kept: int, word: str, bodies: list[str]) -> None:
    await world.control.put("/settings", json={"wns": {"toastsKept": kept}})
    uri, device = await world.wns.register(SID, "d1"), Device()
    for number in range(3):
        assert said(await world.push(uri, TOAST, f"{number}"))[1] == word
    await world.wns.connect(uri, device)
    await until(lambda: len(device.got) == len(bodies))
    assert device.bodies == bodies


async def test_what_has_ended_is_not_delivered(world: World) -> None:
    uri, device = await world.wns.register(SID, "d1"), Device()
    await world.push(uri, CACHED, "short", TTL="60")
    await world.push(uri, TOAST, "long", TTL="3600")
    await world.kernel.clock.advance(61)
    await world.wns.connect(uri, device)
    await until(lambda: bool(device.got))
    assert device.bodies == ["long"]


async def test_what_was_on_its_way_waits_if_it_may(world: World) -> None:
    uri, device = await world.wns.register(SID, "d1"), Device(works=False)
    await world.wns.connect(uri, device)
    for headers, body in ((RAW, "gone"), (CACHED, "r1"), (CACHED, "r2"), (TOAST, "t1")):
        assert said(await world.push(uri, headers, body)) == (200, "received", "connected")
    await world.wns.disconnect(uri)
    device.works = True
    await world.wns.connect(uri, device)
    await world.wns.disconnect(uri)  # at once: what it has not got is still there, and once only
    await world.wns.connect(uri, device)
    await until(lambda: len(device.got) == 2)
    assert device.bodies == ["r2", "t1"]


async def test_the_status_is_told_where_it_is_asked_for(world: World) -> None:
    uri = await world.wns.register(SID, "d1")
    assert said(await world.push(uri, CACHED, RequestForStatus="false")) == (200, "received", None)
    await world.control.put("/settings", json={"wns": {"statusUnasked": False}})
    assert said(await world.push(uri, CACHED, RequestForStatus="false")) == (200, None, None)
    assert said(await world.push(uri, CACHED)) == (200, "received", "disconnected")


def test_what_an_app_makes_of_a_notification() -> None:
    def payload(kind: Any, body: str) -> dict[str, Any]:
        return Notification(id="n", channel="c", order=1, kind=kind, body=body, expiration=None, cached=False).payload

    toast = '<toast launch=\'{"id":"p1"}\'><visual><binding><text>T</text><text>B</text></binding></visual></toast>'
    assert payload("toast", toast) == {"id": "p1", "title": "T", "body": "B"}
    assert payload("raw", '{"id":"p1"}') == {"id": "p1"}
    for garbage in ("", "[]", "{", "<toast", "<toast launch='x'/>", "<toast launch='[]'/>", "\ufffd"):
        assert payload("raw", garbage) == payload("toast", garbage) == {}
