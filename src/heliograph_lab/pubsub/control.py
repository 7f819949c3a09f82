"""The control API's part: publish by hand, spoil on purpose, rotate keys, see what was published."""

import base64
from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec

from heliograph_lab.amapi.events import Event, Source
from heliograph_lab.amapi.notices import usage_logs
from heliograph_lab.pubsub.chaos import Action, RuleError, check
from heliograph_lab.pubsub.emulator import PubsubEmulator
from heliograph_lab.pubsub.model import Message
from heliograph_lab.pubsub.publisher import Publisher
from heliograph_lab.web import Reply, Request, Router

_OF_A_DEVICE = {"ENROLLMENT", "STATUS_REPORT", "USAGE_LOGS"}
_MOST_DATA = 20_000_000


class Wanted(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body of `POST /notifications`: an enterprise's notification, or any message to any topic."""

    enterprise: str = ""
    type: str = ""
    name: str = ""
    resource: Any = None
    action: Action = Action()
    topic: str = ""
    attributes: dict[str, str] = {}
    data: str = ""
    text: str | None = None
    message_id: str = ""
    publish_time: datetime | None = None


class _Rotation(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    keep_old: bool = True


class NotificationControl:
    """Routes to be added to the lab's control API."""

    def __init__(self, pubsub: PubsubEmulator, publisher: Publisher, source: Source) -> None:
        self._pubsub = pubsub
        self._publisher = publisher
        self._source = source

    def add_to(self, router: Router) -> None:
        """Serve these too."""
        router.add("GET", "/notifications", self.log)
        router.add("POST", "/notifications", self.publish)
        router.add("GET", "/notifications/rules", self.rules)
        router.add("PUT", "/notifications/rules", self.put_rules)
        router.add("DELETE", "/notifications/rules", self.delete_rules)
        router.add("GET", "/notifications/keys", self.keys)
        router.add("POST", "/notifications/keys", self.rotate)

    async def log(self, _request: Request) -> Reply:
        """What was published and pushed, and what waits to be acknowledged."""
        store = self._pubsub.store
        waiting = {subscription.name: store.backlog(subscription.name).ids() for subscription in store.subscriptions()}
        return Reply({**self._pubsub.log.shown(), "waiting": waiting})

    async def publish(self, request: Request) -> Reply:
        """Publish one message."""
        wanted = _converted(request.json(), Wanted)
        if bool(wanted.topic) == bool(wanted.enterprise):
            raise RuleError("give either enterprise (with type) or topic")
        if wanted.topic:
            return Reply({"fate": "published", "messageIds": [await self._message(wanted)]})
        if wanted.action != Action():
            check(wanted.action, "action")
        if wanted.action.at_push:
            raise RuleError("action: what concerns a push is asked for with PUT /notifications/rules")
        event = Event(
            key=f"{wanted.type} by hand {uuid4()}",
            kind=wanted.type,
            enterprise=wanted.enterprise,
            name=wanted.name or wanted.enterprise,
            resource=wanted.resource if wanted.resource is not None else self._resource(wanted),
        )
        action = wanted.action if wanted.action != Action() else None
        fate, ids = await self._publisher.publish(event, action)
        return Reply({"fate": fate, "messageIds": ids})

    async def rules(self, _request: Request) -> Reply:
        """The rules in force."""
        return Reply(self._pubsub.rules.shown())

    async def put_rules(self, request: Request) -> Reply:
        """Replace all rules."""
        self._pubsub.rules.replace(request.json())
        return await self.rules(request)

    async def delete_rules(self, _request: Request) -> Reply:
        """Clear the rules."""
        self._pubsub.rules.replace([])
        return Reply([])

    async def keys(self, _request: Request) -> Reply:
        """The ids of the keys that the JWKS holds; the last one signs."""
        return Reply({"keys": [key["kid"] for key in self._pubsub.keys.jwks()["keys"]]})

    async def rotate(self, request: Request) -> Reply:
        """Sign with a new key."""
        rotation = _converted(request.json() if request.body.strip() else {}, _Rotation)
        await self._pubsub.keys.rotate(keep_old=rotation.keep_old)
        return await self.keys(request)

    async def _message(self, wanted: Wanted) -> str:
        store = self._pubsub.store
        if store.topic(wanted.topic) is None:
            raise RuleError(f"topic: there is no {wanted.topic}")
        if wanted.message_id and not (wanted.message_id.isascii() and wanted.message_id.isdecimal()):
            raise RuleError("messageId: must be decimal digits")
        data = wanted.data if wanted.text is None else base64.b64encode(wanted.text.encode()).decode()
        if len(data) > _MOST_DATA or len(wanted.message_id) > 20:
            raise RuleError("data, text or messageId: too long")
        if wanted.message_id and any(wanted.message_id in store.backlog(s.name) for s in store.subscriptions()):
            raise RuleError("messageId: it is still being delivered")
        if wanted.publish_time is not None and wanted.publish_time.tzinfo is None:
            raise RuleError("publishTime: must have an offset")
        now = store.now()
        message = Message(
            id=wanted.message_id or store.new_id(),
            topic=wanted.topic,
            published_at=wanted.publish_time or now,
            data=data,
            attributes=wanted.attributes,
            due=now,
        )
        await store.publish([message])
        return message.id

    def _resource(self, wanted: Wanted) -> Any:
        if wanted.type == "ENTERPRISE_UPGRADE":
            return {"enterprise": wanted.enterprise, "upgradeState": "UPGRADE_STATE_SUCCEEDED"}
        if wanted.type not in {*_OF_A_DEVICE, "COMMAND"}:
            return None  # TEST, and whatever Google may invent
        found = self._source.resource(wanted.name)
        if found is None:
            raise RuleError(f"name: {wanted.type} needs a resource, or the name of one that is there")
        return usage_logs(found, self._pubsub.store.now()) if wanted.type == "USAGE_LOGS" else found


def _converted(body: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise RuleError(str(error)) from None
