"""`heliograph push`: push notifications to the agent's apps."""

import json
from typing import Annotated, Any

import typer

from heliograph.cli.client import Api, open_api
from heliograph.cli.exits import usage
from heliograph.cli.finding import find_device
from heliograph.cli.ladder import check, follow, is_push_over, show_history
from heliograph.cli.options import Remote, Wait, literal_or_source, noun, spread
from heliograph.cli.output import Mode, ago, busy, emit, note, pairs, say
from heliograph.cli.target import for_api

app = noun("Push notifications: send, and see what became of them.")


@app.command()
@spread
def send(
    where: Remote,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Id, serial number, IMEI or name.")],
    body: Annotated[str, typer.Option(help="The text, at most 256 characters.")],
    title: Annotated[str | None, typer.Option(help="The title, at most 256 characters.")] = None,
    target: Annotated[
        str, typer.Option("--app", help="mdmAgent, setupAssistant, remoteSupport or kioskLauncher.")
    ] = "mdmAgent",
    data: Annotated[str | None, typer.Option(metavar="JSON", help="Data for the app: an object, or @FILE.")] = None,
    silent: Annotated[bool, typer.Option("--silent", help="For the app only: nothing is shown.")] = False,
    wait: Wait = None,
) -> None:
    """Send a push to one of the agent's apps on a device."""
    notification: dict[str, Any] = {"body": body}
    if title is not None:
        notification["title"] = title
    if data is not None:
        notification["data"] = _object(literal_or_source(data, "--data"))
    with open_api(for_api(where)) as api:
        found = find_device(api, device)
        request = {
            "os": found.platform,
            "identifier": found.all_platform_id,
            "app": target,
            "type": "silent" if silent else "notification",
            "notification": notification,
        }
        push = api.post(api.mdm("push-notifications", "send"), request, f"{target} on {found}")
        if wait is not None:
            push = _waited(api, push["id"], wait)
    _finish(push, wait)


@app.command()
@spread
def get(
    where: Remote, push_id: Annotated[str, typer.Argument(metavar="ID", help="The push's id.")], wait: Wait = None
) -> None:
    """What became of a push."""
    with open_api(for_api(where)) as api:
        push = _waited(api, push_id, wait or 0)
    _finish(push, wait)


@app.command("test")
@spread
def try_push(
    where: Remote,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Id, serial number, IMEI or name.")],
    target: Annotated[
        str, typer.Option("--app", help="mdmAgent, setupAssistant, remoteSupport or kioskLauncher.")
    ] = "mdmAgent",
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=1, max=3600, help="Give up after so long.")] = 30,
) -> None:
    """Send a silent push, and show each step on its way until the agent has acknowledged it."""
    with open_api(for_api(where)) as api:
        found = find_device(api, device)
        request = {
            "os": found.platform,
            "identifier": found.all_platform_id,
            "app": target,
            "type": "silent",
            "notification": {"body": "heliograph push test"},
        }
        push = api.post(api.mdm("push-notifications", "send"), request, f"{target} on {found}")
        path = api.mdm("push-notifications", push["id"])
        push = follow(api, path, f"push {push['id']}", timeout, Mode.as_json, is_push_over)
    emit(push, lambda shown: say(_verdict(shown, timeout)))
    check(push["status"], is_push_over(push), "", timeout)


def _verdict(push: dict[str, Any], timeout: float) -> str:
    """In a sentence, how far a test came."""
    provider, status = push["provider"], push["status"]
    if status == "acknowledged":
        return f"It arrived: the agent has acknowledged it, by way of {provider}."
    if status == "queued":
        return f"{provider} did not take it within {timeout:g} s: heliograph provider list says whether it is in order."
    if status == "accepted":
        return f"{provider} took it, and nothing was heard of the agent within {timeout:g} s: is the device on line?"
    if status == "provider_delivered":
        return f"{provider} says that it delivered it, but the agent did not acknowledge: does the app run?"
    return f"It ended as {status}."


def _waited(api: Api, push_id: str, seconds: float) -> dict[str, Any]:
    path = api.mdm("push-notifications", push_id)
    with busy("Waiting for the agent …"):
        return api.waited(path, seconds, is_push_over, f"push {push_id[:64]}")


def _finish(push: dict[str, Any], wait: float | None) -> None:
    emit(push, lambda shown: _show(shown, wait))
    if wait is not None:
        check(push["status"], is_push_over(push), "", wait)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise usage("--data: must be a JSON object, or @FILE with one")
    return value


def _show(push: dict[str, Any], wait: float | None) -> None:
    pairs(
        {
            "push": push["id"],
            "status": push["status"],
            "provider": push["provider"],
            "sent": ago(push["createdAt"]),
            "valid until": None if is_push_over(push) else ago(push["expiresAt"]),
        }
    )
    show_history(push.get("progress", {}).get("history", []))
    if wait is None and not is_push_over(push):
        note(f"Wait for the agent: heliograph push get {push['id']} --wait 30")
