"""How large the pages of Google's lists are. A list that fits on one page does not tell."""

from __future__ import annotations

from typing import Any

from tests.live.project import NotLearnt, counted, listed
from tests.live.session import Session

_TOO_LARGE = 10_000


async def devices_pages(s: Session) -> dict[str, Any]:
    """Of the enterprise's devices."""
    return await _sizes(s, f"{s.target.enterprise}/devices", "devices")


async def operations_pages(s: Session) -> dict[str, Any]:
    """Of the device's operations."""
    return await _sizes(s, f"{s.target.device}/operations", "operations")


async def _sizes(s: Session, name: str, member: str) -> dict[str, Any]:
    return {
        f"amapi.{member}Page": await _size(s, name, member),
        f"amapi.{member}PageMax": await _size(s, name, member, {"pageSize": str(_TOO_LARGE)}),
    }


async def _size(s: Session, name: str, member: str, params: dict[str, str] | None = None) -> int | NotLearnt:
    answer = await s.project.ask("GET", name, kept=counted(member), params=params)
    if answer.status != 200:
        return NotLearnt(f"the answer was {answer.status} {answer.message}")
    count = len(listed(answer.body, member))
    if not answer.body.get("nextPageToken"):
        return NotLearnt(f"there are only {count} {member}, and they fit on one page")
    return count
