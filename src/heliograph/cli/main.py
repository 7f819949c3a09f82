"""The command line: `heliograph NOUN VERB`. A noun's file is imported when the noun is used, so `--help` stays fast."""

import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from heliograph.cli.exits import TABLE, ExitCode, Failure, of_error
from heliograph.cli.output import Mode, report
from heliograph.domain.errors import HeliographError

RUNNING = "Run it"
SETTING_UP = "Set it up"
USING = "Use it"
NOUNS = {
    "up": (RUNNING, "Everything in one process; with --demo also a simulated fleet."),
    "serve": (RUNNING, "The parts of a larger installation: api, dispatcher, gateway, or all."),
    "db": (RUNNING, "The database: migrations, and a lost secret key."),
    "doctor": (RUNNING, "Test every step of an installation, and say what to do where one fails."),
    "lab": (RUNNING, "The lab: emulated providers and simulated devices."),
    "agent": (RUNNING, "The reference device agent."),
    "org": (SETTING_UP, "Organizations and the features of their plans."),
    "key": (SETTING_UP, "API keys."),
    "enterprise": (SETTING_UP, "Google enterprises whose Android devices are managed."),
    "provider": (SETTING_UP, "Accounts at push providers."),
    "device": (USING, "Devices: add, import, list, look at."),
    "command": (USING, "Commands: send, follow, cancel."),
    "push": (USING, "Push notifications: send, and see what became of them."),
}
_EXITS = "Exit codes:\n" + "\n".join(f"{int(code):>3}  {meaning}" for code, meaning in TABLE.items())


class Nouns(TyperGroup):
    """Holds a placeholder for each noun, enough for help and completion, and loads the one that is used."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The noun that the arguments begin with."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else _load(name), rest


def _load(name: str) -> Any:
    module = import_module(f"heliograph.cli.{name}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown")  # "[default: 8080]" is no markup there
        app.command(name)(getattr(module, name))
    command = typer.main.get_command(app)
    command.name = name
    return command


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"heliograph {version('heliograph')}\n")
        raise typer.Exit


app = typer.Typer(cls=Nouns, epilog=_EXITS, no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Heliograph: commands and push notifications for fleets of managed devices."""


for _noun, (_panel, _help) in NOUNS.items():
    app.command(_noun, help=_help, rich_help_panel=_panel)(lambda: None)


def whole() -> Any:
    """The command with every noun loaded, for whoever describes it."""
    command: Any = typer.main.get_command(app)
    command.commands = {name: _load(name) for name in NOUNS}
    return command


def run(arguments: list[str] | None = None) -> int:
    """Carry out a command line (the process's own by default); returns the exit code."""
    Mode.as_json = False
    try:
        code = typer.main.get_command(app).main(arguments, "heliograph", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except Failure as failure:
        return _failed(failure)
    except HeliographError as error:
        return _failed(of_error(error))
    except TyperException as error:
        Mode.as_json = Mode.as_json or "--json" in (sys.argv if arguments is None else arguments)
        return _misused(error)
    except (typer.Abort, EOFError):
        return _failed(Failure(ExitCode.REFUSED, "nothing was done"))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is still buffered must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.REFUSED


def _failed(failure: Failure) -> int:
    report(failure)
    return failure.exit_code


def _misused(error: TyperException) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        return ExitCode.USAGE  # the help has been shown
    hint = f" (see: {context.command_path} --help)" if context is not None else ""
    return _failed(Failure(ExitCode.USAGE, error.format_message().rstrip(".") + hint))
