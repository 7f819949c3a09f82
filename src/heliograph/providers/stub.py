"""A provider for trials: it takes every push and delivers none, or fails in the way that its settings say.

The evidence of each outcome says so, that nobody takes a trial's record for a delivery.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from heliograph.domain.devices import PushTarget
from heliograph.domain.fields import Fields
from heliograph.ports.push import (
    Accepted,
    Misconfigured,
    Outcome,
    ProbeAnswer,
    ProviderPlugin,
    PushMessage,
    Rejected,
    RetryLater,
    Tools,
    Unavailable,
    Works,
)
from heliograph.providers import OneWay, encoded_size, offer_of
from heliograph_protocol.messages import MAX_MESSAGE_BYTES

EVIDENCE: Mapping[str, Any] = MappingProxyType({"stub": True, "delivered": "nowhere"})
REASON = "the stub was told to answer so"
MAX_DATA_BYTES = MAX_MESSAGE_BYTES - 1024  # the agent is offered it on its own line, too
MAX_LIFE_S = 365 * 24 * 3600

OUTCOMES: Mapping[str, Callable[[str], Outcome]] = MappingProxyType(
    {
        "accepted": lambda id_: Accepted(id_, evidence=dict(EVIDENCE)),
        "rejected": lambda _: Rejected(REASON, evidence=dict(EVIDENCE)),
        "gone": lambda _: Rejected(REASON, token_gone=True, evidence=dict(EVIDENCE)),
        "later": lambda _: RetryLater(REASON, account_wide=True, evidence=dict(EVIDENCE)),
        "uncertain": lambda _: RetryLater(REASON, uncertain=True, evidence=dict(EVIDENCE)),
        "misconfigured": lambda _: Misconfigured(REASON, dict(EVIDENCE)),
    }
)


class Stub(OneWay):
    """One account of it. Implements `ports.push.PushProvider`."""

    def __init__(self, outcome: str = "accepted") -> None:
        self._outcome = OUTCOMES[outcome]

    async def send(self, message: PushMessage, target: PushTarget) -> Outcome:
        """The answer that the settings name. Nothing leaves this process."""
        del target
        return self._outcome(message.id)

    async def probe(self) -> ProbeAnswer:
        """As a push would fare."""
        match self._outcome(""):
            case Misconfigured(reason, evidence):
                return Misconfigured(reason, evidence)
            case RetryLater(reason):
                return Unavailable(reason)
        return Works("a stub: it delivers nothing")

    async def close(self) -> None:
        """Nothing to let go of."""


def _read_config(fields: Fields) -> dict[str, Any]:
    fields.only(("outcome",))
    outcome = fields.text("outcome", choices=OUTCOMES)
    fields.raise_if_wrong()
    return {"outcome": outcome or "accepted"}


def _build(config: Mapping[str, Any], tools: Tools) -> Stub:
    del tools
    return Stub(config["outcome"])


def _check(message: PushMessage) -> str | None:
    size = encoded_size(offer_of(message))
    if size is None:
        return "cannot be written as JSON"
    return f"is too large: {size} bytes, at most {MAX_DATA_BYTES}" if size > MAX_DATA_BYTES else None


PLUGIN = ProviderPlugin(
    kind="stub",
    read_config=_read_config,
    build=_build,
    check=_check,
    max_life_s=MAX_LIFE_S,
    tokens={"token": r"[0-9A-Za-z_.-]{1,256}"},
    config_help={"outcome": f"What becomes of each push: {', '.join(OUTCOMES)} (default accepted; none is delivered)"},
)
