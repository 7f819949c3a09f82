"""What Google tells of its own accord: results of commands and reports of devices.

A notification comes at least once, in any order, and maybe before the commit that it is about. It is a hint with
evidence: the same ladder takes its result as takes that of a look-up, and what is not understood changes nothing.
"""

from enum import Enum
from functools import partial

import structlog

from heliograph.app.effects.look_up import record_result
from heliograph.app.effects.upstream import look_at_once, result_of
from heliograph.app.google_devices import GONE_STATE, Passed, is_device_of, take_report
from heliograph.app.services import SECOND, Services, until_committed
from heliograph.domain.devices import Enterprise
from heliograph.ports.channel import Notification
from heliograph.ports.store import UnitOfWork

log = structlog.get_logger("heliograph.notifications")

# An operation that we do not know may be one whose name is being committed just now. After this it is somebody else's.
# More than ten minutes: by so much our clock may be ahead of Google's.
_STRANGER_AFTER_S = 900


class Verdict(Enum):
    """What becomes of a notification."""

    TAKEN = "taken"
    IGNORED = "ignored"  # need not come again
    LATER = "later"  # must come again


async def take_notification(s: Services, enterprise: Enterprise, notification: Notification) -> Verdict:
    """Record what a notification of an enterprise says. StoreUnavailable: it must come again."""
    work = s.store.unit_of_work(enterprise.organization_id)
    await work.setup.heard_of_enterprise(enterprise.id, s.clock.now())
    if notification.fault is not None:
        return _ignored(enterprise, notification, notification.fault)
    if notification.operation is not None:
        return await _take_operation(s, work, enterprise, notification)
    if notification.device is not None:
        return await _take_device(s, work, enterprise, notification)
    return _ignored(enterprise, notification, "nothing to record")


def _ignored(enterprise: Enterprise, notification: Notification, why: str) -> Verdict:
    log.info("notification.ignored", enterprise=enterprise.name, kind=notification.kind, id=notification.id, why=why)
    return Verdict.IGNORED


async def _take_operation(s: Services, work: UnitOfWork, enterprise: Enterprise, n: Notification) -> Verdict:
    operation = n.operation or {}
    name = str(operation["name"])
    if not name.startswith(f"{enterprise.name}/"):
        return _ignored(enterprise, n, "of another enterprise")
    command = await work.commands.find_by_receipt(name)
    if command is None:
        return _stranger(s, enterprise, n)
    event = result_of(s, command, operation)
    if event is None:
        return _ignored(enterprise, n, "not finished")
    if not await until_committed(partial(record_result, s, work, command.id, event)):
        return _ignored(enterprise, n, "known already")
    return Verdict.TAKEN


def _stranger(s: Services, enterprise: Enterprise, n: Notification) -> Verdict:
    age_us = 0 if n.published_at is None else s.clock.now() - n.published_at
    if n.published_at is None or age_us > _STRANGER_AFTER_S * SECOND:
        return _ignored(enterprise, n, "unknown here")
    return Verdict.LATER


async def _take_device(s: Services, work: UnitOfWork, enterprise: Enterprise, n: Notification) -> Verdict:
    raw = n.device or {}
    if not is_device_of(raw["name"], enterprise):
        return _ignored(enterprise, n, "no device of this enterprise")
    device = await until_committed(partial(take_report, s, work, enterprise, raw, n.published_at))
    if isinstance(device, Passed):
        return _ignored(enterprise, n, device.why)
    if device.state == GONE_STATE:
        await look_at_once(s, work, device)
    return Verdict.TAKEN
