"""Use cases on a real SQLite store; the services upstream answer as the test says."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from heliograph.app.agent_line import register_agent
from heliograph.app.effects import EFFECTS
from heliograph.app.request_command import (
    read_android_request,
    read_aosp_request,
    request_android_command,
    request_aosp_command,
)
from heliograph.app.services import Limits, Services
from heliograph.app.setup import add_device, create_organization
from heliograph.channels.notifications import read_notification
from heliograph.domain.devices import Device, Enterprise, Organization
from heliograph.domain.errors import Conflict
from heliograph.domain.fields import Fields
from heliograph.domain.ids import IdMinter
from heliograph.domain.ladder import Command, Entry
from heliograph.domain.permissions import BY_NAME_ONLY
from heliograph.ports.administration import Administration
from heliograph.ports.channel import (
    Gone,
    IssueAnswer,
    ListPage,
    Notification,
    NotTaken,
    Operations,
    Subscription,
    Taken,
    Toll,
    Unreachable,
)
from heliograph.ports.push import Tools
from heliograph.ports.store import UnitOfWork
from heliograph.providers import ProviderRegistry, accounts_in, discover
from heliograph.providers.transport import Connections
from heliograph.store import Hub, SqliteStore, migrate
from heliograph.system import AesGcmBox, SystemClock
from heliograph_protocol.messages import Register, Target

DEVICE_NAME = "enterprises/LC0test/devices/d1"


class Clock:
    """The real clock, which a test may move forward."""

    def __init__(self) -> None:
        self._real = SystemClock()
        self.ahead = self.lasted = 0

    def now(self) -> int:
        return self._real.now() + self.ahead

    def elapsed(self) -> int:
        return self._real.elapsed() + self.lasted

    def advance(self, seconds: float) -> None:
        """Time goes by."""
        self.ahead += int(seconds * 1_000_000)
        self.lasted += int(seconds * 1_000_000)

    def jump(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self.ahead += int(seconds * 1_000_000)


@dataclass
class Google:
    """A management channel that holds operations and answers from a script."""

    project: str = "p"
    answers: list[IssueAnswer] = field(default_factory=list)
    operations_now: dict[str, dict[str, Any]] = field(default_factory=dict)
    issued: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    cancels: list[str] = field(default_factory=list)
    gone: bool = False
    device_stays: bool = False
    only_device: str | None = None
    listed: list[dict[str, Any]] = field(default_factory=list)
    page_size: int = 2
    page_answers: list[ListPage | Gone | Unreachable] = field(default_factory=list)
    pages_asked: int = 0
    described: dict[str, Any] = field(
        default_factory=lambda: {"managementMode": "DEVICE_OWNER", "ownership": "COMPANY_OWNED", "apiLevel": 34}
    )
    asked: list[str] = field(default_factory=list)
    unreachable: bool = False
    is_whole: bool = True
    tells_time: bool = True
    clock: Clock = field(default_factory=Clock)
    issues: defaultdict[int, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    while_issuing: Callable[[], Awaitable[None]] | None = None
    while_listing: Callable[[], Awaitable[None]] | None = None

    def accept(self, command_type: str) -> dict[str, Any]:
        """Hold an operation as if an issueCommand had been accepted now."""
        millis = self.clock.now() // 1000 + len(self.operations_now)
        name = f"{DEVICE_NAME}/operations/{millis}"
        self.operations_now[name] = {"name": name, "metadata": {"type": command_type}}
        return self.operations_now[name]

    def finish(self, name: str, **outcome: Any) -> None:
        self.operations_now[name] |= {"done": True, **outcome}

    def time(self) -> int | None:
        return self.clock.now() // 1_000_000 * 1_000_000 if self.tells_time else None

    async def authorise(self) -> None:
        """Every key is good."""

    async def issue(
        self, device: Device, command: Command, params: Mapping[str, Any], deadline_s: float
    ) -> IssueAnswer:
        if deadline_s <= 0:
            return NotTaken("no time left")
        self.issued.append((command.id, dict(params)))
        self.issues[len(self.issued)].set()
        if self.while_issuing is not None:
            await self.while_issuing()
        if self.answers:
            return self.answers.pop(0)
        operation = self.accept(command.type)
        return Taken(operation["name"], dict(operation))

    async def operations(self, device: Device, toll: Toll | None = None) -> Operations | Gone | Unreachable:
        if toll is not None and (refused := await toll()) is not None:
            return refused
        if self.unreachable:
            return Unreachable("down")
        listed = [dict(o) for o in self.operations_now.values()]
        found = (
            Gone("device")
            if self.gone
            else Operations(listed, self.clock.now() // 1_000_000 * 1_000_000, self.is_whole)
        )
        if self.while_listing is not None:
            await self.while_listing()
        return found

    async def operation(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        if self.unreachable:
            return Unreachable("down")
        found = self.operations_now.get(name)
        return Gone("operation") if found is None or self.gone else dict(found)

    async def device(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        self.asked.append(name)
        if self.unreachable:
            return Unreachable("down")
        is_gone = (self.gone and not self.device_stays) or self.only_device not in (None, name)
        return Gone("device") if is_gone else {"name": name, **self.described}

    async def device_page(self, enterprise: str, page_token: str) -> ListPage | Gone | Unreachable:
        self.pages_asked += 1
        if self.page_answers:
            return self.page_answers.pop(0)
        first = int(page_token or 0)
        following = str(first + self.page_size) if first + self.page_size < len(self.listed) else ""
        return ListPage(self.listed[first : first + self.page_size], following)

    async def cancel(self, name: str) -> Any:
        self.cancels.append(name)
        return self.cancel_answer

    cancel_answer: Any = None


class OneChannel:
    """All enterprises lead to the same Google."""

    def __init__(self, google: Google) -> None:
        self.google = google

    async def channel(self, organization_id: str, enterprise_id: str) -> Google | None:
        return self.google if enterprise_id else None

    async def subscription(self, enterprise: Enterprise) -> Subscription | None:
        return None

    def read_notification(self, message: Any) -> Notification:
        return read_notification(message)

    async def is_from_upstream(self, token: str, audience: str, email: str) -> bool:
        return token == "genuine"

    def check_credentials(self, raw: bytes) -> bytes:
        return raw

    def administration(self, credentials: bytes, api_url: str | None) -> Administration:
        raise AssertionError("setting up at Google is tested against the lab: tests/app/at_google.py")

    def usual_callback(self, api_url: str | None) -> str | None:
        return None


@dataclass
class Desk:
    """One organization with an Android and an AOSP device, and short ways to work with them."""

    services: Services
    clock: Clock
    google: Google
    organization: Organization
    android: Device
    aosp: Device

    @property
    def work(self) -> UnitOfWork:
        return self.services.store.unit_of_work(self.organization.id)

    async def command(self, body: dict[str, Any], device: Device | None = None) -> Command:
        """A stored command; the device's platform decides the form of the body."""
        target = device or (self.android if "type" in body else self.aosp)
        if target.platform == "android":
            request = read_android_request(Fields(body), BY_NAME_ONLY)
            accepted = await request_android_command(self.services, self.work, target, request, "key:test")
        else:
            request = read_aosp_request(Fields(body))
            accepted = await request_aosp_command(self.services, self.work, target, request, "key:test")
        return accepted.command

    async def now(self, command: Command) -> Command:
        """The command as it is stored now."""
        found = await self.work.commands.find(command.id)
        assert found is not None
        return found

    async def history(self, command: Command) -> list[Entry]:
        return (await self.work.history.of([command.id]))[command.id]

    async def pay(self, *kinds: str, times: int = 20) -> list[str]:
        """Pay what is due now, in order, until nothing is; answers the kinds that were paid."""
        paid: list[str] = []
        for _ in range(times):
            now = self.clock.now()
            items = await self.services.store.system.claim(now, now + 15_000_000, 1)
            if not items:
                break
            paid.append(items[0].kind)
            try:
                await EFFECTS[items[0].kind](self.services, items[0])
            except Conflict:
                continue
        return paid


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    hub = Hub()
    store = await SqliteStore.open(tmp_path / "data", hub)
    await migrate(store)
    clock = Clock()
    google = Google(clock=clock)
    box = AesGcmBox(os.urandom(32))
    providers = ProviderRegistry(discover([]), accounts_in(store), box, Tools(clock, Connections(clock)))
    services = Services(
        store=store,
        clock=clock,
        new_id=IdMinter(lambda: clock.now() / 1e6, os.urandom),
        wakeups=hub,
        secrets=box,
        providers=providers,
        channels=OneChannel(google),
        limits=replace(Limits(), cancel_wait_s=0.05),
    )
    organization = await create_organization(services, "acme")
    work = store.unit_of_work(organization.id)
    enterprise = Enterprise(services.new_id(), organization.id, "android", "enterprises/LC0test", clock.now())
    await work.setup.add_enterprise(enterprise)
    android, _ = await add_device(services, organization, {"platform": "android", "externalName": DEVICE_NAME})
    aosp, _ = await add_device(services, organization, {"platform": "aosp", "name": "kiosk"})
    for device in (android, aosp):
        message = Register(app="mdmAgent", agent_version="1", targets=[Target(provider="builtin")])
        await register_agent(services, device, message)
    yield Desk(services, clock, google, organization, android, aosp)
    await providers.close()
    await store.close()
