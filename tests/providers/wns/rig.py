"""A token service and channels of WNS that answer as a test wants, and the account that sends there."""

from __future__ import annotations

from typing import Any

from heliograph.ports.push import Outcome, PushMessage
from heliograph.providers.wns.client import Wns
from tests.providers.samples import WAKE, target
from tests.providers.test_wns import BEARER, contract
from tests.support.wire import Action, Answer, Seen, Wire, json_answer


class ManualClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    def now(self) -> int:
        return self.us

    def elapsed(self) -> int:
        return self.us

    def advance(self, seconds: float) -> None:
        self.us += int(seconds * 1_000_000)


class Service(Wire):
    """A token service that gives `canary0BEARER20`, then others; and the channels, which answer as told."""

    def __init__(self) -> None:
        super().__init__()
        self.logins: list[Action] = []
        self.pushes: list[Action] = []
        self.life: Any = 86400
        self.handler = self._answer

    def _answer(self, seen: Seen) -> Action:
        if seen.path == "/":
            return self.pushes.pop(0) if self.pushes else received()
        if self.logins:
            return self.logins.pop(0)
        count = len(self.asked) - 1
        return json_answer({"access_token": BEARER + "x" * count, "token_type": "bearer", "expires_in": self.life})

    @property
    def asked(self) -> list[Seen]:
        """The requests for access tokens."""
        return [seen for seen in self.seen if seen.path != "/"]

    @property
    def pushed(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == "/"]


def answer(status: int = 200, wns_status: str = "", **headers: str) -> Answer:
    named = {f"X-WNS-{name.replace('_', '-')}": value for name, value in headers.items()}
    return Answer(status, b"", named | ({"X-WNS-Status": wns_status} if wns_status else {}))


def received(**headers: str) -> Answer:
    return answer(200, "received", Msg_ID="3C2A57B1D8E04F00", DeviceConnectionStatus="connected", **headers)


async def send(app: Wns, wire: Wire, message: PushMessage = WAKE) -> Outcome:
    return await app.send(message, target("wns", contract(wire.url).token))
