"""What reaches the terminal: one JSON document, or text and tables for people. Errors go to stderr."""

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import compress
from typing import TYPE_CHECKING, Any

from heliograph.cli.exits import ExitCode, Failure

if TYPE_CHECKING:
    from rich.console import Console

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNITS = ((86_400 * 365, "y"), (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_NEARLY = 0.01  # of a unit: what lasts 30 d is "in 30 d" a moment later, too
_READABLE = 30  # characters: in less room nothing is folded
_GAP = 2  # blanks between columns
_FIRST = {"SERIAL", "ADDED", "PERMISSIONS", "AT GOOGLE", "ADDRESS", "OUTCOME", "LATENCY MS", "REASON", "BEGINS WITH"}
_WHOLE = {"ID", "NAME", "SLUG", "AGENT SECRET", ""}  # columns of which one copies, or that come last and may run on
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


def remark_waiting(text: str) -> None:
    """Say on a terminal what is waited for, in a line that stays; on stderr."""
    if sys.stderr.isatty():
        note(text)


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


def say_folded(head: str, text: str, style: str = "") -> None:
    """A line that, on a narrow terminal, goes on below where its text begins; words, such as addresses, stay whole."""
    width = console().width - len(head)
    lines = [clean(text)]
    if len(lines[0]) > width >= _READABLE:
        lines = textwrap.wrap(lines[0], width, break_long_words=False, break_on_hyphens=False)
    for number, line in enumerate(lines):
        say((" " * len(head) if number else head) + line, style)


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
    """A table with a line for each row, cut where the terminal is narrow; `nothing` is what to say when it is empty."""
    if not rows:
        say(nothing)
        return
    from rich.cells import cell_len
    from rich.text import Text

    out = console()
    cells = [["" if cell is None else " ".join(clean(cell).split()) for cell in row] for row in rows]
    needed = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    if sum(needed) + _GAP * (len(needed) - 1) > out.width:  # what says nothing gives way first
        said = [any(column) for column in zip(*cells, strict=True)]
        columns, needed = [*compress(columns, said)], [*compress(needed, said)]
        cells = [[*compress(row, said)] for row in cells]
    widths = _fitted(columns, needed, out.width)
    for row, style in ((list(columns), "bold"), *((row, "") for row in cells)):
        texts = [Text(cell, style=style or style_of(cell), end="") for cell in row]
        for text, width in zip(texts, widths, strict=True):
            text.truncate(width, overflow="ellipsis", pad=True)
        line = Text("  ").join(texts)
        line.rstrip()
        out.print(line, soft_wrap=True)


def _fitted(columns: Sequence[str], needed: Sequence[int], width: int) -> list[int]:
    """The widths of columns, so that a row takes one line; what people copy is not cut, names only as a last resort."""
    widths = list(needed)
    excess = sum(widths) + _GAP * (len(widths) - 1) - width
    rounds: tuple[tuple[int, Callable[[str], bool]], ...] = (
        (5, lambda name: name in _FIRST),
        (6, lambda name: name not in _WHOLE),
        (16, lambda name: name == "NAME"),
    )
    for floor, giving_way in rounds:
        open_to = [n for n, name in enumerate(columns) if giving_way(name) and widths[n] > floor]
        while excess > 0 and open_to:
            widest = max(open_to, key=widths.__getitem__)
            widths[widest] -= 1
            excess -= 1
            open_to = [n for n in open_to if widths[n] > floor]
    return widths


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
        if abs(seconds) >= size * (1 - _NEARLY):
            span = f"{int(abs(seconds) / size + 0.5)} {unit}"
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
    try:
        sys.stderr.write(clean(question) + " Go on? [y/N]: ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise
    if answer.strip().lower() not in ("y", "yes"):
        raise Failure(ExitCode.REFUSED, "nothing was done")
