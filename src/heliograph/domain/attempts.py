"""The failed attempts of one record, told in one entry of its history however many there are.

A provider that is down for a day makes thousands of attempts. Their first one makes an entry; each further one is
added to that entry (its evidence is overwritten), so a history stays as short as its ladder.
Times are microseconds since the epoch (UTC).
"""

from dataclasses import replace
from typing import Any

from heliograph.domain.record import record
from heliograph.domain.times import time_text

_MAX_REASON = 500


@record
class Attempts:
    """What the attempts so far came to. `seq` = the entry that tells of them; `reason` = that of the last one.

    `uncertain` = how many of them got no answer that proves non-acceptance: each may have been accepted.
    """

    seq: int
    count: int
    uncertain: int
    first_at: int
    last_at: int
    reason: str

    @property
    def evidence(self) -> dict[str, Any]:
        """The summary as evidence of its entry."""
        return {
            "attempts": self.count,
            "uncertain": self.uncertain,
            "firstAt": time_text(self.first_at),
            "lastAt": time_text(self.last_at),
            "reason": self.reason,
        }


def one_more(known: Attempts | None, *, seq: int, reason: str, uncertain: bool, now: int) -> Attempts:
    """The summary after another failed attempt; `seq` = where its entry goes if this is the first."""
    reason = reason[:_MAX_REASON]
    if known is None:
        return Attempts(seq, 1, int(uncertain), now, now, reason)
    return replace(known, count=known.count + 1, uncertain=known.uncertain + int(uncertain), last_at=now, reason=reason)
