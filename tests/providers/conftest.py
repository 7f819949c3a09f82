"""What all provider tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment of whoever runs the tests is no part of them."""
    monkeypatch.setenv("NO_PROXY", "*")
