"""What the push provider says about the push of a command; its answer is stored (contract decisions 18 and 19)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from heliograph.app.account_requests import USED_UP, may_ask
from heliograph.app.services import SECOND, Services
from heliograph.app.waiting import wait_for
from heliograph.domain.deliveries import ProviderAnswered, Push, PushRung, PushStatus, push_status
from heliograph.domain.errors import Conflict
from heliograph.domain.ladder import Command
from heliograph.ports.changes import BACKGROUND, ChangeSet
from heliograph.ports.push import Forgotten, Pending, StatusAnswer, Unavailable
from heliograph.ports.store import UnitOfWork

_CACHE_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """`status` None = nothing accepted yet. `age_s`: age of the last word, where the provider could not be asked.

    `source`: whose word it is, the agent's or the provider's; None where this provider never says what it delivered, so
    that only the agent's acknowledgement will tell.
    """

    status: PushStatus | None
    age_s: int | None = None
    is_final: bool = False
    source: str | None = None


@dataclass(slots=True)
class PushStatusReader:
    """Asks providers, each push at most once per cache time whatever the number of readers."""

    services: Services
    # By push and provider: one that went another way is another's to answer for.
    _asked: dict[tuple[str, str], tuple[int, "asyncio.Task[StatusAnswer]"]] = field(default_factory=dict)

    async def of_command(self, work: UnitOfWork, command: Command, wait_s: float = 0) -> DeliveryReport:
        """The delivery of the latest accepted push of a command, waiting up to `wait_s` seconds for it to be final."""

        async def read() -> DeliveryReport:
            return await self._read(work, command)

        if wait_s <= 0:
            return await read()
        return await wait_for(self.services, f"command:{command.id}", read, lambda r: r.is_final, wait_s)

    async def _read(self, work: UnitOfWork, command: Command) -> DeliveryReport:
        pushes = await work.pushes.of_command(command.id)
        report = await self._of(work, pushes)
        return replace(report, source=self._source(pushes)) if report.status is not None else report

    def _source(self, pushes: Sequence[Push]) -> str | None:
        asked = next((p for p in pushes if push_status(p) is not None), None)
        if asked is not None and asked.rung in (PushRung.ACKNOWLEDGED, PushRung.EXECUTED):
            return "agent"
        plugin = None if asked is None else self.services.providers.plugin(asked.provider)
        return "provider" if plugin is not None and plugin.tells_delivery else None

    async def _of(self, work: UnitOfWork, pushes: Sequence[Push]) -> DeliveryReport:
        push = next((p for p in pushes if push_status(p) is not None), None)
        if push is None:
            return DeliveryReport(None, is_final=bool(pushes) and all(p.is_over for p in pushes))
        if push.rung is not PushRung.ACCEPTED or push.reference is None:
            return DeliveryReport(push_status(push), is_final=push.rung is not PushRung.QUEUED)
        answer = await self._ask(push)
        if isinstance(answer, Pending):
            push = await self._store(work, push, answer)
        status = push_status(push)
        final = push.rung is not PushRung.ACCEPTED
        if isinstance(answer, Unavailable):
            last = push.answer_at or push.sent_at or push.created_at
            return DeliveryReport(status, max(0, (self.services.clock.now() - last) // SECOND), final)
        return DeliveryReport(status, None, final or (isinstance(answer, Forgotten) and push.is_over))

    async def _ask(self, push: Push) -> StatusAnswer:
        now, key = self.services.clock.now(), (push.id, push.provider)
        asked = self._asked.get(key)
        if asked is None or now - asked[0] > self.services.limits.push_status_cache_s * SECOND:
            if len(self._asked) >= _CACHE_SIZE:
                self._asked.clear()
            asked = (now, asyncio.create_task(self._answer(push)))
            self._asked[key] = asked
        # Shielded: one reader hanging up must not take the answer from the others.
        return await asyncio.shield(asked[1])

    async def _answer(self, push: Push) -> StatusAnswer:
        provider = await self.services.providers.provider(push.organization_id, push.provider, push.account_id)
        if provider is None or push.reference is None:
            return Unavailable("the provider account is gone or disabled")
        plugin = self.services.providers.plugin(push.provider)
        asks = plugin is not None and plugin.tells_delivery
        timeout_s = self.services.limits.push_status_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                if asks and not await may_ask(self.services, push.provider, push.account_id, BACKGROUND):
                    return USED_UP
                return await provider.status(push.reference, timeout_s)
        except TimeoutError:
            return Unavailable("the provider did not answer in time")

    async def _store(self, work: UnitOfWork, push: Push, answer: Pending) -> Push:
        """Keep the provider's word, unless it says nothing new."""
        if answer.devices == push.pending_devices and (answer.expires_at or push.provider_expires_at) == (
            push.provider_expires_at
        ):
            return push
        changes = ChangeSet(push.organization_id)
        event = ProviderAnswered(
            source=f"provider:{push.provider}",
            evidence={"pendingDevices": answer.devices},
            pending_devices=answer.devices,
            expires_at=answer.expires_at,
        )
        after = changes.move_push(push, event, self.services.clock.now())
        try:
            await work.commit(changes)
        except Conflict:
            return await work.pushes.find(push.id) or after
        return after
