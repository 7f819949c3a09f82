"""The schedules can fail: whichever rule of the server is broken, some of the first ones find it."""

from __future__ import annotations

import pytest

from tests.schedules.breaking import BREAKS, Break
from tests.schedules.run import Stage

ENOUGH = 6_000
# What is found late takes half a minute.
RARE = {"sent_late", "no_lanes"}


@pytest.mark.parametrize(
    "breaks",
    [pytest.param(b, id=name, marks=[pytest.mark.soak] if name in RARE else []) for name, b in BREAKS.items()],
)
def test_a_broken_rule_is_found(breaks: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks(monkeypatch)
    stage = Stage()
    assert any(stage.play(seed).lies for seed in range(ENOUGH))
