"""Where a command stands that waits for its turn under the quota, and what overtakes it."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from heliograph.app.quota import Pace, Quota
from heliograph.app.services import SECOND
from heliograph.app.setup import add_device
from heliograph.app.turns import Turn, turn_of
from heliograph.cli.ladder import turn_text
from heliograph.http.wire import emm_command
from heliograph.ports.changes import BACKGROUND, NORMAL
from heliograph.ports.channel import NotTaken
from tests.app.conftest import Desk


async def test_a_waiting_command_has_a_place_and_a_time(desk: Desk) -> None:
    desk.services = replace(desk.services, quota=Quota(desk.services.store.system, desk.clock, 6))
    desk.services = replace(desk.services, pace=Pace(at_once=2))  # the third of a source can wait
    slow = [await desk.command({"type": kind}) for kind in ("LOCK", "REBOOT", "STOP_LOST_MODE")][-1]
    assert await turn_of(desk.services, slow) == Turn(3, 60)
    shown = msgspec.to_builtins(emm_command(slow, [], await turn_of(desk.services, slow)))["progress"]
    assert shown["queue"] == {"position": 3, "expectedSeconds": 60}
    assert turn_text(shown) == "number 3, its turn comes in about 60 s"
    bare = msgspec.to_builtins(emm_command(slow, []))["progress"]
    assert "queue" not in bare
    assert turn_text(bare) is None


async def test_what_was_refused_for_now_waits_at_least_for_its_next_try(desk: Desk) -> None:
    desk.services = replace(desk.services, quota=Quota(desk.services.store.system, desk.clock, 600))
    desk.google.answers = [NotTaken("429", 40)]
    command = await desk.command({"type": "LOCK"})
    await desk.pay()
    turn = await turn_of(desk.services, await desk.now(command))
    assert turn is not None
    assert turn.position == 1
    assert 38 <= turn.expected_s <= 40


async def test_without_a_quota_or_once_issued_there_is_no_queue(desk: Desk) -> None:
    command = await desk.command({"type": "LOCK"})
    assert await turn_of(desk.services, command) is None
    desk.services = replace(desk.services, quota=Quota(desk.services.store.system, desk.clock, 600))
    await desk.pay("issue", times=1)
    assert await turn_of(desk.services, await desk.now(command)) is None


async def test_the_result_of_what_overtook_a_fan_out_is_looked_up_before_those_of_the_fan_out(desk: Desk) -> None:
    plain = desk.services
    desk.services = replace(plain, pace=Pace(at_once=0))
    await desk.command({"type": "LOCK"})
    desk.services = plain
    other = {"platform": "android", "externalName": "enterprises/LC0test/devices/d2"}
    device, _ = await add_device(desk.services, desk.organization, other)
    await desk.command({"type": "REBOOT"}, device)
    assert await desk.pay(times=2) == ["issue", "issue"]
    desk.clock.advance(1)
    now = desk.clock.now()
    look_ups = await desk.services.store.system.claim(now, now + SECOND, 10)
    assert [(item.subject_id, item.priority) for item in look_ups] == [
        (device.id, NORMAL),
        (desk.android.id, BACKGROUND),
    ]


async def test_nobody_waits_behind_a_fan_outs_command_for_the_same_device(desk: Desk) -> None:
    plain = desk.services
    desk.services = replace(plain, pace=Pace(at_once=0))
    bulk = await desk.command({"type": "LOCK"})
    desk.services = plain
    person = await desk.command({"type": "LOCK"})
    now = desk.clock.now()
    [first] = await plain.store.system.claim(now, now + SECOND, 10)  # a device gets its commands in their order
    assert (first.subject_id, first.priority) == (bulk.id, NORMAL)
    assert person.id > bulk.id
