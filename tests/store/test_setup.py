"""What operators set up, and the way in before an organization is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliograph.domain.devices import ApiKey, Enterprise, Organization, Principal, ProviderAccount, PushTarget
from heliograph.domain.enrollment import EnrollmentToken, SignUp
from heliograph.domain.errors import Conflict, NotFound
from heliograph.store import AnyStore
from heliograph.store.database import Rows
from tests.store.world import NOW, World, new_id, new_world


async def test_organizations(store: AnyStore, world: World) -> None:
    directory = store.directory
    mine = world.organization
    assert await directory.organization(mine.id) == await directory.organization(mine.slug) == mine
    assert await directory.organization("nobody") is None
    with pytest.raises(Conflict, match="slug"):
        await directory.add_organization(replace(mine, id=new_id()))
    # A slug that looks like another's id does not hide that organization.
    sly = Organization(new_id(), mine.id, "Sly", {}, NOW + 1, NOW)
    await directory.add_organization(sly)
    assert await directory.organization(mine.id) == mine
    changed = replace(mine, name="New", features={"aospCommands": False}, updated_at=NOW + 9)
    await world.work.setup.save_organization(changed, read_at=mine.updated_at)
    with pytest.raises(Conflict):
        await world.work.setup.save_organization(replace(changed, name="Newer"), read_at=mine.updated_at)
    assert await directory.organizations() == [changed, sly]
    with pytest.raises(ValueError, match="another"):
        await world.work.setup.save_organization(sly, read_at=sly.updated_at)


async def test_api_keys(store: AnyStore, world: World) -> None:
    key = ApiKey(new_id(), world.organization.id, "ci", "hg_ab", ("mdm.*", "base.*"), NOW, NOW + 5)
    setup = world.work.setup
    await setup.add_key(key, b"h1")
    await setup.add_key(replace(key, id=new_id(), created_at=NOW + 1), b"h2")
    principal = Principal(key.id, world.organization, frozenset(key.permissions), NOW + 5)
    assert await store.directory.principal(b"h1") == (principal, key)
    assert await store.directory.principal(b"h3") is None
    with pytest.raises(Conflict):
        await setup.add_key(replace(key, id=new_id()), b"h1")
    assert await setup.revoke_key(key.id, NOW + 7)
    assert await setup.revoke_key(key.id, NOW + 8)
    assert not await setup.revoke_key(new_id(), NOW)
    assert not await (await new_world(store)).work.setup.revoke_key(key.id, NOW)
    assert (await setup.keys())[0] == replace(key, revoked_at=NOW + 7)
    assert len(await setup.keys()) == 2


async def test_a_key_is_revoked_with_all_that_come_from_it(world: World) -> None:
    setup = world.work.setup
    parent = ApiKey(new_id(), world.organization.id, "p", "hg_ab", ("*",), NOW)
    child = replace(parent, id=new_id(), created_at=NOW + 1, created_by=parent.id)
    grandchild = replace(parent, id=new_id(), created_at=NOW + 2, created_by=child.id)
    other = replace(parent, id=new_id(), created_at=NOW + 3)
    for number, key in enumerate((parent, child, grandchild, other)):
        await setup.add_key(key, f"family {number}".encode())
    await setup.revoke_key(child.id, NOW + 5)
    assert [key.revoked_at for key in await setup.keys()] == [None, NOW + 5, NOW + 5, None]
    await setup.revoke_key(parent.id, NOW + 6, with_created=False)
    assert [key.revoked_at for key in await setup.keys()] == [NOW + 6, NOW + 5, NOW + 5, None]


async def test_enterprises(store: AnyStore, world: World) -> None:
    google = Enterprise(new_id(), world.organization.id, "android", "enterprises/x", NOW + 1, b"sealed", "http://e")
    setup = world.work.setup
    await setup.add_enterprise(google)
    assert await setup.enterprise(google.id) == google
    assert await setup.enterprises() == [world.enterprise, google]
    with pytest.raises(Conflict, match="name"):
        await setup.add_enterprise(replace(google, id=new_id()))
    other = await new_world(store)
    await other.work.setup.add_enterprise(replace(google, id=new_id(), organization_id=other.organization.id))
    with pytest.raises(ValueError, match="another"):
        await other.work.setup.add_enterprise(replace(google, id=new_id()))


async def test_a_default_account_replaces_the_default_of_its_kind(world: World) -> None:
    setup = world.work.setup
    plain = ProviderAccount(new_id(), world.organization.id, "pushy", "b", b"c", NOW + 1, NOW, disabled_at=NOW)
    other_kind = replace(plain, id=new_id(), provider="fcm", created_at=NOW + 2, is_default=True)
    new_default = replace(plain, id=new_id(), created_at=NOW + 3, is_default=True)
    for account in (plain, other_kind, new_default):
        await setup.add_account(account)
    replaced = replace(world.account, is_default=False, updated_at=world.account.updated_at + 1)
    assert await setup.accounts() == [replaced, plain, other_kind, new_default]
    with pytest.raises(Conflict):
        await setup.add_account(replace(new_default, is_default=True))
    assert await setup.account(new_default.id) == new_default
    assert await setup.account(new_id()) is None


async def test_an_account_is_renewed_but_for_its_fault(store: AnyStore, world: World) -> None:
    setup = world.work.setup
    assert not await setup.note_fault(world.account.id, "refused", NOW + 5, world.account.updated_at - 1)
    assert await setup.note_fault(world.account.id, "refused", NOW + 5, world.account.updated_at)
    assert not await setup.note_fault(world.account.id, "refused", NOW + 6)
    renewed = replace(
        world.account, name="n", config=b"new", updated_at=NOW + 1, disabled_at=NOW + 1, expires_at=NOW + 9
    )
    await setup.save_account(renewed)
    assert await setup.account(world.account.id) == replace(renewed, fault="refused", fault_at=NOW + 5)
    assert await setup.note_fault(world.account.id, None, NOW + 7)
    assert not await setup.note_fault(world.account.id, None, NOW + 8)
    assert await setup.account(world.account.id) == renewed
    other = await new_world(store)
    assert not await other.work.setup.note_fault(world.account.id, "theirs", NOW)
    with pytest.raises(NotFound):
        await other.work.setup.save_account(replace(renewed, organization_id=other.organization.id))


async def test_a_renewed_default_replaces_the_default_of_its_kind(world: World) -> None:
    setup = world.work.setup
    other = replace(world.account, id=new_id(), is_default=False)
    await setup.add_account(other)
    await setup.save_account(replace(other, is_default=True))
    assert {a.id: a.is_default for a in await setup.accounts()} == {world.account.id: False, other.id: True}


async def test_an_account_that_was_changed_since_it_was_read_is_not_saved(world: World) -> None:
    setup = world.work.setup
    other = replace(world.account, id=new_id(), is_default=False)
    await setup.add_account(other)
    late = replace(other, is_default=True, name="late", updated_at=NOW + 2)
    with pytest.raises(Conflict):
        await setup.save_account(late, read_at=other.updated_at - 1)
    with pytest.raises(NotFound):
        await setup.save_account(replace(late, id=new_id()))
    assert await setup.accounts() == [world.account, other]  # the default stays as well
    await setup.save_account(late, read_at=other.updated_at)
    # Whoever read the one that was the default until then would make it so again.
    with pytest.raises(Conflict):
        await setup.save_account(replace(world.account, name="x"), read_at=world.account.updated_at)
    assert {a.id: a.is_default for a in await setup.accounts()} == {world.account.id: False, other.id: True}


async def test_devices(store: AnyStore, world: World) -> None:
    setup = world.work.setup
    device = replace(world.device, id=new_id())
    await setup.add_device(device, b"secret")
    other = await new_world(store)
    with pytest.raises(Conflict):
        await setup.add_device(device, None)
    with pytest.raises(Conflict):
        await setup.add_device(replace(device, id=new_id()), b"secret")
    for foreign in (
        replace(device, enterprise_id=other.enterprise.id),
        replace(device, provider_account_id=other.account.id),
    ):
        with pytest.raises(Conflict):
            await setup.add_device(replace(foreign, id=new_id()), None)
        with pytest.raises(Conflict):
            await setup.save_device(foreign)
    with pytest.raises(NotFound):
        await setup.save_device(replace(device, id=new_id()))
    await setup.add_device(replace(device, id=new_id(), enterprise_id=None), None)
    await setup.add_device(replace(device, id=new_id()), None)  # two without a secret
    assert await store.directory.device_by_secret(b"none") is None


async def test_a_name_belongs_to_one_device_for_good(store: AnyStore, world: World) -> None:
    setup, devices = world.work.setup, world.work.devices
    first = replace(world.device, id=new_id(), all_platform_id=new_id(), external_name="first")
    other = replace(first, id=new_id(), all_platform_id=new_id(), external_name="other")
    await setup.add_device(first, None, former_names=["older"])
    for name in ("first", "older"):
        with pytest.raises(Conflict):
            await setup.add_device(replace(other, external_name=name), None)
        with pytest.raises(Conflict):
            await setup.add_device(other, None, former_names=[name])
    assert await devices.find("aosp", other.id) is None
    await setup.add_device(other, None)
    renamed = replace(first, external_name="second", updated_at=NOW + 1)
    await setup.save_device(renamed, read_at=first.updated_at, former_names=["older", "oldest"])
    names = ["first", "older", "oldest", "second"]
    assert await devices.known_as([*names, "other", "nobody"]) == {**dict.fromkeys(names, renamed), "other": other}
    for name in names:
        with pytest.raises(Conflict):
            await setup.save_device(replace(other, external_name=name, state="x"), read_at=other.updated_at)
    with pytest.raises(Conflict):  # changed since, and so the name is not taken either
        await setup.save_device(replace(first, external_name="late"), read_at=first.updated_at)
    assert await devices.known_as(["late"]) == {}
    assert await devices.find_by_external_name("other") == other
    elsewhere = await new_world(store)
    assert await elsewhere.work.devices.known_as(names) == {}
    await elsewhere.work.setup.save_device(replace(elsewhere.device, external_name="first"))


async def test_a_record_is_joined_to_another_of_the_same_device(store: AnyStore, world: World) -> None:
    setup, work = world.work.setup, world.work
    kept = replace(world.device, id=new_id(), all_platform_id=new_id(), external_name="kept")
    other = replace(kept, id=new_id(), all_platform_id=new_id(), external_name="other", created_at=NOW + 1)
    await setup.add_device(kept, b"k")
    await setup.add_device(other, b"o", former_names=["older"])
    mine, theirs = [await world.added_command(device_id=d.id) for d in (kept, other)]
    push = await world.added_push(device_id=other.id, command_id=theirs.id)
    for device, providers in ((kept, "ab"), (other, "bc")):
        at = NOW + (device is other)
        targets = [PushTarget(device.id, "app", provider, None, device.id, at) for provider in providers]
        await work.devices.register(device.id, "app", targets, at)
    await world.owe(
        world.debt(kind="issue", subject_id=theirs.id, key=f"issue:{theirs.id}", lane=f"issue:{other.id}:LOCK:x"),
        world.debt(kind="look_up", subject_id=kept.id, key=f"look_up:{kept.id}", due_at=NOW + 9, priority=1),
        world.debt(kind="look_up", subject_id=other.id, key=f"look_up:{other.id}", due_at=NOW + 5, priority=0),
    )
    named = replace(kept, external_name="other", updated_at=NOW + 1)

    for stale in (replace(other, updated_at=NOW - 1), replace(other, id=new_id())):
        with pytest.raises(Conflict):
            await setup.join_devices(named, [stale], read_at=NOW)
    with pytest.raises(Conflict):
        await setup.join_devices(named, [other], read_at=NOW - 1)
    assert await work.devices.find("aosp", other.id) == replace(other, last_seen_at=NOW + 1)
    assert await store.directory.device_by_secret(b"o") is not None

    await setup.join_devices(named, [other], read_at=NOW, former_names=["oldest"])
    found = replace(named, last_seen_at=NOW + 1)
    for reference in (kept.id, kept.all_platform_id, other.id, other.all_platform_id):
        assert await work.devices.find("aosp", reference) == found
    assert await work.devices.find("android", other.id) is None
    names = ["kept", "older", "oldest", "other"]
    assert await work.devices.known_as(names) == dict.fromkeys(names, found)
    assert await store.directory.device_by_secret(b"o") == found
    assert await store.directory.device_by_secret(b"k") is None
    assert await world.read(mine.id) == mine
    assert await world.read(theirs.id) == replace(theirs, device_id=kept.id, version=theirs.version + 1)
    moved = await work.pushes.find(push.id)
    assert moved is not None
    assert (moved.device_id, moved.version) == (kept.id, push.version + 1)
    addresses = {target.provider: target.token for target in await work.devices.targets(kept.id)}
    assert addresses == {"a": kept.id, "b": other.id, "c": other.id}
    owed = await store.fetch("SELECT key, subject_id, lane, due_at, priority, token FROM outbox ORDER BY kind")
    assert [tuple(row) for row in owed] == [
        (f"issue:{theirs.id}", theirs.id, f"issue:{kept.id}:LOCK:x", NOW, 1, 0),
        (f"look_up:{kept.id}", kept.id, None, NOW + 5, 0, 1),
    ]
    with pytest.raises(Conflict):  # whoever has read it before reads it again
        await work.commit(world.noted(theirs))


async def test_a_look_that_is_owed_for_the_joined_record_alone_goes_on(store: AnyStore, world: World) -> None:
    kept = replace(world.device, id=new_id(), all_platform_id=new_id())
    await world.work.setup.add_device(kept, None)
    other = world.device
    await world.owe(world.debt(kind="look_up", subject_id=other.id, key=f"look_up:{other.id}"))
    claimed = await world.claim_one()
    await world.work.setup.join_devices(kept, [other], read_at=kept.updated_at)
    item = await world.claim_one()
    assert (item.id, item.key, item.subject_id) == (claimed.id, f"look_up:{kept.id}", kept.id)
    assert await store.directory.device_by_secret(b"") is None


async def test_an_enterprise_and_an_agent_get_new_secrets(store: AnyStore, world: World) -> None:
    setup = world.work.setup
    changed = replace(world.enterprise, credentials=b"new", api_url="http://x")
    await setup.save_enterprise(changed, ["credentials"])
    assert await setup.enterprise(changed.id) == changed
    await setup.replace_agent_secret(world.device.id, b"new")
    assert await store.directory.device_by_secret(b"new") == world.device
    await setup.save_device(named := replace(world.device, external_name="enterprises/e/devices/d"))
    assert await world.work.devices.find_by_external_name("enterprises/e/devices/d") == named
    assert await (await new_world(store)).work.devices.find_by_external_name("enterprises/e/devices/d") is None


async def test_the_first_fingerprint_stays(store: AnyStore) -> None:
    assert await store.fingerprint("first") == "first"
    assert await store.fingerprint("second") == "first"
    await store.replace_fingerprint("second")
    assert await store.fingerprint("first") == "second"


async def test_what_changes_while_it_is_sealed_anew_is_not_lost(
    store: AnyStore, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server still runs. Under the new fingerprint nothing could open what it has sealed with the old key."""
    await store.fingerprint("old")
    fetch = store.fetch

    async def fetch_then_change(sql: str, *args: object) -> Rows:
        rows = await fetch(sql, *args)
        if "FROM provider_accounts" in sql:
            monkeypatch.setattr(store, "fetch", fetch)
            await world.work.setup.save_account(replace(world.account, config=b"by the server"))
        return rows

    monkeypatch.setattr(store, "fetch", fetch_then_change)
    with pytest.raises(Conflict, match="Stop every server"):
        await store.reseal(lambda _: b"sealed anew", "new")
    assert await store.known_fingerprint() == "old"
    assert await store.reseal(lambda _: b"sealed anew", "new") == 1
    found = await world.work.setup.account(world.account.id)
    assert found is not None
    assert (found.config, await store.known_fingerprint()) == (b"sealed anew", "new")


async def test_ping_writes(store: AnyStore, world: World) -> None:
    await store.ping()
    await store.ping()
    assert [tuple(row) for row in await store.fetch("SELECT beats FROM heartbeat")] == [(2,)]


async def test_sign_ups(store: AnyStore, world: World) -> None:
    enrollment = world.work.enrollment
    begun = SignUp(new_id(), world.organization.id, "p", "signupUrls/1", "https://g/1", NOW)
    await enrollment.save_sign_up(begun)
    await enrollment.save_sign_up(replace(begun, id=new_id(), project="q"))
    attempted = replace(begun, listed=("enterprises/a", "enterprises/b"))
    await enrollment.save_sign_up(attempted)
    assert await enrollment.sign_up("p") == attempted
    assert await enrollment.sign_up("r") is None
    assert await (await new_world(store)).work.enrollment.sign_up("p") is None
    await enrollment.drop_sign_up("p")
    assert await enrollment.sign_up("p") is None
    assert await enrollment.sign_up("q") is not None
    with pytest.raises(ValueError, match="another"):
        await enrollment.save_sign_up(replace(begun, organization_id=new_id()))


async def test_enrollment_tokens(store: AnyStore, world: World) -> None:
    enrollment = world.work.enrollment
    first = EnrollmentToken(
        new_id(), world.organization.id, world.enterprise.id, "enterprises/x/enrollmentTokens/1", NOW
    )
    full = replace(
        first,
        id=new_id(),
        name="enterprises/x/enrollmentTokens/2",
        created_at=NOW + 1,
        expires_at=NOW + 9,
        additional_data="till 7",
        policy_name="kiosk",
        personal_usage="PERSONAL_USAGE_ALLOWED",
        one_time_only=True,
    )
    await enrollment.add_token(first)
    await enrollment.add_token(full)
    assert await enrollment.tokens(10) == [full, first]
    assert await enrollment.tokens(1) == [full]
    other = await new_world(store)
    assert await other.work.enrollment.tokens(10) == []
    with pytest.raises(Conflict):  # an enterprise of another organization
        await other.work.enrollment.add_token(replace(first, organization_id=other.organization.id, id=new_id()))
