"""One schedule: who does what when, drawn from a seed, and carried out on a simulated clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from heliograph.app.cancel_command import cancel_command
from heliograph.app.notifications import Verdict, take_notification
from heliograph.app.request_command import read_android_request, request_android_command
from heliograph.domain.errors import HeliographError, NotPending
from heliograph.domain.fields import Fields
from heliograph.domain.ladder import Rung
from heliograph.domain.permissions import BY_NAME_ONLY
from heliograph.ports.channel import Notification
from heliograph.ports.pages import PageQuery
from heliograph.store import Hub
from heliograph.store.wakeups import Subscription
from tests.schedules.google import CLEARED_APP, Google
from tests.schedules.process import LIMITS, Process
from tests.schedules.store import ENTERPRISE, ORGANIZATION, Database

_BODIES: tuple[dict[str, Any], ...] = (
    {"type": "LOCK"},
    {"type": "REBOOT"},
    {"type": "RESET_PASSWORD", "newPassword": "123456"},
    {"type": "CLEAR_APP_DATA", "clearAppsDataParams": {"packageNames": [CLEARED_APP]}},
    {"type": "WIPE"},
    {"type": "RELINQUISH_OWNERSHIP"},
)
_WEIGHTS = (8, 4, 2, 1, 2, 1)
_DURATIONS_S = (20, 45, 90, 200)
_OPEN_ERASURES = """
SELECT 1 FROM commands WHERE type IN ('WIPE', 'RELINQUISH_OWNERSHIP') AND rung IN ('queued', 'issued')
    AND rtrim(device_name, 'x') = rtrim($1, 'x')
"""
_RETENTION_S = 600.0
_AGAIN_S = 10.0
SETTLED_S = 60.0  # documented: work settles within this after a fault is gone
PATIENCE_S = max(_DURATIONS_S) + 3 * SETTLED_S


class OrderedHub(Hub):
    """Wakes in the order of subscription, so that a seed says what happens."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[Subscription, int] = {}

    def add(self, topic: str, waiter: Subscription) -> None:
        """Enter a subscription."""
        self._numbers[waiter] = len(self._numbers)
        super().add(topic, waiter)

    def notify(self, topics: Any) -> None:
        """Wake whoever waits for one of the topics."""
        for topic in sorted(topics):
            for waiter in sorted(self._waiting.get(topic, ()), key=self._numbers.__getitem__):
                waiter.fire()


class World:
    """Everything that one schedule is about. `healed_at` = since when nothing goes wrong any more."""

    def __init__(self, database: Database, seed: int, loop: asyncio.AbstractEventLoop, log: list[str] | None) -> None:
        self.database, self.seed, self.loop, self.log = database, seed, loop, log
        self.dice = Random(seed)
        self.hub = OrderedHub()
        self.google = Google(self.dice, self._tell, self._is_bound)
        self.set_forward_us = 0
        self.healed_at: float | None = None
        self.ended_at = 0.0
        self.answered: list[str] = []  # ids of commands that were answered with success
        self.meant: dict[str, str] = {}  # the name of the device that each command was asked for
        self.promised: list[str] = []  # ids of commands of which somebody was told that they are cancelled
        self.processes: list[Process] = []
        self.introduced: set[str] = set()  # names of which a word was taken that says what the phone was before
        self._notices = 0
        self._draw()

    def _draw(self) -> None:
        dice = self.dice
        self.nervous = dice.choice((0.0, 0.05, 0.3))
        self.fault_rate = dice.choice((0.0, 0.05, 0.2, 0.5))
        self.store_rate = dice.choice((0.0, 0.0, 0.0, 0.05))
        self.longest_delay_s = LIMITS.uncertainty_window_s - 0.2
        self._horizon_s = dice.choice((2.0, 20.0, 60.0))

    # ------------------------------------------------------------ what others ask

    def say(self, text: str) -> None:
        """A line of the trace."""
        if self.log is not None:
            self.log.append(f"{self.loop.time():9.3f} {text}")

    def later(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        """Something that happens by itself."""
        self.loop.call_later(seconds, action, *args)

    def is_faulty(self) -> bool:
        """Whether this exchange with Google goes wrong."""
        return self.healed_at is None and self.dice.random() < self.fault_rate

    def store_fails(self) -> bool:
        """Whether the database seems to be away just now."""
        return self.healed_at is None and self.store_rate > 0 and self.dice.random() < self.store_rate

    # ------------------------------------------------------------ the course of things

    async def run(self) -> None:
        """All that was drawn, then the end of all faults, then until everything has settled."""
        self._start_process()
        plan = sorted(self._plan(), key=lambda step: step[0])
        for at, action in plan:
            await asyncio.sleep(max(0.0, at - self.loop.time()))
            action()
        await asyncio.sleep(max(0.0, self._horizon_s - self.loop.time()))
        self._heal()
        deadline = self.loop.time() + PATIENCE_S
        while self.loop.time() < deadline and not self._has_settled():  # noqa: ASYNC110 - in simulated time
            await asyncio.sleep(5)
        self.ended_at = self.loop.time()
        for process in self.processes:
            process.crash()
        while any(process.tasks for process in self.processes):  # noqa: ASYNC110 - in simulated time
            await asyncio.sleep(1)

    def _plan(self) -> list[tuple[float, Callable[[], None]]]:
        dice, horizon = self.dice, self._horizon_s
        plan: list[tuple[float, Callable[[], None]]] = [
            (dice.uniform(0, horizon / 2), self._create) for _ in range(dice.choice((1, 2, 2, 3, 4)))
        ]
        for action, chances in (
            (self._switch, (0, 0, 1, 2)),
            (self._crash, (0, 0, 0, 1, 2)),
            (self._stand_still, (0, 0, 1, 3)),
            (self._set_clock, (0, 0, 0, 0, 1)),
            (self._start_process, (0, 1)),
            (self._set_up_anew, (0, 0, 0, 0, 1)),
        ):
            plan += [(dice.uniform(0, horizon), action) for _ in range(dice.choice(chances))]
        return plan

    def _heal(self) -> None:
        self.say("from here on nothing goes wrong")
        self.healed_at = self.loop.time()
        self.nervous = 0.0
        for process in self._alive():
            process.dies_in = process.stands_in = None
            process.stands_until = 0.0
        if not self._alive():
            self._start_process()
        for phone in self.google.phones.values():
            self.google.switch(phone, online=True)

    def _is_bound(self, operation: str) -> bool:
        return bool(self.database.read("SELECT 1 FROM commands WHERE receipt = $1", (operation,)))

    def _has_settled(self) -> bool:
        open_rows = self.database.read(
            "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM commands WHERE rung IN ('queued', 'issued'))",
            (),
        )
        ends = all(o.done or self.google.phones[o.device].dropped for o in self.google.ledger)
        return open_rows[0][0] == 0 and ends

    # ------------------------------------------------------------ what may happen

    def _alive(self) -> list[Process]:
        return [p for p in self.processes if not p.dead]

    def _start_process(self) -> None:
        skew_us = self.dice.choice((0, 0, -300_000, 300_000))
        process = Process(self, len(self.processes) + 1, skew_us)
        self.say(f"process {process.number} starts")
        self.processes.append(process)
        process.start()

    def _crash(self) -> None:
        alive = self._alive()
        if alive:
            process = self.dice.choice(alive)
            process.dies_in = self.dice.choice((1, 3, 10, 30))
            self.later(self.dice.choice((0.1, 2, 20)), self._replace, process)

    def _replace(self, process: Process) -> None:
        if self.healed_at is None:
            process.crash()
            self._start_process()

    def _stand_still(self) -> None:
        alive = self._alive()
        if alive:
            process = self.dice.choice(alive)
            process.stands_in = self.dice.choice((1, 4, 8, 16, 30))
            process.stands_s = self.dice.choice((1, 4, 18, 30))

    def _set_clock(self) -> None:
        self.set_forward_us += self.dice.choice((5, 60, 3600)) * 1_000_000
        self.say("the clock is set forward")

    def _switch(self) -> None:
        phone = self.dice.choice(list(self.google.phones.values()))
        self.say(f"{phone.name} goes {'off' if phone.online else 'on'}")
        self.google.switch(phone, online=not phone.online)

    def _set_up_anew(self) -> None:
        phone = self.dice.choice([p for p in self.google.phones.values() if not p.away])
        self.say(f"{phone.name} is reset by hand, and enrols again")
        # Where our record of a WIPE is open, its success is inferred (ADR 0021): nobody can tell that it was by hand.
        is_told_apart = not self.database.read(_OPEN_ERASURES, (phone.name,))
        self.google.enrol_again(phone, drops=is_told_apart and self.dice.random() < 0.5)

    def _create(self) -> None:
        alive = self._alive()
        if not alive:
            return
        [body] = self.dice.choices(_BODIES, _WEIGHTS)
        body = body | {"duration": f"{self.dice.choice(_DURATIONS_S)}s"}
        process = self.dice.choice(alive)
        _ = process.spawn(self._ask(process, self.dice.choice((0, 1, 1, 2)), body))

    async def _ask(self, process: Process, number: int, body: dict[str, Any]) -> None:
        s = process.services
        work = s.store.unit_of_work(ORGANIZATION.id)
        try:
            # A phone may have two records for a while.
            known = await (await work.devices.list("android", PageQuery())).items()
            device = known[min(number, len(known) - 1)]
            request = read_android_request(Fields(body), BY_NAME_ONLY)
            command = (await request_android_command(s, work, device, request, "key:test")).command
        except HeliographError as error:
            self.say(f"not taken: {error!r}")
            return
        self.say(f"{command.id[-6:]} {command.type} for {device.name}, {body['duration']}")
        self.answered.append(command.id)
        self.meant[command.id] = str(device.external_name)
        for _ in range(self.dice.choice((0, 0, 1, 1, 2))):
            delay_s = self.dice.choice((0, 0.01, 0.5, 3, 12, 40))
            self.later(delay_s, self._cancel, command.id, device.id)

    def _cancel(self, command_id: str, device_id: str) -> None:
        alive = self._alive()
        if alive:
            process = self.dice.choice(alive)
            _ = process.spawn(self._ask_cancel(process, command_id, device_id))

    async def _ask_cancel(self, process: Process, command_id: str, device_id: str) -> None:
        s = process.services
        work = s.store.unit_of_work(ORGANIZATION.id)
        try:
            after = await cancel_command(s, work, command_id, device_id, "key:test", "over")
        except NotPending:
            self.say(f"cancel of {command_id[-6:]}: not pending")
            return
        except HeliographError as error:
            self.say(f"cancel of {command_id[-6:]}: {error!r}")
            return
        self.say(f"cancel of {command_id[-6:]}: {after.rung.value}")
        if after.rung is Rung.CANCELLED:
            self.promised.append(command_id)

    # ------------------------------------------------------------ notifications

    def _tell(self, kind: str, resource: dict[str, Any]) -> None:
        self.say(f"google tells {kind}: {resource}")
        dice = self.dice
        [copies] = dice.choices((0, 1, 2, 3), (15, 60, 20, 5))
        for _ in range(copies):
            self._notices += 1
            stale = kind == "COMMAND" and dice.random() < 0.1
            shown = {k: v for k, v in resource.items() if k not in ("done", "error")} if stale else resource
            is_command = kind == "COMMAND"
            notice = Notification(
                str(self._notices),
                kind,
                self.google.now_us(),
                operation=shown if is_command else None,
                device=None if is_command else shown,
            )
            self.later(dice.choice((0, 0.01, 0.5, 5, 20)), self._deliver, notice, self.loop.time())

    def _deliver(self, notice: Notification, published: float) -> None:
        if self.loop.time() - published > _RETENTION_S:
            return
        alive = self._alive()
        if not alive:
            self.later(_AGAIN_S, self._deliver, notice, published)
            return
        process = self.dice.choice(alive)
        process.spawn(take_notification(process.services, ENTERPRISE, notice)).add_done_callback(
            lambda task: self._acknowledge(task, notice, published)
        )

    def _acknowledge(self, task: asyncio.Task[Verdict], notice: Notification, published: float) -> None:
        if task.cancelled() or task.exception() is not None or task.result() is Verdict.LATER:
            if self.ended_at == 0:
                self.later(_AGAIN_S, self._deliver, notice, published)
            return
        self.say(f"notification {notice.id}: {task.result().value}")
        if task.result() is Verdict.TAKEN and notice.device is not None and "previousDeviceNames" in notice.device:
            self.introduced.add(notice.device["name"])
