"""`heliograph agent`: the reference device agent, which runs on the device."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from heliograph.cli.options import noun

app = noun("The reference device agent.")


@app.command()
def run(
    server: Annotated[str, typer.Option(help="Address of the server, for example https://mdm.example.")],
    secret_file: Annotated[
        Path | None, typer.Option(help="File with the device's secret; without it $HELIOGRAPH_AGENT_SECRET.")
    ] = None,
    name: Annotated[str, typer.Option("--app", help="The app that this agent speaks for.")] = "mdmAgent",
    state_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where the journal is kept, one directory for each device; by default heliograph-agent in "
            "$XDG_STATE_HOME or ~/.local/state."
        ),
    ] = None,
    line: Annotated[
        Literal["websocket", "poll", "mqtt", "none"], typer.Option(help="How the server reaches it.")
    ] = "websocket",
    broker: Annotated[
        str | None,
        typer.Option(help="With --line mqtt: mqtts://host/TOPIC-PREFIX; $HELIOGRAPH_AGENT_BROKER_PASSWORD with it."),
    ] = None,
    ca_file: Annotated[Path | None, typer.Option(help="Authorities to trust instead of the system's (PEM).")] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Print and note commands instead of acting on a device.")
    ] = False,
) -> None:
    """Run the agent of one device until Ctrl-C. The secret is what `heliograph device add` printed."""
    from heliograph_agent.cli import main

    arguments = ["--server", server, "--app", name, "--line", line]
    arguments += ["--state-dir", str(state_dir)] if state_dir else []
    arguments += ["--secret-file", str(secret_file)] if secret_file else []
    arguments += ["--broker", broker] if broker else []
    arguments += ["--ca-file", str(ca_file)] if ca_file else []
    arguments += ["--simulate"] if simulate else []
    raise typer.Exit(main(arguments))
