"""Features of a plan: none is switched back by whoever switches another."""

from __future__ import annotations

import asyncio

from heliograph.app.setup import set_feature
from heliograph.domain.permissions import FEATURES
from tests.app.conftest import Desk


async def test_each_feature_stays_as_it_was_switched(desk: Desk) -> None:
    """A process may know the organization as it was before another switched something, and several switch at once."""
    known = desk.organization
    await asyncio.gather(*(set_feature(desk.services, known, feature, False) for feature in FEATURES))
    found = await set_feature(desk.services, known, FEATURES[1], True)
    assert found.features == dict.fromkeys(FEATURES, False) | {FEATURES[1]: True}
    assert await desk.services.store.directory.organization(known.id) == found
