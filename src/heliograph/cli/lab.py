"""`heliograph lab`: emulated providers and simulated devices, for trying everything without a real one."""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from heliograph.cli import starting
from heliograph.cli.exits import ExitCode, Failure, usage
from heliograph.cli.lab_credentials import NotUp, exports, once_up, write_key_file
from heliograph.cli.options import Json, literal_or_source, noun, spread
from heliograph.cli.output import as_json, clean, emit, local_time, pairs, say, table
from heliograph.cli.ready_file import see_that_it_can_be_written
from heliograph.cli.target import demo_plan

app = noun("The lab: emulated providers and simulated devices.")
devices = noun("The simulated devices.")
faults = noun("What goes wrong at the emulated providers.")
clock = noun("The time at the emulated providers.")
settings = noun("What the emulated providers do where the real ones are undocumented.")
app.add_typer(devices, name="device")
app.add_typer(faults, name="faults")
app.add_typer(clock, name="clock")
app.add_typer(settings, name="settings")
_STATE = "lab"
_READY = "ready.json"
Name = Annotated[str, typer.Argument(metavar="DEVICE", help="Name or id.")]


@dataclass(frozen=True, slots=True)
class Where:
    """Which lab."""

    data_dir: Annotated[Path | None, typer.Option(help="Data directory of the server or lab; ./var without it.")] = None
    lab_url: Annotated[str | None, typer.Option(help="Address of its control API. (Also: HELIOGRAPH_LAB_URL)")] = None
    as_json: Json = False


@dataclass
class Ports:
    """The port of each service."""

    control_port: Annotated[int, typer.Option(help="0 = that of the last start, or any.")] = 0
    amapi_port: Annotated[int, typer.Option(help="0 = that of the last start, or any.")] = 0
    pushy_port: Annotated[int, typer.Option(help="0 = that of the last start, or any.")] = 0
    pubsub_port: Annotated[int, typer.Option(help="0 = that of the last start, or any.")] = 0
    apns_port: Annotated[int, typer.Option(help="0 = that of the last start, or any.")] = 0
    fcm_port: Annotated[int, typer.Option(help="0 = that of the last start, or any.")] = 0
    webpush_port: Annotated[int, typer.Option(help="0 = that of the last start, or any.")] = 0
    wns_port: Annotated[int, typer.Option(help="0 = that of the last start, or any.")] = 0


@app.command()
@spread
def up(
    ports: Ports,
    data_dir: Annotated[Path, typer.Option(help="The lab keeps its state in the folder `lab` in there.")] = Path("var"),
    ready_file: Annotated[Path | None, typer.Option(help="Written, as JSON, once it listens.")] = None,
) -> None:
    """Start the emulators without a server, for code of your own. Ctrl-C ends it."""
    see_that_it_can_be_written(ready_file)
    state = data_dir / _STATE
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        state.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise usage(f"--data-dir: {state} cannot be made: {error.strerror}") from None
    if not os.access(state, os.W_OK | os.X_OK):
        raise usage(f"--data-dir: {state} cannot be written by you")
    arguments = ["--announce", "--state-dir", str(state), "--ready-file", str(ready_file or state / _READY)]
    if ready_file is None:  # else nobody finds it by its directory, nor need wait for it
        starting.hold(state)
    for name, port in asdict(ports).items():
        arguments += [f"--{name.replace('_', '-')}", str(port)]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "heliograph_lab", *arguments])  # noqa: S606


@devices.command("list")
@spread
def list_devices(where: Where) -> None:
    """The simulated devices as they are now."""
    emit(_call(where, "GET", "/devices"), _show_devices)


@devices.command("set")
@spread
def set_device(
    where: Where,
    device: Name,
    online: Annotated[bool | None, typer.Option("--online/--offline", help="Connected or not.")] = None,
    latency: Annotated[int | None, typer.Option(metavar="MS", help="How late it answers.")] = None,
    outcome: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help='How commands end there: {"result":"ok|error|never","errorCode":…,"cancel":…}.'
        ),
    ] = None,
) -> None:
    """Change how a device behaves; what is not named stays."""
    given = {
        "online": online,
        "latencyMs": latency,
        "outcome": None if outcome is None else _json(outcome, "--outcome"),
    }
    patch = {name: value for name, value in given.items() if value is not None}
    if not patch:
        raise usage("say what to change: --online, --offline, --latency MS or --outcome JSON")
    answer = _call(where, "PUT", f"/devices/{_device_id(where, device)}", patch)
    emit(answer, lambda shown: _show_devices({"items": [shown]}))


@devices.command()
@spread
def enroll(
    where: Where,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="The value of an enrollment token of the emulator.")],
    name: Annotated[str | None, typer.Option(help="How to call it.")] = None,
    serial: Annotated[str | None, typer.Option(help="One that is known: that phone, reset, comes in again.")] = None,
    api_level: Annotated[int | None, typer.Option(help="Of its Android.")] = None,
    personal: Annotated[bool, typer.Option("--personal", help="Owned by its user.")] = False,
    online: Annotated[bool, typer.Option("--online/--offline", help="Connected or not.")] = True,
) -> None:
    """Let a new Android device come in at the emulated Google."""
    given: dict[str, Any] = {"name": name, "serialNumber": serial, "apiLevel": api_level}
    body = {"enrollmentToken": token, "online": online} | {k: v for k, v in given.items() if v is not None}
    if personal:
        body["ownership"] = "PERSONALLY_OWNED"
    answer = _call(where, "POST", "/devices", body)
    emit(answer, lambda shown: pairs({"device": shown["deviceId"], "at Google": shown["amapiName"]}))


@devices.command("remove")
@spread
def remove_device(where: Where, device: Name) -> None:
    """Take a simulated device away."""
    emit(_call(where, "DELETE", f"/devices/{_device_id(where, device)}"), lambda _: say("It is gone."))


@devices.command()
@spread
def journal(where: Where, device: Name) -> None:
    """What the device itself noted: received, acknowledged, executed, displayed."""
    answer = _call(where, "GET", f"/devices/{_device_id(where, device)}/journal")
    emit(answer, _show_journal)


@faults.command("get")
@spread
def get_faults(where: Where) -> None:
    """The rules in force."""
    emit(_call(where, "GET", "/faults"), _show_faults)


@faults.command("put")
@spread
def put_faults(
    where: Where,
    rules: Annotated[str, typer.Argument(metavar="JSON", help="The list of rules, or @FILE; it replaces all others.")],
) -> None:
    """Put rules in force, such as [{"service":"pushy","action":{"status":429,"retryAfter":2},"times":3}]."""
    emit(_call(where, "PUT", "/faults", _json(rules, "RULES")), _show_faults)


@faults.command("clear")
@spread
def clear_faults(where: Where) -> None:
    """Remove every rule."""
    emit(_call(where, "DELETE", "/faults"), _show_faults)


@clock.command()
@spread
def advance(where: Where, seconds: Annotated[float, typer.Argument(help="By how much.")]) -> None:
    """Move the emulators' time on; the server keeps its own."""
    emit(_call(where, "PUT", "/clock", {"advanceSeconds": seconds}), _show_clock)


@settings.command("get")
@spread
def get_settings(where: Where) -> None:
    """The settings in force."""
    emit(_call(where, "GET", "/settings"), _show_settings)


@settings.command("set")
@spread
def set_settings(
    where: Where,
    members: Annotated[
        str, typer.Argument(metavar="JSON", help='{"amapi":{"expiryCode":13}}, or @FILE; what is not named stays.')
    ],
) -> None:
    """Change settings; they stay through a restart."""
    emit(_call(where, "PUT", "/settings", _json(members, "SETTINGS")), _show_settings)


@settings.command("reset")
@spread
def reset_settings(where: Where) -> None:
    """Back to the defaults."""
    emit(_call(where, "DELETE", "/settings"), _show_settings)


@app.command()
@spread
def credentials(
    where: Where,
    file: Annotated[Path, typer.Argument(help="Written, for its owner only; a key of this lab that is there stays.")],
    project: Annotated[str, typer.Option(help="The Google Cloud project that it shall belong to.")] = "lab-project",
) -> None:
    """Make the key file of a service account that the lab takes, and say what leads a server to the lab.

    What is printed are commands for the shell: eval "$(heliograph lab credentials key.json)"

    A lab that is being started is waited for, as long as it lives. In another shell the same call sets the same again.
    """
    addresses = once_up(lambda: _call(where, "GET", "/addresses"), lambda: _is_starting(where))
    write_key_file(file, project, addresses["amapiUrl"])
    emit({"file": str(file), "project": project, **addresses}, lambda shown: say(exports(shown)))


@app.command()
@spread
def quota(where: Where) -> None:
    """What each Google project has asked for, and what was refused."""
    emit(_call(where, "GET", "/quota"), _show_quota)


def _named_url(where: Where) -> str | None:
    if where.lab_url and where.data_dir:
        raise usage("say either --lab-url or --data-dir: they are different ways")
    return where.lab_url or (None if where.data_dir else os.environ.get("HELIOGRAPH_LAB_URL"))


def _data_dir(where: Where) -> Path:
    return where.data_dir or Path(os.environ.get("HELIOGRAPH_DATA_DIR") or "var")


def _is_starting(where: Where) -> bool:
    """Whether a lab lives there; nobody can say of one that is known by its address only."""
    return not _named_url(where) and starting.lives(_data_dir(where) / _STATE)


def _control_url(where: Where) -> str:
    url = _named_url(where)
    if url:
        return url.rstrip("/")
    data_dir = _data_dir(where)
    plan = demo_plan(data_dir)
    if plan is not None and plan.get("labUrl"):
        return str(plan["labUrl"])
    try:
        return str(json.loads((data_dir / _STATE / _READY).read_bytes())["controlUrl"])
    except (OSError, ValueError, KeyError):
        missing = f"no lab is known in {data_dir}: give --lab-url, or start one: heliograph lab up"
        raise NotUp(ExitCode.USAGE, missing) from None


def _call(where: Where, method: str, path: str, body: Any = None) -> Any:
    import httpx2

    url = _control_url(where)
    try:
        with httpx2.Client(base_url=url, timeout=30, trust_env=False) as client:
            answer = client.request(method, path, **({} if body is None else {"json": body}))
        content = answer.json()
    except (httpx2.HTTPError, httpx2.InvalidURL):
        missing = f"cannot reach the lab at {url}: is it up (heliograph lab up, or up --demo)?"
        raise NotUp(ExitCode.UNREACHABLE, missing) from None
    except ValueError:
        raise Failure(ExitCode.UNREACHABLE, f"{url} does not answer like a lab: is --lab-url right?") from None
    if answer.status_code >= 400:
        exit_code = ExitCode.NOT_FOUND if answer.status_code == 404 else ExitCode.USAGE
        raise Failure(exit_code, str(content.get("error", answer.status_code)))
    return content


def _device_id(where: Where, text: str) -> str:
    known = _call(where, "GET", "/devices")["items"]
    fits = [d["deviceId"] for d in known if text in (d["deviceId"], d["name"])]
    if len(fits) != 1:
        names = ", ".join(str(d["name"]) for d in known[:20])
        raise Failure(ExitCode.NOT_FOUND, f"the lab has {len(fits) or 'no'} devices {text!r}; it has: {names}")
    return str(fits[0])


def _json(text: str, option: str) -> Any:
    try:
        return json.loads(literal_or_source(text, option))
    except ValueError:
        raise usage(f"{option}: must be JSON, or @FILE with it") from None


def _show_devices(answer: Any) -> None:
    rows = [
        (d["name"], "online" if d["online"] else "offline", d["provider"], d["latencyMs"], _outcome(d), d["deviceId"])
        for d in answer["items"]
    ]
    table(("NAME", "LINE", "PROVIDER", "LATENCY MS", "OUTCOME", "ID"), rows, "The lab has no devices.")


def _outcome(device: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in device["outcome"].items() if value is not None)


def _show_journal(answer: Any) -> None:
    rows = [(local_time(i.pop("at")), i.pop("event"), _rest(i)) for i in map(dict, answer["items"])]
    table(("AT", "EVENT", ""), rows, "The device has noted nothing yet.")


def _rest(item: dict[str, Any]) -> str:
    return "  ".join(f"{name}={value if isinstance(value, str) else as_json(value)}" for name, value in item.items())


def _show_faults(rules: Any) -> None:
    if not rules:
        say("Nothing goes wrong.")
    for rule in rules:
        say(clean(as_json(rule)))


def _show_settings(answer: Any) -> None:
    rows = [
        (service, name, clean(as_json(value))) for service, members in answer.items() for name, value in members.items()
    ]
    table(("SERVICE", "SETTING", "VALUE"), rows, "Nothing can be set.")


def _show_quota(answer: Any) -> None:
    limit = "no limit" if answer["limit"] is None else f"{answer['limit']} in {answer['windowSeconds']:g} s"
    pairs({"limit": limit, "window ends": answer["windowEnds"]})
    rows = [(p["project"], p["used"], p["accepted"], p["refused"]) for p in answer["projects"]]
    table(("PROJECT", "IN THIS WINDOW", "ACCEPTED", "REFUSED"), rows, "Nobody has asked for anything yet.")


def _show_clock(answer: Any) -> None:
    pairs({"now": answer["now"], "ahead by": f"{answer['offsetSeconds']:g} s"})
