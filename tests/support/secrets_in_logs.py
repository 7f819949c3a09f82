"""Finds planted secrets in whatever a test has written: logging at its most talkative, structlog, stdout, stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest

TALKATIVE = ("", "httpx2", "httpcore2", "hpack", "asyncio", "google", "requests", "urllib3")


class LogWatch:
    def __init__(self, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
        self._caplog, self._capsys = caplog, capsys
        for name in TALKATIVE:
            caplog.set_level(logging.DEBUG, logger=name or None)

    def written(self) -> str:
        out, err = self._capsys.readouterr()
        return "\n".join([out, err, self._caplog.text, *(repr(vars(record)) for record in self._caplog.records)])

    def assert_none_of(self, secrets: Iterable[str], *also: object) -> None:
        text = "\n".join([self.written(), *(repr(thing) for thing in also)])
        assert [secret for secret in secrets if secret in text] == []
