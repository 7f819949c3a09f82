"""What a modelled method gets and gives, and the pages of lists."""

from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

import msgspec

from heliograph_lab.amapi.errors import ApiError
from heliograph_lab.amapi.settings import CancelAnswer

T = TypeVar("T")


class Call(msgspec.Struct, frozen=True):
    """One request: parameters of the path, of the query (checked, by JSON name), and the decoded body.

    `origin` is the emulator's own address as the client has called it, without a slash at the end.
    """

    path: dict[str, str]
    query: dict[str, Any]
    body: Any = None
    origin: str = ""

    @property
    def name(self) -> str:
        """The resource that the call is about."""
        return self.path.get("name") or self.path["parent"]


Handler = Callable[[Call], Awaitable[dict[str, Any]]]


def page(items: Iterator[T], size: int) -> tuple[list[T], bool]:
    """So many items, and whether there are more."""
    found = list(islice(items, size + 1))
    return found[:size], len(found) > size


def answered(answer: CancelAnswer, why: str) -> dict[str, Any]:
    """The answer that a setting names; `why` is the text of its 400."""
    if answer == "ok":
        return {}
    if answer == "400":
        raise ApiError(400, why, rpc="FAILED_PRECONDITION")
    raise ApiError(int(answer))
