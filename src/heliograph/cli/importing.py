"""Lists of devices from people: JSON, JSON lines or CSV."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from heliograph.cli.exits import usage
from heliograph.cli.output import Mode

_MEMBERS = (
    "platform", "name", "enterprise", "externalName", "serialNumber", "imei", "enrollmentSpecificId", "state",
    "managementMode", "ownership", "apiLevel", "providerAccount",
)  # fmt: skip
_SPELLINGS = {name.lower(): name for name in _MEMBERS} | {"serial": "serialNumber", "displayname": "name"}


def read_devices(text: str) -> list[dict[str, Any]]:
    """The devices that a text describes; raises Failure naming the line that cannot be read."""
    if text.lstrip()[:1] not in ("[", "{"):
        return _from_csv(text)
    try:
        whole = json.loads(text)
    except ValueError:
        return [_from_line(line, number) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    return _from_document(whole)


def _from_document(whole: Any) -> list[dict[str, Any]]:
    """A list; an object that holds one as `devices`; or a single device."""
    items = whole.get("devices", [whole]) if isinstance(whole, dict) else whole
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise usage("FILE: must be a list of objects")
    return items


def _from_line(line: str, number: int) -> dict[str, Any]:
    try:
        item = json.loads(line)
    except ValueError as error:
        raise usage(f"FILE: neither one JSON document nor JSON lines: line {number}: {error}") from None
    if not isinstance(item, dict):
        raise usage(f"FILE: line {number} is not an object")
    return item


def _from_csv(text: str) -> list[dict[str, Any]]:
    head = text.split("\n", 1)[0]
    try:
        rows = list(
            csv.reader(io.StringIO(text, newline=""), delimiter=";" if head.count(";") > head.count(",") else ",")
        )
    except csv.Error as error:
        raise usage(f"FILE: not valid CSV: {error}") from None
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        return []
    names = [_member(cell) for cell in rows[0]]
    for number, row in enumerate(rows[1:], 2):
        if len(row) > len(names):
            raise usage(f"FILE: line {number} has more cells than the first line names")
    return [
        {n: _cell(n, cell.strip()) for n, cell in zip(names, row, strict=False) if cell.strip()} for row in rows[1:]
    ]


def _cell(name: str, text: str) -> str | int:
    return int(text) if name == "apiLevel" and text.isascii() and text.isdigit() and len(text) < 10 else text


def _member(heading: str) -> str:
    plain = "".join(letter for letter in heading.lower() if letter.isalnum())
    if plain not in _SPELLINGS:
        raise usage(f"FILE: the first line of CSV names the columns; {heading[:32]!r} is none of {', '.join(_MEMBERS)}")
    return _SPELLINGS[plain]


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; elsewhere nothing."""
    if Mode.as_json or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)
