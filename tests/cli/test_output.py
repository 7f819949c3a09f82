"""What reaches the terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from heliograph.cli import output
from heliograph.cli.exits import ExitCode, Failure

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("offset", "text"),
    [
        (timedelta(seconds=-0.5), "now"),
        (timedelta(seconds=-59), "59 s ago"),
        (timedelta(minutes=-3), "3 min ago"),
        (timedelta(hours=-30), "1 d ago"),
        (timedelta(hours=2, seconds=1), "in 2 h"),
        (timedelta(days=800), "in 2 y"),
        (timedelta(days=30, milliseconds=-20), "in 30 d"),
        (timedelta(days=1, milliseconds=-20), "in 1 d"),
        (timedelta(hours=-47), "2 d ago"),
    ],
)
def test_times_are_told_in_relation_to_now(offset: timedelta, text: str) -> None:
    at = NOW + offset
    assert output.ago(at.isoformat().replace("+00:00", "Z"), NOW) == text
    assert output.ago(int(at.timestamp() * 1_000_000), NOW) == text


def test_a_time_that_is_none_is_shown_as_it_came() -> None:
    assert (output.ago(None), output.ago("soon")) == (None, "soon")
    assert output.local_time("soon") == "soon"


def test_text_from_outside_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "kiosk\x1b[2J\x9b31m\u202e\r\x07[bold]\ud800"
    output.table(("NAME",), [(name,)], "")
    output.pairs({"name": name})
    output.say(name)
    output.report(Failure(ExitCode.REFUSED, name))
    out, err = capsys.readouterr()
    assert not set("\x1b\x9b\u202e\r\x07\ud800") & set(out + err)
    assert "[bold]" in out


def test_json_is_plain_and_keeps_what_it_says() -> None:
    value = {"name": "Z\u00fcrich \x1b\x9b\u202e\ud800 \U0001f600"}
    text = output.as_json(value)
    assert not set("\x1b\x9b\u202e\ud800") & set(text)
    assert "Z\u00fcrich" in text
    assert json.loads(text) == value


def test_nothing_is_cut_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("A", "B"), [("x" * 200, "y" * 200)], "")
    output.pairs({"secret": "z" * 300})
    out = capsys.readouterr().out
    assert "x" * 200 + "  " + "y" * 200 in out.replace("   ", "  ")
    assert "z" * 300 in out
    assert "\x1b" not in out


ID = "6b05e82b0123456789abcdef"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "console", lambda: Console(width=80, markup=False, highlight=False, emoji=False))


@pytest.mark.usefixtures("narrow")
def test_on_a_narrow_terminal_a_row_is_one_line_and_its_id_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    row = ("aosp-builtin-offline", "aosp", "DEMO0004AOSP0004", "ACTIVE", "12 min ago", ID)
    output.table(("NAME", "PLATFORM", "SERIAL", "STATE", "ADDED", "ID"), [row, ("x", *row[1:])], "")
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["NAME", "PLATFORM", "SERIAL", "STATE", "ADDED", "ID"]
    assert ("aosp-builtin-offline" in first, first.endswith(f"  {ID}"), "…" in first) == (True, True, True)
    assert (second.endswith(ID), max(map(len, (heading, first, second)))) == (True, 80)


@pytest.mark.usefixtures("narrow")
def test_what_one_copies_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    secret = "hla_" + "5" * 64
    output.table(("NO.", "NAME", "ID", "AGENT SECRET"), [(1, "n" * 40, ID, secret)], "")
    _, line = capsys.readouterr().out.splitlines()
    assert line.split() == ["1", "n" * 15 + "…", ID, secret]


@pytest.mark.usefixtures("narrow")
def test_on_a_narrow_terminal_an_empty_column_gives_way(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ("NAME", "PLATFORM", "CREDENTIALS", "NOTIFICATIONS", "LAST HEARD", "ADDRESS", "ID")
    output.table(columns, [("enterprises/LC752d135f", "android", "stored", "pulled", "11 s ago", None, ID)], "")
    heading, line = capsys.readouterr().out.splitlines()
    assert ("ADDR" in heading, line.endswith(f"  {ID}"), len(line)) == (False, True, 80)


@pytest.mark.usefixtures("narrow")
def test_a_long_line_goes_on_below_its_text_and_keeps_words_whole(capsys: pytest.CaptureFixture[str]) -> None:
    address = "https://example.com/" + "x" * 90
    output.say_folded("= step  ", f"{'word ' * 20}{address} end")
    first, *others = capsys.readouterr().out.splitlines()
    assert (first[:8], {line[:8] for line in others}) == ("= step  ", {" " * 8})
    assert [line[8:] for line in others][-2:] == [address, "end"]
