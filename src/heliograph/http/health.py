"""Is it alive, is it ready, what are its figures."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from heliograph.app.services import SECOND, Services
from heliograph.domain.errors import StoreUnavailable


@dataclass(slots=True)
class Health:
    """`dispatcher_round_at`: when the dispatcher of this process last claimed (microseconds), None without one."""

    services: Services
    dispatcher_round_at: Callable[[], int] | None = None
    longest_round_s: float = 30.0

    async def faults(self) -> dict[str, str]:
        """What keeps this process from doing its work; empty when it is ready."""
        found: dict[str, str] = {}
        try:
            await self.services.store.ping()
        except StoreUnavailable as error:
            found["store"] = str(error)
        if self.dispatcher_round_at is not None:
            age_s = (self.services.clock.now() - self.dispatcher_round_at()) / SECOND
            if age_s > self.longest_round_s:
                found["dispatcher"] = f"has not looked for work for {age_s:.0f} s"
        return found


HealthCheck = Callable[[], Awaitable[dict[str, str]]]
