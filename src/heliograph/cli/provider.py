"""`heliograph provider`: accounts at push providers."""

import json
import re
from typing import Annotated, Any

import typer

from heliograph.cli.exits import ExitCode, Failure, of_error, usage
from heliograph.cli.operator import Json, call_on, call_verb
from heliograph.cli.options import Setup, literal_or_source, noun, read_source, spread
from heliograph.cli.output import ago, emit, pairs, say, table
from heliograph.domain.errors import InvalidInput

_MISSING = re.compile(r"config\.(\w+): is required")
_NO_LINE = ("Error", "Timeout", "no answer within 10 s")
app = noun("Accounts at push providers.")

AccountId = Annotated[str, typer.Argument(metavar="ID", help="The account's id.")]


def _missing(account: str) -> str:
    return f"no account has the id {account[:64]!r}: heliograph provider list"


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
    try:
        account = call_verb(where, "provider.add", body)
    except (Failure, InvalidInput) as error:
        raise _with_option(error) from None
    emit(account, _show)


def _with_option(error: Failure | InvalidInput) -> Failure:
    """A setting that is missing, with the option that gives it."""
    failure = error if isinstance(error, Failure) else of_error(error)
    options = " ".join(f"--set {name}=@FILE" for name in _MISSING.findall(failure.message))
    message = f"{failure.message}. Give it with {options}" if options else failure.message
    return Failure(failure.exit_code, message, code=failure.code, data=failure.data)


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
def get(where: Setup, account: AccountId) -> None:
    """One account: its state, when its credentials end, and which settings it has."""
    emit(call_on(where, "provider.get", {"id": account}, _missing(account)), _show)


@app.command()
@spread
def update(
    where: Setup,
    account: AccountId,
    name: Annotated[str | None, typer.Option(help="What it is for, for people.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A setting to replace; NAME=@FILE and NAME=@- read its value."
        ),
    ] = None,
    config: Annotated[str | None, typer.Option(metavar="JSON", help="Settings to replace as one JSON object.")] = None,
    config_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="The same from a file; - = standard input.")
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="Use it where a device names no account.")] = False,
) -> None:
    """Rename an account, or renew settings and credentials. What is left out stays as it is.

    heliograph provider update ID --set apiKey=@new.key
    """
    given = _config(settings or [], config, config_file)
    body: Json = {"id": account, "name": name, "config": given or None, "default": default or None}
    said = {member: value for member, value in body.items() if value is not None}
    emit(call_on(where, "provider.update", said, _missing(account)), _show)


@app.command()
@spread
def disable(where: Setup, account: AccountId) -> None:
    """Let no push go through an account, until it is enabled again. What waits goes another way, or is rejected."""
    emit(call_on(where, "provider.update", {"id": account, "disabled": True}, _missing(account)), _show)


@app.command()
@spread
def enable(where: Setup, account: AccountId) -> None:
    """Let pushes go through a disabled account again."""
    emit(call_on(where, "provider.update", {"id": account, "disabled": False}, _missing(account)), _show)


@app.command()
@spread
def test(where: Setup, account: AccountId) -> None:
    """Ask the provider whether it takes the account. Exit code 1 when it does not."""
    answer = call_on(where, "provider.test", {"id": account}, _missing(account))
    emit(answer, _show_test)
    if not answer["works"]:
        raise Failure(ExitCode.REFUSED, f"the account does not work: {_why_not(str(answer['detail']))}")


def _row(account: dict[str, Any]) -> tuple[Any, ...]:
    return account["provider"], account["name"], "yes" if account["default"] else "", _state(account), account["id"]


def _state(account: dict[str, Any]) -> str:
    if account["disabled"]:
        return "disabled"
    if account["fault"] is not None:
        return f"out of order: {account['fault']}"
    return f"in use, credentials end {ago(account['expiresAt'])}" if account["expiresAt"] else "in use"


def _why_not(detail: str) -> str:
    if not detail.endswith(_NO_LINE):
        return detail or "the provider refused it"
    return (
        f"the server cannot reach the provider ({detail}). Does the server's machine get there (name resolution, "
        "proxy, firewall), and are the account's addresses right (heliograph provider get)?"
    )


def _plain(value: Any) -> Any:
    """A setting as `--set` takes it."""
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _show(account: dict[str, Any]) -> None:
    pairs(
        {
            "id": account["id"],
            "provider": account["provider"],
            "name": account["name"],
            "default": "yes" if account["default"] else "no",
            "state": _state(account),
            "since": account["faultAt"],
            "credentials end": account["expiresAt"],
            "settings": ", ".join(account.get("settings", [])) or None,
            **{name: _plain(value) for name, value in account.get("addresses", {}).items()},
        }
    )


def _show_test(answer: dict[str, Any]) -> None:
    if answer["works"]:
        say(f"It works: {answer['detail']}." if answer["detail"] else "It works.")
