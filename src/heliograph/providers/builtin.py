"""Our own line: the device's agent is offered its pushes whenever it is connected, until it has acknowledged them.

Nothing leaves from here. The push is in the database, and the agent's session (app.agent_line) reads it there: a push
that is accepted, not over and not acknowledged is offered on every connection.
"""

from collections.abc import Mapping
from typing import Any

from heliograph.domain.devices import PushTarget
from heliograph.domain.fields import Fields
from heliograph.ports.push import (
    Accepted,
    CannotTell,
    Outcome,
    ProbeAnswer,
    ProviderPlugin,
    PushMessage,
    Route,
    StatusAnswer,
    Tools,
    WithdrawAnswer,
    Withdrawn,
    Works,
)
from heliograph.providers import encoded_size, offer_of
from heliograph_protocol.messages import MAX_MESSAGE_BYTES, Orders

DAY = 24 * 3600
# What an `Orders` carries besides the push: sequence number and flags.
_ENVELOPE_BYTES = 256


class Builtin:
    """The line itself. Implements `ports.push.PushProvider`."""

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        """Accepted at once: the push is stored where the agent's session looks. Our own id names it."""
        del target
        return Accepted(reference=message.id)

    async def status(self, reference: str, timeout_s: float) -> StatusAnswer:
        """Never an answer of its own: until the agent acknowledges, the push counts as pending (decision 19)."""
        del reference, timeout_s
        return CannotTell()

    async def withdraw(self, reference: str) -> WithdrawAnswer:
        """Done with the record: a push that is over is not offered any more."""
        del reference
        return Withdrawn()

    async def probe(self) -> ProbeAnswer:
        """There is nobody to ask."""
        return Works("it is our own")

    async def close(self) -> None:
        """Nothing to let go of."""


def _read_config(fields: Fields) -> dict[str, Any]:
    fields.only(())
    fields.raise_if_wrong()
    return {}


def _build(config: Mapping[str, Any], tools: Tools) -> Builtin:
    del config, tools
    return Builtin()


def _check(message: PushMessage) -> str | None:
    size = encoded_size(Orders(pushes=[offer_of(message)]))
    if size is None:
        return "cannot be written as JSON"
    most = MAX_MESSAGE_BYTES - _ENVELOPE_BYTES
    return f"is too large for the agent line: {size} bytes, at most {most}" if size > most else None


PLUGIN = ProviderPlugin(
    kind="builtin",
    read_config=_read_config,
    build=_build,
    check=_check,
    max_life_s=365 * DAY,
    tokens={"line": r"[\x20-\x7e]{0,256}"},  # no address is needed: the agent comes to us
    route=Route.LINE,
    needs_account=False,
)
