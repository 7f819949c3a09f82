"""The operator's door, where several processes of one PostgreSQL share a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliograph import operator_socket
from heliograph.domain.errors import OutcomeUnknown
from heliograph.operator_socket import NAME, ask_operator, serve_operator
from tests.app.conftest import Desk, desk

__all__ = ["desk"]


async def slugs(data_dir: Path) -> list[str]:
    return [o["slug"] for o in (await ask_operator(data_dir, "organization.list", None, {}))["items"]]


async def test_a_second_process_leaves_the_first_ones_door_alone(desk: Desk, tmp_path: Path) -> None:
    async with serve_operator(desk.services, tmp_path):
        known = await slugs(tmp_path)
        door = (tmp_path / NAME).stat().st_ino
        async with serve_operator(desk.services, tmp_path):
            assert (tmp_path / NAME).stat().st_ino == door
        assert await slugs(tmp_path) == known
    with pytest.raises(FileNotFoundError):
        await slugs(tmp_path)


async def test_what_a_killed_process_left_is_replaced(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    async with serve_operator(desk.services, tmp_path):
        assert await slugs(tmp_path)


async def test_an_answer_may_be_larger_than_a_request(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All devices of a large fleet that were taken over from Google, say."""
    monkeypatch.setattr(operator_socket, "_MAX_LINE", 80)
    async with serve_operator(desk.services, tmp_path):
        assert await slugs(tmp_path) == [desk.organization.slug]


async def test_an_unknown_outcome_stays_one_on_its_way(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise OutcomeUnknown

    monkeypatch.setattr(desk.services.store.directory, "add_organization", lost)
    async with serve_operator(desk.services, tmp_path):
        with pytest.raises(OutcomeUnknown, match="look before you repeat it"):
            await ask_operator(tmp_path, "organization.create", None, {"slug": "other"})
