"""What stands for an account whose settings cannot be used: its pushes wait until somebody gives it others."""

from heliograph.domain.devices import PushTarget
from heliograph.ports.push import Misconfigured, PushMessage, Unavailable

_WHY = "its settings cannot be used: set them again with provider update"


class Unusable:
    """A provider that says so to everything. Implements ports.push.PushProvider."""

    async def send(self, message: PushMessage, target: PushTarget) -> Misconfigured:  # noqa: ARG002
        """Nothing is sent, and the push is not to blame."""
        return Misconfigured(_WHY)

    async def status(self, reference: str, timeout_s: float) -> Unavailable:  # noqa: ARG002
        """Nobody is asked."""
        return Unavailable(_WHY)

    async def withdraw(self, reference: str) -> Unavailable:  # noqa: ARG002
        """Nobody is asked."""
        return Unavailable(_WHY)

    async def probe(self) -> Misconfigured:
        """Nobody is asked."""
        return Misconfigured(_WHY)

    async def close(self) -> None:
        """Nothing to let go of."""
