"""Writes what the documentation takes from the code: pictures, tables, and the reference of the command line.

`python scripts/generate_docs.py` writes, `--check` names what is out of date. In a page, what stands between
`<!-- generated: NAME -->` and `<!-- end -->` is written here.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct
from pictures import ladder_svg, moves_table, read_sequence, sequence_svg
from prometheus_client.metrics import MetricWrapperBase
from typer.main import get_command

from heliograph.cli.exits import TABLE
from heliograph.cli.main import NOUNS, app
from heliograph.domain.catalog import TYPES
from heliograph.domain.deliveries import PUSH_TRANSITIONS
from heliograph.domain.ladder import TRANSITIONS, Rung
from heliograph.http import metrics as figures
from heliograph.http.app import OPERATIONS
from heliograph.http.wire import STATUS
from heliograph.providers import discover
from heliograph_lab.amapi import EmulatorSettings
from heliograph_lab.amapi.methods import MODELLED, UNMODELLED
from heliograph_lab.apns.settings import ApnsSettings
from heliograph_lab.fcm.settings import FcmSettings
from heliograph_lab.pubsub import PublisherSettings
from heliograph_lab.settings import described
from heliograph_lab.wns.settings import WnsSettings

DOCS = Path(__file__).parents[1] / "docs"
PANEL = "Where it goes"
COMMON = ("data_dir", "database", "url", "api_key", "org", "lab_url")
BLOCK = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def code(words: Iterable[str]) -> str:
    """Words as code, separated by commas."""
    return ", ".join(f"`{word}`" for word in words)


def ladder() -> str:
    """Every move of the command ladder."""
    rows = [(f"`{event}`", code(starts), f"`{target}`") for event, starts, target in moves_table(TRANSITIONS)]
    return table(("Event", "moves a command from", "to"), rows)


def push_ladder() -> str:
    """Every move of the push ladder."""
    rows = [(f"`{event}`", code(starts), f"`{target}`") for event, starts, target in moves_table(PUSH_TRANSITIONS)]
    return table(("Event", "moves a push from", "to"), rows)


def wire_status() -> str:
    """What the API's `status` says of each rung."""
    return table(("Rung", "Android", "AOSP"), [(f"`{r.value}`", *(f"`{s}`" for s in STATUS[r])) for r in Rung])


def duration(seconds: int) -> str:
    """A duration in words."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds % size == 0:
            return f"{seconds // size} {unit}{'s' if seconds > size else ''}"
    return f"{seconds} s"


def command_types() -> str:
    """The catalog: which type is there for which platform, and how long it lives by default."""
    rows = []
    for name, entry in TYPES.items():
        forms = (entry.amapi, entry.agent)
        lives = [duration(form.default_duration_s) if form else "not there" for form in forms]
        rows.append((f"`{name}`", entry.summary, *lives, "yes" if entry.danger else ""))
    return table(("Type", "What it does", "Life on Android", "Life on AOSP", "Destructive"), rows)


def operations() -> str:
    """Every operation of the API but set-up."""
    rows = []
    for operation in OPERATIONS:
        if operation.tag != "Set-up":
            path = operation.path.removeprefix("/v1/organizations/{organizationId}") or "/"
            extension = "ours" if operation.extension else ""
            rows.append(
                (f"{operation.method} `{path}`", operation.summary, f"`{operation.permission}`", extension),
            )
    return table(("Operation", "", "Permission", "Extension"), rows)


def setup_operations() -> str:
    """The set-up verbs."""
    shown = [o for o in OPERATIONS if o.tag == "Set-up"]
    return table(
        ("Verb", "", "Permission"), [(f"`{o.path.rsplit('/', 1)[1]}`", o.summary, f"`{o.permission}`") for o in shown]
    )


def metrics() -> str:
    """Every figure of /metrics."""
    rows = []
    for figure in vars(figures).values():
        if isinstance(figure, MetricWrapperBase):
            (metric,) = figure.describe()
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            labels = code(getattr(figure, "_labelnames", ()))
            rows.append((f"`{name}`", metric.type, labels, metric.documentation))
    return table(("Metric", "Type", "Labels", "Meaning"), rows)


def amapi_methods(ids: Iterable[str]) -> str:
    """Methods of Google's API, by id without what all ids begin with."""
    return code(method.removeprefix("androidmanagement.") for method in ids) + "\n"


def lab_settings(kind: type[Struct]) -> str:
    """Every setting of one of the lab's services."""
    rows = [(f"`{name}`", f"`{json.dumps(value)}`", text) for name, value, text in described(kind)]
    return table(("Setting", "Default", "What it decides, and why it is so"), rows)


def push_settings() -> str:
    """Every setting of an account at each push provider."""
    rows = []
    for kind, plugin in sorted(discover(outside=[]).items()):
        for setting, meaning in plugin.config_help.items():
            rows.append((f"`{kind}`", f"`{setting}`", meaning, "yes" if setting in plugin.addresses else ""))
    return table(("Provider", "Setting", "Meaning", "Says where credentials go"), rows)


def exit_codes() -> str:
    """What a command ends with."""
    return table(("Code", "Means"), [(str(int(code)), meaning) for code, meaning in TABLE.items()])


def command_line() -> str:
    """Every command with its arguments and options."""
    root = get_command(app)
    context = root.make_context("heliograph", [], resilient_parsing=True)
    parts: list[str] = []
    for noun in NOUNS:
        _, command, _ = root.resolve_command(context, [noun])
        parts += _commands(command, type(context)(command, info_name=noun, parent=context))
    return "\n".join(parts)


def _commands(command: Any, context: Any) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield from _command(command, context)
    for verb, part in inner.items():
        yield from _commands(part, type(context)(part, info_name=verb, parent=context))


def _command(command: Any, context: Any) -> Iterator[str]:
    """One command. What many have in common (where it goes, the form of the answer) is only named."""
    shown = [p for p in command.params if not getattr(p, "hidden", False)]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    has_lab = any(p.name == "lab_url" for p in shown)
    common = [p for p in shown if (p.name in COMMON and (has_lab or p.rich_help_panel == PANEL)) or p.name == "as_json"]
    names = [p.get_help_record(context)[0].partition(" <")[0].upper() for p in arguments]
    usage = [name if p.required else f"[{name}]" for p, name in zip(arguments, names, strict=True)]
    yield f"### `{' '.join([context.command_path.replace(' [OPTIONS]', ''), *usage])}`\n"
    yield re.sub(r"[\b\f]\n?", "", command.help or "").strip() + "\n"
    rows = [_row(*p.get_help_record(context)) for p in shown if p not in common]
    if rows:
        yield table(("Option", "Meaning"), rows)
    if common:
        yield f"Also: {code(p.opts[0] for p in common)}.\n"


def _row(names: str, meaning: str) -> tuple[str, str]:
    """Names and meaning as a row; Markdown must not see bars and brackets."""
    meaning = re.sub(r"\s*\[required\]", " Required." if names.startswith("-") else "", " ".join(meaning.split()))
    meaning = re.sub(r"\s*\[(default: [^\]]*|x[<>]=?[^\]]*)\]", r" (\1)", meaning).replace("x>=", "at least ")
    return f"`{names}`".replace("|", "\\|"), re.sub(r"([|<*])", r"\\\1", meaning)


BLOCKS: dict[str, Callable[[], str]] = {
    "ladder": ladder,
    "push-ladder": push_ladder,
    "wire-status": wire_status,
    "command-types": command_types,
    "operations": operations,
    "setup-operations": setup_operations,
    "metrics": metrics,
    "amapi-modelled": lambda: amapi_methods(MODELLED),
    "amapi-unmodelled": lambda: amapi_methods(UNMODELLED),
    "amapi-settings": lambda: lab_settings(EmulatorSettings),
    "pubsub-settings": lambda: lab_settings(PublisherSettings),
    "apns-settings": lambda: lab_settings(ApnsSettings),
    "fcm-settings": lambda: lab_settings(FcmSettings),
    "wns-settings": lambda: lab_settings(WnsSettings),
    "push-settings": push_settings,
    "exit-codes": exit_codes,
    "command-line": command_line,
}


def generated() -> dict[Path, str]:
    """Every generated file, and every page with generated blocks, as it should be."""
    files = {DOCS / "pictures/ladder.svg": ladder_svg()}
    for source in sorted((DOCS / "pictures").glob("*.seq")):
        files[source.with_suffix(".svg")] = sequence_svg(read_sequence(source.read_text()))
    for page in sorted(DOCS.glob("*.md")):
        content = page.read_text()
        if BLOCK.search(content):
            files[page] = BLOCK.sub(lambda m: f"{m[1]}\n{BLOCKS[m[2]]()}\n{m[3]}", content)
    return files


def main() -> int:
    """Write, or say what differs."""
    stale = [path for path, content in generated().items() if not path.exists() or path.read_text() != content]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.name} is out of date: run python scripts/generate_docs.py", file=sys.stderr)
        return 1 if stale else 0
    contents = generated()
    for path in stale:
        path.write_text(contents[path])
        print(path.relative_to(DOCS.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
