"""The service's memory: held whole in the process, written through to the lab's file."""

import secrets
from collections.abc import Iterable

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.utils import base64url_encode

from heliograph_lab.kernel import Kernel
from heliograph_lab.webpush.model import Message, Subscription

_SUBSCRIPTIONS = "webpush.subscriptions"
_MESSAGES = "webpush.messages"


class WebPushStore:
    """Subscriptions, and the messages that wait. Changes are durable when their call returns."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        stored = kernel.state.all(_SUBSCRIPTIONS).values()
        self._subscriptions = {s.id: s for s in (msgspec.convert(value, Subscription) for value in stored)}
        self._owners = {s.owner: s.id for s in self._subscriptions.values() if s.ended is None}
        messages = [msgspec.convert(value, Message) for value in kernel.state.all(_MESSAGES).values()]
        self._messages: dict[str, Message] = {}
        self._queues: dict[str, dict[str, Message]] = {}  # by subscription, oldest first
        for message in sorted(messages, key=lambda message: message.order):
            self._hold(message)
        self._order = max((message.order for message in messages), default=0)

    def now(self) -> int:
        """Unix seconds of the lab's clock."""
        return int(self._kernel.clock.now().timestamp())

    # ------------------------------------------------------------ subscriptions

    async def subscribe(self, owner: str, vapid_key: str = "") -> Subscription:
        """The owner's subscription for this key: the same one each time, until it has ended."""
        known = self._subscriptions.get(self._owners.get(owner, ""))
        if known is not None and known.vapid_key == vapid_key:
            return known
        if known is not None:
            await self.change(msgspec.structs.replace(known, ended=410))
        number = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
        subscription = Subscription(
            id=secrets.token_urlsafe(24),
            owner=owner,
            private_key=base64url_encode(number.to_bytes(32)).decode(),
            auth=base64url_encode(secrets.token_bytes(16)).decode(),
            vapid_key=vapid_key,
        )
        await self.change(subscription)
        return subscription

    def subscription(self, subscription_id: str) -> Subscription | None:
        """The subscription with this id, also one that has ended."""
        return self._subscriptions.get(subscription_id)

    def subscriptions(self) -> list[Subscription]:
        """All of them."""
        return list(self._subscriptions.values())

    async def change(self, subscription: Subscription) -> None:
        """Keep it like this. What waits for one that has ended is dropped."""
        self._subscriptions[subscription.id] = subscription
        if subscription.ended is None:
            self._owners[subscription.owner] = subscription.id
        elif self._owners.get(subscription.owner) == subscription.id:
            del self._owners[subscription.owner]
        gone = [] if subscription.ended is None else [message.id for message in self._queue(subscription.id)]
        await self._kernel.state.put_many([(_SUBSCRIPTIONS, subscription.id, subscription)], self._drop(gone))

    # ------------------------------------------------------------ messages

    async def add(self, message: Message) -> None:
        """Keep a message. One of the same topic that still waits makes room (RFC 8030, 5.4)."""
        self._order += 1
        message.order = self._order
        now, topic = self.now(), message.topic
        older = self._queue(message.subscription)
        deletes = self._drop(m.id for m in older if m.expiration <= now or (topic is not None and m.topic == topic))
        self._hold(message)
        await self._kernel.state.put_many([(_MESSAGES, message.id, message)], deletes)

    def waits(self, message_id: str) -> bool:
        """Whether the message is to be delivered still."""
        message = self._messages.get(message_id)
        return message is not None and message.expiration > self.now()

    def waiting(self, subscription_id: str) -> list[Message]:
        """The messages that wait for this subscription, oldest first."""
        now = self.now()
        return [message for message in self._queue(subscription_id) if message.expiration > now]

    async def remove(self, message_id: str) -> bool:
        """Forget a message, delivered or withdrawn; False where none waits under this name."""
        waits = self.waits(message_id)
        await self._kernel.state.put_many([], self._drop([message_id]))
        return waits

    def _queue(self, subscription_id: str) -> list[Message]:
        return list(self._queues.get(subscription_id, {}).values())

    def _hold(self, message: Message) -> None:
        self._messages[message.id] = message
        self._queues.setdefault(message.subscription, {})[message.id] = message

    def _drop(self, message_ids: Iterable[str]) -> list[tuple[str, str]]:
        found = [message for id_ in message_ids if (message := self._messages.pop(id_, None)) is not None]
        for message in found:
            self._queues[message.subscription].pop(message.id, None)
        return [(_MESSAGES, message.id) for message in found]
