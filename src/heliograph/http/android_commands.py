"""Android commands: create, list, get, cancel."""

from heliograph.app.cancel_command import cancel_command
from heliograph.app.request_command import read_android_request, request_android_command
from heliograph.app.turns import turn_of
from heliograph.app.waiting import command_of, wait_for_command
from heliograph.domain.errors import NotFound
from heliograph.domain.ladder import Command
from heliograph.http.command_bodies import ANDROID_BODY
from heliograph.http.operations import Call, Operation
from heliograph.http.pages import commands_page
from heliograph.http.paths import ANDROID_DEVICES, COMMAND_SORTS, find_device
from heliograph.http.wire import EmmCommand, PageOf, emm_command

COMMANDS = f"{ANDROID_DEVICES}/{{emmDeviceId}}/commands"
COMMAND = f"{COMMANDS}/{{emmCommandId}}"
TAG = "Android commands"
NOT_PENDING = "EmmCommand status not Pending"


async def _shown(call: Call, command: Command) -> EmmCommand:
    entries = await call.work.history.of([command.id])
    return emm_command(command, entries.get(command.id, []))


async def create(call: Call) -> EmmCommand:
    request = read_android_request(call.body, call.principal.permissions)
    device = await find_device(call, "android", "emmDeviceId", aliases=True)
    accepted = await request_android_command(call.services, call.work, device, request, call.source)
    return emm_command(accepted.command, accepted.history)


async def list_commands(call: Call) -> PageOf[EmmCommand]:
    device = await find_device(call, "android", "emmDeviceId", aliases=True)
    return await commands_page(call, device.id, emm_command)


async def get(call: Call) -> EmmCommand:
    device = await find_device(call, "android", "emmDeviceId", aliases=True)
    command = await command_of(call.work, call.id("emmCommandId"), device.id)
    if command is None:
        raise NotFound
    command = await wait_for_command(call.services, call.work, command, call.query.wait_s)
    entries = await call.work.history.of([command.id])
    return emm_command(command, entries.get(command.id, []), await turn_of(call.services, command))


async def cancel(call: Call) -> EmmCommand:
    device = await find_device(call, "android", "emmDeviceId", aliases=True)
    command_id = call.id("emmCommandId")
    return await _shown(
        call, await cancel_command(call.services, call.work, command_id, device.id, call.source, NOT_PENDING)
    )


OPERATIONS = (
    Operation(
        method="POST",
        path=COMMANDS,
        id="createEmmCommand",
        summary="Create a command and queue it for the device",
        tag=TAG,
        permission="mdm.android.command.create",
        feature="androidCommands",
        body=ANDROID_BODY,
        answer=EmmCommand,
        handler=create,
        refusals=(5050, 5209),
    ),
    Operation(
        method="GET",
        path=COMMANDS,
        id="listEmmCommands",
        summary="Commands sent to one Android device, page by page",
        tag=TAG,
        permission="mdm.android.command.list",
        feature="androidCommands",
        answer=PageOf[EmmCommand],
        handler=list_commands,
        sorts=COMMAND_SORTS,
        refusals=(5050, 5209),
    ),
    Operation(
        method="GET",
        path=COMMAND,
        id="getEmmCommand",
        summary="One command with its state",
        tag=TAG,
        permission="mdm.android.command.get",
        feature="androidCommands",
        answer=EmmCommand,
        handler=get,
        waits=True,
        refusals=(5050, 5209),
    ),
    Operation(
        method="POST",
        path=f"{COMMAND}/cancel",
        id="cancelEmmCommand",
        summary="Cancel a command that the device has not run yet",
        tag=TAG,
        permission="mdm.android.command.cancel",
        feature="androidCommandCancel",
        answer=EmmCommand,
        handler=cancel,
        refusals=(5050, 5052),
    ),
)
