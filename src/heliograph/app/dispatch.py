"""The dispatcher: pays what is owed. Claims by lease, runs the effect with no transaction open, records the outcome.

It sleeps until something is owed and wakes at once. Several processes may run it on one database: a claim is fenced by
its token, so an effect whose lease ran out here cannot be settled here any more.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import structlog

from heliograph.app.places import QUICK_S, Places
from heliograph.app.services import SECOND, Services
from heliograph.domain.errors import Conflict, StoreUnavailable
from heliograph.ports.changes import ChangeSet, OutboxItem
from heliograph.ports.clock import Waiter

log = structlog.get_logger("heliograph.dispatch")

Effect = Callable[[Services, OutboxItem], Awaitable[None]]

_LONGEST_SLEEP_S = 5.0  # a wake-up from another process may be lost: look again
_STORE_PAUSE_S = 0.5
_GATHER_S = 0.025  # while a pool is full, each round looks past all that it has to come: let some places become free


def backoff_s(s: Services, attempts: int, after_s: float | None = None) -> float:
    """How long to wait before attempt number `attempts` + 1: exponential with full jitter, capped.

    `after_s` (Retry-After) goes before it, up to a cap of its own: what is owed must go on within a minute of a fault's
    end, and one wrong header must not stop it for hours.
    """
    ceiling = min(s.limits.backoff_cap_s, s.limits.backoff_first_s * 2.0 ** min(attempts - 1, 16))
    jittered = ceiling * (0.5 + random.random() / 2)  # noqa: S311 (spreads load, guards nothing)
    return max(min(after_s or 0, s.limits.retry_after_cap_s), jittered)


class Dispatcher:
    """Claims effects and runs them, as many at a time as there are places (app.places)."""

    def __init__(self, services: Services, effects: Mapping[str, Effect]) -> None:
        self._s = services
        self._effects = effects
        self._running: dict[asyncio.Task[None], OutboxItem] = {}
        self._ids: set[str] = set()  # of these
        self._again: dict[str, OutboxItem] = {}  # claimed once more while they are under way, by id
        self._quick: dict[asyncio.Task[None], float] = {}  # in order, each with the time when it has run for long
        self._watch: asyncio.TimerHandle | None = None  # for the first of these; one for each would cost more
        self._places = Places(services.limits)
        self._freed = asyncio.Event()  # a place: an effect has ended, or has run for long
        self._looked_past: list[list[str]] = []
        self._others_wait = False  # behind what is full, at the last look: then they mostly do behind the next, too
        self.last_round_at = 0

    async def run(self) -> None:
        """Dispatch until cancelled; effects in flight are given the chance to record their outcome."""
        renewer = asyncio.create_task(self._renew_leases())
        try:
            with self._s.wakeups.subscribe("outbox") as waiter:
                while True:
                    await self._sleep(waiter, await self._round())
        finally:
            renewer.cancel()
            self._again.clear()
            if self._running:
                await asyncio.wait(self._running, timeout=self._s.limits.lease_s / 2)

    async def _round(self) -> float:
        """Claim and start what is due; answers for how many seconds nothing more is."""
        s = self._s
        try:
            while limit := self._places.room():
                now, looked_past = s.clock.now(), self._crowded()
                until = now + int(s.limits.lease_s * SECOND)
                items = await s.store.system.claim(now, until, limit, looked_past)
                self.last_round_at = now
                for item in items:
                    self._start(item)
                self._looked_past = self._crowded()
                if len(items) == limit and (self._others_wait or self._looked_past == looked_past):
                    continue  # there may be more of the same
                due = await s.store.system.next_due(self._looked_past)
                self._others_wait = len(items) == limit and due is not None and due <= s.clock.now()
                if self._others_wait:
                    continue
                if due is None:
                    return _LONGEST_SLEEP_S
                return min(_LONGEST_SLEEP_S, max(0.001, (due - s.clock.now()) / SECOND))
        except StoreUnavailable as error:
            log.warning("dispatcher.store_unavailable", error=str(error))
            self._looked_past = self._crowded()  # the pause is kept
            return _STORE_PAUSE_S
        self._freed.clear()  # every place is taken
        await self._freed.wait()
        self._looked_past = self._crowded()
        return 0.0

    def _paused(self) -> dict[str, int]:
        """Pools of which nothing is wanted for now, each until when (microseconds)."""
        return self._s.health.paused(self._s.clock.now())

    def _crowded(self) -> list[list[str]]:
        """For each priority, the pools that are shut, and those that are paused."""
        paused = list(self._paused())
        return [pools + paused for pools in self._places.shut()]

    async def _sleep(self, waiter: Waiter, seconds: float) -> None:
        """Until something is owed, `seconds` are over, a pause is, or a place is free in a pool that was full."""
        if paused := self._paused():
            seconds = min(seconds, max(0.001, (min(paused.values()) - self._s.clock.now()) / SECOND))
        if self._looked_past != (crowded := self._crowded()):  # a place came free while what is due was looked up
            await asyncio.sleep(_GATHER_S)
            return
        if not any(crowded):
            await waiter.wait(seconds)
            return
        self._freed.clear()
        await asyncio.sleep(_GATHER_S)  # as a rule a place has come free by then, and nothing else is to be waited for
        if self._freed.is_set() or await waiter.wait(0) or seconds <= _GATHER_S:
            return
        bells = [asyncio.create_task(waiter.wait(seconds - _GATHER_S)), asyncio.create_task(self._freed.wait())]
        try:
            await asyncio.wait(bells, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for bell in bells:
                bell.cancel()
        await asyncio.sleep(_GATHER_S)

    def _start(self, item: OutboxItem) -> None:
        if item.id in self._ids:
            # Owed anew while we are still at it; or our claim ran out: this machine slept, or its clock was set.
            self._again[item.id] = item
            return
        task = asyncio.create_task(self._pay(item))
        self._running[task] = item
        self._ids.add(item.id)
        loop = asyncio.get_running_loop()
        self._quick[task] = loop.time() + QUICK_S
        if self._watch is None:
            self._watch = loop.call_later(QUICK_S, self._watch_quick)
        self._places.begin(item.pool)
        task.add_done_callback(self._ended)

    def _watch_quick(self) -> None:
        """Who has run for `QUICK_S` waits for somebody else."""
        loop = asyncio.get_running_loop()
        self._watch = None
        while self._quick:
            task, until = next(iter(self._quick.items()))
            if until > loop.time():
                self._watch = loop.call_at(until, self._watch_quick)
                return
            del self._quick[task]
            self._places.wait(self._running[task].pool)
            self._freed.set()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        waited = self._quick.pop(task, None) is None
        item = self._running.pop(task)
        self._ids.discard(item.id)
        self._places.end(item.pool, waited=waited)
        if (again := self._again.pop(item.id, None)) is not None:
            self._start(again)
        self._freed.set()

    async def _pay(self, item: OutboxItem) -> None:
        effect = self._effects.get(item.kind)
        try:
            if effect is None:  # owed by a newer version, whose processes work beside this one: theirs to pay
                log.warning("effect.unknown", kind=item.kind, attempts=item.attempts)
                await self._put_off(item, backoff_s(self._s, item.attempts))
            else:
                await effect(self._s, item)
        except Conflict:
            # The record or the claim moved under us: look at it afresh.
            await self._put_off(item, 0.01)
        except StoreUnavailable:
            log.warning("effect.store_unavailable", kind=item.kind, subject=item.subject_id)
        except Exception:
            log.exception("effect.failed", kind=item.kind, subject=item.subject_id, attempts=item.attempts)
            await self._put_off(item, backoff_s(self._s, item.attempts))

    async def _put_off(self, item: OutboxItem, after_s: float) -> None:
        changes = ChangeSet(item.organization_id)
        changes.put_off(item, self._s.later(after_s))
        with suppress(Conflict, StoreUnavailable):  # else the lease runs out by itself
            await self._s.store.unit_of_work(item.organization_id).commit(changes)

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(self._s.limits.lease_s / 3)
            items = [*self._running.values(), *self._again.values()]
            if not items:
                continue
            try:
                await self._s.store.system.renew(items, self._s.later(self._s.limits.lease_s))
            except StoreUnavailable:
                continue
            except Exception:  # without renewals others would repeat what is on its way here: try again
                log.exception("dispatcher.renewal_failed", claims=len(items))
