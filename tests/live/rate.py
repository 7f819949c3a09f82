"""How many requests a minute a project gets, found by sending more."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.live.project import Answer, NotLearnt, only
from tests.live.session import Session

_MOST = 1_500
_AT_ONCE = 20
_LONGEST_WINDOW_S = 150


async def quota(s: Session) -> dict[str, Any]:
    """Use a window up, wait for the next one, and count what that one holds."""
    await _used_up(s)
    await _let_in_again(s)
    accepted, refused = await _used_up(s)
    stated = _stated(refused)
    s.measured["amapi.quotaLimit"] = [1 + accepted]
    return {
        "amapi.quotaLimit": 1 + accepted if stated is None else stated,
        "amapi.quotaRetryAfter": None if refused.retry_after_s is None else int(refused.retry_after_s),
    }


async def _used_up(s: Session) -> tuple[int, Answer]:
    """How many requests went before the first 429, and that one."""
    accepted = 0
    while accepted < _MOST:
        answers = await asyncio.gather(*(_read(s) for _ in range(_AT_ONCE)))
        accepted += sum(answer.status == 200 for answer in answers)
        del s.project.exchanges[:-1]  # they are all alike
        refused = [answer for answer in answers if answer.status == 429]
        if refused:
            return accepted, refused[0]
    raise NotLearnt(f"{accepted} requests in a row were accepted")


async def _let_in_again(s: Session) -> None:
    begun = s.around.now()
    while (await _read(s)).status == 429:
        if s.around.now() - begun > _LONGEST_WINDOW_S:
            raise NotLearnt(f"still 429 after {_LONGEST_WINDOW_S} s")
        await s.around.sleep(1)


async def _read(s: Session) -> Answer:
    return await s.project.ask_once("GET", s.target.enterprise, kept=only())


def _stated(refused: Answer) -> int | None:
    """The limit as Google's error says it (google.rpc.ErrorInfo), where it does."""
    for detail in refused.body.get("error", {}).get("details", []):
        value = detail.get("metadata", {}).get("quota_limit_value") if isinstance(detail, dict) else None
        if isinstance(value, str) and value.isdecimal():
            return int(value)
    return None
