"""What the server has seen and done."""

from collections.abc import Callable

import msgspec

from heliograph_lab.http2.model import Request

Identify = Callable[[Request], str | None]


class Counts(msgspec.Struct):
    """Totals since the start or the last `clear`. A request is seen when it is complete."""

    connections: int = 0
    open: int = 0  # connections, now
    seen: int = 0
    processed: int = 0  # handed to the handler
    answered: int = 0  # with a status
    refused: int = 0  # over the stream limit
    ignored: int = 0  # above the last stream id of a GOAWAY, or withheld for one
    cancelled: int = 0  # the client's RST_STREAM
    goaways: int = 0
    seen_by_id: dict[str, int] = {}
    processed_by_id: dict[str, int] = {}  # without those that the handler has refused, with 400 or more

    def clear(self) -> None:
        """Begin again; connections that are open stay counted as such."""
        still_open = self.open
        for field, value in zip(self.__struct_fields__, msgspec.structs.astuple(Counts()), strict=True):
            setattr(self, field, value)
        self.open = still_open

    def duplicates(self) -> dict[str, int]:
        """The ids that were processed more than once, and not refused, and how often."""
        return {request_id: times for request_id, times in self.processed_by_id.items() if times > 1}


def count(by_id: dict[str, int], request_id: str | None) -> None:
    """One more of this id."""
    if request_id is not None:
        by_id[request_id] = by_id.get(request_id, 0) + 1
