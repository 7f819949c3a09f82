"""Waiting for a push's delivery ends with the acknowledgement, not at the next look."""

from __future__ import annotations

import asyncio

import pytest

from heliograph.app import waiting
from heliograph.app.agent_line import check_in
from heliograph.app.push_status import PushStatusReader
from heliograph_protocol.messages import CheckIn, PushAck
from tests.app.conftest import Desk
from tests.app.pushing import in_place_of_all


async def test_an_acknowledgement_wakes_whoever_waits(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = in_place_of_all(desk, monkeypatch)
    monkeypatch.setattr(waiting, "_LOOK_AGAIN_S", 3600.0)
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    [push] = await desk.work.pushes.of_command(command.id)
    reader = PushStatusReader(desk.services)
    asked = asyncio.create_task(reader.of_command(desk.work, await desk.now(command), wait_s=7200))
    await provider.asked.wait()  # it has looked once and found it open
    ack = PushAck(id=push.id, at="2026-01-01T00:00:00Z")
    await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=1, push_acks=[ack]))
    async with asyncio.timeout(30):
        report = await asked
    assert report.is_final
    assert report.status is not None
    assert report.status.delivered
