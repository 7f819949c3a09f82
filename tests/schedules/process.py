"""One simulated server process: the real dispatcher and sweeper on a store and a wire of its own."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heliograph.app.dispatch import Dispatcher
from heliograph.app.effects import EFFECTS
from heliograph.app.services import Limits, Services
from heliograph.app.sweep import sweep_forever
from heliograph.domain.ids import IdMinter
from heliograph.ports.push import Tools
from heliograph.providers import ProviderRegistry
from heliograph.providers.transport import Connections
from tests.schedules.store import BEGAN, ProcessStore
from tests.schedules.wire import Wire

if TYPE_CHECKING:
    from tests.schedules.world import World

OWNER: ContextVar[Process | None] = ContextVar("owner", default=None)
# As in operation, with shorter windows: what they are for depends on their order, not on their length.
LIMITS = Limits(
    cancel_wait_s=1.0,
    backoff_cap_s=10.0,
    retry_after_cap_s=15.0,
    uncertainty_window_s=6.0,
    issue_timeout_s=3.0,
    lease_s=5.0,
    look_up_cap_s=15.0,
    sweep_pause_s=5.0,
)


class OpenBox:
    """Seals nothing: encryption is tested elsewhere."""

    def seal(self, plain: bytes) -> bytes:
        """As it is."""
        return plain

    def open(self, sealed: bytes) -> bytes:
        """As it is."""
        return sealed


@dataclass
class SimulatedClock:
    """Implements ports.clock.Clock: the wall clock may be set, forward; the other goes by itself."""

    process: Process

    def now(self) -> int:
        """Microseconds since the epoch."""
        return BEGAN + self.process.world.set_forward_us + self.process.skew_us + self.elapsed()

    def elapsed(self) -> int:
        """Microseconds that nobody sets."""
        return int(self.process.world.loop.time() * 1_000_000)


@dataclass(eq=False)
class Process:
    """Runs until it crashes. `dies_in`, `stands_in` = after so many steps at store and wire it dies, or stands still
    for `stands_s`.
    """

    world: World
    number: int
    skew_us: int = 0
    dies_in: int | None = None
    stands_in: int | None = None
    stands_s: float = 0.0
    stands_until: float = 0.0
    dead: bool = False
    tasks: dict[asyncio.Task[Any], None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        clock = SimulatedClock(self)
        self.services = Services(
            store=ProcessStore(self.world.database, self),
            clock=clock,
            new_id=IdMinter(lambda: clock.now() / 1e6, self.world.dice.randbytes),
            wakeups=self.world.hub,
            secrets=OpenBox(),
            providers=ProviderRegistry({}, self._no_account, OpenBox(), Tools(clock, Connections(clock))),
            channels=Wire(self),
            limits=LIMITS,
        )

    async def _no_account(self, *_: str) -> None:
        return None

    def start(self) -> None:
        """Dispatch and sweep."""
        _ = self.spawn(Dispatcher(self.services, EFFECTS).run())
        _ = self.spawn(sweep_forever(self.services))

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """A task of this process: it, and what it starts, end with the process."""
        token = OWNER.set(self)
        try:
            return self.world.loop.create_task(work)
        finally:
            OWNER.reset(token)

    def crash(self) -> None:
        """SIGKILL: nothing of it does anything any more."""
        if not self.dead:
            self.world.say(f"process {self.number} dies")
            self.dead = True
            for task in list(self.tasks):
                task.cancel()

    async def step(self) -> None:
        """An instant at which others may be faster, or this process stands still or dies."""
        if self.dead:
            raise asyncio.CancelledError
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in <= 0:
                self.crash()
        if self.stands_in is not None:
            self.stands_in -= 1
            if self.stands_in <= 0:
                self.stands_in, self.stands_until = None, self.world.loop.time() + self.stands_s
                self.world.say(f"process {self.number} stands still for {self.stands_s} s")
        dice = self.world.dice
        if self.world.nervous and dice.random() < self.world.nervous:
            await asyncio.sleep(dice.choice((0, 0, 0.001, 0.02, 0.5)))
        if self.stands_until > self.world.loop.time():
            await asyncio.sleep(self.stands_until - self.world.loop.time())
        await asyncio.sleep(0)  # where it has died meanwhile, this is the end of it


def task_factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    """A task that belongs to the process whose code starts it."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    owner = OWNER.get()
    if owner is not None:
        owner.tasks[task] = None
        task.add_done_callback(lambda t: owner.tasks.pop(t, None))
    return task
