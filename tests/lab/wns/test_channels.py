"""Channels, and what a request to one must be."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from heliograph_lab.wns import WnsEmulator
from tests.lab.wns.conftest import DAY, OTHER_SID, RAW, SID, TOAST, World


async def test_a_channel_lives_thirty_days_and_survives_a_restart(world: World) -> None:
    uri = await world.wns.register(SID, "d1")
    assert uri.startswith(f"{world.wns.base_url}/?token=")
    assert await world.wns.register(SID, "d1") == uri
    again = WnsEmulator(world.kernel)
    again.base_url = world.wns.base_url
    assert await again.register(SID, "d1") == uri
    assert len({uri, await world.wns.register(SID, "d2"), await world.wns.register(OTHER_SID, "d1")}) == 3
    await world.kernel.clock.advance(30 * DAY)
    world.bearer = (await world.login()).json()["access_token"]
    assert (await world.push(uri)).status_code == 410
    fresh = await world.wns.register(SID, "d1")
    assert fresh != uri
    assert (await world.push(fresh)).status_code == 200


async def test_what_every_answer_carries(world: World) -> None:
    uri = await world.wns.register(SID, "d1")
    for answer in [await world.push(uri), await world.push(f"{world.wns.base_url}/?token=none")]:
        assert len(answer.headers["x-wns-msg-id"]) == 16
        assert answer.headers["x-wns-debug-trace"]
        assert answer.headers["ms-cv"].endswith(".0")
        assert answer.content == b""


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"X-WNS-Type": ""}, "x", 400),
        ({"X-WNS-Type": "raw"}, "x", 400),
        ({"X-WNS-Type": "wns/tile"}, "x", 501),
        ({"Content-Type": "text/xml"}, "x", 400),
        ({**TOAST, "Content-Type": "application/octet-stream"}, "x", 400),
        ({"X-WNS-TTL": "-1"}, "x", 400),
        ({"X-WNS-TTL": "soon"}, "x", 400),
        ({"X-WNS-TTL": "0", "X-WNS-Cache-Policy": "cache"}, "x", 400),
        ({"X-WNS-TTL": "0", "X-WNS-Cache-Policy": "no-cache"}, "x", 200),
        ({"X-WNS-Cache-Policy": "yes"}, "x", 400),
        ({"X-WNS-RequestForStatus": "1"}, "x", 400),
        ({"X-WNS-SuppressPopup": "true"}, "x", 400),
        ({}, "", 400),
        ({}, "x" * 5001, 413),
        ({}, "x" * 5000, 200),
    ],
)
async def test_what_a_request_must_be(world: World, headers: dict[str, str], body: str, status: int) -> None:
    uri = await world.wns.register(SID, "d1")
    answer = await world.push(uri, RAW | headers, body)
    assert answer.status_code == status
    assert ("x-wns-error-description" in answer.headers) == (status != 200)
    if status == 400:
        assert answer.headers["x-wns-status"] == "dropped"


async def test_unknown_channels_methods_and_chunks(world: World) -> None:
    uri = await world.wns.register(SID, "d1")
    assert (await world.push(f"{world.wns.base_url}/?token=x")).status_code == 404
    assert (await world.push(f"{world.wns.base_url}/elsewhere")).status_code == 404
    assert (await world.http.get(uri)).status_code == 405

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"

    headers = {"Authorization": f"Bearer {world.bearer}", **RAW}
    assert (await world.http.post(uri, content=chunks(), headers=headers)).status_code == 400
