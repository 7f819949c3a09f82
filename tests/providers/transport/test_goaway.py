"""GOAWAY in its forms: what is below the last id counts, what is above is sent again, and nothing runs twice."""

from __future__ import annotations

import pytest

from heliograph.ports.transport import Cause, NotProcessed
from heliograph_lab.http2 import GoAway
from tests.providers.transport.conftest import MakeSite, seen

REQUESTS = 1000


async def test_graceful_goaways_cost_nothing(make_site: MakeSite) -> None:
    site = await make_site()
    site.server.plan = GoAway(after=100, graceful=True)
    assert seen((await site.burst(REQUESTS)).values()) == {"200": REQUESTS}
    assert site.server.counts.goaways >= 2


@pytest.mark.parametrize("below", [20, 60])
async def test_streams_above_the_last_id_are_sent_again(make_site: MakeSite, below: int) -> None:
    site = await make_site()
    site.server.plan, site.server.plan_times = GoAway(after=150, below=below), 3
    assert seen((await site.burst(REQUESTS)).values()) == {"200": REQUESTS}
    assert site.server.counts.ignored >= below


@pytest.mark.parametrize("code", [2, 11])
async def test_a_goaway_with_an_error_lets_lower_streams_finish(make_site: MakeSite, code: int) -> None:
    site = await make_site()
    site.server.plan, site.server.plan_times = GoAway(after=150, below=50, code=code), 3
    assert seen((await site.burst(REQUESTS)).values()) == {"200": REQUESTS}
    assert site.server.counts.ignored >= 50


async def test_a_server_that_never_stops_saying_it_is_given_up_with_its_reason(make_site: MakeSite) -> None:
    site = await make_site()
    debug = b'{"reason":"TooManyProviderTokenUpdates"}'
    site.server.plan = GoAway(after=1, below=1, code=11, debug=debug)
    outcomes = await site.burst(5)
    assert set(outcomes.values()) == {NotProcessed(Cause.GOING_AWAY, "TooManyProviderTokenUpdates")}
    assert site.server.counts.processed == 0


async def test_what_was_processed_and_not_answered_is_unknown(make_site: MakeSite) -> None:
    site = await make_site()
    await site.working()
    site.server.leave(GoAway(after=101, below=30, unanswered=40))
    outcomes = await site.burst(100)
    assert seen(outcomes.values()) == {"200": 60, f"Unknown: {Cause.LOST}": 40}
