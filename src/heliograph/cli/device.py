"""`heliograph device`: devices."""

import asyncio
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import typer

from heliograph.cli.exits import ExitCode, Failure
from heliograph.cli.operator import Json, Verbs, call_on, call_verb, run_verbs
from heliograph.cli.options import Page, Remote, Setup, noun, read_source, spread
from heliograph.cli.output import ago, emit, note, pairs, table
from heliograph.cli.target import for_api
from heliograph.domain.errors import HeliographError

app = noun("Devices: add, import, list, look at.")
_BATCH = 50
Platform = Literal["android", "aosp", "ios", "macos", "windows", "package"]
_SECRET_NOTE = "Give the agent its secret now: it is not shown again."  # noqa: S105 - a sentence


@dataclass(frozen=True, slots=True)
class Description:
    """What can be said of a device. Named as the set-up verb names it."""

    name: Annotated[str | None, typer.Option(help="Its name for people; the serial number without it.")] = None
    serial_number: Annotated[str | None, typer.Option("--serial", help="Serial number.")] = None
    imei: Annotated[str | None, typer.Option(help="IMEI.")] = None
    enrollment_specific_id: Annotated[str | None, typer.Option("--enrollment-id", help="Enrollment-specific id.")] = (
        None
    )
    enterprise: Annotated[str | None, typer.Option(help="Id or name of its enterprise, if there are several.")] = None
    external_name: Annotated[str | None, typer.Option(help="Its name at Google: enterprises/…/devices/….")] = None
    state: Annotated[str | None, typer.Option(help="ACTIVE without it.")] = None
    management_mode: Annotated[str | None, typer.Option(help="DEVICE_OWNER or PROFILE_OWNER.")] = None
    ownership: Annotated[str | None, typer.Option(help="COMPANY_OWNED or PERSONALLY_OWNED.")] = None
    api_level: Annotated[int | None, typer.Option(help="Its Android API level, such as 34.")] = None
    provider_account: Annotated[str | None, typer.Option(help="Id of the push account that reaches it.")] = None


@app.command()
@spread
def add(
    where: Setup,
    platform: Annotated[Platform, typer.Option(help="What it is.")],
    about: Description,
) -> None:
    """Add a device. The secret of its agent is shown now and never again."""
    given = {_camel(name): value for name, value in asdict(about).items() if value is not None}
    emit(call_verb(where, "device.add", {"platform": platform, **given}), _show_added)


@app.command("import")
@spread
def import_devices(
    where: Setup,
    file: Annotated[str, typer.Argument(help="JSON list, JSON lines or CSV; - = standard input.")],
) -> None:
    """Add many devices. Members and columns are named as in: platform, name, serialNumber, imei, externalName …

    The answer holds the secret of each device's agent; it is shown now and never again. Exit code 1 when a line was
    refused; the others are there then. Ctrl-C ends it, and tells what was added until then. A serial number or name at
    Google that is known already is refused, so a list can be imported again.
    """
    from heliograph.cli.importing import read_devices

    devices = read_devices(read_source(file, "FILE"))
    items, code = run_verbs(where, lambda verbs: _import(verbs, devices))
    emit({"items": items}, _show_imported)
    refused = sum("error" in item for item in items)
    if refused:
        raise Failure(code, f"{refused} of {len(devices)} devices were not added")


async def _import(verbs: Verbs, devices: list[Json]) -> tuple[list[Json], ExitCode]:
    """In batches, so that it can be followed. What ends it loses nothing of what went before: no secret is shown twice.

    With what became of each device goes the exit code for those that were not added.
    """
    from heliograph.cli.importing import counted

    items: list[Json] = []
    code = ExitCode.REFUSED
    try:
        with counted("Importing devices", len(devices)) as advance:
            for begin in range(0, len(devices), _BATCH):
                batch = devices[begin : begin + _BATCH]
                items += (await verbs.call("device.import", {"devices": batch}))["items"]
                advance(len(batch))
    except (Failure, HeliographError, KeyboardInterrupt, asyncio.CancelledError) as error:
        if not items:
            raise
        why: object = error
        if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
            code, why = ExitCode.INTERRUPTED, "interrupted"
        begun = devices[len(items) :][:_BATCH]
        untried = devices[len(items) + len(begun) :]
        items += [{"error": f"broke off, look whether it is there: {why}"} for _ in begun]
        items += [{"error": "not tried"} for _ in untried]
    return [{**item, "index": index} for index, item in enumerate(items)], code


@app.command("list")
@spread
def list_devices(where: Remote, page: Page) -> None:
    """Devices of all platforms."""
    from heliograph.cli.client import open_api

    with open_api(for_api(where)) as api:
        data = api.get(api.mdm("devices"), **page.query())
    emit(data, _show_list)


@app.command()
@spread
def get(where: Remote, device: Annotated[str, typer.Argument(help="Id, serial number, IMEI or name.")]) -> None:
    """One device."""
    from heliograph.cli.client import open_api
    from heliograph.cli.finding import find_device

    with open_api(for_api(where)) as api:
        found = find_device(api, device)
        data = api.get(api.mdm("devices", found.all_platform_id), str(found))
    emit(data, _show)


@app.command()
@spread
def secret(where: Setup, device_id: Annotated[str, typer.Argument(metavar="ID", help="The device's id.")]) -> None:
    """Give a device's agent a new secret. The old one opens nothing any more."""
    missing = f"no device has the id {device_id[:64]!r}: heliograph device list"
    emit(call_on(where, "device.secret", {"id": device_id}, missing), _show_added)


@app.command()
@spread
def pull(where: Setup, enterprise: Annotated[str, typer.Argument(help="Id or name of the enterprise.")]) -> None:
    """Take over the devices of a connected Google enterprise; known ones are brought up to date."""
    answer = call_verb(where, "device.pull", {"enterprise": enterprise})
    emit(answer, lambda data: _show_table(data["items"], "Google knows no device of this enterprise."))


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _show_added(device: dict[str, Any]) -> None:
    pairs(
        {
            "id": device.get("allPlatformId", device["id"]),
            "platform's id": device["id"] if "allPlatformId" in device else None,
            "name": device.get("name"),
            "platform": device.get("platform"),
            "agent secret": device["agentSecret"],
        }
    )
    note(_SECRET_NOTE)


def _show_imported(answer: dict[str, Any]) -> None:
    rows = [
        (i["index"] + 1, i.get("name"), i.get("id"), i.get("agentSecret") or f"not added: {i['error']}")
        for i in answer["items"]
    ]
    table(("NO.", "NAME", "ID", "AGENT SECRET"), rows, "There is no device in there.")
    if any("agentSecret" in item for item in answer["items"]):
        note(_SECRET_NOTE)


def _show_table(items: list[dict[str, Any]], nothing: str) -> None:
    rows = [(i["name"], i["platform"], i["serialNumber"], i["externalName"], i["id"]) for i in items]
    table(("NAME", "PLATFORM", "SERIAL", "AT GOOGLE", "ID"), rows, nothing)


def _show_list(page: dict[str, Any]) -> None:
    rows = [
        (
            d["displayName"],
            d["summary"]["os"],
            d["summary"].get("serialNumber"),
            d["state"],
            ago(d["createdAt"]),
            d["id"],
        )
        for d in page["items"]
    ]
    table(
        ("NAME", "PLATFORM", "SERIAL", "STATE", "ADDED", "ID"), rows, "There is no device here: heliograph device add"
    )
    if page["totalDocs"] > len(rows):
        note(f"Page {page['page']} of {page['totalPages']}, {page['totalDocs']} devices in all: --page, --limit")


def _show(device: dict[str, Any]) -> None:
    summary = device["summary"]
    own = next((device[m] for m in ("emmDevice", "aosDevice", "admDevice", "winDevice") if m in device), None)
    pairs(
        {
            "name": device["displayName"],
            "platform": summary["os"],
            "state": device["state"],
            "serial number": summary.get("serialNumber"),
            "IMEI": summary.get("imei"),
            "management": summary.get("managementMode"),
            "id": device["id"],
            "platform's id": own,
            "added": ago(device["createdAt"]),
            "changed": ago(device["updatedAt"]),
        }
    )
