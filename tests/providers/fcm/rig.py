"""A token endpoint, and an account that sends to FCM."""

from __future__ import annotations

from typing import Any

from heliograph.domain.fields import Fields
from heliograph.ports.push import Outcome, PushMessage, Tools
from heliograph.providers.fcm import PLUGIN
from heliograph.providers.fcm.sending import Fcm
from tests.providers.samples import WAKE, target
from tests.providers.test_fcm import TOKEN, config
from tests.support.wire import Answer, Seen, Wire, json_answer


class Google(Wire):
    """A token endpoint that gives `token-1`, `token-2`, …"""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0
        self.handler = self._give

    def _give(self, seen: Seen) -> Answer:
        self.given += 1
        return json_answer({"access_token": f"token-{self.given}", "expires_in": 3599, "token_type": "Bearer"})


def built(tools: Tools, url: str, **changes: Any) -> Fcm:
    settings = {name: value for name, value in config(url, **changes).items() if value is not None}
    provider = PLUGIN.build(PLUGIN.read_config(Fields(settings)), tools)
    assert isinstance(provider, Fcm)
    return provider


async def send(app: Fcm, message: PushMessage = WAKE) -> Outcome:
    return await app.send(message, target("fcm", TOKEN))


def error(status: int, code: str, *details: Any, says: str = "words", **headers: str) -> Answer:
    body = {"error": {"code": status, "message": says, "status": code, "details": list(details)}}
    return json_answer(body, status, **headers)
