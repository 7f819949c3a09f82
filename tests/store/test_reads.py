"""Reads of commands, pushes, histories and devices, within one organization."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from heliograph.domain.deliveries import PushRung
from heliograph.domain.devices import Device, PushTarget
from heliograph.domain.errors import Conflict, InvalidInput
from heliograph.domain.ladder import LIVE, TERMINAL, Issue, Rung
from heliograph.ports.pages import DeviceFilter, PageQuery
from heliograph.store import AnyStore
from tests.store.world import NOW, SECOND, World, new_id, new_world


async def test_a_command_is_found_by_device_or_without(world: World) -> None:
    command = await world.added_command()
    assert await world.work.commands.find(command.id, world.device.id) == command
    assert await world.work.commands.find(command.id, new_id()) is None
    assert await world.work.commands.find(new_id()) is None


async def test_nothing_of_another_organization_is_seen(store: AnyStore, world: World) -> None:
    other = await new_world(store)
    command, push = await world.added_command(), await world.added_push(rung=PushRung.ACCEPTED)
    work = other.work
    assert await work.commands.find(command.id) is None
    assert await work.pushes.find(push.id) is None
    assert await work.commands.live_of_device(world.device.id, 10) == []
    assert (await work.commands.list_of_device(world.device.id, PageQuery())).total == 0
    assert await work.pushes.offers(world.device.id, "mdmAgent", NOW, 10) == []
    assert await work.history.of([command.id]) == {command.id: []}
    assert await work.devices.find(None, world.device.id) is None
    assert await work.devices.find_with_targets(None, world.device.id, "mdmAgent") is None
    assert await work.pushes.find_with_targets(push.id) is None
    assert await (await work.devices.list(None, PageQuery())).items() == [other.device]
    assert await work.setup.enterprise(world.enterprise.id) is None
    assert await work.setup.account(world.account.id) is None


async def test_pages(world: World) -> None:
    commands = [await world.added_command(created_at=NOW + n // 2, type=f"T{n % 3}") for n in range(7)]
    work = world.work.commands

    async def ids(**query: object) -> list[str]:
        page = await work.list_of_device(world.device.id, PageQuery(**query))  # type: ignore[arg-type]
        assert [c.id for c in await page.items()] == page.ids
        return page.ids

    in_order = [c.id for c in commands]
    assert await ids() == in_order
    assert await ids(descending=True) == in_order[::-1]
    assert await ids(page=2, limit=3) == in_order[3:6]
    assert await ids(page=3, limit=3) == in_order[6:]
    assert await ids(page=9, limit=3) == []
    assert await ids(sort="type") == [c.id for c in sorted(commands, key=lambda c: (c.type, c.id))]
    assert (await work.list_of_device(world.device.id, PageQuery(limit=1))).total == 7
    for sort in ("updated_at", "rung"):
        assert len(await ids(sort=sort)) == 7
    with pytest.raises(InvalidInput):
        await ids(sort="id; DROP TABLE commands")


async def test_live_commands_oldest_first(world: World) -> None:
    live = [await world.added_command(rung=rung, created_at=NOW - n) for n, rung in enumerate(sorted(LIVE))]
    for rung in TERMINAL:
        await world.added_command(rung=rung)
    assert await world.work.commands.live_of_device(world.device.id, 100) == live[::-1]
    assert await world.work.commands.live_of_device(world.device.id, 2) == live[:-3:-1]


async def test_live_commands_of_which_a_state_of_their_issue_is_known(world: World) -> None:
    """Before the limit: the others hide none."""
    for issue in (Issue.IDLE, Issue.OPEN, Issue.BOUND):
        for n in range(3):
            await world.added_command(issue=issue, created_at=NOW + n)
    found = await world.work.commands.live_of_device(world.device.id, 2, Issue.BOUND)
    assert [(c.issue, c.created_at) for c in found] == [(Issue.BOUND, NOW), (Issue.BOUND, NOW + 1)]


@pytest.mark.parametrize("journal", ["mine", ""])
async def test_what_is_due_to_an_agent_is_what_the_domain_says(world: World, journal: str) -> None:
    """The rule is there twice: every command that it can tell apart, by the one and by the other."""
    told_apart = itertools.product(
        Rung, (None, NOW - 1), (NOW, NOW + 1), (None, NOW, NOW + 1), (None, "mine", "another's")
    )
    changes = world.changes()
    for rung, cancelled, expires, not_before, claimed_by in told_apart:
        command = world.command(rung=rung, cancel_requested_at=cancelled, expires_at=expires, created_at=NOW - 9)
        changes.new_commands.append(replace(command, not_before=not_before, claimed_by=claimed_by))
    await world.work.commit(changes)
    due = [c.id for c in changes.new_commands if c.is_due_to(journal, NOW) and not c.is_over]
    assert len(due) > 10
    found = await world.work.commands.due_to_agent(world.device.id, journal, NOW, 10_000)
    assert [c.id for c in found] == sorted(due)
    first = await world.work.commands.due_to_agent(world.device.id, journal, NOW, 3)
    assert [c.id for c in first] == sorted(due)[:3]


async def test_receipts(world: World) -> None:
    await world.added_command(receipt="bound")
    await world.added_command()
    assert await world.work.commands.bound_receipts(["bound", "free"]) == {"bound"}
    found = await world.work.commands.find_by_receipt("bound")
    assert found is not None
    assert found.receipt == "bound"
    assert await world.work.commands.find_by_receipt("free") is None
    assert await (await new_world(world.store)).work.commands.find_by_receipt("bound") is None


async def test_pushes_of_a_command_newest_first(world: World) -> None:
    command = await world.added_command()
    pushes = [await world.added_push(command_id=command.id, created_at=NOW + n // 2) for n in range(3)]
    await world.added_push()
    assert await world.work.pushes.of_command(command.id) == pushes[::-1]
    assert await world.work.pushes.find(new_id()) is None


async def test_offers(world: World) -> None:
    offered = [
        await world.added_push(rung=PushRung.ACCEPTED, created_at=NOW + 1),
        await world.added_push(rung=PushRung.PROVIDER_DELIVERED, created_at=NOW, provider="pushy"),
    ]
    await world.added_push(rung=PushRung.ACCEPTED, expires_at=NOW)
    await world.added_push(rung=PushRung.ACCEPTED, app="kioskLauncher")
    await world.added_push(rung=PushRung.QUEUED)
    await world.added_push(rung=PushRung.ACKNOWLEDGED)
    assert await world.work.pushes.offers(world.device.id, "mdmAgent", NOW, 9) == offered[::-1]
    assert await world.work.pushes.offers(world.device.id, "mdmAgent", NOW, 1) == offered[1:]
    assert await world.work.pushes.offers(world.device.id, "mdmAgent", NOW, 9, offered[1]) == offered[:1]
    assert await world.work.pushes.offers(world.device.id, "mdmAgent", NOW, 9, offered[0]) == []


async def test_what_has_run_out_of_time(world: World, store: AnyStore) -> None:
    expired = [
        await world.added_command(expires_at=NOW),
        await world.added_command(platform="android", expires_at=NOW - 1),
        await world.added_command(issue=Issue.BOUND, expires_at=NOW - 2),
    ]
    await world.added_command(platform="android", issue=Issue.OPEN, expires_at=NOW)
    await world.added_command(platform="android", issue=Issue.BOUND, expires_at=NOW)
    await world.added_command(rung=Rung.SUCCEEDED, expires_at=NOW)
    await world.added_command(expires_at=NOW + 1)
    assert await store.system.expired_commands(NOW, 9) == expired[::-1]
    assert await store.system.expired_commands(NOW, 1) == expired[2:]

    pushes = [await world.added_push(rung=rung, expires_at=NOW - n) for n, rung in enumerate(PushRung)]
    over = await store.system.expired_pushes(NOW, 99)
    assert over == [p for p in pushes[::-1] if p.rung in (PushRung.QUEUED, PushRung.ACCEPTED)]
    assert len(await store.system.expired_pushes(NOW, 1)) == 1


async def test_devices_are_found_by_either_id(world: World) -> None:
    find = world.work.devices.find
    assert await find("aosp", world.device.id) == await find(None, world.device.all_platform_id) == world.device
    assert await find("android", world.device.id) is None
    assert await find(None, new_id()) is None


async def test_a_device_keeps_everything(world: World) -> None:
    device = Device(
        id=new_id(),
        organization_id=world.organization.id,
        all_platform_id=new_id(),
        platform="android",
        enterprise_id=world.enterprise.id,
        name="n",
        state="s",
        created_at=NOW + 1,
        updated_at=NOW + 2,
        external_name="enterprises/e/devices/d",
        serial_number="SN",
        imei="IMEI",
        enrollment_specific_id="ESID",
        management_mode="m",
        ownership="o",
        provider_account_id=world.account.id,
        mdm_user_id="u",
        last_seen_at=NOW,
        facts={"model": "x"},
    )
    setup, devices = world.work.setup, world.work.devices
    await setup.add_device(device, b"hash")
    assert await devices.find("android", device.id) == device
    assert await world.store.directory.device_by_secret(b"hash") == device
    changed = replace(device, name="other", facts={}, provider_account_id=None, last_seen_at=None, updated_at=NOW + 1)
    await setup.save_device(changed)
    # Seen is noted by itself: a description that was read before does not undo it.
    assert await devices.find("android", device.id) == replace(changed, last_seen_at=NOW)
    with pytest.raises(Conflict):
        await setup.save_device(replace(changed, name="late"), read_at=device.updated_at)
    await setup.save_device(replace(changed, name="in time"), read_at=changed.updated_at)
    found = await devices.find("android", device.id)
    assert found is not None
    assert found.name == "in time"
    assert await world.store.directory.device_by_secret(b"hash") == found
    listed = await devices.list(None, PageQuery(sort="name"))
    assert (await listed.items(), listed.total) == ([found, world.device], 2)
    assert await (await devices.list("android", PageQuery())).items() == [found]
    with pytest.raises(InvalidInput):
        await devices.list(None, PageQuery(sort="facts"))


async def test_aliases_are_exact_and_ambiguity_is_seen(world: World) -> None:
    async def add(**values: str) -> Device:
        device = replace(world.device, id=new_id(), all_platform_id=new_id(), **values)  # type: ignore[arg-type]
        await world.work.setup.add_device(device, None)
        return device

    first, second = await add(serial_number="A"), await add(imei="A")
    third = await add(enrollment_specific_id="B", serial_number="B")
    await add(serial_number="C", platform="android")
    find = world.work.devices.find_by_alias
    assert await find("aosp", "A") == [first, second]
    assert await find("aosp", "B") == [third]
    assert await find("aosp", "b") == await find("aosp", "C") == await find("aosp", "") == []
    await add(serial_number="A")
    assert len(await find("aosp", "A")) == 2


async def test_an_address_is_given_up_and_taken_back(store: AnyStore, world: World) -> None:
    devices, app = world.work.devices, "mdmAgent"
    given = [PushTarget(world.device.id, app, "pushy", world.account.id, "t", NOW, "token")]
    await devices.register(world.device.id, app, given, NOW)
    await devices.quarantine(given[0], "gone", NOW - 1, NOW + 5)  # the word is older than the address
    await devices.quarantine(replace(given[0], token="another"), "gone", NOW, NOW + 5)
    other = await new_world(store)
    await other.work.devices.quarantine(given[0], "gone", NOW, NOW + 5)
    assert await devices.targets(world.device.id) == given
    await devices.quarantine(given[0], "gone", NOW, NOW + 5)
    await devices.quarantine(given[0], "once more", NOW, NOW + 6)
    assert await devices.targets(world.device.id) == [replace(given[0], dead_at=NOW + 5, dead_reason="gone")]
    await devices.revive("pushy", NOW + 6)
    await devices.revive("fcm", NOW)
    await other.work.devices.revive("pushy", NOW)
    assert [t.dead_at for t in await devices.targets(world.device.id)] == [NOW + 5]
    await devices.revive("pushy", NOW + 5)
    assert await devices.targets(world.device.id) == given


async def test_an_account_that_has_changed_since_gives_up_no_address(world: World) -> None:
    devices, account = world.work.devices, world.account
    target = PushTarget(world.device.id, "mdmAgent", "pushy", None, "t", NOW)
    await devices.register(world.device.id, "mdmAgent", [target], NOW)
    await devices.quarantine(target, "gone", NOW, NOW + 5, account.id, account.updated_at - 1)
    assert await devices.targets(world.device.id) == [target]
    await devices.quarantine(target, "gone", NOW, NOW + 5, account.id, account.updated_at)
    assert [t.dead_at for t in await devices.targets(world.device.id)] == [NOW + 5]


async def test_an_account_gives_up_and_takes_back_what_is_reached_through_it_alone(world: World) -> None:
    """The device's own account, if it can be used, else the address's own, else the default."""
    default, setup, devices = world.account, world.work.setup, world.work.devices
    own, disabled, other = (replace(default, id=new_id(), is_default=False) for _ in range(3))
    fcm = replace(other, id=new_id(), provider="fcm")
    for account in (own, replace(disabled, disabled_at=NOW), other, fcm):
        await setup.add_account(account)

    async def given_up(device_account: str | None, address_account: str | None, its: str) -> tuple[str, str]:
        device = replace(world.device, id=new_id(), provider_account_id=device_account)
        await setup.add_device(device, None)
        target = PushTarget(device.id, "mdmAgent", "pushy", address_account, "t", NOW)
        await devices.register(device.id, "mdmAgent", [target], NOW)
        for account in (disabled, fcm, *(a for a in (own, other, default) if a.id != its)):
            await devices.quarantine(target, "gone", NOW, NOW + 5, account.id)
        assert await devices.targets(device.id) == [target]
        await devices.quarantine(target, "gone", NOW, NOW + 5, its)
        assert (await devices.targets(device.id))[0].dead_at == NOW + 5
        return device.id, its

    through = [
        await given_up(own.id, other.id, own.id),
        await given_up(None, other.id, other.id),
        await given_up(disabled.id, other.id, other.id),
        await given_up(fcm.id, None, default.id),
        await given_up(None, None, default.id),
        await given_up(None, disabled.id, default.id),
    ]
    taken_back: set[str] = set()
    for account_id in (disabled.id, own.id, other.id, default.id):
        await devices.revive("pushy", NOW, account_id)
        taken_back |= {device_id for device_id, its in through if its == account_id}
        in_use = {device_id for device_id, _ in through if (await devices.targets(device_id))[0].dead_at is None}
        assert in_use == taken_back
    assert len(taken_back) == len(through)


async def test_addresses_are_swept_when_long_dead_or_long_unused(store: AnyStore, world: World) -> None:
    devices = world.work.devices
    for app, registered_at, dead_at in (
        ("mdmAgent", NOW, None),
        ("kioskLauncher", NOW - 100, None),
        ("remoteSupport", NOW, NOW + 5),
        ("setupAssistant", NOW, NOW + 9),
    ):
        target = PushTarget(world.device.id, app, "pushy", None, "t", registered_at)
        await devices.register(world.device.id, app, [target], NOW)
        if dead_at is not None:
            await devices.quarantine(target, "gone", NOW, dead_at)
    assert await store.system.forget_targets(dead_before=NOW + 6, unused_before=NOW - 50) == 2
    assert {t.app for t in await devices.targets(world.device.id)} == {"mdmAgent", "setupAssistant"}


async def test_targets_are_replaced_per_app(world: World) -> None:
    def target(app: str, provider: str, at: int, account: str | None = None) -> PushTarget:
        return PushTarget(world.device.id, app, provider, account, f"{provider}-{at}", at)

    devices = world.work.devices
    mdm = [target("mdmAgent", "builtin", NOW), target("mdmAgent", "pushy", NOW + 1, world.account.id)]
    kiosk = [target("kioskLauncher", "builtin", NOW + 2)]
    await devices.register(world.device.id, "mdmAgent", mdm, NOW)
    await devices.register(world.device.id, "kioskLauncher", kiosk, NOW + 2 * SECOND)
    assert await devices.targets(world.device.id) == [*kiosk, mdm[1], mdm[0]]
    assert await devices.targets(world.device.id, "mdmAgent") == mdm[::-1]
    found = await devices.find(None, world.device.id)
    assert found is not None
    assert found.last_seen_at == NOW + 2 * SECOND
    for name in (world.device.id, world.device.all_platform_id):
        assert await devices.find_with_targets(None, name, "mdmAgent") == (found, mdm[::-1])
    assert await devices.find_with_targets(None, world.device.id, "remoteSupport") == (found, [])
    assert await devices.find_with_targets("windows", world.device.id, "mdmAgent") is None
    assert await devices.find_with_targets(None, "no id", "mdmAgent") is None
    push = await world.added_push(app="mdmAgent")
    assert await world.work.pushes.find_with_targets(push.id) == (push, mdm[::-1])
    without = await world.added_push(app="remoteSupport")
    assert await world.work.pushes.find_with_targets(without.id) == (without, [])

    twice = [target("mdmAgent", "builtin", NOW + 5), target("mdmAgent", "builtin", NOW + 6)]
    await devices.register(world.device.id, "mdmAgent", twice, NOW)
    assert await devices.targets(world.device.id, "mdmAgent") == twice[1:]
    await devices.register(world.device.id, "mdmAgent", [], NOW)
    assert await devices.targets(world.device.id, "mdmAgent") == []
    with pytest.raises(Conflict):
        await devices.register(new_id(), "mdmAgent", mdm, NOW)


async def test_values_that_no_column_takes(world: World) -> None:
    with pytest.raises(InvalidInput):
        await world.work.commands.find("a\ud800")
    with pytest.raises(InvalidInput):
        await world.store.system.expired_commands(2**70, 1)
    named = replace(world.organization, name="a\ud800")
    with pytest.raises(InvalidInput):
        await world.work.setup.save_organization(named, read_at=named.updated_at)


async def test_a_list_of_devices_is_narrowed(world: World) -> None:
    user, list_ = new_id(), world.work.devices.list
    of_user = replace(world.device, id=new_id(), all_platform_id=new_id(), mdm_user_id=user, state="LOST")
    await world.work.setup.add_device(of_user, None)
    for only, expected in (
        (DeviceFilter(), [world.device, of_user]),
        (DeviceFilter(mdm_user_id=user), [of_user]),
        (DeviceFilter(mdm_user_id=new_id()), []),
        (DeviceFilter(states=("LOST", "x")), [of_user]),
        (DeviceFilter(mdm_user_id=user, states=("ACTIVE",), with_deleted=False), []),
        (DeviceFilter(with_deleted=False), [world.device, of_user]),
        (DeviceFilter(nothing=True), []),
    ):
        for platform in (None, world.device.platform):
            page = await list_(platform, PageQuery(), only)
            assert (await page.items(), page.total) == (expected, len(expected))
