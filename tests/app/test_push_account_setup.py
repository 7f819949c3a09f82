"""Accounts at push providers as they are changed: by two at a time, after a fault, and by another process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from heliograph.app.account_health import AccountHealth
from heliograph.app.callers import Caller
from heliograph.app.effects import EFFECTS
from heliograph.app.services import Services
from heliograph.app.setup import add_account, open_config, update_account
from heliograph.app.verbs import VERBS, call_verb
from heliograph.domain.deliveries import Push, PushAccepted
from heliograph.domain.devices import Device, ProviderAccount, PushTarget
from heliograph.domain.errors import OutcomeUnknown, StoreUnavailable
from heliograph.ports.changes import ChangeSet
from heliograph.ports.push import Accepted, Misconfigured, Outcome, ProbeAnswer, PushMessage, Tools, Works
from heliograph.ports.store import Store, UnitOfWork
from heliograph.providers import ProviderRegistry, accounts_in, discover
from heliograph.providers.transport import Connections
from heliograph.store import AnyStore, Hub, known_accounts
from heliograph.store.database import LookUp, Rows
from heliograph.store.devices import Devices
from heliograph.store.known_accounts import KnownAccounts
from heliograph.store.setup import Setup
from tests.app.conftest import Clock, Desk
from tests.app.pushing import Provider
from tests.app.test_blamed_accounts import WRONG, fleet, given_up, now_of, push_to, rungs


async def made(desk: Desk) -> ProviderAccount:
    return await add_account(desk.services, desk.organization, "pushy", "main", {"apiKey": "old"}, True)


async def stored(desk: Desk, account: ProviderAccount) -> ProviderAccount:
    found = await desk.work.setup.account(account.id)
    assert found is not None
    return found


async def test_of_two_who_change_an_account_at_once_none_undoes_the_other(desk: Desk) -> None:
    """Else whoever renames it could let pushes through an account that was just disabled."""
    account = await made(desk)
    await asyncio.gather(
        update_account(desk.services, account, {"disabled": True}),
        update_account(desk.services, account, {"name": "till"}),
        update_account(desk.services, account, {"config": {"apiKey": "new"}}),
        update_account(desk.services, account, {"config": {"requestsPerMinute": 7}}),
    )
    after = await stored(desk, account)
    assert (after.name, after.disabled_at is not None) == ("till", True)
    config = open_config(desk.services, after)
    assert (config["apiKey"], config["requestsPerMinute"]) == ("new", 7)


async def test_what_is_stored_is_not_called_unchanged_where_the_database_goes_away_behind_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who repeats it without looking has two accounts."""

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable

    account = await made(desk)
    monkeypatch.setattr(Devices, "revive", away)
    with pytest.raises(OutcomeUnknown):
        await add_account(desk.services, desk.organization, "pushy", "more", {"apiKey": "b"}, True)
    with pytest.raises(OutcomeUnknown):
        await update_account(desk.services, account, {"config": {"apiKey": "new"}})
    assert open_config(desk.services, await stored(desk, account))["apiKey"] == "new"
    assert [a.name for a in await desk.work.setup.accounts()] == ["main", "more"]


async def test_new_settings_end_the_fault_of_the_old_ones(desk: Desk) -> None:
    account = await made(desk)
    await desk.work.setup.note_fault(account.id, "the key is refused", desk.clock.now())
    await update_account(desk.services, account, {"name": "till"})
    assert (await stored(desk, account)).fault == "the key is refused"
    shown = await update_account(desk.services, account, {"config": {"apiKey": "new"}})
    assert (shown.fault, shown.fault_at) == (None, None)
    assert (await stored(desk, account)).fault is None


@dataclass
class There:
    """The store as another process sees it, which no wake-up tells that an account has changed."""

    store: AnyStore
    reads: list[LookUp] = field(default_factory=list)  # of accounts, to remember them

    def __post_init__(self) -> None:
        self.remembered, self.system = KnownAccounts(cast("Any", self), Hub()), self.store.system

    async def look_up(self, what: LookUp, *args: object) -> Rows:
        self.reads.append(what)
        return await self.store.look_up(what, *args)

    def unit_of_work(self, organization_id: str) -> UnitOfWork:
        work: Any = self.store.unit_of_work(organization_id)
        work.setup = Setup(self.store, organization_id, self.remembered)
        return cast("UnitOfWork", work)


class Keyed(Provider):
    """Answers by the key of the settings that it was built from."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        refusals: dict[str, Outcome] = {"wrong": WRONG, "refused": Misconfigured("the key is refused")}
        return refusals.get(self.key, Accepted("p"))

    async def probe(self) -> ProbeAnswer:
        return Works(self.key)


@dataclass
class Process:
    """Another process on the same database."""

    desk: Desk
    store: There
    services: Services

    async def remember(self) -> None:
        """Look at the accounts as they are now, and hear of no change from then on."""
        await self.store.remembered.of(self.desk.organization.id)

    async def push_to(self, *devices: Device) -> list[Push]:
        return await push_to(replace(self.desk, services=self.services), *devices)

    async def pay(self) -> None:
        for _ in range(10):
            now = self.desk.clock.now()
            for item in await self.services.store.system.claim(now, now + 15_000_000, 1):
                await EFFECTS[item.kind](self.services, item)


@pytest.fixture
def there(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Process:
    monkeypatch.setattr(known_accounts, "_KEPT_S", 3600.0)
    store: Any = There(cast("AnyStore", desk.services.store))

    plugin = replace(discover([])["pushy"], build=lambda config, tools: Keyed(config["apiKey"]))
    tools = Tools(desk.clock, Connections(desk.clock))
    registry = ProviderRegistry({"pushy": plugin}, accounts_in(store), desk.services.secrets, tools)
    services = replace(desk.services, store=cast("Store", store), providers=registry, health=AccountHealth())
    return Process(desk, store, services)


async def pushy(desk: Desk, key: str, *, is_default: bool = True) -> ProviderAccount:
    return await add_account(desk.services, desk.organization, "pushy", "", {"apiKey": key}, is_default)


async def through(desk: Desk, pushes: list[Push]) -> list[tuple[str, str | None]]:
    return [(push.rung.value, push.account_id) for push in await now_of(desk, pushes)]


@pytest.mark.parametrize("is_first", [True, False])
async def test_another_process_sends_through_an_account_that_was_just_made(
    is_first: bool, desk: Desk, there: Process
) -> None:
    if not is_first:
        await pushy(desk, "wrong")
    await there.remember()
    account = await pushy(desk, "new")
    pushes = await push_to(desk, *await fleet(desk, 1, "pushy"))
    await there.pay()
    assert await through(desk, pushes) == [("accepted", account.id)]


async def test_another_process_sends_through_an_account_that_was_just_enabled(desk: Desk, there: Process) -> None:
    account = await pushy(desk, "abc")
    await update_account(desk.services, account, {"disabled": True})
    await there.remember()
    await update_account(desk.services, account, {"disabled": False})
    pushes = await push_to(desk, *await fleet(desk, 1, "pushy"))
    await there.pay()
    assert await through(desk, pushes) == [("accepted", account.id)]


async def test_another_process_accepts_pushes_for_an_account_that_was_just_made(desk: Desk, there: Process) -> None:
    await there.remember()
    account = await pushy(desk, "new")
    devices = await fleet(desk, 1, "pushy")
    assert await through(desk, await there.push_to(*devices)) == [("queued", account.id)]


async def test_what_another_process_sent_with_former_settings_after_they_were_mended_says_nothing(
    desk: Desk, there: Process
) -> None:
    account = await pushy(desk, "wrong")
    await there.remember()
    devices = await fleet(desk, 1, "pushy")
    await update_account(desk.services, account, {"config": {"apiKey": "right"}})
    pushes = await push_to(desk, *devices)
    await there.pay()
    assert (await given_up(desk, devices), await rungs(desk, pushes)) == (0, {"queued": 1})
    desk.clock.advance(60)
    await there.pay()
    assert await rungs(desk, pushes) == {"accepted": 1}


async def test_no_address_is_given_up_by_settings_that_are_mended_before_that_is_stored(
    desk: Desk, there: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was given up before is used again with the new settings: nobody would look after it once more."""
    account, store = await pushy(desk, "wrong"), Devices.quarantine

    async def mended(*args: Any) -> None:
        await update_account(desk.services, account, {"config": {"apiKey": "right"}})
        await store(*args)

    monkeypatch.setattr(Devices, "quarantine", mended)
    devices = await fleet(desk, 1, "pushy")
    await there.push_to(*devices)
    await there.pay()
    assert await given_up(desk, devices) == 0


async def test_settings_that_were_made_by_a_clock_that_is_ahead_are_judged_at_once(desk: Desk, there: Process) -> None:
    """Else what they hear counts for nothing until this machine's clock says so, too."""
    account, clock = await pushy(desk, "old"), Clock()
    clock.advance(600)
    ahead = replace(desk.services, clock=clock)
    await update_account(ahead, account, {"config": {"apiKey": "wrong"}})
    devices = await fleet(desk, 1, "pushy")
    pushes = await there.push_to(*devices)
    for _ in range(3):
        await there.pay()
        desk.clock.advance(31)
    assert (await given_up(desk, devices), await rungs(desk, pushes)) == (1, {"rejected": 1})


async def test_no_fault_is_told_of_settings_that_are_mended_before_that_is_stored(
    desk: Desk, there: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, store = await pushy(desk, "refused"), Setup.note_fault

    async def mended(setup: Setup, account_id: str, fault: str | None, *args: Any) -> bool:
        if fault is not None:
            await update_account(desk.services, account, {"config": {"apiKey": "right"}})
        return await store(setup, account_id, fault, *args)

    monkeypatch.setattr(Setup, "note_fault", mended)
    await there.push_to(*await fleet(desk, 1, "pushy"))
    await there.pay()
    after = await stored(desk, account)
    assert (open_config(desk.services, after)["apiKey"], after.fault) == ("right", None)


async def test_what_another_process_sent_through_a_former_default_goes_through_the_present_one(
    desk: Desk, there: Process
) -> None:
    await pushy(desk, "wrong")
    works = await pushy(desk, "right", is_default=False)
    await there.remember()
    devices = await fleet(desk, 1, "pushy")
    await update_account(desk.services, works, {"default": True})
    pushes = await there.push_to(*devices)
    await there.pay()
    assert (await given_up(desk, devices), await through(desk, pushes)) == (0, [("accepted", works.id)])


async def test_another_process_takes_a_push_back_through_an_account_that_was_just_made(
    desk: Desk, there: Process
) -> None:
    await there.remember()
    account = await pushy(desk, "new")
    [push] = await push_to(desk, *await fleet(desk, 1, "pushy"))
    changes, now = ChangeSet(desk.organization.id), desk.clock.now()
    changes.move_push(push, PushAccepted(source="provider:pushy", reference="p", expires_at=None), now)
    changes.withdraw(f"push:{push.id}")
    changes.owe(desk.services.debt(desk.organization.id, "revoke", push.id, pool=account.id))
    await desk.work.commit(changes)
    await there.pay()
    assert await rungs(desk, [push]) == {"revoked": 1}


async def test_another_process_tries_the_settings_that_are_stored(desk: Desk, there: Process) -> None:
    account = await pushy(desk, "wrong")
    await there.remember()
    await update_account(desk.services, account, {"config": {"apiKey": "right"}})
    shown = await call_verb(there.services, VERBS["provider.test"], Caller(desk.organization), {"id": account.id})
    assert shown == {"works": True, "detail": "right"}


async def test_an_account_without_its_plug_in_is_called_that(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    account = await pushy(desk, "abc")
    monkeypatch.setattr(desk.services.providers, "_plugins", {})
    shown = await call_verb(desk.services, VERBS["provider.test"], Caller(desk.organization), {"id": account.id})
    assert shown == {"works": False, "detail": "this installation has no plug-in for pushy"}


async def test_while_the_accounts_are_as_remembered_no_push_reads_them(desk: Desk, there: Process) -> None:
    await pushy(desk, "abc")
    devices = await fleet(desk, 3, "pushy")
    await there.remember()
    pushes = await there.push_to(*devices)
    await there.pay()
    assert (await rungs(desk, pushes), len(there.store.reads)) == ({"accepted": 3}, 1)
