"""All faults at random, at once: whatever is said of a request is true of what the server did."""

from __future__ import annotations

import random

import pytest

from heliograph.ports.transport import Answered, NotProcessed, Unknown
from heliograph_lab.http2 import Answer, Cut, Fault, GoAway, Limits, Request, Reset, Silence
from tests.providers.transport.conftest import MakeSite, seen

REQUESTS = 1000


def fault(chance: random.Random) -> Fault:
    processed = chance.random() < 0.5
    return chance.choice(
        (
            Fault(Reset(chance.choice((0x1, 0x2, 0x8, 0xB))), processed=processed),
            Fault(Reset(0x7)),
            Fault(Silence(), processed=processed),
            Fault(Answer(503)),
            Fault(Answer(200, (), b"x" * 100, reset_after=10), processed=True),
            Fault(delay=chance.random() / 10),
            Fault(Cut(chance.choice(("rst", "fin"))), processed=processed),
            Fault(GoAway(code=chance.choice((0, 2, 11)))),
        )
    )


@pytest.mark.parametrize("seed", range(5))
async def test_no_outcome_lies_and_nothing_runs_twice(make_site: MakeSite, seed: int) -> None:
    chance = random.Random(seed)

    def misbehave(_: Request) -> Fault | None:
        return fault(chance) if chance.random() < 0.03 else None

    site = await make_site(limits=Limits(max_concurrent_streams=chance.choice((20, 100, 1000))))
    await site.working()
    site.server.script = misbehave
    site.server.plan = GoAway(after=300, graceful=chance.random() < 0.5)
    outcomes = await site.burst(REQUESTS, timeout_s=2)  # which also compares them with what the server did
    print(f"\n{seen(outcomes.values())}")
    assert {type(outcome) for outcome in outcomes.values()} <= {Answered, NotProcessed, Unknown}
    assert "200" in seen(outcomes.values())
