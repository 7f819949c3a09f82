"""What reaches the terminal: one JSON document, or text and tables for people. Errors go to stderr."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from heliograph.cli.exits import ExitCode, Failure

if TYPE_CHECKING:
    from rich.console import Console

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNITS = ((86_400 * 365, "y"), (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_GOOD = {"succeeded", "DONE", "acknowledged", "executed", "ACTIVE"}
_BAD = {"failed", "ERROR", "undeliverable", "rejected", "EXPIRED", "expired", "expired_undelivered", "expired_running"}


class Mode:
    """Whether `--json` was given; the one piece of state that also the report of an error needs."""

    as_json = False


def json_chosen(value: bool) -> bool:
    """Callback of `--json`."""
    Mode.as_json = Mode.as_json or value
    return value


def emit(data: Any, human: Callable[[Any], None]) -> None:
    """The result of a command: `data` as the only document on stdout, or what `human` makes of it."""
    if Mode.as_json:
        sys.stdout.write(as_json(data, None if _piped() else 2) + "\n")
    else:
        human(data)


def as_json(data: Any, indent: int | None = None) -> str:
    """JSON in which nothing steers a terminal."""
    text = json.dumps(data, ensure_ascii=False, indent=indent)
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _piped() -> bool:
    return not sys.stdout.isatty()


def report(failure: Failure) -> None:
    """An error on stderr."""
    if Mode.as_json:
        sys.stderr.write(as_json(failure.as_json()) + "\n")
    else:
        sys.stderr.write(f"heliograph: {clean(failure.message)}\n")


def note(text: str) -> None:
    """A remark beside the result; on stderr, and only for people."""
    if not Mode.as_json:
        sys.stderr.write(clean(text) + "\n")


def clean(value: Any) -> str:
    """Text that may have come from outside, without what would steer a terminal."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", str(value))


def console() -> "Console":
    """The terminal; as wide as it takes where it is none, so that nothing is cut in a pipe."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False, width=10_000 if _piped() else None)


def say(text: str, style: str = "") -> None:
    """A line for people."""
    console().print(clean(text), style=style or None, soft_wrap=True)


def pairs(rows: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
    """Names and values, one a line; what is absent is left out. Values are never cut."""
    given = rows.items() if isinstance(rows, Mapping) else rows
    kept = [(name, value) for name, value in given if value is not None and value != ""]
    width = max((len(name) for name, _ in kept), default=0)
    from rich.text import Text

    out = console()
    for name, value in kept:
        text = clean(value)
        out.print(Text.assemble((f"{name:<{width}}  ", "dim"), (text, style_of(text))), soft_wrap=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], nothing: str) -> None:
    """A table; `nothing` is what to say when it is empty."""
    if not rows:
        say(nothing)
        return
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*columns, box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in drawn.columns:
        column.overflow = "fold"
    for row in rows:
        cells = ["" if cell is None else clean(cell) for cell in row]
        drawn.add_row(*(Text(cell, style=style_of(cell)) for cell in cells))
    console().print(drawn)


def style_of(text: str) -> str:
    """The colour of a state."""
    if text in _GOOD:
        return "green"
    return "red" if text in _BAD else ""


def moment(value: Any) -> datetime | None:
    """A time from the wire: RFC 3339, or microseconds since the epoch."""
    if isinstance(value, int) and not isinstance(value, bool):
        return datetime.fromtimestamp(value / 1_000_000, UTC)
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None


def rfc3339(micros: int | None) -> str | None:
    """A time as the API writes it."""
    at = moment(micros)
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago(value: Any, now: datetime | None = None) -> str | None:
    """A time in relation to now: `3 min ago`, `in 2 d`."""
    at = moment(value)
    if at is None:
        return None if value is None else str(value)
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    for size, unit in _UNITS:
        if abs(seconds) >= size:
            span = f"{int(abs(seconds) // size)} {unit}"
            return f"{span} ago" if seconds > 0 else f"in {span}"
    return "now"


def local_time(value: Any) -> str:
    """A time of day where the reader is, with milliseconds."""
    at = moment(value)
    return str(value) if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Show on a terminal that something takes its time."""
    if Mode.as_json or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True, markup=False).status(clean(text)):
        yield


def confirm(question: str, is_confirmed: bool) -> None:
    """Go on only if a person says yes, or said it with `--yes`. Raises Failure."""
    if is_confirmed:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Failure(ExitCode.REFUSED, f"{question} Nothing was done: confirm with --yes")
    import typer

    if not typer.confirm(clean(question) + " Go on?", err=True):
        raise Failure(ExitCode.REFUSED, "nothing was done")
