"""The device itself, as its agents see it: what it does is what its journal says."""

import asyncio
import contextlib
import logging
from typing import Any

from heliograph_agent.effector import Event, Result
from heliograph_lab.fleet import DeviceState
from heliograph_lab.kernel import Kernel
from heliograph_protocol.messages import PushOffer

COMMANDED_APP = "mdmAgent"
COMMANDED_PLATFORMS = ("aosp", "package")  # the others take commands from their own management channel
_log = logging.getLogger(__name__)


class LabEffector:
    """One app's hold on its device.

    An effect is one durable `executed` entry, so that after any crash the truth can be told.
    """

    def __init__(self, kernel: Kernel, device: DeviceState, app: str) -> None:
        self._journal = kernel.journal
        self._may_run = app == COMMANDED_APP and device.spec.platform in COMMANDED_PLATFORMS
        self._device_id = device.spec.device_id
        self._device = device
        self._changed = asyncio.Event()

    def change(self, device: DeviceState) -> None:
        """The device's behaviour is another one from now on, also for what is under way."""
        self._device = device
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def execute(self, command_id: str, type: str, params: dict[str, Any]) -> Result:  # noqa: A002, ARG002
        """Take `latencyMs`, then do what `outcome` says. An error has no effect, and so no entry."""
        if not self._may_run:
            _log.error("command %s (%s) reached an app that runs none", command_id, type)
            return Result(ok=False, code="NOT_THE_AGENT", message="This app runs no commands.")
        await self._take_time()
        while self._device.outcome.result == "never":
            await self._changed.wait()
        outcome = self._device.outcome
        if outcome.result == "error":
            return Result(ok=False, code=outcome.error_code or "DEVICE_ERROR", message="The device reports an error.")
        await self._journal.write(self._device_id, "executed", command_id=command_id, type=type)
        return Result(ok=True)

    async def _take_time(self) -> None:
        """`latencyMs` as it is by now, not as it was when the command began."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (left := began + self._device.latency_ms / 1000 - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    def already_executed(self, command_id: str) -> bool | None:
        """The journal knows."""
        return self._journal.executed(self._device_id, command_id=command_id)

    async def display(self, push: PushOffer) -> None:
        """Show it, once."""
        if not self._journal.displayed(self._device_id, push.id):
            await self._journal.write(
                self._device_id, "displayed", push_id=push.id, title=push.title, body=push.body, data=push.data
            )

    async def observe(
        self,
        event: Event,
        *,
        command_id: str | None = None,
        push_id: str | None = None,
        type: str | None = None,  # noqa: A002
    ) -> None:
        """Note what the agent is about to tell the server."""
        await self._journal.write(self._device_id, event, command_id=command_id, push_id=push_id, type=type)
