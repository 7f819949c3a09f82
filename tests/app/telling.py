"""Having Google tell something of its own accord."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from heliograph.app.notifications import Verdict, take_notification
from heliograph.channels.notifications import read_notification
from heliograph.domain.devices import Device, Enterprise
from heliograph.ports.channel import Gone, Received, TooMuch, Unreachable
from tests.app.conftest import Desk

ENTERPRISE_NAME = "enterprises/LC0test"


def message(kind: str, data: Any, at: float | None = None, identifier: str = "1") -> dict[str, Any]:
    """As Pub/Sub has it; `at` = seconds since the epoch."""
    encoded = data if isinstance(data, str) else base64.b64encode(json.dumps(data).encode()).decode()
    published = {} if at is None else {"publishTime": datetime.fromtimestamp(at, UTC).isoformat()}
    return {"data": encoded, "attributes": {"notificationType": kind}, "messageId": identifier} | published


async def enterprise_of(desk: Desk) -> Enterprise:
    return next(e for e in await desk.work.setup.enterprises() if e.platform == "android")


async def told(desk: Desk, kind: str, data: Any, *, age_s: float = 0) -> Verdict:
    at = desk.clock.now() / 1e6 - age_s
    return await take_notification(desk.services, await enterprise_of(desk), read_notification(message(kind, data, at)))


async def by_name(desk: Desk, name: str) -> Device | None:
    return await desk.work.devices.find_by_external_name(name)


class Mailbox:
    """A subscription that remembers what was said of its messages."""

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self.later: list[str] = []

    async def pull(self, limit: int) -> list[Received] | TooMuch | Gone | Unreachable:
        return []

    async def acknowledge(self, ack_ids: Any) -> Unreachable | None:
        self.acknowledged += ack_ids
        return None

    async def put_off(self, ack_ids: Any, seconds: int) -> Unreachable | None:
        self.later += ack_ids
        return None
