"""QR codes: in the terminal, and as a file that only its owner can read (an enrollment token is a key)."""

import io
import os
from pathlib import Path
from typing import TextIO

import segno

from heliograph.cli.exits import usage

_KINDS = (".png", ".svg")
_SCALE = 6


def check_picture(path: Path | None) -> None:
    """Refuse a file that no picture can be written to, before anything is done. Raises Failure."""
    if path is None:
        return
    if path.suffix.lower() not in _KINDS:
        raise usage(f"--qr: {path} must end with .png or .svg")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise usage(f"--qr: {path.parent} cannot be written by you, or is not there")


def columns(text: str) -> int:
    """How wide a terminal must be for a code: one that is folded cannot be scanned."""
    return int(_code(text).symbol_size()[0])


def show(text: str, out: TextIO) -> None:
    """Draw a code with half blocks, for a terminal."""
    _code(text).terminal(out=out, compact=True)


def save(text: str, path: Path) -> None:
    """Write a code as PNG or SVG, by the file's name."""
    picture = io.BytesIO()
    _code(text).save(picture, kind=path.suffix.lower().removeprefix("."), scale=_SCALE)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, 0o600)
        file.write(picture.getvalue())


def _code(text: str) -> segno.QRCode:
    return segno.make_qr(text, error="l")
