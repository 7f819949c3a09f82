"""`heliograph provider`: accounts at push providers."""

import json
from typing import Annotated, Any

import typer

from heliograph.cli.exits import ExitCode, Failure, usage
from heliograph.cli.operator import Json, call_verb
from heliograph.cli.options import Setup, literal_or_source, noun, read_source, spread
from heliograph.cli.output import emit, pairs, say, table

app = noun("Accounts at push providers.")


@app.command()
@spread
def add(
    where: Setup,
    kind: Annotated[str, typer.Argument(help="Which provider: pushy …")],
    name: Annotated[str, typer.Option(help="What it is for, for people.")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A setting of the provider; NAME=@FILE and NAME=@- read its value."
        ),
    ] = None,
    config: Annotated[str | None, typer.Option(metavar="JSON", help="All settings as one JSON object.")] = None,
    config_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="The same from a file; - = standard input.")
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="Use it where a device names no account.")] = False,
) -> None:
    """Add an account at a push provider. The first of a kind is its default.

    Secrets on a command line can be seen by others on the machine, so let them come from a file:

    heliograph provider add pushy --set apiKey=@pushy.key
    """
    body = {"provider": kind, "name": name, "config": _config(settings or [], config, config_file), "default": default}
    emit(call_verb(where, "provider.add", body), _show)


def _config(settings: list[str], config: str | None, config_file: str | None) -> Json:
    if config is not None and config_file is not None:
        raise usage("say either --config or --config-file")
    given: Json = {}
    text = config if config_file is None else read_source(config_file, "--config-file")
    if text is not None:
        given = _object(text, "--config" if config_file is None else "--config-file")
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name or not equals:
            raise usage("--set: say NAME=VALUE or NAME=@FILE")
        given[name] = literal_or_source(value, f"--set {name}")
    return given


def _object(text: str, option: str) -> Json:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise usage(f"{option}: must be a JSON object")
    return value


@app.command("list")
@spread
def list_providers(where: Setup) -> None:
    """The accounts of an organization, without their secrets."""
    emit(
        call_verb(where, "provider.list", {}),
        lambda answer: table(
            ("PROVIDER", "NAME", "DEFAULT", "STATE", "ID"),
            [_row(account) for account in answer["items"]],
            "There is no account yet: heliograph provider add",
        ),
    )


@app.command()
@spread
def test(where: Setup, account: Annotated[str, typer.Argument(metavar="ID", help="The account's id.")]) -> None:
    """Ask the provider whether it knows us. Exit code 1 when it does not."""
    answer = call_verb(where, "provider.test", {"id": account})
    emit(answer, _show_test)
    if not answer["works"]:
        raise Failure(ExitCode.REFUSED, f"the account does not work: {answer['detail'] or 'the provider refused it'}")


def _row(account: dict[str, Any]) -> tuple[Any, ...]:
    state = "disabled" if account["disabled"] else "in use"
    return account["provider"], account["name"], "yes" if account["default"] else "", state, account["id"]


def _show(account: dict[str, Any]) -> None:
    pairs(
        {"id": account["id"], "provider": account["provider"], "name": account["name"], "default": account["default"]}
    )


def _show_test(answer: dict[str, Any]) -> None:
    if answer["works"]:
        say("It works.")
