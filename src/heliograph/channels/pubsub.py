"""Google Pub/Sub as a subscriber: pull, acknowledge, put off, over REST (v1, discovery document of pubsub)."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from heliograph.channels.amapi_answers import read_answer
from heliograph.channels.notifications import read_notification
from heliograph.outbound import Exchange, NotSent, Outbound, Reply
from heliograph.outbound.google import NoToken, TokenSource
from heliograph.ports.channel import Gone, Received, TooMuch, Unreachable

BASE_URL = "https://pubsub.googleapis.com"

# One message at the most that Pub/Sub takes, 10 MB, is 13.4 MB of base64.
MAX_PULL_BYTES = 16 * 1024 * 1024
_PULL_S = 100.0  # the service holds an empty pull open for some 90 s
_ANSWER_S = 10.0


class PubSubSubscription:
    """One subscription. Implements `ports.channel.Subscription`."""

    def __init__(self, name: str, tokens: TokenSource, http: Outbound) -> None:
        self._path = "/v1/" + quote(name, safe="/")
        self._tokens, self._http = tokens, http

    async def pull(self, limit: int) -> list[Received] | TooMuch | Gone | Unreachable:
        """The next messages. The service waits for the first by itself."""
        reply = await self._exchange("pull", {"maxMessages": limit}, _PULL_S)
        if isinstance(reply, Reply) and reply.too_long:
            return TooMuch()
        answer = read_answer(reply)
        if isinstance(answer, Gone | Unreachable):
            return answer
        listed = answer.get("receivedMessages", [])
        if not isinstance(listed, list):
            return Unreachable("an answer that is no list of messages")
        return [found for raw in listed if (found := _received(raw)) is not None]

    async def acknowledge(self, ack_ids: Sequence[str]) -> Unreachable | None:
        """These need not come again."""
        return await self._told("acknowledge", {"ackIds": list(ack_ids)})

    async def put_off(self, ack_ids: Sequence[str], seconds: int) -> Unreachable | None:
        """These come again after so many seconds."""
        return await self._told("modifyAckDeadline", {"ackIds": list(ack_ids), "ackDeadlineSeconds": seconds})

    async def _told(self, verb: str, body: dict[str, Any]) -> Unreachable | None:
        if not body["ackIds"]:
            return None
        answer = read_answer(await self._exchange(verb, body, _ANSWER_S))
        if isinstance(answer, Gone):
            return Unreachable(answer.reason)
        return answer if isinstance(answer, Unreachable) else None

    async def _exchange(self, verb: str, body: dict[str, Any], deadline_s: float) -> Exchange:
        token = await self._tokens.token(deadline_s=_ANSWER_S)
        if isinstance(token, NoToken):
            return NotSent(token.reason, token.after_s)
        headers = {"Authorization": f"Bearer {token}"}
        return await self._http.exchange(
            "POST", f"{self._path}:{verb}", deadline_s=deadline_s, headers=headers, json=body
        )


def _received(raw: Any) -> Received | None:
    if not isinstance(raw, dict) or not isinstance(raw.get("ackId"), str):
        return None
    return Received(raw["ackId"], read_notification(raw.get("message")))
