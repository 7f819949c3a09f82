"""Pulls the notifications of every enterprise that has a subscription.

Several processes may pull one subscription: Pub/Sub gives each message to one of them, and again to any if it is not
acknowledged. A message is acknowledged only after the commit of what it says.
"""

import asyncio
from collections.abc import Sequence

import structlog

from heliograph.app.notifications import Verdict, take_notification
from heliograph.app.services import SECOND, Services
from heliograph.domain.devices import Enterprise
from heliograph.domain.errors import StoreUnavailable
from heliograph.ports.channel import Gone, Received, Subscription, TooMuch, Unreachable

log = structlog.get_logger("heliograph.notifications")

ENTERPRISES_TOPIC = "enterprises"
_BATCH = 100
_REFRESH_S = 60.0  # a wake-up from another process may be lost: look again
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_AGAIN_S = 10

_Key = tuple[str, str | None, bytes | None, str | None]


async def listen_forever(s: Services) -> None:
    """Pull until cancelled; enterprises may come, change and go meanwhile."""
    listeners: dict[_Key, asyncio.Task[None]] = {}
    try:
        with s.wakeups.subscribe(ENTERPRISES_TOPIC) as waiter:
            while True:
                try:
                    await _adjust(s, listeners)
                except StoreUnavailable as error:
                    log.warning("notifications.store_unavailable", error=str(error))
                await waiter.wait(_REFRESH_S)
    finally:
        await _end(list(listeners.values()))


async def _adjust(s: Services, listeners: dict[_Key, asyncio.Task[None]]) -> None:
    """One listener for each enterprise as it is now; those of what it was before end."""
    found = [e for e in await s.store.directory.enterprises() if e.subscription and e.credentials]
    wanted: dict[_Key, Enterprise] = {(e.id, e.subscription, e.credentials, e.api_url): e for e in found}
    await _end([listeners.pop(key) for key in list(listeners) if key not in wanted])
    for key, enterprise in wanted.items():
        if key not in listeners or listeners[key].done():
            listeners[key] = asyncio.create_task(_listen(s, enterprise))


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(s: Services, enterprise: Enterprise) -> None:
    pause_s, limit = _FIRST_PAUSE_S, _BATCH
    while True:
        subscription = await s.channels.subscription(enterprise)
        answer: list[Received] | TooMuch | Gone | Unreachable = Unreachable("no usable credentials")
        asked_at = s.clock.elapsed()
        if subscription is not None:
            answer = await subscription.pull(limit)
        if isinstance(answer, TooMuch):
            # They come again when their time to be acknowledged is over, and then in smaller parts.
            answer, limit = Unreachable(f"{limit} messages are too much at a time"), max(1, limit // 4)
        if isinstance(answer, Gone | Unreachable) or subscription is None:
            reason = answer.reason if isinstance(answer, Gone | Unreachable) else ""
            log.warning("notifications.cannot_be_pulled", enterprise=enterprise.name, reason=reason)
            after_s = answer.after_s if isinstance(answer, Unreachable) else None
            await asyncio.sleep(max(pause_s, min(after_s or 0, s.limits.retry_after_cap_s)))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
            continue
        pause_s, limit = _FIRST_PAUSE_S, min(_BATCH, limit + 1)
        await take_batch(s, enterprise, subscription, answer)
        if not answer and s.clock.elapsed() - asked_at < _FIRST_PAUSE_S * SECOND:
            await asyncio.sleep(_FIRST_PAUSE_S)  # whoever answers that did not wait for a message


async def take_batch(
    s: Services, enterprise: Enterprise, subscription: Subscription, batch: Sequence[Received]
) -> None:
    """Record what came; acknowledge what is recorded or means nothing here, and let the rest come again."""
    verdicts = await asyncio.gather(*(_verdict(s, enterprise, received) for received in batch))
    pairs = list(zip(batch, verdicts, strict=True))
    await subscription.acknowledge([r.ack_id for r, verdict in pairs if verdict is not Verdict.LATER])
    await subscription.put_off([r.ack_id for r, verdict in pairs if verdict is Verdict.LATER], _AGAIN_S)


async def _verdict(s: Services, enterprise: Enterprise, received: Received) -> Verdict:
    """One message's fault never stops the others."""
    try:
        return await take_notification(s, enterprise, received.notification)
    except StoreUnavailable:
        return Verdict.LATER
    except Exception:
        log.exception("notification.failed", enterprise=enterprise.name, id=received.notification.id)
        return Verdict.LATER
