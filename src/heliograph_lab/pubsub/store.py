"""Topics, subscriptions, policies and messages: held whole in the process, written through to the lab's file."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from heliograph_lab.amapi.wire import milliseconds, parse_duration
from heliograph_lab.kernel import Kernel
from heliograph_lab.pubsub.backlog import Backlog, Pending
from heliograph_lab.pubsub.model import (
    DEFAULT_ACK_DEADLINE,
    DEFAULT_RETENTION,
    DEFAULT_TTL,
    DELETED_TOPIC,
    Message,
    Policy,
    Subscription,
    Topic,
)
from heliograph_lab.state import Key, Put

_TOPICS = "pubsub.topics"
_SUBSCRIPTIONS = "pubsub.subscriptions"
_POLICIES = "pubsub.policies"
_USED = "pubsub.used"  # subscription -> when it was last used, to the hour
_MESSAGES = "pubsub.messages"
_PENDING = "pubsub.pending"  # subscription:message id -> acknowledgements still owed
_USE_KEPT = timedelta(hours=1)


class PubsubStore:
    """Changes are durable when their call returns. Leases are not kept: after a restart all is delivered again."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._topics: dict[str, Topic] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._policies: dict[str, Policy] = {}
        self._used: dict[str, datetime] = {}
        self._backlogs: dict[str, Backlog] = {}
        self._holders: dict[str, int] = {}  # message id -> subscriptions that still owe it
        self._last_id = 0
        self._listeners: list[Callable[[str], None]] = []
        self._answers: list[Callable[[str], None]] = []
        self._load()

    def now(self) -> datetime:
        """The lab's time."""
        return self._kernel.clock.now()

    def subscribe(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the name of each subscription that is new, changed or gone."""
        self._listeners.append(listener)

    def on_answer(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the id of each message that a subscriber has acknowledged or given back."""
        self._answers.append(listener)

    # ------------------------------------------------------------ topics and policies

    def topic(self, name: str) -> Topic | None:
        """The topic of this name."""
        return self._topics.get(name)

    def topics(self, project: str = "") -> list[Topic]:
        """The topics by name, all or those of one project."""
        prefix = f"{project}/topics/" if project else ""
        return [self._topics[name] for name in sorted(self._topics) if name.startswith(prefix)]

    async def put_topic(self, topic: Topic) -> None:
        """Make a topic."""
        self._topics[topic.name] = topic
        await self._kernel.state.put(_TOPICS, topic.name, topic)

    async def delete_topic(self, name: str) -> None:
        """Forget it; its subscriptions stay, with what they have."""
        del self._topics[name]
        puts: list[Put] = []
        for subscription in [s for s in self._subscriptions.values() if s.topic == name]:
            orphan = msgspec.structs.replace(subscription, topic=DELETED_TOPIC)
            self._subscriptions[orphan.name] = orphan
            puts.append((_SUBSCRIPTIONS, orphan.name, orphan))
        self._policies.pop(name, None)
        await self._kernel.state.put_many(puts, [(_TOPICS, name), (_POLICIES, name)])

    def policy(self, resource: str) -> Policy:
        """Who may do what with a topic or subscription."""
        return self._policies.get(resource, Policy(etag="ACAB"))

    async def put_policy(self, resource: str, policy: Policy) -> None:
        """Replace it."""
        self._policies[resource] = policy
        await self._kernel.state.put(_POLICIES, resource, policy)

    # ------------------------------------------------------------ subscriptions

    def subscription(self, name: str) -> Subscription | None:
        """The subscription of this name, unless it has been idle for too long."""
        return self._subscriptions.get(name)

    def subscriptions(self) -> list[Subscription]:
        """All of them by name."""
        return [self._subscriptions[name] for name in sorted(self._subscriptions)]

    def backlog(self, name: str) -> Backlog:
        """What the subscription has to deliver."""
        return self._backlogs[name]

    async def put_subscription(self, subscription: Subscription) -> None:
        """Make or change one."""
        name = subscription.name
        self._subscriptions[name] = subscription
        backlog = self._backlogs.setdefault(name, Backlog())
        self._used[name] = now = self.now()
        await self._kernel.state.put_many([(_SUBSCRIPTIONS, name, subscription), (_USED, name, now)])
        backlog.wake()
        self._tell(name)

    async def delete_subscription(self, name: str) -> None:
        """Forget it and what it has not delivered."""
        del self._subscriptions[name]
        backlog = self._backlogs.pop(name)
        deletes = [(_SUBSCRIPTIONS, name), (_POLICIES, name), (_USED, name)]
        deletes += self._let_go(name, backlog.ids())
        self._policies.pop(name, None)
        self._used.pop(name, None)
        await self._kernel.state.put_many([], deletes)
        backlog.wake()
        self._tell(name)

    async def use(self, name: str) -> None:
        """The subscriber is there: the time until the subscription expires begins anew."""
        now = self.now()
        if now - self._used[name] >= _USE_KEPT:
            self._used[name] = now
            await self._kernel.state.put(_USED, name, now)

    async def clean(self) -> None:
        """Delete subscriptions that were idle for longer than their `ttl`, and messages past their retention."""
        now = self.now()
        for subscription in list(self._subscriptions.values()):
            ttl = _ttl(subscription)
            if ttl is not None and now - self._used[subscription.name] > ttl:
                await self.delete_subscription(subscription.name)
        deletes: list[Key] = []
        for name, subscription in self._subscriptions.items():
            kept = parse_duration(subscription.message_retention_duration or DEFAULT_RETENTION) or timedelta()
            deletes += self._let_go(name, self._backlogs[name].forget_before(now - kept))
        if deletes:
            await self._kernel.state.put_many([], deletes)

    # ------------------------------------------------------------ messages

    def new_id(self) -> str:
        """A message id: digits, ascending, never used before."""
        self._last_id = max(self._last_id + 1, milliseconds(self.now()) * 1000)
        return str(self._last_id)

    async def publish(self, messages: Iterable[Message]) -> None:
        """Keep the messages for each subscription of their topics. Nobody gets them before they are on disk."""
        puts: list[Put] = []
        placed: list[tuple[str, Message]] = []
        for message in messages:
            names = [s.name for s in self._subscriptions.values() if s.topic == message.topic]
            if names:
                puts.append((_MESSAGES, message.id, message))
                self._holders[message.id] = len(names)
            puts += [(_PENDING, f"{name}:{message.id}", message.deliveries) for name in names]
            placed += [(name, message) for name in names]
        if puts:
            await self._kernel.state.put_many(puts)
        for name, message in placed:
            if name in self._backlogs:
                self._backlogs[name].add(message, message.deliveries)

    def take(self, subscription: Subscription, most: int) -> list[Pending]:
        """Hand out messages until the subscription's deadline."""
        now = self.now()
        until = now + timedelta(seconds=subscription.ack_deadline_seconds or DEFAULT_ACK_DEADLINE)
        return self._backlogs[subscription.name].take(now, most, until)

    async def acknowledge(self, name: str, leases: list[tuple[str, int]]) -> None:
        """Done with these; a lease that is over does nothing."""
        now, backlog = self.now(), self._backlogs[name]
        done: list[str] = []
        puts: list[Put] = []
        for message_id, turn in leases:
            pending = backlog.leased(message_id, turn, now)
            if pending is None:
                continue
            if backlog.acknowledge(pending, now):
                done.append(message_id)
            else:
                puts.append((_PENDING, f"{name}:{message_id}", pending.deliveries))
        deletes = self._let_go(name, done)
        if puts or deletes:
            await self._kernel.state.put_many(puts, deletes)
        for message_id, _ in leases:
            self._answered(message_id)

    def move_deadline(self, name: str, message_id: str, turn: int, seconds: float, backoff: float = 0) -> None:
        """The lease ends so many seconds from now. 0 gives the message back, to rest for the backoff; a lease that is
        over stays so."""
        backlog, now = self._backlogs.get(name), self.now()
        pending = backlog.leased(message_id, turn, now) if backlog is not None else None
        if backlog is None or pending is None:
            return
        if seconds > 0:
            backlog.extend(pending, now + timedelta(seconds=seconds))
        else:
            backlog.put_off(pending, now + timedelta(seconds=backoff))
            self._answered(message_id)

    def bring_forward(self, message_id: str) -> None:
        """Hand out a message that is being held back."""
        now = self.now()
        for backlog in self._backlogs.values():
            backlog.bring_forward(message_id, now)

    # ------------------------------------------------------------ inside

    def _load(self) -> None:
        state = self._kernel.state
        self._topics = {key: msgspec.convert(value, Topic) for key, value in state.all(_TOPICS).items()}
        self._policies = {key: msgspec.convert(value, Policy) for key, value in state.all(_POLICIES).items()}
        self._used = {key: msgspec.convert(value, datetime) for key, value in state.all(_USED).items()}
        for name, value in state.all(_SUBSCRIPTIONS).items():
            self._subscriptions[name] = msgspec.convert(value, Subscription)
            self._backlogs[name] = Backlog()
        messages = {key: msgspec.convert(value, Message) for key, value in state.all(_MESSAGES).items()}
        waiting: list[tuple[int, str, int]] = []
        for key, deliveries in state.all(_PENDING).items():
            name, _, message_id = key.rpartition(":")
            if name in self._backlogs and message_id in messages:
                waiting.append((int(message_id), name, deliveries))
        for number, name, deliveries in sorted(waiting):
            self._backlogs[name].add(messages[str(number)], deliveries)
            self._holders[str(number)] = self._holders.get(str(number), 0) + 1
            self._last_id = number

    def _let_go(self, name: str, message_ids: list[str]) -> list[Key]:
        """The rows that go when a subscription is done with these; the last one takes the message along."""
        deletes: list[Key] = []
        for message_id in message_ids:
            deletes.append((_PENDING, f"{name}:{message_id}"))
            self._holders[message_id] -= 1
            if not self._holders[message_id]:
                del self._holders[message_id]
                deletes.append((_MESSAGES, message_id))
        return deletes

    def _answered(self, message_id: str) -> None:
        for listener in self._answers:
            listener(message_id)

    def _tell(self, name: str) -> None:
        for listener in self._listeners:
            listener(name)


def _ttl(subscription: Subscription) -> timedelta | None:
    policy: Any = subscription.expiration_policy
    text = DEFAULT_TTL if policy is None else policy.ttl
    return parse_duration(text) if text else None
