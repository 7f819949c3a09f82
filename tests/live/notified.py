"""Whether the ends of operations are told through Pub/Sub."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from tests.live.project import Json, NotLearnt, listed, only
from tests.live.session import Session

_EVERY_S = 5.0


async def notifications(s: Session) -> dict[str, Any]:
    """Which of the operations that were issued here a subscription tells of. Silence counts once something was told."""
    await _check_subscription(s)
    begun, told = s.around.now(), set[str]()
    while not told >= set(s.known.values()) and s.around.now() - begun < s.patience.silence:
        told |= await _pulled(s)
        await s.around.sleep(_EVERY_S)
    if not told:
        raise NotLearnt("no notification came of any operation, so silence says nothing")
    s.measured["pubsub.told"] = [kind for kind, name in s.known.items() if name in told]
    return {f"pubsub.{kind}": _is_told(s, kind, told) for kind in ("cancelled", "expired")}


def _is_told(s: Session, kind: str, told: set[str]) -> bool | NotLearnt:
    name = s.known.get(kind)
    return NotLearnt(f"there is no {kind} operation to ask about") if name is None else name in told


async def _check_subscription(s: Session) -> None:
    enterprise = (await s.project.ask("GET", s.target.enterprise, kept=only("enabledNotificationTypes"))).body
    if "COMMAND" not in enterprise.get("enabledNotificationTypes", []):
        raise NotLearnt("the enterprise has not enabled COMMAND")
    found = await s.project.ask("GET", s.target.subscription or "", service="pubsub", kept=only())
    if found.status != 200:
        raise NotLearnt(f"the subscription cannot be read: {found.status} {found.message}")
    if found.body.get("topic") != enterprise.get("pubsubTopic"):
        raise NotLearnt("the subscription is of another topic than the enterprise's")


async def _pulled(s: Session) -> set[str]:
    """The operations of the device that the waiting messages say are done; messages about others stay."""
    body = {"maxMessages": 100, "returnImmediately": True}
    subscription = s.target.subscription or ""
    answer = await s.project.ask("POST", f"{subscription}:pull", body, service="pubsub", kept=_kinds)
    if answer.status != 200:
        raise NotLearnt(f"nothing can be pulled: {answer.status} {answer.message}")
    mine = {
        str(item["ackId"]): operation
        for item in listed(answer.body, "receivedMessages")
        if str((operation := _operation(item)).get("name")).startswith(f"{s.target.device}/operations/")
    }
    if mine:
        s.cleaner.hide(*mine)
        await s.project.ask("POST", f"{subscription}:acknowledge", {"ackIds": list(mine)}, service="pubsub")
    return {str(operation["name"]) for operation in mine.values() if operation.get("done")}


def _operation(received: Json) -> Json:
    message = received.get("message", {})
    if message.get("attributes", {}).get("notificationType") != "COMMAND":
        return {}
    try:
        found = msgspec.json.decode(base64.b64decode(message.get("data", "")))
    except (msgspec.MsgspecError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _kinds(body: Json) -> Json:
    messages = [item.get("message", {}) for item in listed(body, "receivedMessages")]
    return {"received": [message.get("attributes", {}).get("notificationType") for message in messages]}
