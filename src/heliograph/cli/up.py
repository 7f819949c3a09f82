"""`heliograph up`: everything in one process, for a laptop, a trial, or a small installation."""

import asyncio
import ipaddress
import os
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import uvloop

from heliograph.bootstrap import (
    Node,
    StartRefused,
    base_url,
    collect_garbage_rarely,
    listen,
    open_node,
    run_api,
    run_dispatcher,
    with_google_at,
)
from heliograph.cli import demo as fleet
from heliograph.cli import ready_file as ready
from heliograph.cli.exits import ExitCode, Failure, usage
from heliograph.cli.lab_credentials import google_settings
from heliograph.cli.lab_process import Lab, run_lab
from heliograph.cli.node import read_settings, start_logging
from heliograph.cli.private_files import write_private
from heliograph.cli.signals import until_signalled
from heliograph.settings import Settings

# The emulators are next door and their quota does not bind: look often, give up waiting early.
_DEMO: dict[str, Any] = {
    "look_up_cap_s": 2.0,
    "look_ups_per_minute": 6000,
    "requests_per_minute": 0,
    "amapi_requests_per_minute": 0,
    "organization_requests_per_minute": 0,
    "uncertainty_window_s": 8.0,
    "esim_pause_s": 0.0,
}


def up(
    demo: Annotated[bool, typer.Option("--demo", help="Also start the lab with a fleet of simulated devices.")] = False,
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 = any.  [default: 8080]")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept.  [default: ./var]")] = None,
    database: Annotated[
        str | None, typer.Option(help="postgresql://… instead of SQLite in the data directory.")
    ] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Written, as JSON, once everything works.")] = None,
) -> None:
    """Serve API, dispatcher and agent gateway in one process. Ctrl-C ends it."""
    given: dict[str, Any] = {"host": host, "port": port, "data_dir": data_dir, "database": database}
    settings = read_settings(**{**(_DEMO if demo else {}), **given})
    if demo and not _is_loopback(settings.host):
        raise usage(f"--demo hands out its keys and therefore listens on loopback only, not on {settings.host}")
    ready.forget(ready_file)
    start_logging(settings)
    try:
        uvloop.run(until_signalled(_serve(settings, demo, ready_file)))
    except StartRefused as refused:
        raise Failure(ExitCode.REFUSED, str(refused)) from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _serve(settings: Settings, with_demo: bool, ready_file: Path | None) -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(open_node(settings))
        await (_serve_demo if with_demo else _serve_alone)(stack, node, ready_file)


async def _serve_alone(stack: AsyncExitStack, node: Node, ready_file: Path | None) -> None:
    listener = _listener(stack, node.settings, None)
    url = base_url(listener)
    await _run(stack, node, listener)
    _announce(url, node.settings)
    if ready_file is not None:
        document = {"baseUrl": url, "metricsUrl": f"{url}/metrics", "pids": {"server": os.getpid()}}
        write_private(ready_file, msgspec.json.encode(document))
    await asyncio.Event().wait()


async def _serve_demo(stack: AsyncExitStack, node: Node, ready_file: Path | None) -> None:
    plan = await _plan(node)
    listener = _listener(stack, node.settings, plan)
    _say("Starting the lab: emulators of Google and Pushy, and ten devices …")
    fleet.save_plan(node.settings.data_dir, plan)
    lab = await stack.enter_async_context(run_lab(node.settings.data_dir / "lab"))
    node = await stack.enter_async_context(with_google_at(node, beside(lab, node.settings)))
    dispatching = await _run(stack, node, listener)
    # Ended before the API: agents never see the server go, nor the dispatcher the emulators.
    stack.push_async_callback(lab.stop)
    stack.push_async_exit(dispatching)
    await fleet.ensure_records(node, plan, lab)
    # Built now, not when the first of the printed calls needs it.
    await node.services.channels.channel(plan.organization.id, plan.enterprise_id)
    await _start_demo(node, plan, lab, base_url(listener), ready_file)
    await _lab_ended(lab)


def _listener(stack: AsyncExitStack, settings: Settings, plan: fleet.DemoPlan | None) -> socket.socket:
    listener = listen(settings.host, _port(settings, plan))
    stack.callback(listener.close)
    return listener


async def _run(stack: AsyncExitStack, node: Node, listener: socket.socket) -> AsyncExitStack:
    """Start everything on `stack`; answers what ends the dispatcher, which may be ended earlier than its turn."""
    dispatching = await stack.enter_async_context(AsyncExitStack())
    dispatcher = await dispatching.enter_async_context(run_dispatcher(node))
    await stack.enter_async_context(run_api(node, listener, dispatcher))
    collect_garbage_rarely()
    return dispatching


def beside(lab: Lab, settings: Settings) -> Settings:
    """The settings of a server whose Google is this lab; what somebody has said of Google goes before it."""
    usual = google_settings(lab.amapi_url, lab.pubsub_url)
    return settings.model_copy(update={n: v for n, v in usual.items() if n not in settings.model_fields_set})


def _port(settings: Settings, plan: fleet.DemoPlan | None) -> int:
    """The port that was asked for; else that of the last start, because printed calls and agents know it."""
    if settings.port and "port" in settings.model_fields_set:
        return settings.port
    return (plan.port if plan else 0) or settings.port


async def _plan(node: Node) -> fleet.DemoPlan:
    """The demo of an earlier start, or a new one, which does not move in with real organizations."""
    known = fleet.load_plan(node.settings.data_dir)
    if known is not None:
        return fleet.complete_plan(node, known)
    plan = fleet.make_plan(node)
    mine = {plan.organization.slug, plan.other_organization.slug}  # left by a demo whose plan is lost: told further on
    others = [o.slug for o in await node.services.store.directory.organizations() if o.slug not in mine]
    if others:
        raise StartRefused(
            f"this database has organizations that are no demo's ({', '.join(others[:5])}), and a demo hands out its "
            "keys: start it with another --data-dir, or without --demo"
        )
    return plan


async def _start_demo(node: Node, plan: fleet.DemoPlan, lab: Lab, url: str, ready_file: Path | None) -> None:
    plan.base_url, plan.api_key, plan.lab_url = url, plan.organization.api_key, lab.control_url
    plan.port = int(url.rsplit(":", 1)[1])
    online = await fleet.start_fleet(node, plan, lab, url)
    fleet.save_plan(node.settings.data_dir, plan)
    if ready_file is not None:
        document = msgspec.json.encode(fleet.ready_document(plan, lab, url, online))
        write_private(ready_file, msgspec.json.format(document, indent=1) + b"\n")
    _say(f"\nHeliograph is up at {url}    API reference: {url}/docs\nKey of organization demo: {plan.api_key}\n")
    for number, (caption, call) in enumerate(fleet.printed_calls(plan, url), 1):
        _say(f"# {number}. {caption}\n{call}\n")
    _say("Paste them one by one or all at once. Ctrl-C ends everything; the next start finds it as it was.")


async def _lab_ended(lab: Lab) -> None:
    code = await lab.process.wait()
    raise StartRefused(f"the lab ended by itself (exit code {code})")


def _announce(url: str, settings: Settings) -> None:
    _say(f"Heliograph is up at {url}    API reference: {url}/docs")
    _say(f"First organization and key:  heliograph org create NAME --data-dir {settings.data_dir}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
