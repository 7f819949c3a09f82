"""The conversation with the server, whatever carries it: when to check in, with what, and what to do with Orders."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from heliograph_agent import clock
from heliograph_agent.config import AgentConfig
from heliograph_agent.effector import Effector
from heliograph_agent.journal import Journal
from heliograph_agent.ledger import Ledger
from heliograph_agent.outbox import Outbox, Signal
from heliograph_agent.records import CommandRecord
from heliograph_protocol.messages import (
    CancelAnswer,
    CheckIn,
    ClaimedCommand,
    Orders,
    PushAck,
    PushOffer,
    Report,
)

_MAX_UNDER_WAY = 8
_log = logging.getLogger("heliograph_agent")


class LineError(Exception):
    """The line does not work as agreed; a new one may."""


class Talk:
    """One agent's side of the conversation. `changed` tells of everything that could make a check-in due.

    `on_line` is called when the server first answers on a line.
    """

    def __init__(
        self,
        config: AgentConfig,
        effector: Effector,
        ledger: Ledger,
        journal: Journal,
        changed: Signal,
        on_line: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_line = on_line
        self._config = config
        self._effector = effector
        self._ledger = ledger
        self._journal = journal
        self._changed = changed
        self._outbox = Outbox(changed)
        self._lock = asyncio.Lock()  # Orders may arrive on two connections, and pushes from elsewhere
        self._hungry = False  # commands may wait at the server
        self._forced = False
        self.interval = 300.0
        self.answered = False  # since `reconnect`

    @property
    def journal_name(self) -> str:
        """By which the server knows what it gave to this agent, and not to another with the same secret."""
        return self._journal.name

    async def resume(self) -> None:
        """After a start: what the journal says is owed to the server."""
        for record in self._ledger.commands.values():
            if "acknowledged" in record.owed:
                await self._observe(self._effector.observe("acknowledged", command_id=record.id, type=record.type))
            self.tell(record)
        for push in self._ledger.pushes.values():
            if push.owed:
                await self._observe(self._effector.observe("acknowledged", push_id=push.id))
                self._outbox.add(PushAck(id=push.id, at=clock.rfc3339(push.at)))

    def reconnect(self) -> None:
        """A new line: tell again what no answer came for, and ask for work."""
        self._outbox.requeue()
        self.answered = False
        self.wake()

    def wake(self) -> None:
        """Check in as soon as possible, and claim."""
        self._hungry = self._forced = True
        self._changed.notify()

    def tell(self, record: CommandRecord) -> None:
        """Put what is owed for a command into the next check-in."""
        if "acknowledged" in record.owed:
            at = clock.rfc3339(record.received)
            self._outbox.add(Report(command_id=record.id, rung="acknowledged", at=at))
        if "result" in record.owed and record.report is not None and record.id not in self._ledger.unsaved:
            self._outbox.add(record.report)
        if "cancel" in record.owed:
            at = clock.rfc3339(record.at)
            self._outbox.add(CancelAnswer(command_id=record.id, outcome="confirmed", at=at))

    def tell_running(self, record: CommandRecord) -> None:
        """Say that a command's effect lasts; not repeated after a restart, where its end follows anyway."""
        self._outbox.add(Report(command_id=record.id, rung="running", at=clock.rfc3339(record.at)))

    # ------------------------------------------------------------ to the server

    async def next_message(self) -> CheckIn:
        """Wait until a check-in is due. LineError when an answer is overdue."""
        due = clock.elapsed() + self.interval * random.uniform(0.9, 1.0)  # noqa: S311 - spreads load, no secret
        while not self._may_send():
            since = self._outbox.waiting_since
            overdue = float("inf") if since is None else since + self._config.answer_timeout
            try:
                async with asyncio.timeout(max(0.0, min(due, overdue) - clock.elapsed())):
                    await self._changed.wait()
            except TimeoutError:
                if clock.elapsed() >= overdue:
                    raise LineError("the server does not answer") from None
                self._hungry = self._forced = True
        claim = self._room() if self._hungry else 0
        self._hungry = self._hungry and not claim
        self._forced = False
        return self._outbox.take(claim=claim)

    async def next_poll(self) -> CheckIn:
        """A check-in that waits at the server for something to come, once all that is known has been told."""
        while self._outbox or self._outbox.under_way:
            await self._changed.wait()
        return self._outbox.take(claim=self._room(), wait=self._config.poll_wait, items=False)

    def _room(self) -> int:
        return max(0, self._config.claim - self._ledger.waiting - self._outbox.claims_under_way)

    def _may_send(self) -> bool:
        if self._outbox.under_way >= _MAX_UNDER_WAY:
            return False
        return self._forced or bool(self._outbox) or (self._hungry and self._room() > 0)

    # ------------------------------------------------------------ from the server

    async def handle(self, orders: Orders, at: float, *, ordered: bool) -> bool:
        """Do what the server says; `at` is `clock.elapsed()` of the arrival. True if anything in it was new.

        `ordered`: this line keeps the order of messages.
        """
        async with self._lock:
            asked = self._outbox.settle(orders.seq) if orders.seq else None
            if asked is not None:
                if not self.answered:
                    self._on_line()
                self.answered = True
                self._ledger.settle(asked, next_seq=self._outbox.next_seq)
            new = await self._take_commands(orders.commands, at, sent=None if ordered else orders.seq)
            answers = [self._cancel(command_id) for command_id in orders.cancels]
            pushes = await self._see(orders.pushes)
            await self._journal.commit()
            for answer in answers:
                record = self._ledger.commands[answer.command_id]
                if answer.outcome == "confirmed":
                    self._ledger.saved(record)  # a deferral that went before is on disk with it
                self.tell(record)
                self._outbox.add(answer)
            await self._begin(new, orders.commands)
            told = await self._show(pushes)
        # What a claim did not get cannot be had now; a long poll has perhaps waited since it claimed.
        empty_handed = asked is not None and asked.claim > 0 and not asked.wait_seconds and not orders.commands
        if (orders.waiting or orders.more) and not empty_handed:
            self._hungry = True
        self._changed.notify()
        return bool(new or answers or told)

    async def receive(self, offer: PushOffer) -> None:
        """A push that another provider brought. Returns once it is journalled and shown; the check-in follows."""
        async with self._lock:
            pushes = await self._see([offer])
            await self._journal.commit()
            await self._show(pushes)
        self.wake()

    async def _take_commands(
        self, commands: list[ClaimedCommand], at: float, *, sent: int | None
    ) -> list[CommandRecord]:
        new = []
        for command in commands:
            if self._ledger.is_new(command, sent):
                await self._observe(self._effector.observe("received", command_id=command.id, type=command.type))
                new.append(self._ledger.take_on(command, at))
            else:
                self._ledger.repeat(self._ledger.commands[command.id])
        return new

    async def _begin(self, new: list[CommandRecord], commands: list[ClaimedCommand]) -> None:
        """Acknowledge what is in the journal now, and only then let it run.

        Known ones, too: the line may have ended before this was done when they came first.
        """
        for record in new:
            await self._observe(self._effector.observe("acknowledged", command_id=record.id, type=record.type))
        for record in (self._ledger.commands[command.id] for command in commands):
            self.tell(record)
            self._ledger.ready(record)

    def _cancel(self, command_id: str) -> CancelAnswer:
        outcome = self._ledger.cancel(command_id)
        return CancelAnswer(command_id=command_id, outcome=outcome, at=clock.rfc3339(clock.wall()))

    async def _see(self, offers: list[PushOffer]) -> list[PushOffer]:
        """Put pushes down; returns those to be shown or acknowledged. An expired one is left to expire."""
        live = [offer for offer in offers if offer.expires_in_ms > 0 or self._ledger.has_done(offer.id)]
        for offer in live:
            if offer.id not in self._ledger.pushes:
                await self._observe(self._effector.observe("received", push_id=offer.id))
            self._ledger.see(offer.id, shows=offer.kind == "notification")
        self._hungry = self._hungry or any(offer.kind == "wake" for offer in live)
        return live

    async def _show(self, offers: list[PushOffer]) -> bool:
        """Show what was not shown, and acknowledge. A push is `seen` on disk before, `done` on disk after: a crash
        in between shows it again when it is offered again, because a notification that nobody saw is the worse fault.
        """
        done = []
        for offer in offers:
            push = self._ledger.pushes[offer.id]
            if push.stage == "seen":
                try:
                    await self._effector.display(offer)
                except Exception as error:  # noqa: BLE001 - whatever it is, the push stays unacknowledged
                    _log.warning("a notification could not be shown: %s", type(error).__name__)
                    continue
                self._ledger.shown(push)
            done.append(push)
        await self._journal.commit()
        for push in done:
            await self._observe(self._effector.observe("acknowledged", push_id=push.id))
            self._outbox.add(PushAck(id=push.id, at=clock.rfc3339(push.at)))
        return bool(done)

    async def _observe(self, noting: Awaitable[None]) -> None:
        try:
            await noting
        except Exception as error:  # noqa: BLE001 - a note is not worth the command
            _log.warning("an event could not be noted: %s", type(error).__name__)
