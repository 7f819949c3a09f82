"""Enrollment tokens on the command line."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from heliograph.cli.exits import ExitCode, Failure
from heliograph.cli.operator import Json
from heliograph.cli.options import literal_or_source, seconds
from heliograph.cli.output import ago, console, note, pairs, say

Usage = Literal["allowed", "disallowed", "userless"]


@dataclass(frozen=True, slots=True)
class TokenOptions:
    """What an enrollment token shall be like."""

    duration: Annotated[str, typer.Option(help="How long it is good for: 1h, 30d … (at least 1m).")] = "1h"
    additional_data: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Each device that comes in by it repeats this; or @FILE.")
    ] = None
    personal_usage: Annotated[
        Usage | None,
        typer.Option(help="allowed = people's own use too; userless = kiosks and other dedicated devices."),
    ] = None
    one_time: Annotated[bool, typer.Option("--one-time", help="Good for one device.")] = False
    policy: Annotated[str | None, typer.Option(help="Name of the policy that devices get at first.")] = None
    qr: Annotated[Path | None, typer.Option(metavar="FILE", help="Also save the QR code: FILE.png or FILE.svg.")] = None


def token_body(options: TokenOptions) -> Json:
    """The request body."""
    data = options.additional_data
    said: Json = {
        "durationSeconds": seconds(options.duration, "--duration"),
        "additionalData": None if data is None else literal_or_source(data, "--additional-data"),
        "personalUsage": options.personal_usage,
        "oneTimeOnly": options.one_time or None,
        "policy": options.policy,
    }
    return {member: value for member, value in said.items() if value is not None}


def present(token: dict[str, Any], picture: Path | None) -> None:
    """Show a new token to people, and save its picture for whoever asked for one."""
    from heliograph.cli.output import Mode
    from heliograph.cli.qr import save

    if picture is not None and token["qrCode"]:
        try:
            save(token["qrCode"], picture)
        except OSError as error:
            raise Failure(ExitCode.REFUSED, f"--qr: {picture} cannot be written: {error.strerror}") from None
    if Mode.as_json:
        return
    if token["qrCode"] and sys.stdout.isatty():
        _draw(token["qrCode"], picture)
    pairs(
        {
            "enrollment token": token["value"],
            "good until": f"{token['expiresAt']} ({ago(token['expiresAt'])})" if token["expiresAt"] else None,
            "on a device in use": token["page"],
            "QR code": picture,
        }
    )
    say("Tap the welcome screen of a new or reset device six times, and scan the code.")
    note("Whoever has the token can enroll a device: it is shown now and never again.")


def _draw(code: str, picture: Path | None) -> None:
    from heliograph.cli.qr import columns, show

    needed, width = columns(code), console().width
    if needed <= width:
        show(code, sys.stdout)
    elif picture is None:
        note(
            f"The QR code is not drawn: it takes {needed} columns, and this terminal has {width}.\n"
            "Make another in a wider one, or as a file: heliograph enterprise token --qr code.png"
        )
