"""Options that many commands share, as groups: a dataclass of annotated fields that `spread` puts on a command."""

import functools
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from heliograph.cli.exits import usage
from heliograph.cli.output import json_chosen

_WHERE = "Where it goes"
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|min|h|d|w)?")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_MAX_FILE = 16 * 1024 * 1024

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Data directory of the server. (Also: HELIOGRAPH_DATA_DIR)", rich_help_panel=_WHERE
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="postgresql://… that the server works on. (Also: HELIOGRAPH_DATABASE)",
        rich_help_panel=_WHERE,
    ),
]
Url = Annotated[
    str | None,
    typer.Option("--url", help="Address of a server, to go over HTTP. (Also: HELIOGRAPH_URL)", rich_help_panel=_WHERE),
]
Key = Annotated[
    str | None,
    typer.Option("--api-key", help="API key for that server. (Also: HELIOGRAPH_API_KEY)", rich_help_panel=_WHERE),
]
Org = Annotated[
    str | None,
    typer.Option("--org", help="Organization, by id or slug. (Also: HELIOGRAPH_ORG)", rich_help_panel=_WHERE),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document.", callback=json_chosen, is_eager=True),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Wait = Annotated[
    float | None,
    typer.Option("--wait", metavar="SECONDS", min=0, help="Wait until it is final, at most so long; then exit code 7."),
]


@dataclass(frozen=True, slots=True)
class Setup:
    """Where a set-up verb goes: to a database (through the server that runs on it, if one does) or over HTTP."""

    data_dir: DataDir = None
    database: Database = None
    url: Url = None
    api_key: Key = None
    org: Org = None
    as_json: Json = False


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a call of the API goes. A demo's data directory names its own URL, key and organization."""

    data_dir: DataDir = None
    url: Url = None
    api_key: Key = None
    org: Org = None
    as_json: Json = False


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list."""

    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 25
    page: Annotated[int, typer.Option(min=1, help="Which page of so many.")] = 1
    sort: Annotated[str, typer.Option(help="createdAt, updatedAt …, with :asc or :desc.")] = "createdAt:desc"

    def query(self) -> dict[str, Any]:
        """As query parameters."""
        return {"limit": self.limit, "page": self.page, "sort": self.sort}


F = TypeVar("F", bound=Callable[..., None])


def spread(function: F) -> F:
    """Put the fields of parameters that are option groups on the command line, each as an option of its own."""
    groups: dict[str, type[Any]] = {}
    ungrouped: list[inspect.Parameter] = []
    grouped: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        kind = parameter.annotation
        if is_dataclass(kind) and isinstance(kind, type):
            groups[name] = kind
            grouped.extend(_options_of(kind))
        else:
            ungrouped.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(function)
    def command(**given: Any) -> None:
        made = {
            name: kind(**{f.name: given.pop(f.name) for f in fields(kind) if f.name in given})
            for name, kind in groups.items()
        }
        function(**made, **given)

    parameters = [*ungrouped, *grouped]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command  # type: ignore[return-value]


def _options_of(kind: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            f.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if f.default is MISSING else f.default,
            annotation=hints[f.name],
        )
        for f in fields(kind)
    ]


def noun(help_text: str) -> typer.Typer:
    """The Typer application of one noun."""
    app = typer.Typer(help=help_text, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")
    app.callback()(lambda: None)  # so that a noun with one verb still has verbs
    return app


def seconds(text: str, option: str) -> float:
    """A span of time: `45s`, `10m`, `12h`, `30d`, `2w`, or plain seconds."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise usage(f"{option}: say a time such as 30d, 12h, 90m or 3600s, not {text[:32]!r}")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def read_source(name: str, option: str) -> str:
    """The text of a file, or of standard input (`-`). Kept away from the command line, where others could see it."""
    try:
        if name == "-":
            raw = sys.stdin.buffer.read(_MAX_FILE + 1)
        else:
            with Path(name).open("rb") as file:
                raw = file.read(_MAX_FILE + 1)
        if len(raw) > _MAX_FILE:
            raise usage(f"{option}: {name} is larger than {_MAX_FILE // 1024 // 1024} MiB")
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise usage(f"{option}: cannot read {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise usage(f"{option}: {name} is not text in UTF-8") from None


def literal_or_source(text: str, option: str) -> str:
    """A value as it stands, or with `@FILE` (`@-`) what the file says, without the line break at its end."""
    if not text.startswith("@"):
        return text
    return read_source(text[1:], option).removesuffix("\n").removesuffix("\r")
