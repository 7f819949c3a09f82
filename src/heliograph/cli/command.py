"""`heliograph command`: commands to Android and AOSP devices."""

from typing import Annotated, Any

import typer

from heliograph.cli.client import Api, open_api
from heliograph.cli.exits import ExitCode, Failure, usage
from heliograph.cli.finding import Found, find_device
from heliograph.cli.ladder import check_command, follow, is_over, kind_of, show_command, why
from heliograph.cli.options import Page, Remote, Wait, Yes, noun, spread
from heliograph.cli.output import Mode, ago, busy, confirm, emit, note, say, table
from heliograph.cli.parameters import body_for, check_body, is_dangerous, read_params, type_name
from heliograph.cli.target import for_api

app = noun("Commands: send, follow, cancel.")
Device = Annotated[str, typer.Argument(metavar="DEVICE", help="Id, serial number, IMEI or name.")]
CommandId = Annotated[str, typer.Argument(metavar="ID", help="The command's id.")]
_PLATFORMS = ("android", "aosp")


@app.command()
@spread
def send(
    where: Remote,
    device: Device,
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="LOCK, REBOOT, CLEAR_APP_DATA …")],
    param: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A parameter. NAME=@FILE reads a secret from a file, NAME:=JSON takes JSON."
        ),
    ] = None,
    params: Annotated[str | None, typer.Option(metavar="JSON", help="All parameters as one object, or @FILE.")] = None,
    duration: Annotated[str | None, typer.Option(metavar="TIME", help="How long it stays valid: 90s, 10m, 7d.")] = None,
    wait: Wait = None,
    yes: Yes = False,
) -> None:
    """Send a command to a device. Types that destroy something ask first."""
    name = type_name(type_)
    given = read_params(param or [], params)
    with open_api(for_api(where)) as api:
        found = _device(api, device)
        body = body_for(found.platform, name, given, duration)
        check_body(found.platform, body)
        if is_dangerous(name):
            confirm(f"{name} for {found} cannot be undone.", yes)
        command = api.post(_path(api, found), body, str(found))
        if wait is not None:
            command = _waited(api, found, command["id"], wait)
    emit(command, lambda data: _show_sent(data, found, wait))
    if wait is not None:
        check_command(command, wait)


@app.command()
@spread
def get(where: Remote, device: Device, command_id: CommandId, wait: Wait = None) -> None:
    """One command with its history."""
    with open_api(for_api(where)) as api:
        found = _device(api, device)
        command = _waited(api, found, command_id, wait or 0)
    emit(command, show_command)
    if wait is not None:
        check_command(command, wait)


@app.command("list")
@spread
def list_commands(where: Remote, device: Device, page: Page) -> None:
    """The commands of a device, newest first."""
    with open_api(for_api(where)) as api:
        found = _device(api, device)
        data = api.get(_path(api, found), str(found), **page.query())
    emit(data, _show_list)


@app.command()
@spread
def cancel(where: Remote, device: Device, command_id: CommandId, wait: Wait = None) -> None:
    """Cancel a command that the device has not run yet. Exit code 6 when it is over already."""
    with open_api(for_api(where)) as api:
        found = _device(api, device)
        # To ask twice is to ask once, so a busy server may be asked again.
        command = api.post(_path(api, found, command_id, "cancel"), {}, _named(command_id), again=True)
        if wait is not None and not is_over(command):
            command = _waited(api, found, command["id"], wait)
    emit(command, _show_cancelled)
    rung = command["progress"]["rung"]
    if wait is not None and rung != "cancelled":
        exit_code = ExitCode.CONFLICT if is_over(command) else ExitCode.TIMED_OUT
        raise Failure(exit_code, f"not cancelled: it is {rung}" + ("" if is_over(command) else f" after {wait:g} s"))


@app.command()
@spread
def watch(
    where: Remote,
    device: Device,
    command_id: CommandId,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="Give up after so long, with exit code 7.")
    ] = None,
) -> None:
    """Follow a command up its ladder, live, until it is final. Exit code 0 only if it succeeded."""
    with open_api(for_api(where)) as api:
        found = _device(api, device)
        path = _path(api, found, command_id)
        command = follow(api, path, _named(command_id), timeout, is_quiet=Mode.as_json)
    emit(command, lambda data: say(f"{kind_of(data)}: {data['progress']['rung']}{_reason(data)}"))
    check_command(command, timeout or 0)


def _device(api: Api, text: str) -> Found:
    found = find_device(api, text)
    if found.platform not in _PLATFORMS:
        raise usage(
            f"{found} takes no commands, only Android and AOSP devices do; reach its agent: heliograph push send"
        )
    return found


def _path(api: Api, device: Found, *more: str) -> str:
    return api.mdm(device.platform, "enterprise", "devices", device.id, "commands", *more)


def _named(command_id: str) -> str:
    return f"command {command_id[:64]}"


def _waited(api: Api, device: Found, command_id: str, seconds: float) -> dict[str, Any]:
    with busy(f"Waiting for {device} …"):
        return api.waited(_path(api, device, command_id), seconds, is_over, _named(command_id))


def _reason(command: dict[str, Any]) -> str:
    reason = why(command)
    return f" ({reason})" if reason else ""


def _show_sent(command: dict[str, Any], device: Found, waited: float | None) -> None:
    say(f"{kind_of(command)} for {device}")
    show_command(command)
    if waited is None:
        note(f"Follow it: heliograph command watch {device.id} {command['id']}")


def _show_cancelled(command: dict[str, Any]) -> None:
    if command["progress"]["rung"] == "cancelled":
        say("Cancelled: the device will not run it.")
    elif not is_over(command):
        say("Asked to cancel. Whether the device has run it meanwhile is not settled yet.")
    show_command(command)


def _show_list(page: dict[str, Any]) -> None:
    rows = [
        (kind_of(c), c["status"], c["progress"]["rung"], ago(c["progress"]["at"]), ago(c["createdAt"]), c["id"], why(c))
        for c in page["items"]
    ]
    columns = ("TYPE", "STATUS", "RUNG", "SINCE", "ASKED", "ID", "REASON")
    table(columns, rows, "No command was sent to this device yet.")
    if page["totalDocs"] > len(rows):
        note(f"Page {page['page']} of {page['totalPages']}, {page['totalDocs']} commands in all: --page, --limit")
