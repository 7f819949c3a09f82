"""Our own line: accepted is not delivered, and only the agent says more."""

from __future__ import annotations

import msgspec
import pytest

from heliograph.ports.push import Accepted, CannotTell, PushMessage, Withdrawn
from heliograph.providers import builtin, offer_of
from heliograph_protocol.messages import MAX_MESSAGE_BYTES, Orders
from tests.providers.samples import MESSAGES, Contract, target, tools


def contract(url: str) -> Contract:
    return Contract({}, [], "", is_remote=False, wrong=[{"apiKey": "x"}])


@pytest.mark.parametrize("message", MESSAGES)
async def test_a_push_is_accepted_under_our_own_id(message: PushMessage) -> None:
    line = builtin.PLUGIN.build({}, tools())
    assert await line.send(message, target("builtin", "")) == Accepted(message.id)
    assert isinstance(await line.status(message.id, 1), CannotTell)
    assert await line.withdraw(message.id) == Withdrawn()
    await line.close()


def test_what_fits_the_line() -> None:
    def sized(characters: int) -> PushMessage:
        return PushMessage("a" * 24, "silent", 60, data={"x": "y" * characters})

    frame = len(msgspec.json.encode(Orders(pushes=[offer_of(sized(0))])))
    most = MAX_MESSAGE_BYTES - 256 - frame
    assert builtin.PLUGIN.check(sized(most)) is None
    assert "too large" in (builtin.PLUGIN.check(sized(most + 1)) or "")
