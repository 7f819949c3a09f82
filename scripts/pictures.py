"""SVG pictures for the documentation: the ladder, from its table, and sequences, from a few lines of text.

Each picture brings its own background, so that it is legible on a light and on a dark page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from typing import Any

from heliograph.domain.ladder import CORRECTABLE, LIVE, TERMINAL, TRANSITIONS, UNCLAIMED, Rung

STYLE = """
  svg { font: 13px system-ui, sans-serif; }
  .page { fill: #fffdf8; stroke: #d8d2c4; }
  .box { fill: #f1ece0; stroke: #8a8172; }
  .free { fill: #fbe9c8; stroke: #b8791b; }
  .taken { fill: #d9e8f5; stroke: #2f6f9f; }
  .end { fill: #e6e3dc; stroke: #777064; }
  .line { fill: none; stroke: #5c564b; stroke-width: 1.3; }
  .dash { stroke-dasharray: 4 4; }
  .tip { fill: #5c564b; stroke: none; }
  .dot { fill: #2f6f9f; stroke: #2f6f9f; }
  .ring { fill: none; stroke: #b8791b; stroke-width: 2; }
  text { fill: #26231d; }
  .dim { fill: #6b6558; font-size: 12px; }
  .halo { stroke: #fffdf8; stroke-width: 4; paint-order: stroke; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #1d1f23; stroke: #43464d; }
    .box { fill: #2c2f35; stroke: #8b8f97; }
    .free { fill: #4a3a18; stroke: #d9a441; }
    .taken { fill: #1d3a52; stroke: #6fb0dd; }
    .end { fill: #33353a; stroke: #9a9da4; }
    .line { stroke: #b9bcc3; }
    .tip { fill: #b9bcc3; }
    .dot { fill: #6fb0dd; stroke: #6fb0dd; }
    .ring { stroke: #d9a441; }
    text { fill: #eceef2; }
    .dim { fill: #a9adb5; }
    .halo { stroke: #1d1f23; }
  }
"""
TIP = (
    '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse">'
    '<path class="tip" d="M0 0 8 4 0 8z"/></marker>'
)


def svg(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    """A whole picture."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f"<defs>{TIP}</defs>",
            f'<rect class="page" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>',
            *parts,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, content: str, classes: str = "", anchor: str = "middle") -> str:
    """One line of text."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{classes}">{escape(content)}</text>'


def box(x: float, y: float, width: float, height: float, classes: str) -> str:
    """A rectangle with round corners."""
    return f'<rect class="{classes}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'


# ---------------------------------------------------------------- the ladder

Point = tuple[float, float]

_BOX: Point = (112, 34)
_PLACES: dict[Rung, Point] = {
    Rung.HELD: (80, 60),
    Rung.QUEUED: (80, 160),
    Rung.SCHEDULED: (80, 260),
    Rung.ISSUED: (290, 160),
    Rung.DELIVERED: (500, 160),
    Rung.ACKNOWLEDGED: (710, 160),
    Rung.RUNNING: (920, 160),
    Rung.DEFERRED: (710, 270),
}
# How an arrow runs where a straight one would cross something: path, and where its label stands.
_ROUTES: dict[tuple[Rung, Rung], tuple[str, Point]] = {
    (Rung.QUEUED, Rung.HELD): ("M66 143V78", (40, 115)),
    (Rung.HELD, Rung.QUEUED): ("M94 77V142", (128, 115)),
    (Rung.QUEUED, Rung.SCHEDULED): ("M66 177V242", (40, 214)),
    (Rung.SCHEDULED, Rung.QUEUED): ("M94 243V178", (128, 214)),
    (Rung.QUEUED, Rung.DELIVERED): ("M120 142C180 92 400 92 470 142", (296, 100)),
    (Rung.DELIVERED, Rung.RUNNING): ("M530 142C600 92 820 92 890 142", (712, 100)),
    (Rung.DELIVERED, Rung.DEFERRED): ("M520 178C530 235 600 262 652 264", (604, 240)),
    (Rung.DEFERRED, Rung.DELIVERED): ("M652 278C540 284 484 240 480 179", (512, 262)),
    (Rung.ACKNOWLEDGED, Rung.DEFERRED): ("M710 178V252", (710, 218)),
    (Rung.RUNNING, Rung.DEFERRED): ("M900 178C890 235 820 262 769 264", (822, 240)),
    (Rung.DEFERRED, Rung.RUNNING): ("M768 278C880 284 936 240 940 179", (914, 262)),
}
_COLUMN = 74
_MATRIX_LEFT, _MATRIX_TOP = 168, 408


def ladder_svg() -> str:
    """The moves between live rungs, and below them from where a command can end how."""
    live = [rung for rung in Rung if rung in LIVE]
    parts = [*_moves(live), *_legend(), *_endings(live)]
    height = _MATRIX_TOP + 28 * len(TERMINAL) + 12
    return svg(1000, height, "The command ladder: moves between live rungs, and how a command ends", parts)


def _moves(live: list[Rung]) -> Iterator[str]:
    order = list(Rung)  # the table is made of sets in part, and they have none
    for (start, event), target in sorted(TRANSITIONS.items(), key=lambda m: (order.index(m[0][0]), order.index(m[1]))):
        if target in LIVE:
            path, label = _ROUTES.get((start, target)) or _straight(_PLACES[start], _PLACES[target])
            yield f'<path class="line" marker-end="url(#tip)" d="{path}"/>'
            yield text(*label, event.__name__, "dim halo")
    for rung in live:
        x, y = _PLACES[rung]
        kind = "free" if rung in UNCLAIMED else "taken"
        yield box(x - _BOX[0] / 2, y - _BOX[1] / 2, *_BOX, kind)
        yield text(x, y + 5, rung.value)


def _straight(start: Point, end: Point) -> tuple[str, Point]:
    (x1, y1), (x2, y2) = start, end
    aside = _BOX[0] / 2 + 1
    return f"M{x1 + aside:g} {y1:g}L{x2 - aside:g} {y2:g}", ((x1 + x2) / 2, (y1 + y2) / 2 - 7)


def _legend() -> Iterator[str]:
    yield box(640, 30, 22, 16, "free")
    yield text(670, 43, "not claimed by an agent", "dim", "start")
    yield box(840, 30, 22, 16, "taken")
    yield text(870, 43, "claimed", "dim", "start")
    yield text(24, 322, "How a command ends", "", "start")
    yield '<circle class="dot" cx="192" cy="318" r="5"/>'
    yield text(204, 322, "possible from this rung", "dim", "start")
    yield '<circle class="ring" cx="372" cy="318" r="5"/>'
    yield text(384, 322, "corrects this end, once, on evidence that the command ran", "dim", "start")


def _endings(live: list[Rung]) -> Iterator[str]:
    starts = live + [rung for rung in Rung if rung in CORRECTABLE]
    ends = {(start, target): event for (start, event), target in TRANSITIONS.items() if target in TERMINAL}
    for column, rung in enumerate(starts):
        words = rung.value.replace("_", "_ ").split()
        for line, word in enumerate(words):
            yield text(_x(column), _MATRIX_TOP - 22 - 14 * (len(words) - 1 - line), word, "dim")
    for row, end in enumerate(rung for rung in Rung if rung in TERMINAL):
        y = _MATRIX_TOP + 28 * row
        yield box(20, y - 12, 140, 24, "end")
        yield text(90, y + 5, end.value)
        yield f'<path class="line dash" opacity=".4" d="M{_MATRIX_LEFT} {y}H{_x(len(starts) - 1) + 30:g}"/>'
        for column, start in enumerate(starts):
            if (start, end) in ends:
                kind = "ring" if start in CORRECTABLE else "dot"
                yield f'<circle class="{kind}" cx="{_x(column):g}" cy="{y}" r="6"/>'


def _x(column: int) -> float:
    return _MATRIX_LEFT + 34 + _COLUMN * column


def moves_table(table: Mapping[tuple[StrEnum, type[Any]], StrEnum]) -> list[tuple[str, list[str], str]]:
    """Event, rungs that it moves, and where to: one line for each event and target, in the table's order."""
    lines: dict[tuple[str, str], list[StrEnum]] = {}
    for (start, event), target in table.items():
        lines.setdefault((event.__name__, target.value), []).append(start)
    for starts in lines.values():
        starts.sort(key=list(type(starts[0])).index)
    return [(event, [start.value for start in starts], target) for (event, target), starts in lines.items()]


# ---------------------------------------------------------------- sequences

_ARROW = re.compile(r"(\w+) (->|=>|-x|~>) (\w+): (.*)")
_NOTE = re.compile(r"(\w+): (.*)")
_LANE, _ROW = 270, 34


@dataclass(frozen=True)
class Sequence:
    """What a text says: a title, the lanes from left to right, and the lines from top to bottom.

    `a -> b: words` is a message, `a => b: words` one over another way, `a -x b: words` one that is lost. `a: words` is
    a note on a lane, `--- words` a break across all lanes.
    """

    title: str
    lanes: dict[str, str]
    lines: list[str]


def read_sequence(source: str) -> Sequence:
    """The sequence that a text describes: title, `lane name = label` lines, an empty line, the rest."""
    head, _, body = source.partition("\n\n")
    title, *lanes = head.strip().splitlines()
    names = dict(tuple(part.strip() for part in lane.removeprefix("lane ").split("=", 1)) for lane in lanes)
    return Sequence(title, names, [line for line in body.splitlines() if line.strip()])


def sequence_svg(sequence: Sequence) -> str:
    """The picture of a sequence."""
    lanes = list(sequence.lanes)
    xs = {name: 30 + _LANE / 2 + _LANE * place for place, name in enumerate(lanes)}
    bottom = 84 + _ROW * len(sequence.lines)
    width = 60 + _LANE * len(lanes)
    parts = []
    for name in lanes:
        parts.append(f'<path class="line dash" opacity=".5" d="M{xs[name]:g} 56V{bottom}"/>')
        parts += [box(xs[name] - 84, 22, 168, 32, "box"), text(xs[name], 43, sequence.lanes[name])]
    for row, line in enumerate(sequence.lines):
        parts += _drawn(line, 84 + _ROW * row, xs, width)
    return svg(width, bottom + 16, sequence.title, parts)


def _drawn(line: str, y: float, xs: Mapping[str, float], width: float) -> list[str]:
    if line.startswith("---"):
        words = line.strip("- ")
        rule = f'<path class="line dash" d="M20 {y - 4:g}H{width - 20:g}"/>'
        return [rule, text(width / 2, y, f" {words} ", "dim halo")]
    arrow = _ARROW.fullmatch(line)
    if arrow:
        start, kind, end, words = arrow.groups()
        x1, x2 = xs[start], xs[end]
        x2 += -3 if x2 > x1 else 3
        lost = kind == "-x"
        x2 = (x1 + x2) / 2 if lost else x2
        dash = " dash" if kind == "=>" else ""
        middle = (xs[start] + xs[end]) / 2
        head = "" if lost else ' marker-end="url(#tip)"'
        path = f'<path class="line{dash}"{head} d="M{x1:g} {y:g}H{x2:g}"/>'
        cross = [f'<path class="line" d="M{x2 - 5:g} {y - 5:g}l10 10m0 -10l-10 10"/>'] if lost else []
        return [path, *cross, text(middle, y - 7, words, "halo")]
    note = _NOTE.fullmatch(line)
    if note is None:
        raise ValueError(f"not a line of a sequence: {line!r}")
    lane, words = note.groups()
    half = max(60.0, 3.6 * len(words) + 12)
    x = min(max(xs[lane], half + 8), width - half - 8)
    return [box(x - half, y - 18, 2 * half, 24, "free"), text(x, y - 2, words, "")]
