"""The stub: it does as it is told, and never lets anybody believe that it delivered."""

from __future__ import annotations

import pytest

from heliograph.domain.fields import Fields
from heliograph.ports.push import (
    Accepted,
    CannotTell,
    CannotWithdraw,
    Misconfigured,
    Outcome,
    ProbeAnswer,
    Rejected,
    RetryLater,
    Unavailable,
    Works,
)
from heliograph.providers.stub import OUTCOMES, PLUGIN, REASON
from tests.providers.samples import WAKE, Contract, target, tools

EVIDENCE = {"stub": True, "delivered": "nowhere"}
PROBED: dict[str, ProbeAnswer] = {"later": Unavailable(REASON), "misconfigured": Misconfigured(REASON, EVIDENCE)}


def contract(url: str) -> Contract:
    return Contract({}, [], "any", is_remote=False, wrong=[{"outcome": "delivered"}, {"outcome": 5}, {"apiKey": "x"}])


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("accepted", Accepted(WAKE.id, evidence=EVIDENCE)),
        ("rejected", Rejected(REASON, evidence=EVIDENCE)),
        ("gone", Rejected(REASON, token_gone=True, evidence=EVIDENCE)),
        ("later", RetryLater(REASON, account_wide=True, evidence=EVIDENCE)),
        ("uncertain", RetryLater(REASON, uncertain=True, evidence=EVIDENCE)),
        ("misconfigured", Misconfigured(REASON, EVIDENCE)),
    ],
)
async def test_it_answers_as_its_settings_say(outcome: str, expected: Outcome) -> None:
    stub = PLUGIN.build(PLUGIN.read_config(Fields({"outcome": outcome})), tools())
    assert await stub.send(WAKE, target("stub", "any")) == expected
    answer = await stub.probe()
    assert answer == PROBED.get(outcome, answer)
    assert isinstance(answer, Works) == (outcome not in ("later", "misconfigured", "uncertain"))
    await stub.close()


async def test_it_takes_by_default_and_knows_nothing_afterwards() -> None:
    stub = PLUGIN.build(PLUGIN.read_config(Fields({})), tools())
    outcome = await stub.send(WAKE, target("stub", "any"))
    assert outcome == Accepted(WAKE.id, evidence=EVIDENCE)
    assert isinstance(await stub.status(WAKE.id, 1), CannotTell)
    assert isinstance(await stub.withdraw(WAKE.id), CannotWithdraw)


def test_every_outcome_is_listed_in_its_help() -> None:
    assert all(outcome in PLUGIN.config_help["outcome"] for outcome in OUTCOMES)
