"""What all tests share."""

from __future__ import annotations

import pytest

pytest_plugins = ["tests.support.postgres", "tests.support.demo", "tests.support.crash"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "live: asks a real project of Google's; only with `-m live` (make live)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Nobody's project is asked by the way: not by `-m soak`, and not by naming a file."""
    if "live" in str(config.option.markexpr):
        return
    left_out = [item for item in items if item.get_closest_marker("live") is not None]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
