"""Pushes messages to the endpoints of subscriptions, signed as Google signs them, until they are acknowledged."""

import asyncio
import logging
from collections.abc import Callable

import httpx2
import msgspec

from heliograph_agent.lines import system_authorities
from heliograph_lab.clock import LabClock
from heliograph_lab.pubsub.chaos import Action
from heliograph_lab.pubsub.keys import SigningKeys
from heliograph_lab.pubsub.log import NotificationLog
from heliograph_lab.pubsub.model import Message, Subscription
from heliograph_lab.pubsub.retry import backoff
from heliograph_lab.pubsub.store import PubsubStore
from heliograph_lab.pubsub.topics import shown

ACKNOWLEDGED = frozenset({102, 200, 201, 202, 204})
AT_ONCE = 10  # pushes of one subscription that are on their way
_AGENT = "APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)"
_log = logging.getLogger("heliograph_lab.pubsub")
Spoil = Callable[[Message], Action | None]


class Pusher:
    """One pump for each subscription that has an endpoint. `spoil` says what shall be wrong with an attempt."""

    def __init__(
        self, store: PubsubStore, clock: LabClock, keys: SigningKeys, log: NotificationLog, spoil: Spoil
    ) -> None:
        self._store = store
        self._clock = clock
        self._keys = keys
        self._log = log
        self._spoil = spoil
        self._http: httpx2.AsyncClient | None = None
        self._pumps: dict[str, asyncio.Task[None]] = {}
        store.subscribe(self._changed)

    async def start(self) -> None:
        """Begin with what is waiting."""
        self._http = httpx2.AsyncClient(
            verify=system_authorities(), trust_env=False, limits=httpx2.Limits(max_connections=None)
        )
        for subscription in self._store.subscriptions():
            self._changed(subscription.name)

    async def stop(self) -> None:
        """Stop at once: what was on its way is pushed again after a restart."""
        http, self._http = self._http, None
        pumps = list(self._pumps.values())
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        if http is not None:
            await http.aclose()

    def _changed(self, name: str) -> None:
        subscription = self._store.subscription(name)
        if self._http is None or name in self._pumps or subscription is None or not subscription.endpoint:
            return
        pump = self._pumps[name] = asyncio.create_task(self._pump(name, self._http))
        pump.add_done_callback(lambda done: self._ended(name, done))

    def _ended(self, name: str, pump: asyncio.Task[None]) -> None:
        self._pumps.pop(name, None)
        if not pump.cancelled() and (error := pump.exception()) is not None:
            _log.error("the pump of %s failed", name, exc_info=error)
        self._changed(name)  # it may have got an endpoint again while the pump was ending

    async def _pump(self, name: str, http: httpx2.AsyncClient) -> None:
        slots = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as deliveries:
            while (subscription := self._store.subscription(name)) is not None and subscription.endpoint:
                await self._store.backlog(name).ready(self._clock)
                await slots.acquire()
                # Asked again: much may have changed while this waited.
                subscription = self._store.subscription(name)
                taken = self._store.take(subscription, 1) if subscription is not None and subscription.endpoint else []
                if subscription is None or not taken:
                    slots.release()
                    continue
                pending = taken[0]
                work = self._deliver(http, subscription, pending.message, pending.turn, pending.attempts)
                deliveries.create_task(work).add_done_callback(lambda _: slots.release())

    async def _deliver(
        self, http: httpx2.AsyncClient, subscription: Subscription, message: Message, turn: int, attempts: int
    ) -> None:
        status = await self._post(http, subscription, message)
        self._log.pushed(message.id, subscription.name, status)
        if status not in ACKNOWLEDGED:
            rest = backoff(subscription, attempts)
            self._store.move_deadline(subscription.name, message.id, turn, 0, rest)
        elif self._store.subscription(subscription.name) is not None:
            await self._store.use(subscription.name)
            await self._store.acknowledge(subscription.name, [(message.id, turn)])

    async def _post(self, http: httpx2.AsyncClient, subscription: Subscription, message: Message) -> int | None:
        action = self._spoil(message) or Action()
        content = b'{"message": {"data": ' if action.malformed == "body" else wrapped(subscription.name, message)
        headers = {"content-type": "application/json", "user-agent": _AGENT, "from": "noreply@google.com"}
        config = subscription.push_config
        oidc = config.oidc_token if config is not None else None
        if oidc is not None:
            audience = oidc.audience or subscription.endpoint
            headers |= self._keys.authorization(oidc.service_account_email, audience, action.token)
        timeout = float(subscription.ack_deadline_seconds)
        try:
            async with asyncio.timeout(timeout):
                answer = await http.post(subscription.endpoint, content=content, headers=headers, timeout=timeout)
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            _log.info("push of %s to %s failed: %r", message.id, subscription.endpoint, error)
            return None
        return answer.status_code


def wrapped(subscription: str, message: Message) -> bytes:
    """The body of a push, with both spellings of id and time as the real service has them."""
    body = shown(message)
    body |= {"message_id": body["messageId"], "publish_time": body["publishTime"]}
    return msgspec.json.encode({"message": body, "subscription": subscription})
