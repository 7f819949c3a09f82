"""AOSP commands: create, list, get, cancel, and the delivery of their push."""

from heliograph.app.cancel_command import cancel_command
from heliograph.app.request_command import read_aosp_request, request_aosp_command
from heliograph.app.waiting import wait_for_command
from heliograph.domain.errors import NotFound
from heliograph.domain.ladder import Command
from heliograph.domain.times import time_text
from heliograph.http.command_bodies import AOSP_BODY
from heliograph.http.operations import Call, Operation
from heliograph.http.pages import commands_page
from heliograph.http.paths import AOSP_DEVICES, COMMAND_SORTS, find_device
from heliograph.http.wire import AosCommand, AosPushStatus, PageOf, aos_command

COMMANDS = f"{AOSP_DEVICES}/{{aosDeviceId}}/commands"
COMMAND = f"{COMMANDS}/{{aosCommandId}}"
TAG = "AOSP commands"
FEATURE = "aospCommands"
NOT_PENDING = "AosCommand status not Pending"
AGE_HEADER = "X-Push-Status-Age"
SOURCE_HEADER = "X-Push-Status-Source"


async def _shown(call: Call, command: Command) -> AosCommand:
    entries = await call.work.history.of([command.id])
    return aos_command(command, entries.get(command.id, []))


async def _command(call: Call) -> Command:
    device = await find_device(call, "aosp", "aosDeviceId", aliases=False)
    command = await call.work.commands.find(call.id("aosCommandId"), device.id)
    if command is None:
        raise NotFound
    return command


async def create(call: Call) -> AosCommand:
    request = read_aosp_request(call.body)
    device = await find_device(call, "aosp", "aosDeviceId", aliases=False)
    accepted = await request_aosp_command(call.services, call.work, device, request, call.source)
    return aos_command(accepted.command, accepted.history)


async def list_commands(call: Call) -> PageOf[AosCommand]:
    device = await find_device(call, "aosp", "aosDeviceId", aliases=False)
    return await commands_page(call, device.id, aos_command)


async def get(call: Call) -> AosCommand:
    command = await _command(call)
    return await _shown(call, await wait_for_command(call.services, call.work, command, call.query.wait_s))


async def cancel(call: Call) -> AosCommand:
    device = await find_device(call, "aosp", "aosDeviceId", aliases=False)
    command_id = call.id("aosCommandId")
    return await _shown(
        call, await cancel_command(call.services, call.work, command_id, device.id, call.source, NOT_PENDING)
    )


async def push_status(call: Call) -> AosPushStatus:
    command = await _command(call)
    report = await call.api.push_statuses.of_command(call.work, command, call.query.wait_s)
    if report.age_s is not None:
        call.headers[AGE_HEADER] = str(report.age_s)
    status = report.status
    if status is None:
        return AosPushStatus()
    call.headers[SOURCE_HEADER] = report.source or "unknown"
    return AosPushStatus(
        delivered=status.delivered,
        pending_devices=status.pending_devices,
        expires_at=None if status.expires_at is None else time_text(status.expires_at),
        sent_at=None if status.sent_at is None else time_text(status.sent_at),
    )


OPERATIONS = (
    Operation(
        method="POST",
        path=COMMANDS,
        id="createAosCommand",
        summary="Create a command for an AOSP device and push it",
        tag=TAG,
        permission="mdm.aosp.command.create",
        feature=FEATURE,
        body=AOSP_BODY,
        answer=AosCommand,
        handler=create,
        refusals=(5050, 5209),
    ),
    Operation(
        method="GET",
        path=COMMANDS,
        id="listAosCommands",
        summary="Commands of one AOSP device, page by page",
        tag=TAG,
        permission="mdm.aosp.command.list",
        feature=FEATURE,
        answer=PageOf[AosCommand],
        handler=list_commands,
        sorts=COMMAND_SORTS | {"command": "type"},
        refusals=(5050, 5209),
    ),
    Operation(
        method="GET",
        path=COMMAND,
        id="getAosCommand",
        summary="One AOSP command",
        tag=TAG,
        permission="mdm.aosp.command.get",
        feature=FEATURE,
        answer=AosCommand,
        handler=get,
        waits=True,
        refusals=(5050, 5209),
    ),
    Operation(
        method="POST",
        path=f"{COMMAND}/cancel",
        id="cancelAosCommand",
        summary="Cancel a command that the device has not run yet",
        tag=TAG,
        permission="mdm.aosp.command.cancel",
        feature=FEATURE,
        answer=AosCommand,
        handler=cancel,
        extension=True,
        refusals=(5050, 5052),
    ),
    Operation(
        method="GET",
        path=f"{COMMAND}/push-status",
        id="getAosCommandPushStatus",
        summary="What the push provider says about the delivery of one command",
        tag=TAG,
        permission="mdm.aosp.command.get",
        feature=FEATURE,
        answer=AosPushStatus,
        handler=push_status,
        waits=True,
        refusals=(5050, 5209),
    ),
)
