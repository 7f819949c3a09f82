"""Which look-ups wait because Google refused one like them: the next question would be answered likewise.

Each refusal costs of the quota that cancels need. So all that are refused for one reason wait together, ever longer,
and then one finds out whether it is over, while the others wait for its answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Party = tuple[str, str]
"""Whom a refusal is about: ("project", …) or ("enterprise", …)."""

_SECOND = 1_000_000
_ANSWER_US = 2 * _SECOND  # the others wait so long for who finds out
_MOST = 10_000


@dataclass(slots=True)
class _Pause:
    """`began`: when the last of so many `refusals` in a row came. `is_probed`: it was over, and one finds out.
    `places`: the last one given, by priority.
    """

    began: int = -1
    until: int = 0
    is_probed: bool = False
    refusals: int = 0
    places: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class LookPauses:
    """See the module. Each process finds out for itself. All times are microseconds of the clock that nobody sets."""

    _pauses: dict[Party, _Pause] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._pauses)

    def end(self, parties: Sequence[Party], now: int) -> int | None:
        """When the pause of these is over; None = none of them waits."""
        return max((p.until for p in self._of(parties) if p.until > now), default=None)

    def place(self, parties: Sequence[Party], priority: int, step_us: int, now: int) -> int | None:
        """When one more may come again: `step_us` behind the one before it, from the end of the pause on. None = it may
        ask now, and where a pause has just ended it is the one who finds out.
        """
        pauses = self._of(parties)
        longest = max((p for p in pauses if p.until > now), key=lambda p: p.until, default=None)
        if longest is None:
            for pause in pauses:
                pause.until, pause.is_probed = now + _ANSWER_US, True
            return None
        place = max(longest.until, longest.places.get(priority, 0)) + step_us
        longest.places[priority] = place
        return place

    def refused(self, party: Party, asked: int, now: int, pause_s: Callable[[int], float]) -> bool:
        """What was asked at `asked` was refused: wait for `pause_s` of the number of refusals in a row. False = it was
        on its way when another was refused, and adds nothing to that.
        """
        pause = self._pauses.get(party)
        if pause is None:
            if len(self._pauses) >= _MOST:
                self._pauses.clear()
            pause = self._pauses[party] = _Pause()
        if asked <= pause.began:
            return False
        pause.refusals += 1
        pause.is_probed = False
        pause.began, pause.until = now, now + int(pause_s(pause.refusals) * _SECOND)
        return True

    def untold(self, parties: Sequence[Party], now: int) -> None:
        """An answer, or none, that says nothing of a refusal: who found out did not, and the next one may."""
        for pause in self._of(parties):
            if pause.is_probed:
                pause.until = min(pause.until, now)

    def taken(self, parties: Sequence[Party], asked: int) -> None:
        """What was asked at `asked` was answered, which says nothing of a refusal since."""
        for party in parties:
            if party in self._pauses and asked > self._pauses[party].began:
                del self._pauses[party]

    def _of(self, parties: Sequence[Party]) -> list[_Pause]:
        return [self._pauses[party] for party in parties if party in self._pauses]
