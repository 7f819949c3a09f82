"""What is said of an enterprise: nobody takes back what another has said of something else."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.app.setup import add_enterprise
from heliograph.domain.devices import Enterprise
from heliograph.store.setup import Setup
from tests.app.conftest import Desk

NAME = "enterprises/LC0said"
SUBSCRIPTION = "projects/p/subscriptions/s"


def another_changes(desk: Desk, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any]) -> None:
    """Let somebody else change the enterprise just after it was read by the next to do so."""
    read = Setup.enterprises

    async def read_then_another(self: Setup) -> list[Enterprise]:
        known = await read(self)
        monkeypatch.setattr(Setup, "enterprises", read)
        await add_enterprise(desk.services, desk.organization, NAME, told)
        return known

    monkeypatch.setattr(Setup, "enterprises", read_then_another)


async def test_new_credentials_stay_beside_a_change_of_something_else(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read the enterprise as it was before. The old key may have been deleted at Google by now."""
    await add_enterprise(desk.services, desk.organization, NAME, {"credentials": b"old"})
    another_changes(desk, monkeypatch, {"credentials": b"new", "api_url": "http://elsewhere"})
    await add_enterprise(desk.services, desk.organization, NAME, {"subscription": SUBSCRIPTION})
    found = next(e for e in await desk.work.setup.enterprises() if e.name == NAME)
    assert found.credentials is not None
    assert desk.services.secrets.open(found.credentials) == b"new"
    assert (found.api_url, found.subscription) == ("http://elsewhere", SUBSCRIPTION)


async def test_credentials_stay_with_their_address(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who renews them means the address that was read; they are never sent to one that somebody names meanwhile."""
    await add_enterprise(desk.services, desk.organization, NAME, {"credentials": b"old"})
    another_changes(desk, monkeypatch, {"credentials": b"theirs", "api_url": "http://elsewhere"})
    await add_enterprise(desk.services, desk.organization, NAME, {"credentials": b"ours"})
    found = next(e for e in await desk.work.setup.enterprises() if e.name == NAME)
    assert found.credentials is not None
    assert (desk.services.secrets.open(found.credentials), found.api_url) == (b"ours", None)
