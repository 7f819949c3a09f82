"""Records as answers show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from heliograph.domain.deliveries import PushRung
from heliograph.domain.ladder import Entry, Rung
from heliograph.http.wire import aos_command, emm_command, push_notification
from tests.domain.builders import COMMAND, a_command, a_push

RUNGS = ("queued", "issued", "succeeded")
ISSUED = {"rung": Rung.ISSUED, "entries": 2}


@pytest.mark.parametrize(
    ("shape", "record"),
    [
        (aos_command, a_command(**ISSUED)),
        (emm_command, a_command(platform="android", **ISSUED)),
        (push_notification, a_push(rung=PushRung.ACCEPTED, entries=2)),
    ],
)
def test_a_history_is_never_ahead_of_its_record(shape: Callable[..., Any], record: Any) -> None:
    """The record has moved between the two reads."""
    entries = [Entry(COMMAND, seq, rung, seq, "t", {}) for seq, rung in enumerate(RUNGS)]
    assert [entry.rung for entry in shape(record, entries).progress.history] == ["queued", "issued"]
