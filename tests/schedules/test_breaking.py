"""The schedules can fail: whichever rule of the server is broken, some of the first ones find it."""

from __future__ import annotations

import pytest

from tests.schedules.breaking import BREAKS, Break
from tests.schedules.run import Stage

ENOUGH = 1_500


@pytest.mark.parametrize("breaks", BREAKS.values(), ids=BREAKS)
def test_a_broken_rule_is_found(breaks: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks(monkeypatch)
    stage = Stage()
    assert any(stage.play(seed).lies for seed in range(ENOUGH))
