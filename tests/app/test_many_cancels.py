"""Somebody takes back what went to a whole fleet: each cancel has to get to Google before its device comes back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from heliograph.app.cancel_command import cancel_command
from heliograph.app.dispatch import Dispatcher
from heliograph.app.effects import EFFECTS
from heliograph.app.quota import Quota
from heliograph.app.request_command import read_android_request, request_android_command
from heliograph.app.services import Services
from heliograph.domain.devices import Device, Organization
from heliograph.domain.fields import Fields
from heliograph.domain.ladder import Command
from heliograph.ports.channel import CancelTaken, Unreachable
from tests.app.conftest import Clock, Google, OneChannel
from tests.app.simulated import Stage, simulate
from tests.schedules.store import ENTERPRISE, ORGANIZATION, device

FLEET, LARGE_FLEET, PER_MINUTE = 200, 400, 600


async def issued(s: Services, google: Google, fleet: int = FLEET) -> list[tuple[Device, Command]]:
    """A LOCK for each device, which are all off."""
    await s.store.directory.add_organization(ORGANIZATION, ENTERPRISE)
    work, found = s.store.unit_of_work(ORGANIZATION.id), []
    request = read_android_request(Fields({"type": "LOCK"}))
    for number in range(fleet):
        known = device(number, management_mode="DEVICE_OWNER", ownership="COMPANY_OWNED")
        await work.setup.add_device(known, None)
        found.append((known, (await request_android_command(s, work, known, request, "key:x")).command))
    dispatcher = asyncio.create_task(Dispatcher(s, EFFECTS).run())
    await google.issues[fleet].wait()
    await asyncio.sleep(1)
    dispatcher.cancel()
    await asyncio.gather(dispatcher, return_exceptions=True)
    return found


def test_the_looks_after_cancels_do_not_hold_up_other_cancels() -> None:
    sent_s: list[float] = []

    async def course(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        s, google = stage.services, Google()
        s = replace(s, channels=OneChannel(google))
        commands = await issued(s, google)
        s = replace(s, quota=Quota(s.store.system, s.clock, PER_MINUTE))

        async def cancel(_: str) -> CancelTaken:
            sent_s.append(loop.time() - began)
            if len(sent_s) == FLEET:
                all_sent.set()
            await asyncio.sleep(0.1)
            return CancelTaken()

        google.cancel = cancel  # type: ignore[method-assign, assignment]
        all_sent, began = asyncio.Event(), loop.time()
        dispatcher = asyncio.create_task(Dispatcher(s, EFFECTS).run())
        works = (s.store.unit_of_work(ORGANIZATION.id) for _ in commands)
        asked = (
            cancel_command(s, work, command.id, known.id, "key:x", "over")
            for work, (known, command) in zip(works, commands, strict=True)
        )
        await asyncio.gather(*asked)
        await all_sent.wait()
        dispatcher.cancel()
        await asyncio.gather(dispatcher, return_exceptions=True)

    simulate(course)
    assert sent_s[-1] <= FLEET / PER_MINUTE * 60  # as soon as the quota allows


def test_cancels_that_google_refuses_leave_something_of_the_quota_to_others() -> None:
    """The rights were withdrawn, or the key was, while hundreds of commands are to be cancelled."""

    async def course(stage: Stage) -> None:
        google = Google(cancel_answer=Unreachable("Google answered 403", status=403))
        s = replace(stage.services, channels=OneChannel(google))
        commands = await issued(s, google, LARGE_FLEET)
        s = replace(s, quota=Quota(s.store.system, s.clock, PER_MINUTE))
        work = s.store.unit_of_work(ORGANIZATION.id)
        dispatcher = asyncio.create_task(Dispatcher(s, EFFECTS).run())
        asked = (cancel_command(s, work, c.id, known.id, "key:x", "over") for known, c in commands)
        await asyncio.gather(*asked)
        await asyncio.sleep(120)
        another = device(LARGE_FLEET, management_mode="DEVICE_OWNER", ownership="COMPANY_OWNED")
        await work.setup.add_device(another, None)
        await request_android_command(s, work, another, read_android_request(Fields({"type": "LOCK"})), "key:y")
        async with asyncio.timeout(10):
            await google.issues[LARGE_FLEET + 1].wait()
        dispatcher.cancel()
        await asyncio.gather(dispatcher, return_exceptions=True)

    simulate(course)


class Two(OneChannel):
    """The enterprise of another organization has a project of its own."""

    def __init__(self, google: Google, other: Google) -> None:
        super().__init__(google)
        self.other = other

    async def channel(self, organization_id: str, enterprise_id: str) -> Google | None:
        return self.google if organization_id == ORGANIZATION.id else self.other


def test_they_hold_up_no_cancel_of_another_project() -> None:
    """Which has a quota of its own, and one request that was cut on its way."""
    other_enterprise = replace(ENTERPRISE, id="f" * 24, organization_id="b" * 24, name="enterprises/LC1")
    other_organization = Organization("b" * 24, "other", "other", {}, ENTERPRISE.created_at, ENTERPRISE.created_at)
    sent_s: list[float] = []

    async def course(stage: Stage) -> None:
        google = Google(cancel_answer=Unreachable("Google answered 403", status=403))
        other_google = Google(project="q", clock=Clock())
        other_google.clock.advance(3600)
        s = replace(stage.services, channels=Two(google, other_google))
        commands = await issued(s, google, LARGE_FLEET)
        await s.store.directory.add_organization(other_organization, other_enterprise)
        s = replace(s, quota=Quota(s.store.system, s.clock, PER_MINUTE))
        work, others = s.store.unit_of_work(ORGANIZATION.id), s.store.unit_of_work(other_organization.id)
        known = device(LARGE_FLEET, management_mode="DEVICE_OWNER", ownership="COMPANY_OWNED")
        known = replace(known, organization_id=other_organization.id, enterprise_id=other_enterprise.id)
        await others.setup.add_device(known, None)
        dispatcher = asyncio.create_task(Dispatcher(s, EFFECTS).run())
        request = read_android_request(Fields({"type": "LOCK"}))
        command = (await request_android_command(s, others, known, request, "key:y")).command
        await other_google.issues[1].wait()
        await asyncio.gather(*(cancel_command(s, work, c.id, d.id, "key:x", "over") for d, c in commands))
        loop, is_heard = asyncio.get_running_loop(), asyncio.Event()

        async def cancel(_: str) -> CancelTaken | Unreachable:
            sent_s.append(loop.time())
            if len(sent_s) == 1:
                return Unreachable("cut", is_unsure=True)
            is_heard.set()
            return CancelTaken()

        other_google.cancel = cancel  # type: ignore[method-assign, assignment]
        await cancel_command(s, others, command.id, known.id, "key:y", "over")
        await is_heard.wait()
        dispatcher.cancel()
        await asyncio.gather(dispatcher, return_exceptions=True)

    simulate(course)
    assert sent_s[1] - sent_s[0] <= 30
