"""`heliograph enterprise`: Google enterprises whose Android devices are managed."""

from typing import Annotated, Any

import typer

from heliograph.cli.operator import Json, call_verb
from heliograph.cli.options import Setup, noun, read_source, spread
from heliograph.cli.output import emit, pairs, table

app = noun("Google enterprises whose Android devices are managed.")


@app.command()
@spread
def add(
    where: Setup,
    name: Annotated[str, typer.Argument(help="Its name at Google: enterprises/LC0123abcd.")],
    credentials: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Key file (JSON) of a service account that manages it; - = standard input."),
    ] = None,
    api_url: Annotated[str | None, typer.Option(help="Another address than Google's own.")] = None,
) -> None:
    """Connect a Google enterprise, or renew the credentials of one. What the file says is stored encrypted."""
    body: Json = {"name": name}
    if credentials is not None:
        body["credentials"] = read_source(credentials, "--credentials")
    if api_url is not None:
        body["apiUrl"] = api_url
    emit(call_verb(where, "enterprise.add", body), _show)


@app.command("list")
@spread
def list_enterprises(where: Setup) -> None:
    """The connected enterprises; the one called aosp is the organization's own."""
    emit(
        call_verb(where, "enterprise.list", {}),
        lambda answer: table(
            ("NAME", "PLATFORM", "CREDENTIALS", "ADDRESS", "ID"),
            [_row(enterprise) for enterprise in answer["items"]],
            "There is none yet: heliograph enterprise add",
        ),
    )


def _row(enterprise: dict[str, Any]) -> tuple[Any, ...]:
    wanted = "missing" if enterprise["platform"] == "android" else ""
    credentials = "stored" if enterprise["hasCredentials"] else wanted
    return enterprise["name"], enterprise["platform"], credentials, enterprise["apiUrl"], enterprise["id"]


def _show(enterprise: dict[str, Any]) -> None:
    pairs(
        {
            "id": enterprise["id"],
            "name": enterprise["name"],
            "credentials": "stored" if enterprise["hasCredentials"] else "missing",
            "address": enterprise["apiUrl"],
        }
    )
