"""Records as they are shown: a history is never ahead of the record that it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from heliograph.domain.deliveries import Push, PushExpired, PushRequested, apply_push
from heliograph.domain.ladder import Command, Entry, Expired, Requested, apply
from heliograph.http.wire import aos_command, emm_command, push_notification

NOW = 1_800_000_000_000_000


def shown_progress(record: Any) -> dict[str, Any]:
    progress: dict[str, Any] = msgspec.to_builtins(record)["progress"]
    return progress


@pytest.mark.parametrize(("platform", "shown"), [("android", emm_command), ("aosp", aos_command)])
def test_a_command_that_moves_before_its_history_is_read(
    platform: str, shown: Callable[[Command, list[Entry]], Any]
) -> None:
    """One that is shown as PENDING must not have its own end below."""
    command = Command("c", "o", "d", "e", platform, "LOCK", {}, 1, NOW, NOW, NOW)
    first = apply(command, Requested(source="key:k"), now=NOW)
    second = apply(first.command, Expired(source="sweeper"), now=NOW + 1)
    assert first.entry is not None
    assert second.entry is not None
    stored = [first.entry, second.entry]
    assert [line["rung"] for line in shown_progress(shown(first.command, stored))["history"]] == ["queued"]
    assert len(shown_progress(shown(second.command, stored))["history"]) == 2


def test_a_push_that_moves_before_its_history_is_read() -> None:
    push = Push("p", "o", "d", "mdmAgent", "silent", "builtin", None, {}, NOW, NOW, NOW)
    first = apply_push(push, PushRequested(source="key:k"), now=NOW)
    second = apply_push(first.push, PushExpired(source="sweeper"), now=NOW + 1)
    assert first.entry is not None
    assert second.entry is not None
    stored = [first.entry, second.entry]
    assert [line["rung"] for line in shown_progress(push_notification(first.push, stored))["history"]] == ["queued"]
    assert len(shown_progress(push_notification(second.push, stored))["history"]) == 2
