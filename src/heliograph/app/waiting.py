"""Waiting for a record to become final, for the bounded times that callers ask for."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from heliograph.app.services import SECOND, Services
from heliograph.domain.deliveries import Push
from heliograph.domain.ladder import Command
from heliograph.ports.store import UnitOfWork

T = TypeVar("T")

# Another process may have changed the record and its wake-up may be lost: look again now and then.
_LOOK_AGAIN_S = 1.0


async def wait_for(
    s: Services, topic: str, read: Callable[[], Awaitable[T]], is_final: Callable[[T], bool], timeout_s: float
) -> T:
    """Read until the record is final or `timeout_s` seconds have passed; answers the last state read."""
    deadline = s.later(timeout_s)
    with s.wakeups.subscribe(topic) as waiter:
        record = await read()
        while not is_final(record):
            left = (deadline - s.clock.now()) / SECOND
            if left <= 0 or s.lifecycle.ending:
                break
            await waiter.wait(min(left, _LOOK_AGAIN_S))
            record = await read()
    return record


async def command_of(work: UnitOfWork, command_id: str, device_id: str) -> Command | None:
    """A device's command, also where the device's record was joined to another one since it was read."""
    command = await work.commands.find(command_id, device_id)
    if command is None:
        device = await work.devices.find(None, device_id)
        if device is not None and device.id != device_id:
            command = await work.commands.find(command_id, device.id)
    return command


async def wait_for_command(s: Services, work: UnitOfWork, command: Command, timeout_s: float) -> Command:
    """The command once it is over, or as it is after `timeout_s` seconds."""

    async def read() -> Command:
        return await work.commands.find(command.id) or command

    if command.is_over or timeout_s <= 0:
        return command
    return await wait_for(s, f"command:{command.id}", read, lambda c: c.is_over, timeout_s)


async def wait_for_push(s: Services, work: UnitOfWork, push: Push, timeout_s: float) -> Push:
    """The push once nothing more is expected of it, or as it is after `timeout_s` seconds."""

    async def read() -> Push:
        return await work.pushes.find(push.id) or push

    if push.is_over or timeout_s <= 0:
        return push
    return await wait_for(s, f"push:{push.id}", read, lambda p: p.is_over, timeout_s)
