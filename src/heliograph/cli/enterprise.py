"""`heliograph enterprise`: Google enterprises whose Android devices are managed."""

from typing import Annotated, Any

import typer

from heliograph.cli.enrollment import TokenOptions, present, token_body
from heliograph.cli.enterprise_connect import Wish, connect_enterprise
from heliograph.cli.operator import Json, call_verb
from heliograph.cli.options import Setup, noun, read_source, spread
from heliograph.cli.output import ago, emit, pairs, table
from heliograph.cli.qr import check_picture

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
    subscription: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where its notifications are pulled: projects/…/subscriptions/…"),
    ] = None,
    push_audience: Annotated[
        str | None,
        typer.Option(help="If they are pushed: the audience of their tokens (two while one is replaced)."),
    ] = None,
    push_email: Annotated[str | None, typer.Option(help="The service account that those tokens name.")] = None,
) -> None:
    """Connect a Google enterprise, or renew what is known of one. What the file says is stored encrypted.

    An option that is left out leaves things as they are; an empty text takes back what was said.
    """
    said: Json = {
        "apiUrl": api_url,
        "subscription": subscription,
        "pushAudience": push_audience,
        "pushEmail": push_email,
        "credentials": None if credentials is None else read_source(credentials, "--credentials"),
    }
    body: Json = {"name": name} | {member: value for member, value in said.items() if value is not None}
    emit(call_verb(where, "enterprise.add", body), _show)


@app.command()
@spread
def connect(
    where: Setup,
    wish: Wish,
    token: TokenOptions,
    name: Annotated[
        str | None,
        typer.Argument(help="One that exists at Google: enterprises/LC0123abcd. Without it, one is signed up."),
    ] = None,
    enroll: Annotated[bool, typer.Option("--enroll/--no-enroll", help="Also make an enrollment token.")] = True,
) -> None:
    """Lead from a key file to an enrolled device: check the key, sign up, have Google tell of results, show a QR code.

    Each step is named, and says what to do when it fails. Run it again then: it goes on where it was.
    """
    connect_enterprise(where, name, wish, enroll, token)


@app.command("token")
@spread
def create_token(
    where: Setup,
    token: TokenOptions,
    name: Annotated[str | None, typer.Argument(help="The enterprise, by id or name, if there are several.")] = None,
) -> None:
    """Make an enrollment token, and show its QR code: it lets devices into an enterprise."""
    check_picture(token.qr)
    body = token_body(token) | ({} if name is None else {"enterprise": name})
    answer = call_verb(where, "enrollmentToken.create", body)
    emit(answer, lambda _: None)
    present(answer, token.qr)


@app.command("tokens")
@spread
def list_tokens(where: Setup) -> None:
    """Enrollment tokens that were made here, newest first, without their values."""
    emit(
        call_verb(where, "enrollmentToken.list", {}),
        lambda answer: table(
            ("ADDED", "ENDS", "ADDITIONAL DATA", "USAGE", "ONCE", "AT GOOGLE"),
            [
                (
                    ago(item["createdAt"]),
                    ago(item["expiresAt"]),
                    item["additionalData"],
                    item["personalUsage"],
                    "once" if item["oneTimeOnly"] else "",
                    item["name"],
                )
                for item in answer["items"]
            ],
            "There is none yet: heliograph enterprise token",
        ),
    )


@app.command("list")
@spread
def list_enterprises(where: Setup) -> None:
    """The connected enterprises; the one called aosp is the organization's own."""
    emit(
        call_verb(where, "enterprise.list", {}),
        lambda answer: table(
            ("NAME", "PLATFORM", "CREDENTIALS", "NOTIFICATIONS", "LAST HEARD", "ADDRESS", "ID"),
            [_row(enterprise) for enterprise in answer["items"]],
            "There is none yet: heliograph enterprise connect",
        ),
    )


def _row(enterprise: dict[str, Any]) -> tuple[Any, ...]:
    wanted = "missing" if enterprise["platform"] == "android" else ""
    credentials = "stored" if enterprise["hasCredentials"] else wanted
    return (
        enterprise["name"],
        enterprise["platform"],
        credentials,
        _heard(enterprise) if enterprise["platform"] == "android" else "",
        ago(enterprise["heardAt"]),
        enterprise["apiUrl"],
        enterprise["id"],
    )


def _heard(enterprise: dict[str, Any]) -> str:
    ways = [way for way, member in (("pulled", "subscription"), ("pushed", "pushAudience")) if enterprise[member]]
    return ", ".join(ways) or "none: results come by asking"


def _show(enterprise: dict[str, Any]) -> None:
    pairs(
        {
            "id": enterprise["id"],
            "name": enterprise["name"],
            "credentials": "stored" if enterprise["hasCredentials"] else "missing",
            "notifications": _heard(enterprise),
            "address": enterprise["apiUrl"],
        }
    )
