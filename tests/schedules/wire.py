"""The way between one process and Google: requests and answers that are late, cut or lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from heliograph.domain.devices import Device, Enterprise
from heliograph.domain.ladder import Command
from heliograph.ports.administration import Administration
from heliograph.ports.channel import (
    CancelRefused,
    CancelTaken,
    Gone,
    IssueAnswer,
    ListPage,
    Notification,
    NotTaken,
    Operations,
    Refused,
    Subscription,
    Taken,
    Toll,
    Uncertain,
    Unreachable,
)
from tests.schedules.google import Operation

if TYPE_CHECKING:
    from tests.schedules.process import Process

_READ_TIMEOUT_S = 2.0
_ISSUE_FAULTS = (
    "not sent",
    "later",
    "long later",
    "credentials",
    "lost",
    "cut",
    "late",
    "very late",
    "refused",
    "gone",
)


class Wire:
    """Implements ports.channel.ManagementChannel, and Channels with this one in it."""

    project = "p"

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._google = process.world.google
        self._dice = process.world.dice

    # ------------------------------------------------------------ channel

    def time(self) -> int | None:
        """To the second."""
        return self._google.now_us() // 1_000_000 * 1_000_000

    async def authorise(self) -> None:
        """Every key is good."""

    async def issue(
        self, device: Device, command: Command, params: Mapping[str, Any], deadline_s: float
    ) -> IssueAnswer:
        """Nothing leaves after the deadline; what has left may arrive later."""
        if deadline_s <= 0:
            return NotTaken("no time left")
        name, kind = str(device.external_name), command.type
        duration_s = float(str(params["duration"]).rstrip("s"))
        fault = self._dice.choice(_ISSUE_FAULTS) if self._world.is_faulty() else ""
        answer = _REFUSALS.get(fault)
        if answer is not None:
            await asyncio.sleep(self._latency(deadline_s))
            return answer
        end = asyncio.get_running_loop().time() + deadline_s
        # A connection may take its time; then it is sent at once.
        await asyncio.sleep(self._dice.choice((0, 0, 0.01, deadline_s * 0.9)))
        taken: list[Operation | None] = []
        on_its_way = {"late": deadline_s, "very late": deadline_s + self._world.longest_delay_s}.get(fault, 0.05)
        arrived = asyncio.Event()

        def arrive() -> None:
            taken.append(self._google.accept(self._google.phones[name], command.id, kind, duration_s))
            self._world.say(f"google took {kind} of {command.id[-6:]}: {taken[0] and taken[0].name}")
            arrived.set()

        if fault != "lost":
            self._world.later(self._dice.uniform(0, on_its_way), arrive)
        left_s = end - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(left_s):
                await arrived.wait()
                await asyncio.sleep(self._latency(left_s))
                if fault != "cut":
                    return _answer(taken[0])
        except TimeoutError:
            pass
        return Uncertain("no answer")

    async def operations(self, device: Device, toll: Toll | None = None) -> Operations | Gone | Unreachable:
        """The list as it was when it was asked for."""
        if toll is not None and (refused := await toll()) is not None:
            return refused
        phone = self._google.phones[str(device.external_name)]
        bad = await self._lost_read()
        if bad is not None:
            return bad
        at = self._google.now_us() // 1_000_000 * 1_000_000
        shown = [o.shown for o in phone.operations if not o.forgotten]
        is_gone = phone.dropped
        await asyncio.sleep(self._latency(_READ_TIMEOUT_S))
        await self._process.step()
        return Gone("device") if is_gone else Operations(shown, at)

    async def operation(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        """One operation as it was when it was asked for."""
        bad = await self._lost_read()
        if bad is not None:
            return bad
        found = self._google.find(name)
        shown = None if found is None else found.shown
        await asyncio.sleep(self._latency(_READ_TIMEOUT_S))
        return Gone("operation") if shown is None else shown

    async def device(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        """One device."""
        bad = await self._lost_read()
        if bad is not None:
            return bad
        phone = self._google.phones[name]
        return Gone("device") if phone.dropped else self._google.described(phone)

    async def device_page(self, enterprise: str, page_token: str) -> ListPage | Gone | Unreachable:
        """All devices."""
        return ListPage([self._google.described(p) for p in self._google.phones.values() if not p.dropped])

    async def cancel(self, name: str) -> CancelTaken | CancelRefused | Unreachable:
        """May take effect although the answer is lost."""
        fault = self._dice.choice(("before", "after")) if self._world.is_faulty() else ""
        await asyncio.sleep(self._latency(_READ_TIMEOUT_S))
        if fault == "before":
            return Unreachable("down")
        operation = self._google.find(name)
        self._world.say(f"google is asked to cancel {name}: {operation and operation.fate}")
        if operation is None:
            return CancelRefused(404, "not found")
        if operation.fate.isdigit():
            return CancelRefused(int(operation.fate), "no")
        self._google.cancel(operation)
        await asyncio.sleep(self._latency(_READ_TIMEOUT_S))
        return Unreachable("cut", is_unsure=True) if fault == "after" else CancelTaken()

    # ------------------------------------------------------------ channels

    async def channel(self, organization_id: str, enterprise_id: str) -> Wire:
        """All enterprises lead to the same Google."""
        return self

    def administration(self, credentials: bytes, api_url: str | None) -> Administration:
        raise AssertionError("nothing is set up here")

    def usual_callback(self, api_url: str | None) -> str | None:
        return None

    async def subscription(self, enterprise: Enterprise) -> Subscription | None:
        """Notifications are handed over by the schedule."""
        return None

    def read_notification(self, message: Any) -> Notification:
        """None comes this way."""
        raise AssertionError("the schedule hands notifications over by itself")

    async def is_from_upstream(self, token: str, audience: str, email: str) -> bool:
        """None comes this way."""
        raise AssertionError("the schedule hands notifications over by itself")

    def check_credentials(self, raw: bytes) -> bytes:
        """As they are."""
        return raw

    # ------------------------------------------------------------ the way

    def _latency(self, longest_s: float) -> float:
        return self._dice.choice((0, 0.001, 0.01, 0.05, 0.3)) if self._dice.random() < 0.9 else longest_s * 0.95

    async def _lost_read(self) -> Gone | Unreachable | None:
        await self._process.step()
        if not self._world.is_faulty():
            await asyncio.sleep(self._latency(0.5))
            return None
        await asyncio.sleep(self._latency(_READ_TIMEOUT_S))
        # Google's "Requested entity was not found" has been seen for what is there.
        fault = self._dice.randrange(8)
        if fault == 0:
            return Gone("Requested entity was not found.")
        return Unreachable("down", 3.0 * (fault == 1) or None, {2: 429, 3: 403}.get(fault))


_REFUSALS: dict[str, IssueAnswer] = {
    "not sent": NotTaken("no connection"),
    "later": NotTaken("429"),
    "long later": NotTaken("429", 20.0),
    "credentials": NotTaken("401"),
    "refused": Refused("INVALID_ARGUMENT", "no"),
    "gone": Refused("NOT_FOUND", "Requested entity was not found.", gone=True),
}


def _answer(taken: Operation | None) -> IssueAnswer:
    if taken is None:
        return Refused("NOT_FOUND", "Requested entity was not found.", gone=True)
    return Taken(taken.name, taken.shown)
