"""Is it alive, is it ready, what are its figures."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from heliograph.app.services import SECOND, Services
from heliograph.domain.errors import StoreUnavailable


@dataclass(slots=True)
class Health:
    """`dispatcher_round_at`: when the dispatcher of this process last claimed (microseconds), None without one."""

    services: Services
    dispatcher_round_at: Callable[[], int] | None = None
    longest_round_s: float = 30.0
    patience_s: float = 5.0
    _known: dict[str, str] = field(default_factory=dict)
    _known_at: int | None = None
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def faults(self) -> dict[str, str]:
        """What keeps this process from doing its work; empty when it is ready.

        Everybody may ask, and each look writes, so what was found stands for a second.
        """
        async with self._looking:
            if self._known_at is None or self.services.clock.now() - self._known_at >= SECOND:
                self._known = await self._look()
                self._known_at = self.services.clock.now()  # a look may take long: they who wait share it
            return self._known

    async def _look(self) -> dict[str, str]:
        found: dict[str, str] = {}
        try:
            async with asyncio.timeout(self.patience_s):
                await self.services.store.ping()
        except StoreUnavailable as error:
            found["store"] = str(error)
        except TimeoutError:
            found["store"] = f"The database has not answered for {self.patience_s:.0f} s"
        if self.dispatcher_round_at is not None:
            age_s = (self.services.clock.now() - self.dispatcher_round_at()) / SECOND
            if age_s > self.longest_round_s:
                found["dispatcher"] = f"has not looked for work for {age_s:.0f} s"
        return found
