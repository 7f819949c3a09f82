"""`heliograph serve`: the parts of a larger installation, one process each."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.exits import ExitCode, Failure, usage
from heliograph.cli.options import noun, spread

if TYPE_CHECKING:
    from heliograph.settings import Settings

app = noun(
    "The parts of a larger installation, one process each. All of them work on one PostgreSQL; SQLite admits a single "
    "process: serve all, or heliograph up. Each option is also a variable: HELIOGRAPH_PORT, HELIOGRAPH_DATABASE …"
)


@dataclass(frozen=True, slots=True)
class Store:
    """What every part needs to know."""

    data_dir: Annotated[Path | None, typer.Option(help="Where files are kept, the secret key among them (./var).")] = (
        None
    )
    database: Annotated[str | None, typer.Option(help="postgresql://… that all parts share.")] = None
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None
    log_format: Annotated[str | None, typer.Option(help="auto (text on a terminal), json or text.")] = None


@dataclass(frozen=True, slots=True)
class Listen:
    """What a part that listens needs."""

    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None
    port: Annotated[int | None, typer.Option(help="Port to listen on (8080); 0 = any.")] = None
    trusted_proxies: Annotated[
        str | None, typer.Option(help="Proxies whose X-Forwarded-For is believed: addresses, with commas.")
    ] = None
    requests_per_minute: Annotated[int | None, typer.Option(help="Per API key (6000); 0 = no limit.")] = None
    ready_file: Annotated[Path | None, typer.Option(help="Written, as JSON, once it listens.")] = None


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What a part that dispatches needs."""

    dispatch_concurrency: Annotated[
        int | None, typer.Option(help="Effects carried out at a time, without those that wait (256).")
    ] = None
    amapi_url: Annotated[str | None, typer.Option(help="Address of the Android Management API.")] = None


@app.command("all")
@spread
def serve_all(store: Store, listen: Listen, dispatch: Dispatch) -> None:
    """API, agent gateway and dispatcher in one process."""
    _serve(True, True, asdict(store) | asdict(listen) | asdict(dispatch))


@app.command()
@spread
def api(store: Store, listen: Listen) -> None:
    """The HTTP API, which accepts commands and pushes; a dispatcher beside it sends them."""
    _serve(True, False, asdict(store) | asdict(listen))


@app.command()
@spread
def gateway(store: Store, listen: Listen) -> None:
    """The line to the agents. It answers the API too, so a balancer may send it agents only."""
    _serve(True, False, asdict(store) | asdict(listen))


@app.command()
@spread
def dispatcher(store: Store, dispatch: Dispatch) -> None:
    """Sends what was accepted, and sweeps up what has expired."""
    _serve(False, True, asdict(store) | asdict(dispatch))


def _serve(with_api: bool, with_dispatcher: bool, given: dict[str, Any]) -> None:
    import uvloop

    from heliograph.bootstrap import StartRefused
    from heliograph.cli.node import read_settings, start_logging
    from heliograph.cli.ready_file import forget
    from heliograph.cli.signals import until_signalled

    ready_file: Path | None = given.pop("ready_file", None)
    settings = read_settings(**given)
    if settings.database is None and not (with_api and with_dispatcher):
        raise usage(
            "SQLite admits one process, which then has to do everything: heliograph serve all. "
            "Parts of their own share a PostgreSQL: --database"
        )
    forget(ready_file)
    start_logging(settings)
    try:
        uvloop.run(until_signalled(_run(settings, with_api, with_dispatcher, ready_file)))
    except StartRefused as refused:
        raise Failure(ExitCode.REFUSED, str(refused)) from None


async def _run(settings: "Settings", with_api: bool, with_dispatcher: bool, ready_file: Path | None) -> None:
    import asyncio

    from heliograph.bootstrap import collect_garbage_rarely

    async with _parts(settings, with_api, with_dispatcher) as url:
        collect_garbage_rarely()
        sys.stdout.write(f"Heliograph is up{f' at {url}' if url else ''} (process {os.getpid()})\n")
        sys.stdout.flush()
        if ready_file is not None and url:
            _write_ready(ready_file, url)
        await asyncio.Event().wait()


@asynccontextmanager
async def _parts(settings: "Settings", with_api: bool, with_dispatcher: bool) -> AsyncIterator[str]:
    """The address under which it listens; empty where it does not."""
    from heliograph.bootstrap import base_url, listen, open_node, run_api, run_dispatcher

    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(open_node(settings))
        dispatcher = await stack.enter_async_context(run_dispatcher(node)) if with_dispatcher else None
        if not with_api:
            yield ""
            return
        listener = listen(settings.host, settings.port)
        stack.callback(listener.close)
        await stack.enter_async_context(run_api(node, listener, dispatcher))
        yield base_url(listener)


def _write_ready(path: Path, url: str) -> None:
    import json

    from heliograph.cli.private_files import write_private

    said = {"baseUrl": url, "metricsUrl": f"{url}/metrics", "pids": {"server": os.getpid()}}
    write_private(path, json.dumps(said).encode())
