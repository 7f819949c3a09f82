"""The methods of `projects.subscriptions`."""

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlsplit

import msgspec

from heliograph_lab.amapi.discovery import snake
from heliograph_lab.amapi.errors import ApiError
from heliograph_lab.amapi.pages import make_token, read_token
from heliograph_lab.clock import LabClock
from heliograph_lab.pubsub.errors import exists, not_found
from heliograph_lab.pubsub.model import (
    DEFAULT_ACK_DEADLINE,
    DEFAULT_RETENTION,
    DEFAULT_TTL,
    DELETED_TOPIC,
    MOST_ACK_DEADLINE,
    ExpirationPolicy,
    Message,
    PushConfig,
    Subscription,
    Wire,
)
from heliograph_lab.pubsub.parse import parse, seconds
from heliograph_lab.pubsub.retry import backoff
from heliograph_lab.pubsub.store import PubsubStore
from heliograph_lab.pubsub.topics import MOST_RESOURCES, Call, check_id, page, shown

POLL = 20.0  # real seconds that a pull without messages may take; Google names no figure
MOST_PULLED = 1000
MOST_REPLY = 10_000_000  # bytes of data in one reply
MOST_ACK_IDS = 3000
_MUTABLE = {
    "pushConfig",
    "ackDeadlineSeconds",
    "messageRetentionDuration",
    "labels",
    "expirationPolicy",
    "retryPolicy",
    "tags",
}


class PullRequest(Wire, frozen=True):
    """The body of pull."""

    max_messages: int = 0
    return_immediately: bool = False


class AckIds(Wire, frozen=True):
    """The body of acknowledge and of modifyAckDeadline."""

    ack_ids: list[str] = msgspec.field(default_factory=list)
    ack_deadline_seconds: int | None = None


class ModifyPushConfigRequest(Wire, frozen=True):
    """The body of modifyPushConfig."""

    push_config: PushConfig | None = None


class UpdateSubscriptionRequest(Wire, frozen=True):
    """The body of patch."""

    subscription: Subscription | None = None
    update_mask: str = ""


class Subscriptions:
    """The methods; each takes a call and returns the reply's JSON."""

    def __init__(self, store: PubsubStore, clock: LabClock) -> None:
        self._store = store
        self._clock = clock

    async def create(self, call: Call) -> Any:
        """subscriptions.create. It gets what is published from now on."""
        check_id(call.name)
        subscription = msgspec.structs.replace(parse(Subscription, call.body), name=call.name, state="ACTIVE")
        if self._store.topic(subscription.topic) is None:
            raise not_found(subscription.topic)
        if self._store.subscription(call.name) is not None:
            raise exists(call.name)
        if len(self._store.subscriptions()) >= MOST_RESOURCES:
            raise ApiError(429, f"The lab holds no more than {MOST_RESOURCES} subscriptions.", details=[])
        await self._store.put_subscription(_checked(subscription))
        return self._shown(call.name)

    async def get(self, call: Call) -> Any:
        """subscriptions.get."""
        return self._shown(call.name)

    async def list(self, call: Call) -> Any:
        """subscriptions.list, by name."""
        names = [s.name for s in self._store.subscriptions() if s.name.startswith(f"{call.name}/subscriptions/")]
        return page(call, "subscriptions", {name: self._shown(name) for name in names})

    async def patch(self, call: Call) -> Any:
        """subscriptions.patch: only what the mask names, and only what may change."""
        before = self._require(call.name)
        request = parse(UpdateSubscriptionRequest, call.body)
        given = request.subscription or Subscription()
        names = {field.encode_name: field.name for field in msgspec.structs.fields(Subscription)}
        json_names = {snake(name): name for name in names} | {name: name for name in names}
        if not request.update_mask:
            raise ApiError(400, "The update_mask in the UpdateSubscriptionRequest must be set, and must not be empty.")
        changes: dict[str, Any] = {}
        for path in request.update_mask.split(","):
            name = json_names.get(path.strip(), "")
            if name not in _MUTABLE:
                raise ApiError(400, f"Invalid update_mask provided in the UpdateSubscriptionRequest: {path.strip()}.")
            changes[names[name]] = getattr(given, names[name])
        await self._store.put_subscription(_checked(msgspec.structs.replace(before, **changes)))
        return self._shown(call.name)

    async def delete(self, call: Call) -> Any:
        """subscriptions.delete: what it has not delivered is lost."""
        self._require(call.name)
        await self._store.delete_subscription(call.name)
        return {}

    async def modify_push_config(self, call: Call) -> Any:
        """subscriptions.modifyPushConfig; an empty one turns to pulling."""
        before = self._require(call.name)
        config = parse(ModifyPushConfigRequest, call.body).push_config
        await self._store.put_subscription(_checked(msgspec.structs.replace(before, push_config=config)))
        return {}

    async def pull(self, call: Call) -> Any:
        """subscriptions.pull: waits for a message, within bounds, unless told to return at once."""
        request = parse(PullRequest, call.body)
        if request.max_messages < 1:
            raise ApiError(400, "max_messages must be greater than 0.")
        self._pulled(call.name)
        if not request.return_immediately:
            with contextlib.suppress(TimeoutError):
                await self._wait(call.name)
        subscription = self._pulled(call.name)
        await self._store.use(call.name)
        await self._store.clean()
        received: list[dict[str, Any]] = []
        size = 0
        while len(received) < min(request.max_messages, MOST_PULLED) and size < MOST_REPLY:
            taken = self._store.take(subscription, 1)
            if not taken:
                break
            pending = taken[0]
            size += len(pending.message.data)
            received.append(
                {"ackId": _ack_id(call.name, pending.message, pending.turn), "message": shown(pending.message)}
            )
        return {"receivedMessages": received} if received else {}

    async def acknowledge(self, call: Call) -> Any:
        """subscriptions.acknowledge; one whose deadline is over has no effect, and is no error."""
        self._require(call.name)
        leases = _leases(call.name, parse(AckIds, call.body).ack_ids)
        await self._store.use(call.name)
        await self._store.acknowledge(call.name, leases)
        return {}

    async def modify_ack_deadline(self, call: Call) -> Any:
        """subscriptions.modifyAckDeadline; 0 gives the message back."""
        subscription = self._require(call.name)
        request = parse(AckIds, call.body)
        deadline = request.ack_deadline_seconds or 0
        if not 0 <= deadline <= MOST_ACK_DEADLINE:
            raise ApiError(400, f"Invalid ack deadline given: must be 0 to {MOST_ACK_DEADLINE} seconds.")
        await self._store.use(call.name)
        for message_id, turn in _leases(call.name, request.ack_ids):
            self._store.move_deadline(call.name, message_id, turn, deadline, backoff(subscription))
        return {}

    async def _wait(self, name: str) -> None:
        async with asyncio.timeout(POLL):
            backlog = self._store.backlog(name)
            while self._store.subscription(name) is not None and not backlog.has_due(self._clock.now()):
                await backlog.ready(self._clock)

    def _pulled(self, name: str) -> Subscription:
        subscription = self._require(name)
        if subscription.endpoint:
            text = "This method is not supported for this subscription type."
            raise ApiError(400, text, rpc="FAILED_PRECONDITION")
        return subscription

    def _require(self, name: str) -> Subscription:
        subscription = self._store.subscription(name)
        if subscription is None:
            raise not_found(name)
        return subscription

    def _shown(self, name: str) -> dict[str, Any]:
        wire: dict[str, Any] = msgspec.to_builtins(self._require(name))
        wire.setdefault("pushConfig", {})
        return wire


def _checked(subscription: Subscription) -> Subscription:
    """With Google's defaults; ApiError 400 for what is out of bounds."""
    if subscription.topic != DELETED_TOPIC and subscription.ack_deadline_seconds not in range(MOST_ACK_DEADLINE + 1):
        raise ApiError(400, "Invalid ack deadline given: must be 10 to 600 seconds.")
    if 0 < subscription.ack_deadline_seconds < DEFAULT_ACK_DEADLINE:
        raise ApiError(400, "Invalid ack deadline given: must be 10 to 600 seconds.")
    retention = subscription.message_retention_duration or DEFAULT_RETENTION
    kept = seconds(retention, "message_retention_duration", 600, 2_678_400)
    expiration = subscription.expiration_policy or ExpirationPolicy(ttl=DEFAULT_TTL)
    if expiration.ttl:
        # Documented: at least a day, and not before the last message has gone.
        seconds(expiration.ttl, "expiration_policy.ttl", max(86_400, kept.total_seconds()), 315_576_000_000)
    if subscription.retry_policy is not None:
        seconds(subscription.retry_policy.minimum_backoff, "retry_policy.minimum_backoff", 0, 600)
        seconds(subscription.retry_policy.maximum_backoff, "retry_policy.maximum_backoff", 0, 600)
    _check_push(subscription.push_config or PushConfig())
    return msgspec.structs.replace(
        subscription,
        ack_deadline_seconds=subscription.ack_deadline_seconds or DEFAULT_ACK_DEADLINE,
        message_retention_duration=retention,
        expiration_policy=expiration,
    )


def _check_push(config: PushConfig) -> None:
    if not config.push_endpoint:
        return
    url = urlsplit(config.push_endpoint)
    if url.scheme not in {"http", "https"} or not url.hostname:
        # Google takes https only; servers under test seldom have it.
        raise ApiError(400, f"Invalid push endpoint given (endpoint={config.push_endpoint}).")
    if config.oidc_token is not None and "@" not in config.oidc_token.service_account_email:
        raise ApiError(400, "Invalid OIDC token given: service_account_email must be a service account's.")


def _ack_id(name: str, message: Message, turn: int) -> str:
    return make_token(f"{message.id}:{turn}", "ack", name)


def _leases(name: str, ack_ids: list[str]) -> list[tuple[str, int]]:
    if not 1 <= len(ack_ids) <= MOST_ACK_IDS:
        raise ApiError(400, f"The request must hold 1 to {MOST_ACK_IDS} ack ids.")
    leases = []
    for ack_id in ack_ids:
        try:
            message_id, _, turn = read_token(ack_id, "ack", name).partition(":")
        except ApiError:
            text = f"You have passed an invalid ack ID to the service (ack_id={ack_id[:200]})."
            raise ApiError(400, text) from None
        leases.append((message_id, int(turn)))
    return leases
