"""A claim that ran out while its push was on the way: another process is at it, and decides."""

from __future__ import annotations

from collections import defaultdict

import pytest

from heliograph.app.effects import EFFECTS
from heliograph.app.setup import add_account
from heliograph.domain.deliveries import PushCollapsed, PushRung
from heliograph.domain.errors import Conflict
from heliograph.ports.changes import ChangeSet
from heliograph.ports.push import Misconfigured
from tests.app.conftest import Desk
from tests.app.pushing import Provider, one_for_each_kind
from tests.app.test_blamed_accounts import MQTT, fleet, now_of, push_to

REFUSED = Misconfigured("the key is refused")


@pytest.fixture
def ways(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> defaultdict[str, Provider]:
    return one_for_each_kind(desk, monkeypatch)


async def test_what_goes_another_way_is_owed_there_whoever_decides(
    desk: Desk, ways: defaultdict[str, Provider]
) -> None:
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    broker = await add_account(desk.services, desk.organization, "mqtt", "", MQTT, True)
    [push] = await push_to(desk, *await fleet(desk, 1, "pushy", "mqtt"))
    ways["pushy"].outcomes = [REFUSED] * 2
    system, now = desk.services.store.system, desk.clock.now()
    [first] = await system.claim(now, now + 15_000_000, 1)
    desk.clock.advance(16)  # the process that has it stands still
    now = desk.clock.now()
    [second] = await system.claim(now, now + 15_000_000, 1)
    assert second.id == first.id
    with pytest.raises(Conflict):
        await EFFECTS["push"](desk.services, first)
    await EFFECTS["push"](desk.services, second)
    now = desk.clock.now()
    owed = await system.claim(now, now + 15_000_000, 9)
    assert [item.pool for item in owed if item.kind == "push"] == [broker.id]
    for item in owed:
        await EFFECTS[item.kind](desk.services, item)
    [after] = await now_of(desk, [push])
    assert (after.rung, after.provider) == (PushRung.ACCEPTED, "mqtt")
    assert after.attempts is not None
    assert (after.attempts.count, after.attempts.uncertain) == (2, 1)


async def test_what_was_collapsed_on_its_way_goes_no_other(desk: Desk, ways: defaultdict[str, Provider]) -> None:
    await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": "abc"}, True)
    await add_account(desk.services, desk.organization, "mqtt", "", MQTT, True)
    [push] = await push_to(desk, *await fleet(desk, 1, "pushy", "mqtt"))

    async def collapse() -> None:
        changes, [current] = ChangeSet(desk.organization.id), await now_of(desk, [push])
        changes.move_push(current, PushCollapsed(source="dispatcher"), desk.clock.now())
        changes.withdraw(f"push:{push.id}")
        await desk.work.commit(changes)

    ways["pushy"].outcomes, ways["pushy"].meanwhile = [REFUSED], collapse
    assert await desk.pay() == ["push", "reroute"]
    [after] = await now_of(desk, [push])
    assert (after.rung, after.provider, after.legs) == (PushRung.COLLAPSED, "pushy", None)
    assert after.attempts is not None
    assert after.attempts.reason == REFUSED.reason
