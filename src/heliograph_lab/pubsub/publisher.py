"""Google's end of the notifications: publishes the AMAPI emulator's events to the topics of their enterprises."""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import msgspec

from heliograph_lab.amapi.events import Event, Source
from heliograph_lab.kernel import Kernel
from heliograph_lab.pubsub.chaos import HOLD, Action, spoil
from heliograph_lab.pubsub.emulator import PubsubEmulator
from heliograph_lab.pubsub.log import Fate
from heliograph_lab.pubsub.model import Message
from heliograph_lab.pubsub.settings import PublisherSettings
from heliograph_lab.state import Put

PUBLISHER = "serviceAccount:android-cloud-policy@system.gserviceaccount.com"
ALWAYS = frozenset({"ENTERPRISE_UPGRADE", "TEST"})
"""Published whatever the enterprise has enabled: the first is documented so, the second is asked for by hand."""
PATIENCE = 10.0  # real seconds that an answer of the AMAPI emulator waits for a subscriber
_ROLES = frozenset({"roles/pubsub.publisher", "roles/pubsub.editor", "roles/pubsub.admin", "roles/owner"})
_NAMESPACE = "pubsub.owed"
_log = logging.getLogger("heliograph_lab.pubsub")


class Publisher:
    """The outlet of the AMAPI emulator. What is owed is on disk with what caused it, so a SIGKILL swallows nothing."""

    def __init__(self, kernel: Kernel, pubsub: PubsubEmulator, settings: PublisherSettings | None = None) -> None:
        self.settings = kernel.settings.open("pubsub", settings or PublisherSettings())
        self.rules = pubsub.rules
        self._state = kernel.state
        self._clock = kernel.clock
        self._store = pubsub.store
        self._log = pubsub.log
        self._source: Source | None = None
        self._owed: dict[str, Event] = {}
        self._held: dict[str, list[str]] = {}  # enterprise -> messages that let the next one overtake
        self._waiting: dict[str, asyncio.Event] = {}  # message id -> whom its answer sets free
        self._ids: dict[str, list[str]] = {}  # event key -> message ids, while somebody waits
        self._tasks: set[asyncio.Task[Any]] = set()
        self._store.on_answer(self._on_answer)

    async def start(self, source: Source) -> None:
        """Publish what an earlier run still owes."""
        self._source = source
        self._owed = {key: msgspec.convert(value, Event) for key, value in self._state.all(_NAMESPACE).items()}
        for event in sorted(self._owed.values(), key=self._order):
            self.pay(event.key)
        self._clock.on_settle(self.settled)  # after the emulator's own, which makes the events

    async def settled(self) -> None:
        """Return once what was to be published is."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Stop at once; what is owed is on disk."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def owe(self, event: Event) -> Put | None:
        """The row that obliges; None when the enterprise wants no such notification."""
        silent = (event.cause == "cancelled" and not self.settings.cancelled) or (
            event.cause == "expired" and not self.settings.expired
        )
        if silent or not self._wants(event.enterprise, event.kind):
            return None
        self._owed[event.key] = event
        return (_NAMESPACE, event.key, event)

    def pay(self, key: str, *, leaving: bool = False) -> None:
        """Publish what is owed; the COMMAND of a device that is leaving may have to wait for the device's last word."""
        if leaving and self.settings.command_last:
            return
        event = self._owed.pop(key, None)
        if event is not None:
            self._start(self._pay(event))

    def post(self, event: Event) -> None:
        """Owe and pay in one."""
        self._start(self._send(event))

    async def _send(self, event: Event) -> None:
        put = self.owe(event)
        if put is not None:
            await self._state.put_many([put])
            self.pay(event.key)

    async def answered(self, key: str, enterprise: str) -> None:
        """Wait until a subscriber has acknowledged or refused a COMMAND, if answers shall wait for that."""
        if not self.settings.before_reply or not self._wants(enterprise, "COMMAND"):
            return
        answer = asyncio.Event()
        self._waiting[key] = answer
        try:
            async with asyncio.timeout(PATIENCE):
                await answer.wait()
        except TimeoutError:
            _log.info("no subscriber has answered to %s", key)
        finally:
            self._waiting.pop(key, None)
            for message_id in self._ids.pop(key, []):
                self._waiting.pop(message_id, None)

    async def publish(self, event: Event, action: Action | None = None) -> tuple[Fate, list[str]]:
        """Publish one event now: what became of it, and the ids of its messages."""
        channel = self._source.channel(event.enterprise) if self._source is not None else None
        topic = channel.topic if channel is not None else ""
        fate = self._fate(topic)
        messages: list[Message] = []
        held = False
        if fate == "published":
            action = action or self.rules.action(event.kind, event.enterprise, at_push=False) or Action()
            messages = self._messages(topic, event, action)
            held = action.reorder
            fate = "published" if messages else "dropped"
        ids = [message.id for message in messages]
        self._expect(event.key, ids)
        if messages:
            await self._store.publish(messages)
            self._reorder(event.enterprise, ids, held=held)
        self._log.published(event.kind, event.enterprise, event.name, topic, fate, tuple(ids))
        return fate, ids

    def _wants(self, enterprise: str, kind: str) -> bool:
        channel = self._source.channel(enterprise) if self._source is not None else None
        return channel is not None and kind in channel.types | ALWAYS

    def _messages(self, topic: str, event: Event, action: Action) -> list[Message]:
        now = self._store.now()
        delay = HOLD if action.reorder else action.delay_seconds or 0
        return [
            Message(
                id=self._store.new_id(),
                topic=topic,
                published_at=now,
                data=spoilt.data,
                attributes={"notificationType": spoilt.kind},
                due=now + timedelta(seconds=delay),
                origin=event.enterprise,
                deliveries=1 + (action.redeliveries or 0),
            )
            for spoilt in spoil(action, event.kind, event.enterprise, event.resource)
        ]

    def _fate(self, topic: str) -> Fate:
        if self._store.topic(topic) is None:
            return "noTopic"
        bindings = self._store.policy(topic).bindings or []
        granted = any(b.role in _ROLES and {PUBLISHER, "allUsers"}.intersection(b.members or []) for b in bindings)
        if self.settings.require_grant and not granted:
            _log.warning("nothing is published to %s: it grants roles/pubsub.publisher not to %s", topic, PUBLISHER)
            return "notGranted"
        return "published"

    async def _pay(self, event: Event) -> None:
        await self.publish(event)
        if event.key not in self._owed:
            await self._state.delete(_NAMESPACE, event.key)

    def _reorder(self, enterprise: str, ids: list[str], *, held: bool) -> None:
        if held:
            self._held.setdefault(enterprise, []).extend(ids)
            return
        for message_id in self._held.pop(enterprise, []):
            self._store.bring_forward(message_id)

    def _expect(self, key: str, ids: list[str]) -> None:
        """Whoever waits for an answer to the event waits for one to these messages; without any, for nothing."""
        waiting = self._waiting.get(key)
        if waiting is None:
            return
        if not ids:
            waiting.set()
        self._ids[key] = ids
        self._waiting |= dict.fromkeys(ids, waiting)

    def _on_answer(self, message_id: str) -> None:
        if (waiting := self._waiting.get(message_id)) is not None:
            waiting.set()

    def _order(self, event: Event) -> tuple[bool, str]:
        # Which of a leaving device's two comes first is a setting.
        return ((event.kind == "STATUS_REPORT") != self.settings.command_last, event.key)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a notification could not be published", exc_info=error)
