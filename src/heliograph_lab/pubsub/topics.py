"""Topics, publishing and policies: the methods of `projects.topics`, and IAM for both kinds of resource."""

import base64
import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from heliograph_lab.amapi.errors import ApiError
from heliograph_lab.amapi.pages import make_token, page_size, read_token
from heliograph_lab.amapi.wire import timestamp
from heliograph_lab.pubsub.errors import exists, not_found
from heliograph_lab.pubsub.model import Message, Policy, PubsubMessage, Topic, Wire
from heliograph_lab.pubsub.parse import decoded, parse, seconds
from heliograph_lab.pubsub.store import PubsubStore

MOST_MESSAGES = 1000
MOST_DATA = 10_000_000
MOST_ATTRIBUTES = 100
MOST_RESOURCES = 10_000  # topics, and subscriptions; Google's limit for a project
_PAGE, _MOST_PAGE = 100, 1000
_ID = re.compile(r"projects/[^/]+/(?:topics|subscriptions)/([A-Za-z][A-Za-z0-9._~%+-]{2,254})")


class Call(msgspec.Struct, frozen=True):
    """One request: the resource that it is about, its query and its decoded body."""

    name: str
    query: dict[str, str]
    body: Any = None


Handler = Callable[[Call], Awaitable[Any]]


class PublishRequest(Wire, frozen=True):
    """The body of publish."""

    messages: list[PubsubMessage] = msgspec.field(default_factory=list)


class SetIamPolicyRequest(Wire, frozen=True):
    """The body of setIamPolicy; a mask changes nothing here, as `auditConfigs` is not modelled."""

    policy: Policy
    update_mask: str = ""


class TestIamPermissionsRequest(Wire, frozen=True):
    """The body of testIamPermissions."""

    __test__ = False
    permissions: list[str] = msgspec.field(default_factory=list)


class Topics:
    """The methods; each takes a call and returns the reply's JSON."""

    def __init__(self, store: PubsubStore) -> None:
        self._store = store

    async def create(self, call: Call) -> Any:
        """topics.create."""
        check_id(call.name)
        topic = parse(Topic, call.body or {})
        if topic.message_retention_duration is not None:
            seconds(topic.message_retention_duration, "message_retention_duration", 600, 2_678_400)
        if self._store.topic(call.name) is not None:
            raise exists(call.name)
        if len(self._store.topics()) >= MOST_RESOURCES:
            raise ApiError(429, f"The lab holds no more than {MOST_RESOURCES} topics.", details=[])
        topic = msgspec.structs.replace(topic, name=call.name, state="", satisfies_pzs=False)
        await self._store.put_topic(topic)
        return topic

    async def get(self, call: Call) -> Any:
        """topics.get."""
        return self._require(call.name)

    async def list(self, call: Call) -> Any:
        """topics.list, by name."""
        topics = {topic.name: topic for topic in self._store.topics(call.name)}
        return page(call, "topics", topics)

    async def list_subscriptions(self, call: Call) -> Any:
        """topics.subscriptions.list: names only."""
        self._require(call.name)
        names = {s.name: s.name for s in self._store.subscriptions() if s.topic == call.name}
        return page(call, "subscriptions", names)

    async def delete(self, call: Call) -> Any:
        """topics.delete: the subscriptions stay, and belong to `_deleted-topic_`."""
        self._require(call.name)
        await self._store.delete_topic(call.name)
        return {}

    async def publish(self, call: Call) -> Any:
        """topics.publish: on disk, for every subscription there is, when it answers."""
        self._require(call.name)
        request = parse(PublishRequest, call.body)
        if not 1 <= len(request.messages) <= MOST_MESSAGES:
            raise ApiError(400, f"The request must hold 1 to {MOST_MESSAGES} messages.")
        messages = [self._accepted(call.name, message) for message in request.messages]
        await self._store.publish(messages)
        return {"messageIds": [message.id for message in messages]}

    async def get_policy(self, call: Call) -> Any:
        """getIamPolicy."""
        self._require_any(call.name)
        return self._store.policy(call.name)

    async def set_policy(self, call: Call) -> Any:
        """setIamPolicy. An etag that is not the present one is refused: somebody else was faster."""
        self._require_any(call.name)
        policy = parse(SetIamPolicyRequest, call.body).policy
        before = self._store.policy(call.name)
        if policy.etag and policy.etag != before.etag:
            raise ApiError(409, "There were concurrent policy changes. Please retry the whole read-modify-write.")
        for binding in policy.bindings or []:
            if not binding.role.startswith(("roles/", "projects/", "organizations/")):
                raise ApiError(400, f"Role {binding.role} is not supported for this resource.")
        number = int.from_bytes(base64.b64decode(before.etag)) + 1
        after = Policy(version=1, etag=base64.b64encode(number.to_bytes(8)).decode(), bindings=policy.bindings)
        await self._store.put_policy(call.name, after)
        return after

    async def test_permissions(self, call: Call) -> Any:
        """testIamPermissions: whoever asks may do everything here."""
        self._require_any(call.name)
        permissions = parse(TestIamPermissionsRequest, call.body).permissions
        if any("*" in permission for permission in permissions):
            raise ApiError(400, "Permissions with wildcards are not allowed.")
        return {"permissions": permissions} if permissions else {}

    def _accepted(self, topic: str, message: PubsubMessage) -> Message:
        if not message.data and not message.attributes:
            raise ApiError(400, "One or more messages in the publish request is empty.")
        raw = decoded(message.data)
        if len(raw) > MOST_DATA:
            raise ApiError(400, "The value for message_data is too large.")
        attributes = message.attributes or {}
        if len(attributes) > MOST_ATTRIBUTES:
            raise ApiError(400, f"The message has more than {MOST_ATTRIBUTES} attributes.")
        if any(not 1 <= len(key) <= 256 or len(value) > 1024 for key, value in attributes.items()):
            raise ApiError(400, "An attribute's key must have 1 to 256 characters, its value 1024 at most.")
        now = self._store.now()
        data = base64.b64encode(raw).decode()
        return Message(
            id=self._store.new_id(), topic=topic, published_at=now, data=data, attributes=attributes, due=now
        )

    def _require(self, name: str) -> Topic:
        topic = self._store.topic(name)
        if topic is None:
            raise not_found(name)
        return topic

    def _require_any(self, name: str) -> None:
        if self._store.topic(name) is None and self._store.subscription(name) is None:
            raise not_found(name)


def check_id(name: str) -> None:
    """Refuse a resource id that Google would not take."""
    found = _ID.fullmatch(name)
    if found is None or found[1].startswith("goog"):
        raise ApiError(400, f"Invalid resource name given (name={name}).")


def page(call: Call, member: str, items: dict[str, Any]) -> dict[str, Any]:
    """One page of what is listed by name."""
    try:
        size = page_size(call.query.get("pageSize") or 0, _PAGE, _MOST_PAGE)
    except ValueError:
        raise ApiError(400, "Invalid value at 'page_size' (TYPE_INT32).") from None
    token = call.query.get("pageToken")
    start = read_token(token, member, call.name) if token else ""
    names = [name for name in items if name > start]
    reply: dict[str, Any] = {}
    if names:
        reply[member] = [items[name] for name in names[:size]]
    if len(names) > size:
        reply["nextPageToken"] = make_token(names[size - 1], member, call.name)
    return reply


def shown(message: Message) -> dict[str, Any]:
    """A message as a subscriber sees it."""
    wire: dict[str, Any] = {"messageId": message.id, "publishTime": timestamp(message.published_at)}
    if message.data:
        wire["data"] = message.data
    if message.attributes:
        wire["attributes"] = message.attributes
    return wire
