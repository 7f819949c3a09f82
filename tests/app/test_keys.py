"""Keys that keys make."""

from __future__ import annotations

import pytest

from heliograph.app.setup import create_key
from heliograph.domain.devices import ApiKey, Principal
from heliograph.domain.errors import Unauthenticated
from heliograph.store.setup import Setup
from tests.app.conftest import Desk


async def made_by(desk: Desk, maker: ApiKey) -> ApiKey:
    principal = Principal(maker.id, desk.organization, frozenset(maker.permissions), maker.expires_at)
    key, _ = await create_key(desk.services, desk.organization, "child", ["*"], maker=principal)
    return key


async def test_a_key_is_made_without_a_look_at_all_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys stay in the list for good: who makes one for each run of a script has a great many of them."""
    maker, _ = await create_key(desk.services, desk.organization, "maker", ["*"])
    monkeypatch.setattr(Setup, "keys", None)
    child = await made_by(desk, maker)
    assert child.created_by == maker.id
    assert await desk.work.setup.key(child.id) == child


async def test_a_key_whose_maker_was_revoked_at_the_same_moment_is_none(desk: Desk) -> None:
    """The maker was let in before, and its revocation did not see the child yet."""
    maker, _ = await create_key(desk.services, desk.organization, "maker", ["*"])
    await desk.work.setup.revoke_key(maker.id, desk.clock.now())
    with pytest.raises(Unauthenticated):
        await made_by(desk, maker)
    assert all(key.revoked_at is not None for key in await desk.work.setup.keys())
